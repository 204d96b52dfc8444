//! Flags that docker has and `lap` does not: each is answered, none is ignored.

use super::args::ForeignArgs;
use crate::commands::check::CheckFormat;
use crate::error::CommandError;

impl ForeignArgs {
    /// Whether the Dockerfile is to be checked, not built, and how the findings are shown.
    pub(super) fn wants_check(&self) -> Option<CheckFormat> {
        match self.call.as_deref() {
            Some("check,format=json" | "lint,format=json") => Some(CheckFormat::Json),
            Some("check" | "check,format=text" | "lint") => Some(CheckFormat::Text),
            _ => self.check.then_some(CheckFormat::Text),
        }
    }
}

/// Refuses what is asked for and would not happen.
pub(super) fn check(args: &ForeignArgs) -> Result<(), CommandError> {
    let wanted = |text: &Option<String>| {
        text.as_deref().is_some_and(|text| !matches!(text, "false" | "0" | "disabled=true"))
    };
    let refused: [(bool, &str, &str); 8] = [
        (wanted(&args.provenance), "--provenance", "attestations are not made yet"),
        (wanted(&args.sbom), "--sbom", "attestations are not made yet"),
        (!args.attest.is_empty(), "--attest", "attestations are not made yet"),
        (args.squash, "--squash", "layers are kept as the Dockerfile makes them"),
        (
            args.call.as_deref().is_some_and(|call| call != "build")
                && args.wants_check().is_none(),
            "--call",
            "there are `build`, `check` and `check,format=json`",
        ),
        (
            args.memory.is_some(),
            "--memory",
            "steps have no memory limit of their own yet; use --ulimit",
        ),
        (
            args.cgroup_parent.is_some(),
            "--cgroup-parent",
            "steps stay in the control group of lap itself",
        ),
        (
            args.isolation.is_some() || args.builder.is_some(),
            "--isolation and --builder",
            "there is one builder, which takes the best rung this machine allows; see lap doctor",
        ),
    ];
    match refused.iter().find(|(given, _, _)| *given) {
        Some((_, flag, why)) => Err(CommandError::usage(format!("{flag} is not supported: {why}"))),
        None => Ok(()),
    }
}
