//! Debian packages: lists of another RUN, and lists that stay in the layer.

use super::plain_script;
use super::shell::{calls, commands};
use crate::instruction::{Instruction, Located};
use crate::lint::Found;
use std::sync::Arc;

/// The programs that install Debian packages.
const APT: [&str; 2] = ["apt-get", "apt"];

/// Words by which a script may remove the lists, or never keep them.
const REMOVERS: [&str; 4] = ["clean", "lists", "/apt", "Dir::State"];

pub(super) fn find<'a>(
    instructions: &'a [Arc<Located>],
    is_kept: bool,
    found: &mut Vec<Found<'a>>,
) {
    let mut updated: Option<&Located> = None;
    for located in instructions {
        let Instruction::Run(run) = &located.instruction else { continue };
        let Some(text) = plain_script(run) else { continue };
        let commands = commands(&text);
        let any = |verb: &str| commands.iter().any(|command| calls(command, &APT, verb));
        // The mere word counts here, so that whatever calls an update keeps the rule silent.
        if let (true, false, Some(before)) = (any("install"), text.contains("update"), updated) {
            found.push(stale(located, before));
        }
        if any("update") {
            updated = Some(located);
            let scripts = commands.iter().any(|command| command[0].contains(['/', '$']));
            if is_kept && !scripts && !removes_lists(&text) {
                found.push(kept(located));
            }
        }
    }
}

fn removes_lists(text: &str) -> bool {
    // `apt-get clean` removes packages, and leaves the lists.
    let rest = text.replace("apt-get clean", "").replace("apt clean", "");
    REMOVERS.iter().any(|word| rest.contains(word))
}

fn stale<'a>(located: &'a Located, updated: &Located) -> Found<'a> {
    let message = "apt-get install uses package lists that another RUN fetched, which the cache may have kept for long";
    let (rule, span) = ("AptGetWithoutUpdate", located.line_span);
    Found::new(rule, span, message.to_owned(), &located.comments).with(|it| {
        it.with_related(updated.line_span, "the lists are fetched here")
            .with_help("call both in one RUN: apt-get update && apt-get install …")
    })
}

fn kept(located: &Located) -> Found<'_> {
    let message = "the package lists that apt-get update fetches stay in this layer";
    let (rule, span) = ("AptListsNotRemoved", located.line_span);
    Found::new(rule, span, message.to_owned(), &located.comments)
        .with(|it| it.with_help("end the RUN with: && rm -rf /var/lib/apt/lists/*"))
}
