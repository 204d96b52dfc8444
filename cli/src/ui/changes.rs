//! Differences between file trees, as text and as JSON.
//!
//! ```text
//! A /usr/bin/tool  12.3 kB
//! C /etc/passwd  size 120 B -> 132 B, content
//! C /app/run  mode 0644 -> 0755
//! D /tmp/leftover/
//! ```

use crate::ui::format;
use crate::ui::table::one_line;
use lapstrake_layerstore::oci::time;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::{Attribute, Change, ChangeKind, Entry, Kind};
use serde_json::{Value, json};
use std::fmt;

/// A change as one line.
pub(crate) fn line(change: &Change) -> String {
    let (letter, what) = match &change.kind {
        ChangeKind::Added => ('A', change.new.as_ref().map(description).unwrap_or_default()),
        ChangeKind::Removed => ('D', change.old.as_ref().map(description).unwrap_or_default()),
        ChangeKind::Changed { attributes } => match (&change.old, &change.new) {
            (Some(old), Some(new)) => ('C', differences(attributes, old, new)),
            _ => ('C', String::new()),
        },
    };
    let entry = change.new.as_ref().or(change.old.as_ref());
    let slash = if entry.is_some_and(|entry| entry.kind == Kind::Dir) && !change.path.is_root() {
        "/"
    } else {
        ""
    };
    let path = one_line(&absolute(&change.path));
    format!("{letter} {path}{slash}  {}", one_line(&what)).trim_end().to_owned() + "\n"
}

fn absolute(path: &LayerPath) -> String {
    format!("/{}", String::from_utf8_lossy(path.as_bytes()))
}

/// What a thing is that has no counterpart.
fn description(entry: &Entry) -> String {
    match entry.kind {
        Kind::File => format::bytes(entry.size),
        Kind::Symlink | Kind::Hardlink => format!("-> {}", String::from_utf8_lossy(&entry.link)),
        Kind::Dir => String::new(),
        kind => kind_word(kind).to_owned(),
    }
}

fn differences(attributes: &[Attribute], old: &Entry, new: &Entry) -> String {
    let words: Vec<String> =
        attributes.iter().map(|attribute| difference(*attribute, old, new)).collect();
    words.join(", ")
}

fn difference(attribute: Attribute, old: &Entry, new: &Entry) -> String {
    let name = attribute_word(attribute);
    let values = |show: &dyn Fn(&Entry) -> String| format!("{name} {} -> {}", show(old), show(new));
    match attribute {
        Attribute::Kind => values(&|entry| kind_word(entry.kind).to_owned()),
        Attribute::Mode => values(&|entry| format!("{:04o}", entry.mode)),
        Attribute::Owner => values(&|entry| format!("{}:{}", entry.uid, entry.gid)),
        Attribute::Size => values(&|entry| format::bytes(entry.size)),
        Attribute::Link => values(&|entry| String::from_utf8_lossy(&entry.link).into_owned()),
        Attribute::Device => values(&|entry| format!("{}:{}", entry.device.0, entry.device.1)),
        Attribute::Mtime => values(&|entry| time::format(entry.mtime, 0)),
        Attribute::Content | Attribute::Xattrs => name.to_owned(),
    }
}

fn attribute_word(attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::Kind => "kind",
        Attribute::Mode => "mode",
        Attribute::Owner => "owner",
        Attribute::Size => "size",
        Attribute::Content => "content",
        Attribute::Link => "link",
        Attribute::Device => "device",
        Attribute::Xattrs => "xattrs",
        Attribute::Mtime => "mtime",
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Dir => "directory",
        Kind::File => "file",
        Kind::Symlink => "symlink",
        Kind::Hardlink => "hardlink",
        Kind::CharDevice => "character device",
        Kind::BlockDevice => "block device",
        Kind::Fifo => "pipe",
        Kind::Whiteout => "whiteout",
        Kind::Opaque => "opaque directory",
    }
}

