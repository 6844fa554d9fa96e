//! Echoes what it hears, with the short times the official protocol test suites expect.
//!
//! `cargo run -p socketio-server --example protocol-echo -- --listen 127.0.0.1:3000 --protocol socket`

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::value::RawValue;
use socketio_server::{
    Application, Config, ConnectError, ConnectRequest, Cors, Event, Message, Mode, Reason, Socket, Stats,
    Worker,
};
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

struct Echo;

impl Application for Echo {
    type Data = ();

    fn connect(&self, socket: &Rc<Socket<Self>>, request: &ConnectRequest<'_>) -> Result<(), ConnectError> {
        match request.namespace {
            // Bare Engine.IO.
            "" => {}
            "/" | "/custom" => socket.emit("auth", if request.auth.is_empty() { "{}" } else { request.auth }),
            _ => return Err(ConnectError::unknown_namespace()),
        }
        Ok(())
    }

    fn event(&self, socket: &Rc<Socket<Self>>, event: Event<'_>) {
        let args: Vec<&str> = event.payload.args.iter().copied().map(RawValue::get).collect();
        let args = args.join(",");
        match (event.name, event.ack) {
            ("message", _) if event.payload.attachments.is_empty() => socket.emit("message-back", &args),
            ("message", _) => socket.emit_binary("message-back", &args, event.payload.attachments),
            ("message-with-ack", Some(id)) if event.payload.attachments.is_empty() => socket.ack(id, &args),
            ("message-with-ack", Some(id)) => socket.ack_binary(id, &args, event.payload.attachments),
            (name, _) => tracing::debug!(name, "event without an answer"),
        }
    }

    fn message(&self, socket: &Rc<Socket<Self>>, message: Message<'_>) {
        socket.send(message);
    }

    fn disconnect(&self, socket: &Rc<Socket<Self>>, reason: &Reason) {
        tracing::debug!(?socket, %reason, "disconnected");
    }
}

#[tokio::main(flavor = "local")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (path, mode) = match arguments.protocol {
        Protocol::Engine => ("/engine.io/", Mode::EngineIo),
        Protocol::Socket => ("/socket.io/", Mode::SocketIo),
    };
    let config = Config {
        path: path.to_owned(),
        mode,
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        max_payload: 1_000_000,
        connect_timeout: Duration::from_secs(1),
        open_delay: Duration::from_millis(10),
        cors: Cors::Any,
        ..Config::default()
    };
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let worker = Worker::new(Rc::new(Echo), config, Arc::new(Stats::default()));
    loop {
        let (stream, peer) = listener.accept().await?;
        worker.accept(stream, peer);
    }
}
