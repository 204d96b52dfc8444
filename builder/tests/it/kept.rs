//! Every input that the fuzzers keep, through the promise of its target.

use crate::corpus::{inputs, line};
use crate::invariants;

fn each(text: &str, promise: fn(&[u8])) {
    let inputs = inputs(text);
    assert!(inputs.len() > 100, "{} inputs", inputs.len());
    for input in &inputs {
        promise(input);
    }
    let again: String = inputs.iter().map(|input| line(input)).collect();
    assert!(again == text, "the file is not as `corpus pack` writes it");
}

#[test]
fn syntax() {
    each(include_str!("../corpus/syntax.txt"), invariants::syntax);
}

#[test]
fn expansion() {
    each(include_str!("../corpus/expansion.txt"), invariants::expansion);
}

#[test]
fn heredoc() {
    each(include_str!("../corpus/heredoc.txt"), invariants::heredoc);
}

#[test]
fn ignore() {
    each(include_str!("../corpus/ignore.txt"), invariants::ignore);
}

#[test]
fn fmt() {
    each(include_str!("../corpus/fmt.txt"), invariants::format);
}

#[test]
fn check() {
    each(include_str!("../corpus/check.txt"), invariants::check);
}
