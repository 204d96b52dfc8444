use super::*;
use crate::source::SourceFile;
use crate::{instruction, syntax};

fn found_in(text: &str, reached: &dyn Fn(usize) -> bool) -> Vec<String> {
    let source = SourceFile::new("Dockerfile", text);
    let (ast, problems) = syntax::parse(&source);
    let (file, more) = instruction::lower(&ast);
    assert!(problems.is_empty() && more.is_empty(), "{problems:?} {more:?}");
    let (config, problems) = Config::of(&ast);
    assert!(problems.is_empty(), "{problems:?}");
    check(&ast, &file, &config, reached)
        .iter()
        .map(|found| format!("{} {}", source.line_col(found.span.start).line, found.code))
        .collect()
}

fn found(text: &str) -> Vec<String> {
    found_in(text, &|_| true)
}

#[test]
fn each_rule() {
    for (text, expected) in [
        ("FROM a AS Base", "1 StageNameCasing"),
        ("FROM a as b", "1 FromAsCasing"),
        ("FROM a\nRUN x \\\n\n y", "2 NoEmptyContinuation"),
        ("FROM a\nrun x\nRUN y", "2 ConsistentInstructionCasing"),
        ("from a\nrun x\nRUN y", "3 ConsistentInstructionCasing"),
        ("FROM a\nRun x", "2 ConsistentInstructionCasing"),
        ("FROM a AS b\nFROM a AS b", "2 DuplicateStageName"),
        ("FROM a AS scratch", "1 ReservedStageName"),
        ("FROM a\nCMD x", "2 JSONArgsRecommended"),
        ("FROM a\nENTRYPOINT x", "2 JSONArgsRecommended"),
        ("FROM a\nMAINTAINER x", "2 MaintainerDeprecated"),
        ("FROM a:$B", "1 InvalidDefaultArgInFrom 1 UndefinedArgInFrom"),
        ("ARG B\nFROM a:$B", "2 InvalidDefaultArgInFrom"),
        ("FROM a\nWORKDIR x\nWORKDIR y", "2 WorkdirRelativePath"),
        ("FROM a\nCMD []\nCMD []", "2 MultipleInstructionsDisallowed"),
        ("FROM a\nENV a b", "2 LegacyKeyValueFormat"),
        ("FROM --platform=$TARGETPLATFORM a", "1 RedundantTargetPlatform"),
        ("FROM --platform=linux/amd64 a", "1 FromPlatformFlagConstDisallowed"),
        ("FROM a\nARG DB_PASSWORD", "2 SecretsUsedInArgOrEnv"),
        ("FROM a\nENV TOKEN=x", "2 SecretsUsedInArgOrEnv"),
        ("FROM a\nEXPOSE 80/TCP", "2 ExposeProtoCasing"),
        ("FROM a\nEXPOSE 1:80", "2 ExposeInvalidFormat"),
    ] {
        assert_eq!(found(text).join(" "), expected, "{text}");
    }
}

#[test]
fn nothing_to_say() {
    for text in [
        "FROM a AS b\nFROM b",
        "ARG V=1\nFROM a:$V",
        "FROM --platform=$BUILDPLATFORM a",
        "FROM --platform=linux/arm64 a AS build-arm64",
        "FROM base-$TARGETARCH",
        "FROM ${X:-a}".replace("${X:-a}", "a").as_str(),
        "FROM a\nSHELL [\"x\"]\nCMD y",
        "FROM a AS b\nSHELL [\"x\"]\nWORKDIR /w\nFROM b\nCMD y\nWORKDIR z",
        "FROM a\nWORKDIR $X\nWORKDIR \"/a b\"",
        "FROM a\nENV PUBLIC_KEY=x MONKEY=y KEYBOARD=z",
        "from a\nrun x",
        "FROM a\nCMD []\nFROM a\nCMD []",
        "arg a=1\nFROM x\nRUN y",
    ] {
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn switched_off() {
    let text = "FROM a\nMAINTAINER x\nENV a b";
    assert_eq!(found(text).len(), 2);
    assert_eq!(found(&format!("# check=skip=all\n{text}")).len(), 0);
    assert_eq!(
        found(&format!("# check=skip=MaintainerDeprecated\n{text}")),
        ["4 LegacyKeyValueFormat"]
    );
    assert_eq!(
        found("FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER x\nENV a b"),
        ["4 LegacyKeyValueFormat"]
    );
    assert_eq!(found_in("FROM a\nCMD x\nFROM b", &|stage| stage == 1), Vec::<String>::new());
}

#[test]
fn configurations() {
    let config = Config::parse("skip=A, B;error=true;experimental=all").expect("fine");
    assert_eq!(config.skip, ["A", "B"]);
    assert!(config.error && config.experimental_all && !config.skip_all);
    assert!(Config::parse("skip=all").expect("fine").skip_all);
    assert!(Config::parse("error=maybe").is_err());
    assert!(Config::parse("skip").is_err());
    assert!(Config::parse("foo=bar").is_err());
    let (ast, _) = syntax::parse(&SourceFile::new("f", "# check=skip=MaintainerDeprecate\nFROM a"));
    let (_, problems) = Config::of(&ast);
    assert_eq!(problems[0].help.as_deref(), Some("did you mean `MaintainerDeprecated`?"));
    let warning = Diagnostic::warning("MaintainerDeprecated", Span::default(), "x");
    assert_eq!(
        failure(&[warning.clone(), warning]).as_deref(),
        Some("lint violation found for rules: MaintainerDeprecated")
    );
    assert_eq!(failure(&[]), None);
}

#[test]
fn every_rule_has_its_page_and_every_page_its_rule() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/checks");
    let mut pages: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|page| page.expect("it can be read").file_name().to_string_lossy().into_owned())
        .collect();
    let mut expected: Vec<String> = all_rules().map(|rule| format!("{}.md", rule.name)).collect();
    pages.sort();
    expected.sort();
    assert_eq!(pages, expected);
}
