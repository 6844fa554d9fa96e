#![no_main]

#[path = "../../crates/socketio-server/tests/properties/handshake.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| property::check(input));
