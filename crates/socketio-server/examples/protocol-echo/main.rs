//! Echoes what it hears, with the short times the official protocol test suites expect.
//!
//! `cargo run -p socketio-server --example protocol-echo -- --listen 127.0.0.1:3000 --protocol socket`

mod echo;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use socketio_server::{Mode, Stats, Worker};
use tokio::net::TcpListener;

#[derive(Parser)]
struct Arguments {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// `engine`: every message comes back, at /engine.io/. `socket`: `message` and `message-with-ack` do, at
    /// /socket.io/, in the namespaces `/` and `/custom`.
    #[arg(long, value_enum, default_value = "socket")]
    protocol: Protocol,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Engine,
    Socket,
}

#[tokio::main(flavor = "local")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mode = match arguments.protocol {
        Protocol::Engine => Mode::EngineIo,
        Protocol::Socket => Mode::SocketIo,
    };
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let worker = Worker::new(Rc::new(echo::Echo), echo::config(mode), Arc::new(Stats::default()));
    loop {
        let (stream, peer) = listener.accept().await?;
        worker.accept(stream, peer);
    }
}
