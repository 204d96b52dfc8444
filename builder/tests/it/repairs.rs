//! What `lap check --fix` does to files: it keeps what each stage builds, a second time changes nothing,
//! and a file with errors is left alone.

use crate::real_files;
use lapstrake_builder::BuildOptions;
use lapstrake_builder::check::{Surroundings, check, fix};
use lapstrake_builder::diagnostic::Diagnostic;
use lapstrake_builder::graph;
use lapstrake_builder::lint;
use lapstrake_builder::plan::{BaseFacts, ImageKey, parse, plan_needed};
use proptest::prelude::*;

/// The rules that repair what they find.
const REPAIRING: [&str; 7] = [
    "ConsistentInstructionCasing",
    "ExposeProtoCasing",
    "FromAsCasing",
    "LegacyKeyValueFormat",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "StageNameCasing",
];

fn options(text: &[u8]) -> BuildOptions {
    let mut options = BuildOptions::of(text);
    options.platform = "linux/amd64".parse().unwrap();
    (options.allow_host_network, options.allow_insecure) = (true, true);
    options
}

/// What a build of each stage does: base, steps, config and history of all that it needs. Independent of
/// what `fix` itself compares, but for the planner.
fn builds(text: &[u8]) -> Vec<String> {
    let options = options(text);
    let parsed = parse(&options).expect("there are no errors");
    let facts = BaseFacts::default();
    let laid_out = graph::resolve(&parsed.dockerfile, &options, &parsed.file).expect("no errors");
    let mut all = Vec::new();
    for stage in 0..laid_out.stages.len() {
        let mut graph = laid_out.clone();
        graph.target = stage;
        let known = |_: &ImageKey| Some(&facts);
        let Ok(plans) = plan_needed(&graph, &options, &parsed.file, &known, &|_| true) else {
            all.push(format!("{stage}: cannot be planned"));
            continue;
        };
        for (index, plan) in plans {
            let node = &graph.stages[index];
            let steps: Vec<_> = plan.steps.iter().map(|step| &step.action).collect();
            all.push(format!(
                "{stage}: {:?} {:?} {steps:?} {:?} {:?} {:?}",
                node.name,
                node.base,
                plan.config(),
                plan.author(),
                plan.history()
            ));
        }
    }
    all
}

fn has_errors(text: &[u8]) -> bool {
    let is_error = |found: &Diagnostic| found.is_error() && !lint::is_rule(found.code);
    let report = check(&options(text), &Surroundings::default()).expect("no target is asked for");
    report.diagnostics.iter().any(is_error)
}

/// How many findings the file has that a repair goes with.
fn findings(text: &[u8]) -> usize {
    let report = check(&options(text), &Surroundings::default()).expect("no target is asked for");
    report.diagnostics.iter().filter(|found| found.fix.is_some()).count()
}

/// Repairs a text and checks what must hold of every repair; how many findings were repaired.
fn repaired(text: &[u8]) -> usize {
    let shown = || String::from_utf8_lossy(text).into_owned();
    let fixed = fix(&options(text)).expect("no target is asked for");
    assert_eq!(fixed.bytes != text, !fixed.rules.is_empty(), "{}", shown());
    for rule in &fixed.rules {
        assert!(REPAIRING.contains(rule), "{rule} repairs:\n{}", shown());
    }
    if has_errors(text) {
        assert_eq!(fixed.rules.len(), 0, "a file with errors was touched:\n{}", shown());
        return 0;
    }
    let after = String::from_utf8_lossy(&fixed.bytes).into_owned();
    assert!(!has_errors(&fixed.bytes), "{}\n became\n{after}", shown());
    assert_eq!(builds(text), builds(&fixed.bytes), "{}\n became\n{after}", shown());
    let again = fix(&options(&fixed.bytes)).expect("no target is asked for");
    assert_eq!((again.bytes == fixed.bytes, again.rules.len()), (true, 0), "{after}");
    // A repair may lay bare another finding, but never adds more than it takes away.
    assert!(findings(&fixed.bytes) <= findings(text), "{}\n became\n{after}", shown());
    fixed.rules.len()
}

/// A file as somebody may write it who has other habits. `dice` says where.
fn untidy(text: &str, dice: &mut impl FnMut(usize) -> usize) -> String {
    let mut out = String::new();
    let mut in_heredoc: Option<String> = None;
    let mut continued = false;
    for line in text.split_inclusive('\n') {
        if let Some(end) = &in_heredoc {
            if line.trim() == end {
                in_heredoc = None;
            }
            out.push_str(line);
            continue;
        }
        let begins = !continued && !line.trim_start().starts_with('#') && !line.trim().is_empty();
        out.push_str(&if begins { rewritten(line, dice) } else { line.to_owned() });
        continued = line.trim_end().ends_with('\\') && !line.trim_start().starts_with('#');
        if continued && dice(6) == 0 {
            out.push_str("  \n");
        }
        if let Some((_, word)) = line.split_once("<<") {
            let word = word.trim_start_matches('-').split_whitespace().next().unwrap_or_default();
            in_heredoc = Some(word.trim_matches(['"', '\'']).to_owned());
        }
    }
    out
}

