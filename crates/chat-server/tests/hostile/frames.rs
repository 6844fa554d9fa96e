//! WebSocket frames: broken, giant, without end, compressed.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use crate::raw::{Client, Got, masked};
use crate::stage::{Stage, closed, end_of, http};

#[test]
fn broken_frames() {
    let stage = Stage::set("", "max_payload = 10000");
    let mut unmasked = masked(0x81, b"2");
    unmasked[1] &= 0x7f;
    let giant = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat();
    let rows: &[(&str, Vec<u8>, u16)] = &[
        ("without a mask", unmasked, 1002),
        ("reserved opcode", masked(0x83, b""), 1002),
        ("fragmented ping", masked(0x09, b""), 1002),
        ("long ping", masked(0x89, &[0; 126]), 1002),
        ("continuation of nothing", masked(0x80, b"x"), 1002),
        ("message inside a message", [masked(0x01, b"4"), masked(0x81, b"4")].concat(), 1002),
        ("close code nobody may send", masked(0x88, &1005_u16.to_be_bytes()), 1002),
        ("bad UTF-8", masked(0x81, b"42[\"\xff\"]"), 1007),
        ("overlong UTF-8", masked(0x81, b"42[\"\xc0\x80\"]"), 1007),
        (
            "a surrogate in UTF-8, over fragments",
            [masked(0x01, b"4\xed"), masked(0x80, b"\xa0\x80")].concat(),
            1007,
        ),
        ("bad UTF-8 in a fragment, the rest never sent", masked(0x01, b"4\xff"), 1007),
        ("bad UTF-8 in a close", masked(0x88, b"\x03\xe8\xff"), 1007),
        ("a byte too large", masked(0x81, &[b'4'; 10_001]), 1009),
        ("giant, its header alone", giant(10_001), 1009),
        ("giant, 2^63 - 1 bytes", giant((1 << 63) - 1), 1009),
        ("giant, a length of more than 63 bits", giant(u64::MAX), 1002),
    ];
    for (name, bytes, code) in rows {
        stage.closes(name, *code, "violation", |client| client.raw(bytes));
    }
    stage.end();
}

/// Fragments of one message without end: the limit counts them together, and time limits those that are empty.
#[test]
fn fragments_without_end() {
    let stage = Stage::set("", "max_payload = 100000\nmessage_ms = 1000");
    stage.closes("until they are too large", 1009, "violation", |client| {
        client.frame(0x01, b"42[\"");
        let fragment = masked(0x00, &[b'x'; 1_000]);
        // The server stops reading before it is all written, or takes it in to throw it away.
        for _ in 0..110 {
            if client.stream.write_all(&fragment).is_err() {
                break;
            }
        }
    });
    stage.closes("empty ones for ever, with pings between", 1008, "input_timeout", |client| {
        client.frame(0x01, b"42[\"");
        let more = [masked(0x00, b""), masked(0x89, b"alive?")].concat();
        while client.stream.write_all(&more).is_ok() && !has_closed(client) {}
    });
    stage.end();
}

/// Looks for up to 20 ms whether the connection has been closed by the other side.
pub(crate) fn has_closed(client: &Client) -> bool {
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut seen = vec![0; 64 << 10];
    let length = client.stream.peek(&mut seen).unwrap_or(0);
    client.stream.set_read_timeout(Some(crate::raw::PATIENCE)).unwrap();
    // A close frame stands last, if it stands there: 0x88, its length, a code of 1000 and more.
    length > 0
        && seen[..length].windows(4).any(|window| window[0] == 0x88 && matches!(window[2], 0x03 | 0x0f))
}

