//! What is different between what went into two keys.

use super::{FileChanges, Reason, StepReport};
use crate::key::{REMOTE_COMMIT, REMOTE_CONTENT};
use crate::lint::names_secret;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What a secret value is shown as.
const MASK: &str = "***";
/// Longest value that is shown; the rest is cut.
const SHOWN_CHARS: usize = 200;

/// Inputs that stand in the instruction's text: where that differs, they say nothing more.
const IN_TEXT: [&str; 15] = [
    "step",
    "command",
    "script",
    "script content",
    "destination",
    "sources",
    "chown",
    "chmod",
    "unpack",
    "link",
    "file name",
    "directory",
    "keep git dir",
    "submodules",
    "exclude",
];

/// A step beside its newest earlier result.
#[derive(Debug)]
pub(crate) struct Compared<'a> {
    /// The step as it was; none if there was none.
    pub(crate) old: Option<&'a StepReport>,
    /// What went into the key of its result; none if that is not known any more.
    pub(crate) old_inputs: Option<&'a Value>,
    /// The instruction as it is now.
    pub(crate) instruction: &'a str,
    /// Its key.
    pub(crate) key: &'a str,
    /// What went into it.
    pub(crate) inputs: &'a Value,
    /// What happened below, if anything is known of it.
    pub(crate) below: Option<&'a Reason>,
    /// Which files are different.
    pub(crate) files: Option<FileChanges>,
    /// The cache was not to be used.
    pub(crate) no_cache: bool,
}

/// Why the step was not found.
pub(crate) fn reasons(compared: Compared<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if compared.no_cache {
        reasons.push(Reason::NoCache);
    }
    let Some((old, result)) = compared.old.and_then(|old| Some((old, old.result.as_ref()?))) else {
        reasons.push(Reason::NeverBuilt);
        return reasons;
    };
    if result.key == compared.key {
        if reasons.is_empty() {
            reasons.push(Reason::ResultGone);
        }
        return reasons;
    }
    let same_text = old.instruction == compared.instruction;
    if !same_text {
        reasons.push(Reason::Instruction {
            old: old.instruction.clone(),
            new: compared.instruction.to_owned(),
        });
    }
    let (Some(old), Some(new)) =
        (compared.old_inputs.and_then(Value::as_object), compared.inputs.as_object())
    else {
        reasons.extend(compared.below.cloned());
        reasons.push(Reason::ResultGone);
        return reasons;
    };
    let mut files = compared.files;
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (before, now) = (old.get(name), new.get(name));
        let in_text = !same_text && IN_TEXT.contains(&name.as_str());
        if before == now || in_text || is_other_remote(name, before.is_some(), now.is_some()) {
            continue;
        }
        match name.as_str() {
            "parent" => reasons.push(compared.below.cloned().unwrap_or(Reason::OtherParent)),
            "environment" => variables(before, now, &mut reasons),
            // Both are in one list of files.
            "files" | "mounted files" => reasons.extend(files.take().map(Reason::Files)),
            _ => reasons.push(Reason::Input {
                name: name.clone(),
                old: before.map(shown),
                new: now.map(shown),
            }),
        }
    }
    reasons
}

/// Whether this is what a URL or repository holds that is not in both: the sources say so already.
fn is_other_remote(name: &str, before: bool, now: bool) -> bool {
    before != now && (name.starts_with(REMOTE_CONTENT) || name.starts_with(REMOTE_COMMIT))
}

/// What the inputs say of the files that a step reads: one digest for all of them.
pub(crate) fn files_digest(inputs: &Value) -> Option<String> {
    let all: Vec<String> =
        ["files", "mounted files"].iter().filter_map(|name| inputs.get(name)).map(shown).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

fn variables(before: Option<&Value>, now: Option<&Value>, reasons: &mut Vec<Reason>) {
    let (before, now) = (pairs(before), pairs(now));
    let count = reasons.len();
    let names: BTreeSet<&str> = before.keys().chain(now.keys()).copied().collect();
    for name in names {
        let (old, new) = (before.get(name).copied(), now.get(name).copied());
        if old != new {
            let show = |value: &str| {
                if names_secret(name) { MASK.to_owned() } else { cut(value) }
            };
            reasons.push(Reason::Variable {
                name: name.to_owned(),
                old: old.map(show),
                new: new.map(show),
            });
        }
    }
    if reasons.len() == count {
        let name = "order of the environment".to_owned();
        reasons.push(Reason::Input { name, old: None, new: None });
    }
}

fn pairs(list: Option<&Value>) -> BTreeMap<&str, &str> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).filter_map(|pair| pair.split_once('=')).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => cut(text),
        Value::Array(items) => cut(&items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(object) => cut(&Value::from(Map::clone(object)).to_string()),
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
