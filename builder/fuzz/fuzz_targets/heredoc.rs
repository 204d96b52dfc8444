//! Any heredocs of RUN, COPY and ONBUILD ADD: bodies are the file's own bytes.
#![no_main]

#[path = "../../tests/it/invariants.rs"]
#[expect(dead_code, reason = "each target calls one of them")]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::heredoc(bytes));