/// permessage-deflate is not taken up, so there is nothing to inflate: a frame that claims to be compressed breaks
/// the protocol, however little it weighs and however much it would become.
#[test]
fn a_compression_bomb() {
    let stage = Stage::usual();
    let request = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame\r\n\r\n";
    let before = stage.dna.memory();
    // A stored block of zeros that says of itself that it goes on, as often as it fits.
    let mut bomb = Vec::new();
    for _ in 0..10 {
        bomb.extend_from_slice(&[0x00, 0xff, 0xff, 0x00, 0x00]);
        bomb.resize(bomb.len() + 0xffff, 0);
    }
    let mut attack = request.to_vec();
    attack.extend(masked(0x81, b"40"));
    attack.extend(masked(0xc2, &bomb));
    let answer = stage.counted("compressed frame", &closed("violation"), || http(stage.address(), &attack));
    let (head, frames) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(!head.to_lowercase().contains("sec-websocket-extensions"), "the offer is ignored: {head}");
    assert!(frames.contains("reserved bits"), "the close frame says why: {frames:?}");
    stage.closes("a compressed frame, its code", 1002, "violation", |client| client.frame(0xc1, b"\xca\x48"));
    stage.closes("compressed fragments", 1002, "violation", |client| client.frame(0x41, b"\xca\x48"));
    let grown = stage.dna.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more than before");
    stage.end();
}

/// Frames that promise much and bring almost all of it: together they may hold what `input_bytes` says, and who
/// holds most goes first.
#[test]
fn unfinished_frames_of_many_hold_a_bounded_amount() {
    let stage = Stage::set("", "input_bytes = 8000000\nmessage_ms = 60000");
    let sample = closed("input_bytes");
    let before = stage.dna.memory();
    let almost = &masked(0x82, &vec![0; 900_000])[..899_000];
    let mut held: Vec<Client> = Vec::new();
    for _ in 0..60 {
        let mut client = stage.attacker();
        client.stream.write_all(almost).unwrap();
        held.push(client);
    }
    // 8,000,000 bytes are eight of them; the buffer of one may have grown a little beyond what it holds.
    stage.until("most of them are closed", || (51..=56).contains(&stage.metric(&sample)));
    let grown = stage.dna.memory().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes for 54 MB of unfinished frames");
    let closed = held.iter().filter(|client| has_closed(client)).count();
    assert_eq!(closed as u64, stage.metric(&sample));
    let mut first = held.swap_remove(held.iter().position(has_closed).unwrap());
    assert_eq!(end_of(&mut first), Got::Close(Some(1013)));
    // Someone with an honest message in two pieces is not among those who go.
    let mut honest = stage.attacker();
    let message = masked(0x81, br#"421["nonsense"]"#);
    honest.raw(&message[..5]);
    let mut another = stage.attacker();
    another.stream.write_all(almost).unwrap();
    honest.raw(&message[5..]);
    assert_eq!(crate::stage::ack(&mut honest, 1)["code"], 10404);
    stage.end();
}

/// A handshake that never sends its key, a key that is none, a version nobody speaks: no session, a clear answer.
#[test]
fn handshakes_that_are_none() {
    let stage = Stage::usual();
    let with = |lines: &str| -> Vec<u8> {
        format!("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n{lines}\r\n").into_bytes()
    };
    let upgrade = "Connection: Upgrade, close\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let rows: &[(&str, Vec<u8>, &str)] = &[
        ("no key", with(&format!("{upgrade}Sec-WebSocket-Version: 13\r\n")), "400"),
        (
            "a short key",
            with(&format!("{upgrade}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc\r\n")),
            "400",
        ),
        ("version 8", with(&format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n")), "426"),
        ("no upgrade", with(&format!("Connection: close\r\n{key}Sec-WebSocket-Version: 13\r\n")), "400"),
    ];
    for (name, request, status) in rows {
        let answer = stage.counted(name, "dna_handshakes_refused_total", || http(stage.address(), request));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
    }
    // Half a WebSocket: gone after the upgrade, before the first frame.
    let before = stage.metric(&closed("transport_close"));
    for _ in 0..20 {
        drop(Client::upgrade(TcpStream::connect(stage.address()).unwrap(), "EIO=4&transport=websocket"));
    }
    stage.until("all of them are gone", || {
        stage.metric(&closed("transport_close")) + stage.metric(&closed("transport_error")) >= before + 20
    });
    stage.end();
}
