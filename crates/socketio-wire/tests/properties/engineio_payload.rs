//! The first byte of the input chooses the form of the body; the rest is the body.

use socketio_wire::engineio::Revision;
use socketio_wire::engineio::packet::{Data, Packet, PacketType};
use socketio_wire::engineio::payload::{self, Limits};

const LIMITS: Limits = Limits { packets: 20, bytes: 2_000 };
/// What is encoded again may be longer: padding, and text that becomes its own form.
const WIDER: Limits = Limits { packets: 20, bytes: 20_000 };

pub(crate) fn check(input: &[u8]) {
    let Some((&setting, body)) = input.split_first() else { return };
    let decoded = match setting % 3 {
        0 => payload::decode_bytes(body, &LIMITS),
        form => {
            let revision = if form == 1 { Revision::V3 } else { Revision::V4 };
            let Ok(body) = std::str::from_utf8(body) else { return };
            payload::decode_text(revision, body, &LIMITS)
        }
    };
    match decoded {
        Ok(packets) => {
            assert!(packets.len() <= LIMITS.packets);
            check_comes_back(&packets);
        }
        Err(error) => assert!(error.at() <= body.len(), "{error}"),
    }
}

/// Packets that were decoded from one form survive each form that can hold them.
fn check_comes_back(packets: &[Packet<'_>]) {
    let mut out = Vec::new();
    payload::encode_text(Revision::V3, packets, &mut out);
    let body = std::str::from_utf8(&out).unwrap();
    assert_eq!(payload::decode_text(Revision::V3, body, &WIDER).unwrap(), packets);

    if packets.is_empty() {
        return;
    }
    let mut out = Vec::new();
    payload::encode_bytes(packets, &mut out);
    assert_eq!(payload::decode_bytes(&out, &WIDER).unwrap(), packets);

    let fits_revision_4 = packets.iter().all(|packet| match &packet.data {
        Data::Text(text) => !text.contains('\x1e'),
        Data::Binary(_) => packet.kind == PacketType::Message,
    });
    if fits_revision_4 {
        let mut out = Vec::new();
        payload::encode_text(Revision::V4, packets, &mut out);
        let body = std::str::from_utf8(&out).unwrap();
        assert_eq!(payload::decode_text(Revision::V4, body, &WIDER).unwrap(), packets);
    }
}
