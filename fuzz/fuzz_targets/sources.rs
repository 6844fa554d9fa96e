#![no_main]

#[path = "../../crates/load-tester/tests/properties/sources.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| property::check(input));
