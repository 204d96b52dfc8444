//! COPY and ADD.

use super::Heredoc;
use crate::syntax::without_tabs;
use crate::text::Text;
use std::sync::Arc;

/// A COPY or an ADD. The flags that only one of them has are empty for the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// Sources in the order written, heredocs apart.
    pub sources: Vec<Text>,
    /// Heredoc sources in the order written.
    pub heredocs: Vec<CopySource>,
    /// Where to, not expanded.
    pub dest: Text,
    /// COPY `--from`, as written; it is never expanded.
    pub from: Option<Text>,
    /// `--chown`, not expanded.
    pub chown: Option<Text>,
    /// `--chmod`, not expanded.
    pub chmod: Option<Text>,
    /// `--link`
    pub link: bool,
    /// COPY `--parents`
    pub parents: bool,
    /// `--exclude` patterns, never expanded.
    pub excludes: Vec<Text>,
    /// ADD `--checksum`, not expanded.
    pub checksum: Option<Text>,
    /// ADD `--keep-git-dir`, `None` if not given.
    pub keep_git_dir: Option<bool>,
    /// ADD `--unpack`, `None` if not given.
    pub unpack: Option<bool>,
    /// Whether the JSON form was used.
    pub json: bool,
}

/// A heredoc used as a source: a file of that name and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// The file's name.
    pub name: Text,
    /// Its content, tabs stripped if `<<-` asked for it; to be expanded with
    /// [`crate::expand::expand_body`] if [`Self::expand`] says so.
    pub content: Arc<[u8]>,
    /// Whether variables in the content are expanded.
    pub expand: bool,
}

impl CopySource {
    /// The source that a word and the heredocs of its line make.
    pub(super) fn new(word: &crate::syntax::HeredocWord, heredocs: &[Heredoc]) -> Self {
        // A name given twice means the last body, as in the reference; in the JSON form there is
        // none, and the file is empty.
        let body = heredocs.iter().rev().find(|heredoc| heredoc.name == word.name);
        let content = body.map(|heredoc| {
            if word.strip_tabs {
                without_tabs(&heredoc.body).into()
            } else {
                Arc::clone(&heredoc.body)
            }
        });
        Self { name: word.name.clone(), content: content.unwrap_or_default(), expand: word.expand }
    }
}
