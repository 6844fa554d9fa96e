//! Heartbeats, timeouts, slow readers, order under a sliced flush, drain.

#[allow(unreachable_pub)] // shared by several test programs
mod support;

use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use socketio_server::{CloseCode, Config, Frame, Reason};
use support::{Client, Got, Server, config};

fn quick() -> Config {
    Config { ping_interval: Duration::from_millis(100), ping_timeout: Duration::from_millis(100), ..config() }
}

#[test]
fn revision_4_is_pinged_and_lives_while_it_answers() {
    let server = Server::start(Config { ping_timeout: Duration::from_secs(20), ..quick() });
    let mut client = server.client(4);
    let start = Instant::now();
    for _ in 0..5 {
        client.expect("2");
        client.send("3");
    }
    // A ping may come a tick of the wheel early.
    assert!(start.elapsed() >= Duration::from_millis(450), "pings come no faster than agreed");
    // The wait for a pong is far longer than the interval, and must not be what the next ping waits for.
    assert!(start.elapsed() < Duration::from_secs(8), "pings come as often as agreed");
    client.send(r#"420["echo"]"#);
    client.expect("430[]");
}

#[test]
fn revision_4_is_closed_when_it_does_not_answer() {
    let server = Server::start(quick());
    let mut client = server.client(4);
    let start = Instant::now();
    client.expect("2");
    assert!(matches!(client.next(), Got::Close(_)));
    assert!(start.elapsed() >= Duration::from_millis(190), "not before its time");
    server.expect("disconnect / ping_timeout");
    assert_eq!(server.stats.closed(&Reason::PingTimeout), 1);
}

#[test]
fn revision_3_pings_and_is_answered() {
    let server = Server::start(Config { ping_timeout: Duration::from_secs(20), ..quick() });
    let mut client = server.client(3);
    for text in ["2", "2probe"] {
        client.send(text);
        client.expect(&text.replace('2', "3"));
    }
}

#[test]
fn revision_3_is_closed_when_it_is_silent() {
    let server = Server::start(quick());
    let mut client = server.client(3);
    let start = Instant::now();
    client.send("2");
    client.expect("3");
    // Events are no heartbeat.
    client.send(r#"420["echo"]"#);
    client.expect("430[]");
    assert!(matches!(client.next(), Got::Close(_)));
    assert!(start.elapsed() >= Duration::from_millis(190));
    assert!(server.told().starts_with("event echo"));
    server.expect("disconnect / ping_timeout");
}

#[test]
fn a_session_without_a_namespace_does_not_stay() {
    let server = Server::start(Config { connect_timeout: Duration::from_millis(50), ..config() });
    let mut client = server.websocket("EIO=4&transport=websocket");
    client.text();
    client.expect_close(1008);
    assert_eq!(server.stats.closed(&Reason::ConnectTimeout), 1);
    // One that connected in time stays, even after leaving.
    let mut client = server.client(4);
    client.send("41");
    server.expect("disconnect / client_disconnect");
    let mut other = server.websocket("EIO=4&transport=websocket");
    other.text();
    other.expect_close(1008);
    client.send("40");
    assert!(client.text().starts_with("40"));
}

#[test]
fn a_peer_that_never_finishes_its_close_is_dropped() {
    let server = Server::start(Config { close_timeout: Duration::from_millis(100), ..config() });
    let mut client = server.client(4);
    client.send("1");
    assert_eq!(client.next(), Got::Close(Some(1000)));
    // We neither answer nor close.
    server.expect("disconnect / client_close");
    let until = Instant::now() + support::PATIENCE;
    while server.run(|worker| worker.connections()) > 0 {
        assert!(Instant::now() < until, "the session is still there");
    }
}

/// A client whose kernel takes little, so that a server notices soon that it does not read.
fn narrow(server: &Server) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut client = Client::upgrade(TcpStream::from(socket), "EIO=4&transport=websocket");
    client.text();
    client.send("40");
    client.text();
    client.text();
    server.expect("connect / auth= query=");
    client
}

fn burst(first: usize, count: usize) -> impl Iterator<Item = Frame> {
    let padding = "x".repeat(2_000);
    (first..first + count).map(move |n| Frame::event("flood", &format!(r#"{n},"{padding}""#)))
}

/// Reads floods in order from 0 until a close; gives how many came and the code.
fn read_flood(client: &mut Client) -> (usize, Got) {
    let mut count = 0;
    loop {
        match client.next() {
            Got::Text(text) => {
                let expected = format!(r#"42["flood",{count},"#);
                assert!(
                    text.starts_with(&expected),
                    "expected {expected}, got {}",
                    &text[..30.min(text.len())]
                );
                count += 1;
            }
            other => return (count, other),
        }
    }
}

#[test]
fn a_slow_reader_is_closed_with_4008_and_its_neighbour_hears_everything() {
    let server = Server::start(Config { outbox_bytes: 200_000, ..config() });
    let mut slow = narrow(&server);
    let mut bystander = server.client(4);
    let mut sent = 0;
    // One burst a turn, read by the neighbour before the next, until the slow one is given up.
    while server.stats.closed(&Reason::OutboxBytes) == 0 {
        server.run(move |worker| {
            for frame in burst(sent, 20) {
                worker.sockets().iter().for_each(|socket| socket.push(&frame));
            }
        });
        for n in sent..sent + 20 {
            assert!(bystander.text().starts_with(&format!(r#"42["flood",{n},"#)));
        }
        sent += 20;
        assert!(sent < 20_000, "the bound never bit: the kernel swallowed {} bytes", sent * 2_000);
    }
    server.expect("disconnect / outbox_bytes");
    // It gets whole frames in order, then the reason, and no Socket.IO DISCONNECT.
    let (heard, end) = read_flood(&mut slow);
    assert_eq!(end, Got::Close(Some(4008)));
    assert_eq!(slow.next(), Got::Eof);
    assert!(heard < sent, "what was queued is dropped");
    assert!(server.stats.frames_dropped.load(Relaxed) > 0);
    bystander.send(r#"420["echo"]"#);
    bystander.expect("430[]");
}

#[test]
fn a_frame_that_waits_too_long_is_a_slow_reader_too() {
    let server = Server::start(Config { outbox_age: Duration::from_millis(200), ..config() });
    let mut slow = narrow(&server);
    server.run(|worker| {
        let socket = worker.sockets().remove(0);
        // Far below the bound in bytes, far above what the kernel takes.
        burst(0, 400).for_each(|frame| socket.push(&frame));
    });
    server.expect("disconnect / outbox_age");
    let (heard, end) = read_flood(&mut slow);
    assert_eq!((end, server.stats.closed(&Reason::OutboxAge)), (Got::Close(Some(4008)), 1));
    assert!(heard < 400);
}

#[test]
fn one_that_never_reads_again_is_reset() {
    let server = Server::start(Config {
        outbox_bytes: 200_000,
        close_timeout: Duration::from_millis(200),
        ..config()
    });
    let _slow = narrow(&server);
    server.run(|worker| {
        let socket = worker.sockets().remove(0);
        burst(0, 1_000).for_each(|frame| socket.push(&frame));
    });
    server.expect("disconnect / outbox_bytes");
    let until = Instant::now() + support::PATIENCE;
    while server.run(|worker| worker.connections()) > 0 {
        assert!(Instant::now() < until, "the session is still there");
    }
}

#[test]
fn a_flood_of_pings_without_reading_is_a_slow_reader() {
    let server = Server::start(Config { outbox_bytes: 20_000, ..config() });
    let mut slow = narrow(&server);
    let pings: Vec<u8> = (0..500).flat_map(|_| support::masked(0x89, &[b'p'; 100])).collect();
    // Written until the server stops: it closes, so a write fails or everything was taken in.
    let writer = std::thread::spawn({
        let mut stream = slow.stream.try_clone().unwrap();
        move || while std::io::Write::write_all(&mut stream, &pings).is_ok() {}
    });
    server.expect("disconnect / outbox_bytes");
    while !matches!(slow.next(), Got::Close(_) | Got::Eof | Got::Reset) {}
    slow.stream.shutdown(std::net::Shutdown::Both).unwrap_or(());
    writer.join().unwrap();
}

#[test]
fn a_burst_beyond_the_bound_is_no_fault_of_one_that_takes_it() {
    let server = Server::start(Config { outbox_bytes: 50_000, notsent_lowat: None, ..config() });
    let mut client = server.client(4);
    server.run(|worker| {
        let socket = worker.sockets().remove(0);
        // Four times the bound in one turn; the kernel has room for it.
        burst(0, 100).for_each(|frame| socket.push(&frame));
    });
    for n in 0..100 {
        assert!(client.text().starts_with(&format!(r#"42["flood",{n},"#)));
    }
}

#[test]
fn whoever_waits_for_the_flush_fills_no_outbox() {
    let server = Server::start(Config { outbox_bytes: 50_000, flush_slice: Duration::ZERO, ..config() });
    let mut clients: Vec<Client> = (0..100).map(|_| server.client(4)).collect();
    let (sender, done) = std::sync::mpsc::channel();
    server.run(move |worker| {
        let worker = std::rc::Rc::clone(worker);
        tokio::task::spawn_local(async move {
            for frame in burst(0, 5) {
                worker.sockets().iter().for_each(|socket| socket.push(&frame));
                worker.flushed().await;
                let waiting: usize = worker.sockets().iter().map(|socket| socket.outbox_len()).sum();
                sender.send(waiting).unwrap();
            }
        });
    });
    for _ in 0..5 {
        assert_eq!(done.recv_timeout(support::PATIENCE), Ok(0));
    }
    for client in &mut clients {
        for n in 0..5 {
            assert!(client.text().starts_with(&format!(r#"42["flood",{n},"#)));
        }
    }
}

#[test]
fn a_small_burst_does_not_wait_for_a_large_one() {
    let server = Server::start(Config { flush_slice: Duration::ZERO, small_burst: 10, ..config() });
    let mut clients: Vec<Client> = (0..200).map(|_| server.client(4)).collect();
    let (sender, done) = std::sync::mpsc::channel();
    server.run(move |worker| {
        let worker = std::rc::Rc::clone(worker);
        tokio::task::spawn_local(async move {
            let sockets = worker.sockets();
            let crowd = Frame::event("crowd", "1");
            sockets.iter().for_each(|socket| socket.push(&crowd));
            tokio::task::yield_now().await;
            // One slice has passed. The last of the crowd is not served yet, but asks for an answer.
            let last = sockets.iter().rfind(|socket| socket.outbox_len() == 1).unwrap();
            last.ack(socketio_server::AckId(9), "");
            // Which of two yielding tasks runs first is the runtime's choice: two slices at most.
            tokio::task::yield_now().await;
            if last.outbox_len() > 0 {
                tokio::task::yield_now().await;
            }
            let others = sockets.iter().filter(|socket| socket.outbox_len() > 0).count();
            sender.send((last.outbox_len(), others)).unwrap();
        });
    });
    let (answered, others) = done.recv_timeout(support::PATIENCE).unwrap();
    assert_eq!(answered, 0, "the answer left with its next slice");
    assert!(others > 50, "while {others} of the crowd waited");
    for client in &mut clients {
        client.expect(r#"42["crowd",1]"#);
    }
}

#[test]
fn slow_readers_that_read_in_time_lose_nothing() {
    // One by one, and with many in each batch, some of whose sockets are full.
    for (batch, readers) in [(false, 3), (true, 1), (true, 20)] {
        let server = Server::start(Config { batch, ..config() });
        let mut slow: Vec<_> = (0..readers).map(|_| narrow(&server)).collect();
        let mut fast: Vec<_> = (0..readers).map(|_| server.client(4)).collect();
        server.run(|worker| {
            for frame in burst(0, 450) {
                worker.sockets().iter().for_each(|socket| socket.push(&frame));
            }
            worker.sockets().iter().for_each(|socket| socket.close(CloseCode(4001), "done"));
        });
        for client in fast.iter_mut().chain(&mut slow) {
            assert_eq!(read_flood(client), (450, Got::Close(Some(4001))));
        }
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        assert!(count(&server.stats.write_wouldblock) > 0);
        let can_batch = batch && readers > 1 && socketio_server::batch::measure().is_ok();
        assert_eq!(count(&server.stats.writes_batched) > 0, can_batch);
    }
}

#[test]
fn heartbeats_overtake_a_queue_but_never_enter_a_frame() {
    let server = Server::start(Config { ping_interval: Duration::from_millis(100), ..config() });
    let mut slow = narrow(&server);
    server.run(|worker| {
        let socket = worker.sockets().remove(0);
        burst(0, 450).for_each(|frame| socket.push(&frame));
    });
    // Once the ping is queued, everything is read: it must come before what had been queued long before it.
    let until = Instant::now() + support::PATIENCE;
    let mut length = usize::MAX;
    loop {
        // Without a reader the queue only shrinks, until the ping joins it.
        let now = server.run(|worker| worker.sockets()[0].outbox_len());
        if now > length {
            break;
        }
        length = now;
        assert!(Instant::now() < until, "no ping was queued");
    }
    let mut floods = 0;
    let mut ping_after = None;
    while floods < 450 {
        match slow.text().as_str() {
            "2" => ping_after = ping_after.or(Some(floods)),
            text => {
                assert!(text.starts_with(&format!(r#"42["flood",{floods},"#)));
                floods += 1;
            }
        }
    }
    let ping_after = ping_after.expect("a ping");
    assert!(ping_after < 440, "the ping came after {ping_after} of 450 frames");
}

#[test]
fn order_holds_under_a_sliced_flush() {
    // Every slice ends after the least progress, and no burst counts as small.
    let server = Server::start(Config { flush_slice: Duration::ZERO, small_burst: 0, ..config() });
    let mut clients: Vec<Client> = (0..150).map(|n| server.client(3 + n % 2)).collect();
    const ROUNDS: usize = 20;
    for round in 0..ROUNDS {
        // Answers, which go first, in the middle of a crowd's burst.
        for client in clients.iter_mut().step_by(10) {
            client.send(&format!(r#"42{round}["echo",{round}]"#));
        }
        server.run(move |worker| {
            for n in 0..5 {
                let frame = Frame::event("crowd", &format!("{}", round * 5 + n));
                worker.sockets().iter().for_each(|socket| socket.push(&frame));
            }
        });
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let acks = if index % 10 == 0 { ROUNDS } else { 0 };
        let (mut next, mut next_ack) = (0, 0);
        while next < ROUNDS * 5 || next_ack < acks {
            let text = client.text();
            if text.starts_with("43") {
                assert_eq!(text, format!("43{next_ack}[{next_ack}]"));
                next_ack += 1;
            } else {
                assert_eq!(text, format!(r#"42["crowd",{next}]"#));
                next += 1;
            }
        }
    }
}

#[test]
fn frames_of_one_turn_leave_in_one_write() {
    let server = Server::start(config());
    let mut client = server.client(4);
    let before = server.run(|worker| worker.stats().writes.load(Relaxed));
    server.run(|worker| {
        let socket = worker.sockets().remove(0);
        (0..50).for_each(|n| socket.emit("many", &n.to_string()));
    });
    for n in 0..50 {
        client.expect(&format!(r#"42["many",{n}]"#));
    }
    server.run(|_| ());
    assert_eq!(server.stats.writes.load(Relaxed) - before, 1);
    assert_eq!(server.stats.queue.count(), server.stats.frames_out.load(Relaxed));
}

#[test]
fn a_drain_says_1012_after_what_is_queued_and_takes_nobody_new() {
    let server = Server::start(config());
    let mut clients: Vec<Client> = (0..10).map(|n| server.client(3 + n % 2)).collect();
    let (sender, done) = std::sync::mpsc::channel();
    server.run(move |worker| {
        let frame = Frame::event("last", "1");
        worker.sockets().iter().for_each(|socket| socket.push(&frame));
        let worker = std::rc::Rc::clone(worker);
        tokio::task::spawn_local(async move {
            worker.drain(CloseCode::SERVICE_RESTART, support::PATIENCE).await;
            sender.send(worker.connections()).unwrap();
        });
    });
    for client in &mut clients {
        client.expect(r#"42["last",1]"#);
        client.expect_close(1012);
    }
    let (status, _) = server
        .http("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(status, 503);
    drop(clients);
    assert_eq!(done.recv_timeout(support::PATIENCE), Ok(0));
    for _ in 0..10 {
        assert!(server.told().starts_with("disconnect / drain (1012"));
    }
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let server = Server::start(config());
    let _stays = server.client(4);
    let (sender, done) = std::sync::mpsc::channel();
    server.run(move |worker| {
        let worker = std::rc::Rc::clone(worker);
        tokio::task::spawn_local(async move {
            worker.drain(CloseCode::SERVICE_RESTART, Duration::from_millis(100)).await;
            sender.send(worker.connections()).unwrap();
        });
    });
    assert_eq!(done.recv_timeout(support::PATIENCE), Ok(0));
}

/// A runtime takes up 61 tasks in one go, so that with one of these numbers the drain looks up between the last client's
/// end and the flush that was to follow it.
#[test]
fn nothing_stays_behind_when_a_crowd_leaves_as_the_drain_begins() {
    for crowd in 50..50 + 61 {
        let server = Server::start(config());
        let mut clients: Vec<Client> = (0..crowd).map(|_| server.client(4)).collect();
        let (told, gone) = server.finish(|| {
            for client in &mut clients {
                client.send(r#"421["echo",1]"#);
            }
            clients.clear();
        });
        assert_eq!(told.iter().filter(|line| line.starts_with("disconnect /")).count(), crowd);
        assert!(gone, "the application outlives its worker, of {crowd} clients");
    }
}

#[test]
fn counters_return_to_zero() {
    let server = Server::start(config());
    let clients: Vec<Client> = (0..5).map(|_| server.client(4)).collect();
    assert_eq!(server.stats.sessions.load(Relaxed), 5);
    assert_eq!(server.stats.sockets.load(Relaxed), 5);
    drop(clients);
    for _ in 0..5 {
        server.expect("disconnect / transport_close");
    }
    server.run(|worker| assert!(worker.sockets().is_empty()));
    assert_eq!((server.stats.sessions.load(Relaxed), server.stats.sockets.load(Relaxed)), (0, 0));
    assert_eq!((server.stats.opened.load(Relaxed), server.stats.accepted.load(Relaxed)), (5, 5));
}
