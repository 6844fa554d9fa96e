#![no_main]

#[path = "../../crates/chat-server/tests/properties/cursor.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| property::check(input));
