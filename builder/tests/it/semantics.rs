//! What a file means, sentence by sentence: history and configuration of images that no program has
//! to run for, as the reference writes them. The numbers are those of the list of hard cases.

use lapstrake_builder::BuildOptions;
use lapstrake_builder::graph::{self, Graph};
use lapstrake_builder::plan::{BaseFacts, HistoryDraft, ImageKey, StagePlan, parse, plan_needed};
use std::collections::BTreeMap;

/// The plan of the target, with a base image of which everything is known.
pub(crate) fn target(options: &BuildOptions, base: &BaseFacts) -> Result<StagePlan, String> {
    let failed = |error: lapstrake_builder::BuildError| error.to_string();
    let parsed = parse(options).map_err(failed)?;
    let mut graph: Graph =
        graph::resolve(&parsed.dockerfile, options, &parsed.file).map_err(failed)?;
    let known = |_: &ImageKey| Some(base);
    graph.apply_triggers(&known, &parsed.file).map_err(failed)?;
    let plans: BTreeMap<usize, StagePlan> =
        plan_needed(&graph, options, &parsed.file, &known, &|_| false).map_err(failed)?;
    Ok(plans[&graph.target].clone())
}

fn planned(text: &str) -> Result<StagePlan, String> {
    target(&BuildOptions::of(text), &BaseFacts::default())
}

/// History without the base's, entries that make no layer in brackets.
fn history(text: &str) -> Vec<String> {
    entries(&planned(text).expect(text))
}

pub(crate) fn entries(plan: &StagePlan) -> Vec<String> {
    let entry = |draft: &HistoryDraft| {
        if draft.makes_layer {
            draft.created_by.to_string()
        } else {
            format!("({})", draft.created_by)
        }
    };
    plan.history().iter().map(entry).collect()
}

pub(crate) fn with_args(text: &str, args: &[(&str, &str)]) -> StagePlan {
    let mut options = BuildOptions::of(text);
    options.build_args = args.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    target(&options, &BaseFacts::default()).expect(text)
}

#[test]
fn s20_the_target_stage_has_a_name() {
    let named = "FROM a AS one\nFROM a AS Last\nARG TARGETSTAGE\n";
    assert_eq!(history(named), ["(ARG TARGETSTAGE=last)"]);
    assert_eq!(history("FROM a\nARG TARGETSTAGE\n"), ["(ARG TARGETSTAGE=default)"]);
    let mut options = BuildOptions::of(named.replace("AS one", "AS one\nARG TARGETSTAGE"));
    options.target = Some("ONE".to_owned());
    let plan = target(&options, &BaseFacts::default()).expect("a stage of this file");
    assert_eq!(entries(&plan), ["(ARG TARGETSTAGE=ONE)"]);
}

#[test]
fn s29_a_later_stage_is_an_error_where_it_is_followed() {
    let unneeded = "FROM a AS x\nCOPY --from=y / /\nFROM a AS y\nLABEL a=b\n";
    assert_eq!(history(unneeded), ["(LABEL a=b)"]);
    let mounted = "FROM a AS x\nRUN --mount=from=y,target=/y true\nFROM a AS y\nLABEL a=b\n";
    assert_eq!(history(mounted), ["(LABEL a=b)"]);
    for wrong in [
        "FROM a AS x\nCOPY --from=y / /\nFROM a AS y\nFROM x\n",
        "FROM a AS x\nCOPY --from=y / /\nFROM a AS y\nCOPY --from=x / /\nFROM a\n",
        "FROM a AS x\nCOPY --from=z / /\nFROM a AS y\nCOPY --from=x / /\nFROM a AS z\nCOPY --from=y / /\nFROM a\n",
        "FROM a AS x\nCOPY --from=x / /\nFROM a\n",
        "FROM a AS x\nCOPY --from=7 / /\nFROM a\n",
    ] {
        assert!(planned(wrong).is_err(), "{wrong}");
    }
    // What leads to a circle's stage without being in it is no error.
    let aside = "FROM a AS x\nCOPY --from=y / /\nFROM a AS y\nFROM a AS w\nCOPY --from=x / /\nFROM a\nLABEL a=b";
    assert_eq!(history(aside), ["(LABEL a=b)"]);
}

#[test]
fn s54_a_script_is_known_by_its_first_line_after_tabs_are_gone() {
    let text = "FROM a\nRUN <<-EOF\n\t#!/bin/awk -f\n\tBEGIN { }\n\tEOF\n";
    assert_eq!(history(text), ["RUN /bin/sh -c /dev/pipes/EOF # buildkit"]);
}