/// The first line of an instruction in another form of the same meaning, sometimes.
fn rewritten(line: &str, dice: &mut impl FnMut(usize) -> usize) -> String {
    let line = line.trim_start();
    let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
    let keyword = match dice(5) {
        0 => keyword.to_lowercase(),
        1 => {
            let (first, more) = keyword.split_at(keyword.len().min(1));
            format!("{first}{}", more.to_lowercase())
        }
        _ => keyword.to_owned(),
    };
    let mut rest = rest.to_owned();
    match (keyword.to_uppercase().as_str(), dice(3)) {
        ("FROM", 0) => rest = rest.replace(" AS ", " As ").replace(" as ", " AS "),
        ("FROM", 1) if !rest.starts_with("--") => {
            rest = format!("--platform=$TARGETPLATFORM {rest}");
        }
        ("ENV" | "LABEL", 0) => rest = rest.replacen('=', " ", 1),
        ("EXPOSE", 0) => rest = rest.replace("/tcp", "/TCP").replace("/udp", "/Udp"),
        _ => {}
    }
    if rest.is_empty() { keyword } else { format!("{keyword} {rest}") }
}

#[test]
fn real_files_keep_what_they_build() {
    let mut repairs = 0;
    let mut state = 1_u64;
    // A fixed walk: each run looks at the same files.
    let mut dice = |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from(state >> 33).unwrap() % sides
    };
    for real in real_files::all() {
        repaired(real.text.as_bytes());
        repairs += repaired(untidy(&real.text, &mut dice).as_bytes());
    }
    // So many that the test would mean nothing with far fewer.
    assert!(repairs > 500, "only {repairs} repairs");
}

#[test]
fn each_repair_is_made() {
    for (rule, text, expected) in [
        ("ConsistentInstructionCasing", "FROM a:1\nrun b\nUSER c\n", "FROM a:1\nRUN b\nUSER c\n"),
        ("ExposeProtoCasing", "FROM a:1\nEXPOSE 80/TCP\n", "FROM a:1\nEXPOSE 80/tcp\n"),
        ("FromAsCasing", "FROM a:1 as b\n", "FROM a:1 AS b\n"),
        ("LegacyKeyValueFormat", "FROM a:1\nLABEL b c d\n", "FROM a:1\nLABEL b=\"c d\"\n"),
        ("NoEmptyContinuation", "FROM a:1\nRUN b \\\n\n  c\n", "FROM a:1\nRUN b \\\n  c\n"),
        ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM a:1\n", "FROM a:1\n"),
        ("StageNameCasing", "FROM a:1 AS B\nFROM b\n", "FROM a:1 AS b\nFROM b\n"),
    ] {
        assert_eq!(repaired(text.as_bytes()), 1, "{rule}");
        let fixed = fix(&options(text.as_bytes())).unwrap();
        assert_eq!((&*fixed.rules, &*fixed.bytes), (&[rule][..], expected.as_bytes()));
    }
}

/// Errors of every kind: of syntax, of values, of references, of planning.
#[test]
fn files_with_errors_are_left_alone() {
    for error in [
        "CPOY a b",
        "EXPOSE 99999",
        "COPY --from=9 a b",
        "ENV A=${B:?no}",
        "COPY <<E /",
        "RUN --mount=type=nope x",
    ] {
        let text = format!("FROM scratch as a\nenv b c\nUSER x\n{error}\n");
        assert!(has_errors(text.as_bytes()), "{error}");
        assert_eq!(repaired(text.as_bytes()), 0, "{error}");
    }
    // With error=true findings are errors, and are repaired all the same.
    assert_eq!(repaired(b"# check=error=true\nFROM scratch as a\n"), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn untidy_files_keep_what_they_build(
        which in any::<prop::sample::Index>(),
        faces in proptest::collection::vec(any::<u8>(), 1..200),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let files = real_files::all();
        let text = &which.get(&files).text;
        let mut at = 0;
        let mut dice = |sides: usize| {
            at += 1;
            usize::from(faces[at % faces.len()]) % sides
        };
        let mut text = untidy(text, &mut dice);
        // Cut anywhere, a file may be right or wrong.
        if let Some(cut) = cut {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            text.truncate(*cut.get(&places));
        }
        repaired(text.as_bytes());
    }
}
