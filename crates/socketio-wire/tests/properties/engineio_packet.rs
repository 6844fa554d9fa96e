//! The first byte of the input chooses the revision; the rest is a packet, or the data of an `open` packet.

use socketio_wire::engineio::Revision;
use socketio_wire::engineio::handshake;
use socketio_wire::engineio::packet::{self, Data};

pub(crate) fn check(input: &[u8]) {
    let Some((&setting, bytes)) = input.split_first() else { return };
    let revision = if setting & 1 == 0 { Revision::V4 } else { Revision::V3 };
    let mut out = Vec::new();

    if let Ok((kind, data)) = packet::decode_binary(revision, bytes) {
        packet::encode_binary(revision, kind, data, &mut out);
        assert_eq!(out, bytes);
    }

    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let decoded = packet::decode(revision, text);
    match &decoded {
        Ok(packet) => {
            out.clear();
            match &packet.data {
                Data::Text(data) => {
                    assert_eq!(packet::decode_text(text), Ok((packet.kind, *data)));
                    packet::encode_text(packet.kind, data, &mut out);
                    assert_eq!(out, bytes);
                }
                Data::Binary(data) => {
                    packet::decode_text(text).unwrap_err();
                    packet::encode_base64(revision, packet.kind, data, &mut out);
                    // The padding may have been left away, and lines broken.
                    let again = std::str::from_utf8(&out).unwrap();
                    let text = text.replace(['\r', '\n'], "");
                    assert_eq!(again.trim_end_matches('='), text.trim_end_matches('='));
                }
            }
        }
        Err(error) => assert!(error.at() <= bytes.len(), "{error}"),
    }

    if let Ok(first) = handshake::decode(text) {
        out.clear();
        handshake::encode(&first, &mut out);
        assert_eq!(handshake::decode(std::str::from_utf8(&out).unwrap()), Ok(first));
    }
}
