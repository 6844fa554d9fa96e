//! The input is the text of a packet.

use socketio_wire::socketio::packet::{self, MAX_ACK_ID, MAX_ARGUMENTS, MAX_ATTACHMENTS, Packet};

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let packet = match packet::decode(text) {
        Ok(packet) => packet,
        Err(error) => {
            assert!(error.at() <= text.len(), "{error}");
            return;
        }
    };
    check_fields(&packet);

    let mut out = Vec::new();
    packet::encode(&packet, &mut out);
    let again = std::str::from_utf8(&out).unwrap();
    assert_eq!(packet::decode(again), Ok(packet), "{text:?} became {again:?}");

    check_data(packet.data);
}

fn check_fields(packet: &Packet<'_>) {
    assert!(packet.namespace.starts_with('/'));
    assert!(!packet.namespace.contains([',', '?']) && !packet.query.contains(','));
    assert!(packet.ack.is_none_or(|id| id <= MAX_ACK_ID));
    assert!(packet.attachments <= MAX_ATTACHMENTS && (packet.attachments == 0 || packet.kind.is_binary()));
}

/// What is taken apart is what a JSON parser sees.
fn check_data(data: &str) {
    match packet::event_args(data) {
        Ok(event) => {
            assert!(event.args.len() <= MAX_ARGUMENTS);
            // A parser that builds values refuses deep nesting and great numbers, which are skipped here.
            let Ok(serde_json::Value::Array(items)) = serde_json::from_str(data) else { return };
            assert_eq!(items.len(), 1 + event.args.len());
            match &items[0] {
                serde_json::Value::String(name) => assert_eq!(event.name, *name),
                other => assert!(other.is_number(), "{other}"),
            }
            for (item, arg) in items[1..].iter().zip(&event.args) {
                assert_eq!(serde_json::from_str::<serde_json::Value>(arg.get()).unwrap(), *item);
            }
        }
        Err(error) => assert!(error.at() <= data.len(), "{error}"),
    }
    if let Ok(args) = packet::ack_args(data) {
        assert!(args.len() <= MAX_ARGUMENTS);
    }
}
