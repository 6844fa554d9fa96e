//! What an idle connection costs in user space, counted at the allocator.

#[path = "support/tls.rs"]
mod ends;
#[allow(unreachable_pub)] // shared by several test programs
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Instant;

use support::{Client, PATIENCE, Server, config};

struct Counting;

static HELD: AtomicI64 = AtomicI64::new(0);

#[allow(unsafe_code)] // an allocator cannot be written otherwise; it hands everything to the system's
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as i64, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as i64, Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes of `count` connected clients that have nothing to say, the server's side alone.
fn cost(server: &Server, count: usize, connect: impl Fn(&Server) -> TcpStream) -> i64 {
    let before = server.run(|_| HELD.load(Relaxed));
    let clients: Vec<TcpStream> = (0..count).map(|_| connect(server)).collect();
    // Twice, so that the turn in which the last answer left is over.
    server.run(|_| ());
    let held = server.run(|_| HELD.load(Relaxed)) - before - (size_of::<TcpStream>() * count) as i64;
    drop(clients);
    for _ in 0..count {
        server.expect("disconnect / transport_close");
    }
    // The end is told before the connection's task is gone, whose memory must not be counted as the next one's loss.
    let gone = Instant::now();
    while server.run(|worker| worker.connections()) > 0 {
        assert!(gone.elapsed() < PATIENCE, "connections that have ended are kept");
    }
    server.run(|_| ());
    held
}

fn plain(server: &Server) -> TcpStream {
    used(server, server.client(4))
}

/// What the client keeps of its own TLS is dropped with the stream around the socket.
fn secure(server: &Server) -> TcpStream {
    let tcp = TcpStream::connect(server.address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let stream = ends::client_stream(tcp, socketio_client::tls::insecure());
    let mut client = Client::over(stream, "EIO=4&transport=websocket");
    client.text();
    client.send("40");
    client.text();
    client.text();
    server.told();
    used(server, client).sock
}

/// A message each way, so that queues and buffers have been used.
fn used<S: Read + Write>(server: &Server, mut client: Client<S>) -> S {
    client.send(r#"421["echo","some words"]"#);
    client.expect(r#"431["some words"]"#);
    server.told();
    client.stream
}

#[test]
fn an_idle_connection_costs_little_and_gives_it_back() {
    // One after the other: the allocator is the process's.
    let each = cost_of_each(&Server::start(config()), plain);
    println!("{each} bytes per idle connection");
    assert!(each <= 2_500, "{each} bytes");
    assert!(each > 300, "{each} bytes cannot be all");

    let tls = ends::server_config();
    let accept: support::Accept =
        Box::new(move |worker, stream, peer| worker.accept_tls(stream, peer, tls.clone()));
    let server = Server::start_with(config(), accept);
    let each = cost_of_each(&server, secure);
    println!("{each} bytes per idle connection over TLS");
    assert!(each <= 12_000, "{each} bytes over TLS");
}

fn cost_of_each(server: &Server, connect: impl Fn(&Server) -> TcpStream) -> i64 {
    // More than the sessions that TLS remembers for resumption, which is a worker's own growth too.
    cost(server, 300, &connect);
    let before = server.run(|_| HELD.load(Relaxed));
    // The difference leaves out what the worker itself grows by.
    let each = (cost(server, 450, &connect) - cost(server, 50, &connect)) / 400;
    let leaked = server.run(|_| HELD.load(Relaxed)) - before;
    assert!(leaked < 100_000, "{leaked} bytes stayed behind 500 connections");
    each
}