/// A change as JSON; the shape is in `docs/cli.md`.
pub(crate) fn object(change: &Change) -> Value {
    let (word, attributes) = match &change.kind {
        ChangeKind::Added => ("added", Vec::new()),
        ChangeKind::Removed => ("removed", Vec::new()),
        ChangeKind::Changed { attributes } => {
            ("changed", attributes.iter().map(|a| attribute_word(*a)).collect())
        }
    };
    json!({
        "path": absolute(&change.path),
        "change": word,
        "attributes": attributes,
        "old": change.old.as_ref().map(entry),
        "new": change.new.as_ref().map(entry),
    })
}

fn entry(entry: &Entry) -> Value {
    let mut object = json!({
        "kind": kind_word(entry.kind),
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": time::format(entry.mtime, 0),
    });
    if let Some(content) = &entry.content {
        object["content"] = content.to_string().into();
    }
    if !entry.link.is_empty() {
        object["link"] = String::from_utf8_lossy(&entry.link).into();
    }
    if entry.device != (0, 0) {
        object["device"] = format!("{}:{}", entry.device.0, entry.device.1).into();
    }
    if !entry.xattrs.is_empty() {
        let names = entry.xattrs.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        object["xattrs"] = names.collect::<Vec<_>>().into();
    }
    object
}

/// How many paths changed, and by how much the files grew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    added: u64,
    changed: u64,
    removed: u64,
    old_bytes: u64,
    new_bytes: u64,
}

impl Summary {
    /// Counts the changes.
    pub(crate) fn of(changes: &[Change]) -> Self {
        let mut summary = Self::default();
        for change in changes {
            match change.kind {
                ChangeKind::Added => summary.added += 1,
                ChangeKind::Removed => summary.removed += 1,
                ChangeKind::Changed { .. } => summary.changed += 1,
            }
            summary.old_bytes += change.old.as_ref().map_or(0, |entry| entry.size);
            summary.new_bytes += change.new.as_ref().map_or(0, |entry| entry.size);
        }
        summary
    }

    /// The counts as JSON.
    pub(crate) fn object(self) -> Value {
        json!({
            "added": self.added, "changed": self.changed, "removed": self.removed,
            "old_bytes": self.old_bytes, "new_bytes": self.new_bytes,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.added + self.changed + self.removed == 0 {
            return f.write_str("no difference");
        }
        let Self { added, changed, removed, .. } = self;
        let (old, new) = (format::bytes(self.old_bytes), format::bytes(self.new_bytes));
        write!(
            f,
            "{added} added, {changed} changed, {removed} deleted; their files: {old} before, {new} after"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64, mode: u32) -> Entry {
        let path = LayerPath::parse(path.as_bytes()).unwrap();
        Entry { size, mode, ..Entry::new(path, Kind::File) }
    }

    fn change(kind: ChangeKind, old: Option<Entry>, new: Option<Entry>) -> Change {
        let path = old.as_ref().or(new.as_ref()).unwrap().path.clone();
        Change { path, kind, old, new }
    }

    #[test]
    fn lines_say_what_and_how() {
        let attributes = vec![Attribute::Mode, Attribute::Size, Attribute::Content];
        let changed = change(
            ChangeKind::Changed { attributes },
            Some(file("a/b", 10, 0o644)),
            Some(file("a/b", 2000, 0o4755)),
        );
        assert_eq!(line(&changed), "C /a/b  mode 0644 -> 4755, size 10 B -> 2.00 kB, content\n");
        let directory = Entry::directory(LayerPath::parse(b"d").unwrap(), 0o755, 0);
        assert_eq!(line(&change(ChangeKind::Added, None, Some(directory))), "A /d/\n");
        let hostile = file("e\x1b\n", 1, 0);
        assert_eq!(line(&change(ChangeKind::Removed, Some(hostile), None)), "D /e\\u{1b}   1 B\n");
    }

    #[test]
    fn summaries_count() {
        let changes = [change(ChangeKind::Added, None, Some(file("a", 5, 0)))];
        assert_eq!(
            Summary::of(&changes).to_string(),
            "1 added, 0 changed, 0 deleted; their files: 0 B before, 5 B after"
        );
        assert_eq!(Summary::of(&[]).to_string(), "no difference");
    }
}
