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

/// Where the lists come from that an install would use.
enum Lists<'a> {
    /// From the base image, if it has any.
    OfBase,
    /// From this instruction.
    Fetched(&'a Located),
    /// A script or another stage may have fetched them.
    Unknown,
}

/// Looks at the instructions of a stage; `on_image` says whether it builds on an image, `is_kept`
/// whether its layers become part of the result.
pub(super) fn find<'a>(
    instructions: &'a [Arc<Located>],
    on_image: bool,
    is_kept: bool,
    found: &mut Vec<Found<'a>>,
) {
    let mut lists = if on_image { Lists::OfBase } else { Lists::Unknown };
    for located in instructions {
        let Instruction::Run(run) = &located.instruction else { continue };
        let Some(text) = plain_script(run) else {
            lists = lists.perhaps_fetched();
            continue;
        };
        let commands = commands(&text);
        let any = |verb: &str| commands.iter().any(|command| calls(command, &APT, verb));
        // The mere word counts here, so that whatever calls an update keeps the rule silent.
        if any("install") && !text.contains("update") {
            found.extend(stale(located, &lists));
        }
        let scripts = commands.iter().any(|command| command[0].contains(['/', '$']));
        if any("update") {
            lists = Lists::Fetched(located);
            if is_kept && !scripts && !removes_lists(&text) {
                found.push(kept(located));
            }
        } else if scripts || text.contains("update") {
            lists = lists.perhaps_fetched();
        }
    }
}

impl Lists<'_> {
    /// The same after something that cannot be looked into.
    fn perhaps_fetched(self) -> Self {
        match self {
            Self::Fetched(_) => self,
            Self::OfBase | Self::Unknown => Self::Unknown,
        }
    }
}

fn removes_lists(text: &str) -> bool {
    // `apt-get clean` removes packages, and leaves the lists.
    let rest = text.replace("apt-get clean", "").replace("apt clean", "");
    REMOVERS.iter().any(|word| rest.contains(word))
}

fn stale<'a>(located: &'a Located, lists: &Lists<'_>) -> Option<Found<'a>> {
    let (message, updated) = match lists {
        Lists::OfBase => (
            "apt-get install without apt-get update finds the package lists that the base image was made with, or none",
            None,
        ),
        Lists::Fetched(updated) => (
            "apt-get install uses package lists that another RUN fetched, which the cache may have kept for long",
            Some(updated.line_span),
        ),
        Lists::Unknown => return None,
    };
    let (rule, span) = ("AptGetWithoutUpdate", located.line_span);
    let found = Found::new(rule, span, message.to_owned(), &located.comments)
        .with(|it| it.with_help("call both in one RUN: apt-get update && apt-get install …"));
    Some(match updated {
        Some(place) => found.with(|it| it.with_related(place, "the lists are fetched here")),
        None => found,
    })
}

fn kept(located: &Located) -> Found<'_> {
    let message = "the package lists that apt-get update fetches stay in this layer";
    let (rule, span) = ("AptListsNotRemoved", located.line_span);
    Found::new(rule, span, message.to_owned(), &located.comments)
        .with(|it| it.with_help("end the RUN with: && rm -rf /var/lib/apt/lists/*"))
}
