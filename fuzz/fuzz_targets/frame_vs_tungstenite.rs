#![no_main]

#[path = "../../crates/socketio-wire/tests/properties/frame_vs_tungstenite.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| property::check(input));
