//! Any word over any variables: no panic, no result past the limit, and what is read is said.
#![no_main]

#[path = "../../tests/it/invariants.rs"]
#[expect(dead_code, reason = "each target calls one of them")]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::expansion(bytes));
