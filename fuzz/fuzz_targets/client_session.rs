#![no_main]

#[path = "../../crates/socketio-client/tests/properties/client_session.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| property::check(input));
