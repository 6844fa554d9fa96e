//! What takes its time: heads and bodies that drip, frames that drip, sessions without a namespace, readers that
//! do not read.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::raw::{Client, Got, PATIENCE, masked};
use crate::stage::{Stage, closed, end_of, fault, read_all};
use crate::support::HERE;

/// Writes `bytes` one at a time until the server has had enough.
pub(crate) fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    let start = Instant::now();
    let mut writer = stream.try_clone().unwrap();
    for byte in bytes.iter().cycle() {
        assert!(start.elapsed() < PATIENCE, "it goes on for ever");
        if writer.write_all(&[*byte]).is_err() || is_over(stream) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the other side has said something.
fn is_over(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let over = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    over
}

fn connect(stage: &Stage, beginning: &str) -> TcpStream {
    let mut stream = TcpStream::connect(stage.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(beginning.as_bytes()).unwrap();
    stream
}

#[test]
fn requests_that_do_not_come() {
    let stage = Stage::set("", "head_ms = 1000\nmessage_ms = 1000");
    let late = fault("head_timeout");
    stage.counted("silence", &late, || assert_eq!(read_all(&mut connect(&stage, "")), ""));
    stage.counted("half a head", &late, || {
        let answer = read_all(&mut connect(&stage, "GET /socket.io/?EIO=4 HTTP/1.1\r\nHos"));
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    });
    stage.counted("a head that drips", &late, || {
        let mut stream = connect(&stage, "GET /socket.io/?EIO=4 HTTP/1.1\r\n");
        drip(&mut stream, b"X: y\r\n");
        let answer = read_all(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    });
    stage.counted("nothing more after a request", &late, || {
        let answer = read_all(&mut connect(&stage, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    });
    stage.counted("a body that drips", &fault("body_timeout"), || {
        let mut stream = connect(
            &stage,
            "POST /api/dev-token HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n",
        );
        drip(&mut stream, b" ");
        let answer = read_all(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    });
    stage.end();
}

#[test]
fn an_answer_nobody_takes() {
    let stage = Stage::set("", "head_ms = 1000\nmessage_ms = 1000");
    let before = stage.dna.memory();
    stage.counted("answers that are not read", &fault("idle"), || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(&stage.address().into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // Written until the server takes no more of them, because nobody takes what it answers.
        let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
        while stream.write_all(requests.as_bytes()).is_ok() {}
        stage.until("it is given up", || stage.metric(&fault("idle")) == 1);
    });
    let grown = stage.dna.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more than before");
    stage.end();
}

#[test]
fn sessions_that_do_not_go_on() {
    let stage =
        Stage::set("", "connect_ms = 2000\nmessage_ms = 500\nping_interval_ms = 200\nping_timeout_ms = 5000");
    stage.counted("no namespace", &closed("connect_timeout"), || {
        let mut client = stage.websocket();
        assert_eq!(end_of(&mut client), Got::Close(Some(1008)));
    });
    // Its heartbeats are answered; it is the frame that does not come.
    for (name, beginning) in [
        ("a frame of 900 kB, a byte at a time", masked(0x82, &vec![0; 900_000])[..100].to_vec()),
        ("a header that is not complete", vec![0x82, 0xff, 0, 0]),
        ("a ping that is not complete", masked(0x89, &[0; 100])[..50].to_vec()),
    ] {
        stage.closes(name, 1008, "input_timeout", |client| {
            client.raw(&beginning);
            if beginning.len() == 100 {
                let mut stream = client.stream.try_clone().unwrap();
                let start = Instant::now();
                while !crate::frames::has_closed(client) && start.elapsed() < PATIENCE {
                    if stream.write_all(&[0]).is_err() {
                        break;
                    }
                }
            }
        });
    }
    stage.counted("heartbeats that are not answered", &closed("ping_timeout"), || {
        let mut client = stage.attacker();
        assert_eq!(end_of(&mut client), Got::Close(Some(1008)));
    });
    stage.end();
}

/// A message that comes slowly and in time, and one after the other without a pause, is nobody's fault.
#[test]
fn a_slow_writer_that_comes_through() {
    let stage = Stage::set("", "message_ms = 3000");
    let mut client = stage.attacker();
    let start = Instant::now();
    let mut id = 0;
    // Never a moment without half a frame under way, for longer than any of them may take.
    let mut bytes = Vec::new();
    while start.elapsed() < Duration::from_secs(5) {
        bytes.extend(masked(0x81, format!(r#"42{id}["nonsense"]"#).as_bytes()));
        id += 1;
        let half = bytes.len() - 6;
        client.raw(&bytes[..half]);
        bytes.drain(..half);
        std::thread::sleep(Duration::from_millis(100));
    }
    client.raw(&bytes);
    assert_eq!(crate::stage::ack(&mut client, id - 1)["code"], 10404);
    stage.end();
}

/// Says twenty messages of 4,000 bytes where the bystander stands, and takes its own copies, or it would be the
/// slow one.
pub(crate) fn say_much(speaker: &mut Client) {
    let (lng, lat) = HERE;
    let text = "x".repeat(4_000);
    for _ in 0..20 {
        speaker.send(&format!(
            r#"42["save_msg",{{"messageData":{{"lng":{lng},"lat":{lat},"contents":"{text}"}}}}]"#
        ));
    }
    for _ in 0..20 {
        while !speaker.text().contains("new_msg") {}
    }
}

/// One who hears and does not read, by bytes and by age: closed with 4008, and what waited for it is dropped.
#[test]
fn readers_that_do_not_read() {
    for (settings, reason) in [
        ("outbox_bytes = 300000", "outbox_bytes"),
        ("outbox_bytes = 100000000\noutbox_age_ms = 500", "outbox_age"),
    ] {
        let stage = Stage::set("", settings);
        let mut slow = stage.hearer(4 << 10);
        let mut speaker = stage.attacker();
        stage.counted(reason, &closed(reason), || {
            stage.until(reason, || {
                say_much(&mut speaker);
                stage.metric(&closed(reason)) == 1
            });
        });
        assert_eq!(end_of(&mut slow), Got::Close(Some(4008)), "{reason}");
        assert!(stage.metric("dna_frames_dropped_total") > 0, "{reason}");
        stage.end();
    }
}
