#![no_main]

#[path = "../../crates/socketio-wire/tests/properties/engineio_payload.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| property::check(input));
