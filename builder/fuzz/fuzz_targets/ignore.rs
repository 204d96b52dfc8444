//! Any ignore file over any paths: no panic, and pruning never loses a path.
#![no_main]

#[path = "../../tests/it/invariants.rs"]
#[expect(dead_code, reason = "each target calls one of them")]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::ignore(bytes));
