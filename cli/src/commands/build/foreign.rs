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

const ATTESTATIONS: &str = "attestations are not made yet";
const LIMITS: &str = "steps have no such limit of their own; give lap one, as systemd-run --scope -p MemoryMax=2G does";

/// Refuses what is asked for and would not happen.
pub(super) fn check(args: &ForeignArgs) -> Result<(), CommandError> {
    let wanted = |text: &Option<String>| text.as_deref().is_some_and(|text| !is_off(text));
    let attest = args.attest.iter().any(|text| !text.split(',').any(is_off));
    let call =
        args.call.as_deref().is_some_and(|call| call != "build") && args.wants_check().is_none();
    let refused: [(bool, &str, &str); 21] = [
        (wanted(&args.provenance), "--provenance", ATTESTATIONS),
        (wanted(&args.sbom), "--sbom", ATTESTATIONS),
        (attest, "--attest", ATTESTATIONS),
        (args.squash, "--squash", "layers are kept as the Dockerfile makes them"),
        (call, "--call", "there are `build`, `check` and `check,format=json`; see also --plan"),
        (args.print.is_some(), "--print", "see --plan, --check and lap check"),
        (args.memory.is_some(), "--memory", LIMITS),
        (args.memory_swap.is_some(), "--memory-swap", LIMITS),
        (args.cpu_shares.is_some(), "--cpu-shares", LIMITS),
        (args.cpu_period.is_some(), "--cpu-period", LIMITS),
        (args.cpu_quota.is_some(), "--cpu-quota", LIMITS),
        (args.cpuset_cpus.is_some(), "--cpuset-cpus", "see taskset, which holds for steps, too"),
        (args.cpuset_mems.is_some(), "--cpuset-mems", "see numactl, which holds for steps, too"),
        (
            args.cgroup_parent.is_some(),
            "--cgroup-parent",
            "steps stay in the control group of lap itself",
        ),
        (
            args.isolation.is_some(),
            "--isolation",
            "steps are isolated as well as this machine allows; see lap doctor",
        ),
        (args.builder.is_some(), "--builder", "lap itself is the only one"),
        (
            !args.security_opt.is_empty(),
            "--security-opt",
            "see --allow security.insecure and RUN --security",
        ),
        (!args.policy.is_empty(), "--policy", "sources are not judged; pin them by digest"),
        (args.invoke.is_some(), "--invoke", "see --debug-shell, and lap run"),
        (
            wanted(&args.debug),
            "--debug",
            "there is no log beside the progress; see --progress, --explain, --timeline",
        ),
        (
            args.disable_content_trust.as_deref().is_some_and(is_off),
            "--disable-content-trust=false",
            "signatures are not verified; pin images by digest",
        ),
    ];
    match refused.iter().find(|(given, _, _)| *given) {
        Some((_, flag, why)) => Err(CommandError::usage(format!("{flag} is not supported: {why}"))),
        None => Ok(()),
    }
}

/// Whether this is docker's way to ask for nothing.
fn is_off(text: &str) -> bool {
    matches!(text, "false" | "0" | "f" | "F" | "False" | "FALSE" | "disabled=true" | "disabled=1")
}
