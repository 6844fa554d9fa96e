//! The server under test when no other is named: `socketio-server` with the echo application, in this process.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use socketio_server::{Config, Mode, Seat, Stats, Worker, seats};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::rule::Protocol;

#[path = "../../crates/socketio-server/examples/protocol-echo/echo.rs"]
mod echo;

/// How patient a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nothing times out while a case thinks, however busy the machine.
    Calm,
    /// Heartbeats and the connect timeout come as soon as in `protocol-echo`, an upgrade is soon given up. Only the answer to a ping may take
    /// longer: the cases that answer must not fail because their thread was not woken in time.
    Brisk,
}

/// The address of the one server of this kind, started when first asked for. It lives as long as the process.
pub(crate) fn address(protocol: Protocol, pace: Pace) -> SocketAddr {
    static SERVERS: [OnceLock<SocketAddr>; 4] = [const { OnceLock::new() }; 4];
    let index = usize::from(protocol == Protocol::Socket) * 2 + usize::from(pace == Pace::Brisk);
    *SERVERS[index].get_or_init(|| start(&config(protocol, pace)))
}

fn config(protocol: Protocol, pace: Pace) -> Config {
    let mode = match protocol {
        Protocol::Engine => Mode::EngineIo,
        Protocol::Socket => Mode::SocketIo,
    };
    let suites = echo::config(mode);
    let calm = Config::default();
    match pace {
        Pace::Calm => Config {
            ping_interval: calm.ping_interval,
            ping_timeout: calm.ping_timeout,
            connect_timeout: calm.connect_timeout,
            ..suites
        },
        Pace::Brisk => Config {
            ping_timeout: Duration::from_secs(1),
            upgrade_timeout: Duration::from_millis(300),
            ..suites
        },
    }
}

/// Two workers that take connections in turn, so that the requests of a polling session, each on a connection of
/// its own, land on its owner and on the other.
fn start(config: &Config) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
    let address = listener.local_addr().expect("the listener's address");
    let workers: Vec<_> = seats(2).into_iter().map(|seat| start_worker(config.clone(), seat)).collect();
    std::thread::spawn(move || {
        for worker in workers.iter().cycle() {
            // Out of descriptors, say; the case that waits for its connection fails and tells.
            if let Ok((stream, peer)) = listener.accept()
                && stream.set_nonblocking(true).is_ok()
            {
                let _ = worker.send((stream, peer));
            }
        }
    });
    address
}

fn start_worker(config: Config, seat: Seat) -> UnboundedSender<(TcpStream, SocketAddr)> {
    let (sender, mut connections) = unbounded_channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .expect("a runtime");
        runtime.block_on(async move {
            let worker = Worker::with_seat(Rc::new(echo::Echo), config, Arc::new(Stats::default()), seat);
            while let Some((stream, peer)) = connections.recv().await {
                if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                    worker.accept(stream, peer);
                }
            }
        });
    });
    sender
}
