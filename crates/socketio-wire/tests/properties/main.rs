//! What holds for any bytes a peer may send: one file for each decoder, each with one `check(input)` that
//! panics where it does not hold. The fuzz targets at the root of the repository call the same checks; here
//! they run over random input, over every committed seed, and over what fuzzing once found.

mod engineio_packet;
mod engineio_payload;
mod frame_vs_tungstenite;
mod reassembly;
mod socketio_packet;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

/// Checks each seed of a fuzz target.
fn check_seeds(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 5, "only {count} seeds in {}", folder.display());
}

#[test]
fn seeds_hold() {
    check_seeds("frame_vs_tungstenite", frame_vs_tungstenite::check);
    check_seeds("engineio_packet", engineio_packet::check);
    check_seeds("engineio_payload", engineio_payload::check);
    check_seeds("socketio_packet", socketio_packet::check);
    check_seeds("reassembly", reassembly::check);
}

/// Frames that are mostly well made, so that random input gets past the first header.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9),
        "(a|€|😀){0,40}".prop_map(String::into_bytes),
        (prop::sample::select(vec![999u16, 1000, 1005, 1014, 3000, 4008, 5000]), "(a|€){0,3}")
            .prop_map(|(code, reason)| [&code.to_be_bytes()[..], reason.as_bytes()].concat()),
    ];
    let first =
        prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x02, 0x80, 0x00, 0x88, 0x89, 0x8a, 0xc1, 0x83, 0x09]);
    let frame = (first, any::<[u8; 4]>(), payload, prop::bool::weighted(0.95), 0usize..3);
    (any::<u8>(), prop::collection::vec(frame, 0..6)).prop_map(|(setting, frames)| {
        let mut bytes = vec![setting];
        for (first, mask, payload, as_due, long_form) in frames {
            let masked = (setting & 1 == 0) == as_due;
            let bit = if masked { 0x80 } else { 0 };
            bytes.push(first);
            match long_form {
                0 if payload.len() < 126 => bytes.push(bit | payload.len() as u8),
                2 => {
                    bytes.push(bit | 127);
                    bytes.extend((payload.len() as u64).to_be_bytes());
                }
                _ => {
                    bytes.push(bit | 126);
                    bytes.extend((payload.len() as u16).to_be_bytes());
                }
            }
            if masked {
                bytes.extend(mask);
            }
            let key = if masked { mask } else { [0; 4] };
            bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
        bytes
    })
}

/// Text of the characters the grammars know, with a byte in front for the checks that take a setting.
fn grammar(characters: &'static str) -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), characters).prop_map(|(setting, text)| [&[setting][..], text.as_bytes()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn frames_decode_as_in_tungstenite(input in frames()) {
        frame_vs_tungstenite::check(&input);
    }

    #[test]
    fn bytes_decode_as_frames_in_tungstenite(input in prop::collection::vec(any::<u8>(), 0..40)) {
        frame_vs_tungstenite::check(&input);
    }

    #[test]
    fn engineio_packets_hold(input in grammar("[b0-7]{0,2}[A-Za-z0-9=€]{0,9}")) {
        engineio_packet::check(&input);
    }

    #[test]
    fn engineio_payloads_hold(input in grammar("([0-9]{0,2}:?[b0-6]{0,2}(hey|AQID|€|😀)?\x1e?){0,6}")) {
        engineio_payload::check(&input);
    }

    #[test]
    fn engineio_byte_payloads_hold(
        setting: u8,
        packets in prop::collection::vec((0u8..3, 0u8..10, "[0-7b](hey|AQID|€)?", any::<bool>()), 0..5),
    ) {
        let mut input = vec![setting];
        for (marker, len, text, honest) in packets {
            input.push(marker);
            input.push(if honest { text.len() as u8 } else { len });
            input.push(0xff);
            input.extend(text.bytes());
        }
        engineio_payload::check(&input);
    }

    #[test]
    fn socketio_packets_hold(text in "[0-7]([0-9]{0,3}-)?(/[a,?]{0,4},?)?[0-9]{0,17}[\\[{\"]?(\"a\"|1|,|\\]|\\}| ){0,6}") {
        socketio_packet::check(text.as_bytes());
    }

    #[test]
    fn reassembly_holds(
        setting: u8,
        texts in prop::collection::vec(
            prop_oneof![
                "[56][0-4]-1?\\[\"a\"(,\\{\"_placeholder\":true,\"num\":[0-4]\\}|,1){0,3}\\]",
                "[0-3]1?\\[\"a\"\\]",
                "\u{0}[a-z]{0,5}",
            ],
            0..7,
        ),
    ) {
        let mut input = vec![setting];
        for text in texts {
            input.extend(text.bytes());
            input.push(b'\n');
        }
        reassembly::check(&input);
    }
}
