//! The first byte of the input chooses the limit of attachments; the rest is a conversation, one message a
//! line: binary where the line begins with a zero byte, else text.

use bytes::Bytes;
use serde_json::Value;
use socketio_wire::socketio::packet;
use socketio_wire::socketio::reassembly::{self, Limits, Message, Reassembler, Text};

pub(crate) fn check(input: &[u8]) {
    let Some((&setting, conversation)) = input.split_first() else { return };
    let limits = Limits { attachments: u32::from(setting) % 12, bytes: 500 };
    let mut reassembler = Reassembler::new(limits);
    // The text and the attachments so far of a packet that waits, by a second book-keeping.
    let mut expected: Option<(&str, Vec<&[u8]>)> = None;

    for line in conversation.split(|&byte| byte == b'\n') {
        if let Some(attachment) = line.strip_prefix(b"\0") {
            match reassembler.take_binary(Bytes::copy_from_slice(attachment)) {
                Ok(done) => {
                    let (text, mut attachments) = expected.take().expect("an attachment was due");
                    attachments.push(attachment);
                    match done {
                        Some(message) => check_message(&message, text, &attachments, &limits),
                        None => expected = Some((text, attachments)),
                    }
                }
                Err(_) => return,
            }
        } else {
            let Ok(text) = std::str::from_utf8(line) else { return };
            let Ok(packet) = packet::decode(text) else { return };
            match reassembler.take_text(packet) {
                Ok(Text::Complete(same)) => assert_eq!(same, packet),
                Ok(Text::Waiting) => {
                    assert!(packet.kind.is_binary() && packet.attachments > 0);
                    expected = Some((text, Vec::new()));
                }
                Err(_) => return,
            }
        }
        assert_eq!(reassembler.is_waiting(), expected.is_some());
    }
}

fn check_message(message: &Message, text: &str, attachments: &[&[u8]], limits: &Limits) {
    let packet = packet::decode(text).unwrap();
    assert_eq!(message.packet(), packet::Packet { query: "", ..packet });
    assert_eq!(message.attachments, attachments);
    assert!(attachments.len() <= limits.attachments as usize);
    assert!(message.data.len() + attachments.iter().map(|bytes| bytes.len()).sum::<usize>() <= limits.bytes);
    let Ok(value) = serde_json::from_str(&message.data) else { return };
    check_placeholders(&value, attachments.len());
    for arg in packet::ack_args(&message.data).unwrap_or_default() {
        if let Some(num) = reassembly::placeholder(arg) {
            assert_eq!(message.attachment(arg).unwrap(), attachments[num as usize]);
        }
    }
}

/// Every placeholder a JSON parser sees names an attachment that is there.
fn check_placeholders(value: &Value, attachments: usize) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| check_placeholders(item, attachments)),
        Value::Object(map) => {
            if map.get("_placeholder") == Some(&Value::Bool(true)) {
                let num = map.get("num").and_then(Value::as_f64).expect("a number");
                assert!((0.0..attachments as f64).contains(&num) && num.fract() == 0.0, "{num}");
            }
            map.values().for_each(|item| check_placeholders(item, attachments));
        }
        _ => {}
    }
}
