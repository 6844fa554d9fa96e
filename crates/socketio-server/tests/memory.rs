//! What an idle connection costs in user space, counted at the allocator.

#[allow(unreachable_pub)] // shared by several test programs
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use support::{Client, Server, config};

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
fn cost(server: &Server, count: usize) -> i64 {
    let before = server.run(|_| HELD.load(Relaxed));
    let clients: Vec<Client> = (0..count)
        .map(|_| {
            let mut client = server.client(4);
            // A message each way, so that queues and buffers have been used.
            client.send(r#"421["echo","some words"]"#);
            client.expect(r#"431["some words"]"#);
            server.told();
            client.forget_buffer();
            client
        })
        .collect();
    // Twice, so that the turn in which the last answer left is over.
    server.run(|_| ());
    let held = server.run(|_| HELD.load(Relaxed)) - before - (size_of::<Client>() * count) as i64;
    drop(clients);
    for _ in 0..count {
        server.expect("disconnect / transport_close");
    }
    held
}

#[test]
fn an_idle_connection_costs_little_and_gives_it_back() {
    let server = Server::start(config());
    cost(&server, 50);
    let before = server.run(|_| HELD.load(Relaxed));
    // The difference leaves out what the worker itself grows by.
    let each = (cost(&server, 450) - cost(&server, 50)) / 400;
    println!("{each} bytes per idle connection");
    assert!(each <= 2_500, "{each} bytes");
    assert!(each > 300, "{each} bytes cannot be all");
    let leaked = server.run(|_| HELD.load(Relaxed)) - before;
    assert!(leaked < 100_000, "{leaked} bytes stayed behind 500 connections");
}