#[test]
fn s55_only_a_plain_slash_makes_no_layer() {
    assert_eq!(
        history(
            "FROM a\nWORKDIR /\nWORKDIR //\nWORKDIR /.\nWORKDIR /b/../c/\nWORKDIR $NO\nWORKDIR d/\n"
        ),
        [
            "(WORKDIR /)",
            "WORKDIR //",
            "WORKDIR /.",
            "WORKDIR /b/../c/",
            "WORKDIR /b/../c/",
            "WORKDIR /c/d"
        ]
    );
}

#[test]
fn arguments_for_the_builder_reach_no_step() {
    let text =
        "FROM a\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nLABEL a=-$BUILDKIT_SBOM_SCAN_STAGE-\nRUN b\n";
    let plan = with_args(text, &[("BUILDKIT_SBOM_SCAN_STAGE", "c")]);
    assert_eq!(
        entries(&plan),
        [
            "(ARG BUILDKIT_SBOM_SCAN_STAGE=c)",
            "(LABEL a=--)",
            "RUN |1 BUILDKIT_SBOM_SCAN_STAGE=c /bin/sh -c b # buildkit"
        ]
    );
}

/// What a build of a file would complain of, as the text that each problem points at.
pub(crate) fn pointed_at(text: &str) -> Vec<&str> {
    match lapstrake_builder::plan::plan(&BuildOptions::of(text), &mut |_| None) {
        Err(lapstrake_builder::BuildError::Dockerfile { diagnostics, .. }) => {
            diagnostics.iter().map(|found| &text[found.span.range()]).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_problem_is_told_where_it_stands() {
    assert_eq!(
        pointed_at("FROM scratch\nEXPOSE 99999 80 \\\n  a\nENV A=${X:?a} B=b C=${X:?c}\n"),
        ["99999", "a", "A=${X:?a}", "C=${X:?c}"]
    );
    assert_eq!(
        pointed_at(
            "FROM scratch\nRUN --mount=type=cahce --mount=type=cache,target=/a --mount=siez=1 x\n"
        ),
        ["--mount=type=cahce", "--mount=siez=1"]
    );
    // What keeps the file from being read does not hide what is wrong besides.
    assert_eq!(
        pointed_at("FROM scratch\nARG A B=${X:?b}\nEXPOSE x\nUSRE y\n"),
        ["B=${X:?b}", "x", "USRE"]
    );
    assert_eq!(pointed_at("FROM a AS Base\nFROM --platform=$NO Base\n"), ["--platform=$NO"]);
    // A trigger has no place in the file but the line that pulls it in.
    assert_eq!(
        pointed_at(
            "FROM scratch AS a\nONBUILD RUN --mount=type=x y\nONBUILD ARG A=${X:?b}\nFROM a\n"
        ),
        ["FROM a", "FROM a"]
    );
}

/// The epoch that a build of these options has.
fn epoch(text: &str, args: &[(&str, &str)]) -> Option<i64> {
    let mut options = BuildOptions::of(text);
    options.build_args = args.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    lapstrake_builder::plan::epoch(&options)
}

#[test]
fn s90_the_epoch_is_an_argument_before_the_first_from() {
    let file = "ARG DAY=86400\nARG SOURCE_DATE_EPOCH=$DAY\nFROM a\n";
    assert_eq!(epoch(file, &[]), Some(86400));
    assert_eq!(epoch(file, &[("DAY", "5")]), Some(5));
    assert_eq!(epoch(file, &[("SOURCE_DATE_EPOCH", "7")]), Some(7));
    assert_eq!(epoch("FROM a\n", &[("SOURCE_DATE_EPOCH", "7")]), Some(7));
    // An empty argument takes the file's value away; a stage's own argument is none of the image's.
    assert_eq!(epoch(file, &[("SOURCE_DATE_EPOCH", "")]), None);
    assert_eq!(epoch("FROM a\nARG SOURCE_DATE_EPOCH=5\n", &[]), None);
    assert_eq!(epoch("ARG SOURCE_DATE_EPOCH\nFROM a\n", &[]), None);
    assert_eq!(epoch("# SOURCE_DATE_EPOCH=5\nFROM a\n", &[]), None);
    let wrong = "ARG SOURCE_DATE_EPOCH=soon\nFROM scratch\n";
    assert_eq!((epoch(wrong, &[]), pointed_at(wrong)), (None, vec!["SOURCE_DATE_EPOCH=soon"]));
}
