#![no_main]

#[path = "../../crates/chat-server/tests/properties/settings.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| property::check(input));
