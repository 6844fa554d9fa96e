//! Nanoseconds for each step of a message's way through the wire: `cargo bench -p socketio-wire`.
//!
//! Each line is the best of several rounds, so that a busy machine disturbs it less.

use std::hint::black_box;
use std::time::Instant;

use socketio_wire::engineio::packet as engine;
use socketio_wire::socketio::packet as socket;
use socketio_wire::websocket::frame::{self, Opcode, Reader, Role};

const ARGS: &str = r#"{"token":"eyJhbGciOiJIUzI1NiJ9.eyJpZHgiOjF9.c2lnbmF0dXJl","messageData":{"lng":127.0276,"lat":37.4979,"contents":"hello there","type":"Text"}}"#;

fn main() {
    let mut packet = b"4".to_vec();
    socket::encode_event("/", Some(12), "save_msg", ARGS, &mut packet);
    let mut masked = Vec::new();
    frame::encode_masked(Opcode::Text, [1, 2, 3, 4], &packet, &mut masked);
    println!("save_msg: {} bytes of packet", packet.len());

    let mut reader = Reader::new(Role::Server, 1_000_000);
    let mut buffer = masked.clone();
    measure("read a masked text frame (copied first)", || {
        buffer.copy_from_slice(&masked);
        let (used, _) = reader.read(black_box(&mut buffer)).unwrap().unwrap();
        used
    });
    let text = std::str::from_utf8(&packet).unwrap();
    measure("decode Engine.IO and Socket.IO packet", || {
        let (_, data) = engine::decode_text(black_box(text)).unwrap();
        socket::decode(data).unwrap().data.len()
    });
    let data = socket::decode(&text[1..]).unwrap().data;
    measure("take the event apart", || socket::event_args(black_box(data)).unwrap().args.len());

    let mut out = Vec::new();
    measure("encode the event", || {
        out.clear();
        socket::encode_event("/", None, black_box("new_msg"), black_box(ARGS), &mut out);
        out.len()
    });
    measure("make a server's text frame", || frame::text_frame(black_box(&packet)).len());
    measure("append a client's masked frame", || {
        out.clear();
        frame::encode_masked(Opcode::Text, [1, 2, 3, 4], black_box(&packet), &mut out);
        out.len()
    });
    let mut large = vec![b'x'; 65_536 + 1];
    measure("mask 64 KiB, unaligned", || {
        frame::apply_mask([1, 2, 3, 4], black_box(&mut large[1..]), 3);
        large.len()
    });
}

fn measure(what: &str, mut step: impl FnMut() -> usize) {
    const ROUNDS: usize = 20;
    const STEPS: u32 = 10_000;
    let best = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..STEPS {
                black_box(step());
            }
            start.elapsed() / STEPS
        })
        .min()
        .expect("at least one round");
    println!("{:>7} ns  {what}", best.as_nanos());
}
