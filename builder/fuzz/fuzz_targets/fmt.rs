//! Any Dockerfile through the formatter: its meaning stays, and a second time changes nothing.
#![no_main]

#[path = "../../tests/it/invariants.rs"]
#[expect(dead_code, reason = "each target calls one of them")]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::format(bytes));
