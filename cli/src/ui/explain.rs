//! Why the steps of a build were or were not found in the cache, for people and for programs.
//!
//! ```text
//! build 5a1c… of Dockerfile, 2 minutes ago, compared with 93b0…
//! [build] FROM debian:bookworm
//!   hit     3  RUN apt-get update
//!   miss    5  COPY src/ /src/  (0.12 s)
//!              changed  src/main.c: content, 1.20 kB → 1.25 kB, 3f2a9c01d5e2 → 77ab0e12c3d4
//!   miss    6  RUN make  (4.10 s)
//!              line 5 below it made another layer: COPY src/ /src/
//! ```

use crate::args::Format;
use crate::error::CommandError;
use crate::ui::format;
use crate::ui::table::one_line;
use crate::ui::terminal::{print, print_json};
use lapstrake_builder::explain::{
    FileChange, FileChanges, FileFacts, Outcome, Reason, Recorded, StageReport, StepReport,
};
use serde_json::json;
use std::time::Duration;

/// The text of a step is cut here; it is in the Dockerfile in full.
const STEP_WIDTH: usize = 100;
/// Where reasons begin.
const INDENT: &str = "             ";

/// Prints a build's explanation to standard output.
pub(crate) fn show(recorded: &Recorded, format: Format, now: i64) -> Result<(), CommandError> {
    match format {
        Format::Text => print(&text(recorded, now)),
        Format::Json => {
            let mut object = json!(recorded.report);
            // The id first, since it is what one looks for.
            let mut whole = json!({"id": recorded.id.as_ref().map(ToString::to_string)});
            if let (Some(whole), Some(object)) = (whole.as_object_mut(), object.as_object_mut()) {
                object.shift_remove("other_stages");
                whole.append(object);
            }
            print_json(&whole)
        }
    }
}

fn text(recorded: &Recorded, now: i64) -> String {
    let report = &recorded.report;
    let id = recorded.id.as_ref().map_or_else(String::new, |id| format!(" {id}"));
    let compared = match &report.previous {
        Some(previous) => format!("compared with {previous}"),
        None => "the first of this Dockerfile here".to_owned(),
    };
    let when = format::ago(report.started_unix, now);
    let mut lines =
        vec![format!("build{id} of {}, {when}, {compared}", one_line(&report.dockerfile))];
    for each in &report.stages {
        stage(each, &mut lines);
    }
    lines.push(String::new());
    lines.join("\n")
}

fn stage(stage: &StageReport, lines: &mut Vec<String>) {
    let digest = stage.base_digest.as_deref().map(format::short_id);
    let digest = digest.map_or_else(String::new, |digest| format!(" ({digest})"));
    lines.push(format!("[{}] FROM {}{digest}", shown_name(stage), one_line(&stage.base)));
    for each in &stage.steps {
        step(each, lines);
    }
}

/// A stage without a name is shown by its number.
fn shown_name(stage: &StageReport) -> String {
    if stage.name == stage.index.to_string() {
        format!("stage {}", stage.name)
    } else {
        stage.name.clone()
    }
}

fn step(step: &StepReport, lines: &mut Vec<String>) {
    let outcome = match step.outcome {
        Outcome::Hit => "hit",
        Outcome::Miss => "miss",
        Outcome::Failed => "failed",
        Outcome::Stopped => "stopped",
        Outcome::NotReached => "waiting",
    };
    let instruction = cut(&step.instruction);
    let took = match step.outcome {
        Outcome::Hit | Outcome::NotReached => String::new(),
        _ => format!("  ({})", format::duration(Duration::from_millis(step.milliseconds))),
    };
    lines.push(format!("  {outcome:<7} {:>3}  {instruction}{took}", step.line));
    for each in &step.reasons {
        lines.extend(reason(each).into_iter().map(|line| format!("{INDENT}{line}")));
    }
}

fn cut(instruction: &str) -> String {
    format::truncated(&one_line(instruction), STEP_WIDTH)
}

/// A reason in one line, or for files several.
fn reason(reason: &Reason) -> Vec<String> {
    let line = match reason {
        Reason::NeverBuilt => "no build of this Dockerfile in this store has made it".to_owned(),
        Reason::NoCache => "--no-cache".to_owned(),
        Reason::ResultGone => {
            "it was made before, but the result is gone (pruned, or damaged)".to_owned()
        }
        Reason::Below { line, instruction, .. } => {
            format!("line {line} below it made another layer: {}", cut(instruction))
        }
        Reason::StepRemoved { instruction } => {
            format!("a step below it is gone: {}", cut(instruction))
        }
        Reason::Base { base, old, new } => {
            format!("base {} is another: {}", one_line(base), arrow(&hex(old), &hex(new)))
        }
        Reason::OtherParent => "the layers below it are others".to_owned(),
        Reason::Instruction { old, new } => {
            return vec![
                format!("the instruction was:  {}", one_line(old)),
                format!("              is now: {}", one_line(new)),
            ];
        }
        Reason::Variable { name, old, new } => {
            format!("{} {}", one_line(name), values(old.as_ref(), new.as_ref()))
        }
        Reason::Input { name, old: None, new: None } => format!("{} is another", one_line(name)),
        Reason::Input { name, old, new } => {
            format!("{}: {}", one_line(name), values(old.as_ref(), new.as_ref()))
        }
        Reason::Files(changes) => return files(changes),
    };
    vec![line]
}

