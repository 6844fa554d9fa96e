//! CPU of the server's thread per delivery: `push` and flush beside a loop of bare `send`s of the same frame to
//! the same number of sockets in the same pattern.
//!
//! `cargo bench -p socketio-server --bench fanout -- --rate 300 --seconds 5`
//!
//! With `--tls` what is pushed goes over TLS; the bare loop stays as it is.

#[path = "../tests/support/tls.rs"]
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use socketio_server::{
    Application, Config, ConnectError, ConnectRequest, Event, Frame, Reason, Socket, Stats, Worker,
};

#[derive(Parser, Clone)]
struct Arguments {
    #[arg(long, default_value_t = 2_000)]
    connections: usize,
    #[arg(long, default_value_t = 90)]
    hearers: usize,
    /// Messages per second.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Pairs of runs, push and bare in turn.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Only this one: `push` or `bare`.
    #[arg(long)]
    only: Option<String>,
    /// Push over TLS.
    #[arg(long)]
    tls: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

struct Quiet;

impl Application for Quiet {
    type Data = ();
    fn connect(&self, _: &Rc<Socket<Self>>, _: &ConnectRequest<'_>) -> Result<(), ConnectError> {
        Ok(())
    }
    fn event(&self, _: &Rc<Socket<Self>>, _: Event<'_>) {}
    fn disconnect(&self, _: &Rc<Socket<Self>>, _: &Reason) {}
}

fn frame() -> Frame {
    let contents = "x".repeat(60);
    Frame::event(
        "new_msg",
        &format!(
            r#"{{"status":201,"message":"Save Message Successfully","result":{{"idx":1234567,"cursor":"abcdef.1234567","user":{{"idx":1234,"nickname":"somebody","avatar":null,"anonymity":false}},"position":{{"type":"Point","coordinates":[127.0276,37.4979]}},"type":"Message","like_count":0,"likes":[],"contents":"{contents}","created_at":"2018-09-01T00:00:00.000Z"}}}}"#
        ),
    )
}

fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[derive(Clone, Copy)]
struct Outcome {
    deliveries: u64,
    cpu: Duration,
}

/// Runs `turn` at the rate for the time and gives the thread's CPU over it.
async fn drive(arguments: &Arguments, mut turn: impl FnMut(&mut fastrand::Rng)) -> Outcome {
    let mut random = fastrand::Rng::with_seed(1);
    let mut ticker = tokio::time::interval(Duration::from_secs_f64(1.0 / arguments.rate));
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for _ in 0..(arguments.rate / 2.0) as usize {
        ticker.tick().await;
        turn(&mut random);
    }
    let messages = (arguments.rate * arguments.seconds) as u64;
    let start = thread_cpu();
    for _ in 0..messages {
        ticker.tick().await;
        turn(&mut random);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    Outcome { deliveries: messages * arguments.hearers as u64, cpu: thread_cpu() - start }
}

fn local_runtime() -> tokio::runtime::LocalRuntime {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap()
}

/// Reads everything on all sockets, in a thread of its own, and counts the bytes.
fn read_all(sockets: Vec<TcpStream>, bytes: Arc<AtomicU64>) {
    _ = std::thread::Builder::new().name("readers".into()).spawn(move || {
        local_runtime().block_on(async move {
            for socket in sockets {
                let bytes = Arc::clone(&bytes);
                socket.set_nonblocking(true).unwrap();
                let socket = tokio::net::TcpStream::from_std(socket).unwrap();
                tokio::task::spawn_local(async move {
                    let mut buffer = [0; 4096];
                    while socket.readable().await.is_ok() {
                        match socket.try_read(&mut buffer) {
                            Ok(0) => break,
                            Ok(length) => _ = bytes.fetch_add(length as u64, Relaxed),
                            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                            Err(_) => break,
                        }
                    }
                });
            }
            std::future::pending::<()>().await;
        });
    });
}

fn push(arguments: &Arguments) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (sender, receiver) = mpsc::channel();
    let options = arguments.clone();
    let tls = arguments.tls.then(tls::server_config);
    _ = std::thread::Builder::new().name("server".into()).spawn(move || {
        local_runtime().block_on(async move {
            let stats = Arc::new(Stats::default());
            let worker = Worker::new(Rc::new(Quiet), Config::default(), Arc::clone(&stats));
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            for _ in 0..options.connections {
                let (stream, peer) = listener.accept().await.unwrap();
                match &tls {
                    Some(tls) => worker.accept_tls(stream, peer, tls.clone()),
                    None => worker.accept(stream, peer),
                }
            }
            while stats.sockets.load(Relaxed) < options.connections as u64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let sockets = worker.sockets();
            let frame = frame();
            let outcome = drive(&options, |random| {
                for _ in 0..options.hearers {
                    sockets[random.usize(..sockets.len())].push(&frame);
                }
            })
            .await;
            sender.send((outcome, stats)).unwrap();
        });
    });
    let clients: Vec<TcpStream> =
        (0..arguments.connections).map(|_| connect(address, arguments.tls)).collect();
    let bytes = Arc::new(AtomicU64::new(0));
    read_all(clients, Arc::clone(&bytes));
    let (outcome, stats) = receiver.recv().unwrap();
    println!(
        "    {} frames in {} writes, {} bytes read; queue p50 {} us, p99 {} us",
        stats.frames_out.load(Relaxed),
        stats.writes.load(Relaxed),
        bytes.load(Relaxed),
        quantile(&stats.queue, 0.5),
        quantile(&stats.queue, 0.99)
    );
    outcome
}

fn quantile(histogram: &socketio_server::stats::Histogram, part: f64) -> u64 {
    let target = (histogram.count() as f64 * part) as u64;
    let mut seen = 0;
    for (bound, count) in histogram.buckets() {
        seen += count;
        if seen > target {
            return bound;
        }
    }
    0
}

fn connect(address: SocketAddr, secure: bool) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    if !secure {
        return upgrade(stream);
    }
    // What is read afterwards is counted and not decrypted: the load costs the same as without TLS.
    upgrade(tls::client_stream(stream, socketio_client::tls::insecure())).sock
}

fn upgrade<S: Read + Write>(mut stream: S) -> S {
    stream
        .write_all(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
              Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
              \x81\x82\x00\x00\x00\x0040",
        )
        .unwrap();
    // The open packet is there when a byte is.
    stream.read_exact(&mut [0]).unwrap();
    stream
}

fn bare(arguments: &Arguments) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = arguments.connections;
    let connecting = std::thread::spawn(move || {
        (0..count).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>()
    });
    let sockets: Vec<TcpStream> = (0..count)
        .map(|_| {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    let bytes = Arc::new(AtomicU64::new(0));
    read_all(connecting.join().unwrap(), Arc::clone(&bytes));
    let options = arguments.clone();
    let thread = std::thread::spawn(move || {
        let frame = frame();
        local_runtime().block_on(drive(&options, |random| {
            for _ in 0..options.hearers {
                let mut socket = &sockets[random.usize(..sockets.len())];
                assert_eq!(socket.write(frame.as_bytes()).unwrap(), frame.len());
            }
        }))
    });
    thread.join().unwrap()
}

fn main() {
    let arguments = Arguments::parse();
    println!("frame of {} bytes, {} connections", frame().len(), arguments.connections);
    let mut ratios = Vec::new();
    for _ in 0..arguments.pairs {
        let mut each = [0.0; 2];
        for (index, name) in ["push", "bare"].into_iter().enumerate() {
            if arguments.only.as_deref().is_some_and(|only| only != name) {
                continue;
            }
            let start = Instant::now();
            let outcome = if name == "push" { push(&arguments) } else { bare(&arguments) };
            each[index] = outcome.cpu.as_secs_f64() * 1e6 / outcome.deliveries as f64;
            println!(
                "{name}: {:.2} us CPU per delivery ({} deliveries, {:.1} s)",
                each[index],
                outcome.deliveries,
                start.elapsed().as_secs_f64()
            );
        }
        ratios.push(each[0] / each[1]);
    }
    ratios.sort_by(f64::total_cmp);
    if arguments.only.is_none() {
        println!("push / bare: median {:.3}", ratios[ratios.len() / 2]);
    }
}
