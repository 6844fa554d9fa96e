//! Echoes what it hears, with the short times the official protocol test suites expect.
//!
//! `cargo run -p socketio-server --example protocol-echo -- --listen 127.0.0.1:3000 --protocol socket`

mod echo;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use socketio_server::{Config, Mode, Stats, Worker};
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
    /// Heartbeats; the suites expect the defaults.
    #[arg(long, default_value_t = 300)]
    ping_interval_ms: u64,
    #[arg(long, default_value_t = 200)]
    ping_timeout_ms: u64,
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
    let config = Config {
        ping_interval: Duration::from_millis(arguments.ping_interval_ms),
        ping_timeout: Duration::from_millis(arguments.ping_timeout_ms),
        ..echo::config(mode)
    };
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let worker = Worker::new(Rc::new(echo::Echo), config, Arc::new(Stats::default()));
    loop {
        let (stream, peer) = listener.accept().await?;
        worker.accept(stream, peer);
    }
}