/// The short form of a digest; other words as they are.
fn hex(text: &str) -> String {
    if text.starts_with("sha256:") { format::short_id(text).to_owned() } else { one_line(text) }
}

fn arrow(old: &str, new: &str) -> String {
    format!("{old} → {new}")
}

fn values(old: Option<&String>, new: Option<&String>) -> String {
    let quoted = |value: &String| format!("\"{}\"", one_line(value));
    match (old, new) {
        (None, None) => "is another".to_owned(),
        (None, Some(new)) => format!("is new: {}", quoted(new)),
        (Some(old), None) => format!("is gone, it was {}", quoted(old)),
        (Some(old), Some(new)) if old == new => "has another value".to_owned(),
        (Some(old), Some(new)) => arrow(&quoted(old), &quoted(new)),
    }
}

fn files(changes: &FileChanges) -> Vec<String> {
    if changes.unknown {
        return vec!["the files that it reads are others; which ones is not known".to_owned()];
    }
    let mut lines: Vec<String> = changes.files.iter().map(file).collect();
    let all = changes.added + changes.removed + changes.changed;
    if all > changes.files.len() {
        let more = format::count(all - changes.files.len(), "file");
        lines.push(format!(
            "and {more} more (in all {} new, {} gone, {} changed)",
            changes.added, changes.removed, changes.changed
        ));
    }
    lines
}

fn file(change: &FileChange) -> String {
    let path = one_line(&change.path);
    match (&change.old, &change.new) {
        (None, Some(new)) => {
            let by = change
                .named_by
                .as_deref()
                .map_or_else(String::new, |source| format!(", taken by `{}`", one_line(source)));
            format!("new      {path}: {}{by}", facts(new))
        }
        (Some(old), None) => format!("gone     {path}: it was {}", facts(old)),
        (Some(old), Some(new)) => {
            let mut parts = Vec::new();
            if change.what.iter().any(|what| what == "content" || what == "kind") {
                if old.size != new.size {
                    parts.push(arrow(&format::bytes(old.size), &format::bytes(new.size)));
                }
                parts.push(arrow(&one_line(&old.content), &one_line(&new.content)));
            }
            if old.mode != new.mode {
                parts.push(format!("mode {}", arrow(&old.mode, &new.mode)));
            }
            let named = change.what.iter().filter(|what| ["owner", "xattrs"].contains(&&***what));
            parts.extend(named.map(|what| format!("another {what}")));
            let only = if change.what.len() == 1 && change.what[0] != "content" {
                format!(" (only the {} changed)", change.what[0])
            } else {
                String::new()
            };
            format!("changed  {path}: {}{only}", parts.join(", "))
        }
        (None, None) => path,
    }
}

fn facts(facts: &FileFacts) -> String {
    let is_file = facts.content.chars().all(|c| c.is_ascii_hexdigit());
    let size = if is_file { format!("{}, ", format::bytes(facts.size)) } else { String::new() };
    format!("{size}{}, mode {}", one_line(&facts.content), facts.mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts_of(size: u64, mode: &str, content: &str) -> FileFacts {
        FileFacts { size, mode: mode.into(), content: content.into() }
    }

    fn change(old: Option<FileFacts>, new: Option<FileFacts>, what: &[&str]) -> String {
        let what = what.iter().map(|what| (*what).to_owned()).collect();
        let named_by = old.is_none().then(|| "src/*".to_owned());
        file(&FileChange { path: "src/a".into(), old, new, what, named_by })
    }

    #[test]
    fn files_are_told_by_what_changed() {
        let old = || Some(facts_of(1200, "0644", "aa11"));
        assert_eq!(
            change(old(), Some(facts_of(1250, "0644", "bb22")), &["content"]),
            "changed  src/a: 1.20 kB → 1.25 kB, aa11 → bb22"
        );
        assert_eq!(
            change(old(), Some(facts_of(1200, "0755", "aa11")), &["mode"]),
            "changed  src/a: mode 0644 → 0755 (only the mode changed)"
        );
        assert_eq!(
            change(old(), old(), &["owner"]),
            "changed  src/a: another owner (only the owner changed)"
        );
        assert_eq!(
            change(None, old(), &[]),
            "new      src/a: 1.20 kB, aa11, mode 0644, taken by `src/*`"
        );
        assert_eq!(change(old(), None, &[]), "gone     src/a: it was 1.20 kB, aa11, mode 0644");
    }

    #[test]
    fn the_rest_is_counted() {
        let changes = FileChanges { added: 2, removed: 3, changed: 4, ..FileChanges::default() };
        assert_eq!(files(&changes), ["and 9 files more (in all 2 new, 3 gone, 4 changed)"]);
    }

    #[test]
    fn what_steers_a_terminal_is_made_visible() {
        let variable = |old: Option<&str>, new: Option<&str>| {
            let (old, new) = (old.map(str::to_owned), new.map(str::to_owned));
            reason(&Reason::Variable { name: "A".into(), old, new })
        };
        assert_eq!(variable(Some("\x1b[2J"), Some("x")), ["A \"\\u{1b}[2J\" → \"x\""]);
        assert_eq!(variable(None, Some("x")), ["A is new: \"x\""]);
        assert_eq!(variable(Some("***"), Some("***")), ["A has another value"]);
    }
}
