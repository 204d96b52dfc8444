//! Any bytes through the parser and lowering: no panic, and every span is sound.
#![no_main]

#[path = "../../tests/it/invariants.rs"]
#[expect(dead_code, reason = "each target calls one of them")]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::syntax(bytes));
