//! From bytes to instructions as written.
//!
//! ```text
//! bytes ▶ physical lines ▶ directives, comments, logical lines ▶ keyword, --flags, rest, heredocs
//! ```
//!
//! [`parse`] is total: any bytes yield an [`Ast`] and the problems found, all of them, in time
//! linear in the length of the file. It knows no instruction but by the shape of its arguments;
//! [`crate::instruction`] does.

mod ast;
mod directive;
mod heredoc;
mod json;
mod line;
mod parts;
pub(crate) mod word;

#[cfg(test)]
mod tests;

pub(crate) use ast::without_tabs;
pub use ast::{
    Ast, Comment, Directive, Directives, Escape, FlagWord, Heredoc, Item, ItemKind, LogicalLine,
    Node,
};
pub use heredoc::{HeredocWord, heredoc_word};
pub use json::{JsonForm, json_form};
pub use line::parse;
pub(crate) use parts::Parts;
