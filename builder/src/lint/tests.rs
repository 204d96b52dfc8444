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
        ("FROM a\nRUN x \\\n\n y", "3 NoEmptyContinuation"),
        ("FROM a\nrun x\nRUN y", "2 ConsistentInstructionCasing"),
        ("from a\nrun x\nRUN y", "3 ConsistentInstructionCasing"),
        ("FROM a\nRun x", "2 ConsistentInstructionCasing"),
        // What stands before the first FROM does not vote.
        ("arg x\narg y\nFROM a\nrun x\nRUN y", "4 ConsistentInstructionCasing"),
        ("FROM a AS b\nFROM a AS b", "2 DuplicateStageName"),
        ("FROM a AS scratch", "1 ReservedStageName"),
        ("FROM a\nMAINTAINER x", "2 MaintainerDeprecated"),
        ("FROM a:$B", "1 InvalidDefaultArgInFrom 1 UndefinedArgInFrom"),
        ("ARG B\nFROM a:$B", "2 InvalidDefaultArgInFrom"),
        ("ARG B=UPPER\nFROM $B", "2 InvalidDefaultArgInFrom"),
        ("FROM a\nCMD []\nCMD []", "2 MultipleInstructionsDisallowed"),
        ("FROM a\nENV a b", "2 LegacyKeyValueFormat"),
        ("FROM --platform=$TARGETPLATFORM a", "1 RedundantTargetPlatform"),
        ("FROM --platform=${TARGETPLATFORM:-x} a", "1 RedundantTargetPlatform"),
        ("FROM --platform=linux/amd64 a", "1 FromPlatformFlagConstDisallowed"),
        ("FROM --platform=linux/arm/v7 a AS v7", "1 FromPlatformFlagConstDisallowed"),
        ("FROM a\nARG DB_PASSWORD", "2 SecretsUsedInArgOrEnv"),
        ("FROM a\nENV TOKEN=x", "2 SecretsUsedInArgOrEnv"),
        ("# check=experimental=all\n# x\nFROM a AS b", "2 InvalidDefinitionDescription"),
        ("# check=experimental=all\n#\n# x\nARG b\nFROM a", "3 InvalidDefinitionDescription"),
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
        "FROM --platform=$TARGETOS/$TARGETARCH a",
        "FROM --platform=linux/arm64 a AS build-arm64",
        "FROM base-$TARGETARCH",
        "FROM a\nENV PUBLIC_KEY=x MONKEY=y KEYBOARD=z PASSWORD_FILE=/x TOKEN_VERSION=1",
        "from a\nrun x",
        "FROM a\nCMD []\nFROM a\nCMD []",
        "arg a=1\nFROM x\nRUN y",
        "# x\nFROM a AS b",
        "# check=experimental=all\n# b is it\nFROM a AS b",
        "# check=experimental=all\n# y is it\nFROM a\n# x\n\nARG y\n# x\n#\nARG y",
        "# check=experimental=all\n# x\nFROM a\n# x\nRUN y",
    ] {
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn messages_are_the_reference_s() {
    let message = |text: &str| {
        let (ast, _) = syntax::parse(&SourceFile::new("Dockerfile", text));
        let (file, _) = instruction::lower(&ast);
        let (config, _) = Config::of(&ast);
        check(&ast, &file, &config, &|_| true)
            .first()
            .map(|found| found.message.clone())
            .unwrap_or_default()
    };
    for (text, expected) in [
        ("FROM a AS B", "Stage name 'B' should be lowercase"),
        ("FROM a as b", "'as' and 'FROM' keywords' casing do not match"),
        ("FROM a\nRUN x \\\n\n y", "Empty continuation line"),
        (
            "from a\nENV a b\nrun x",
            "Command 'ENV' should match the case of the command majority (lowercase)",
        ),
        (
            "FROM a AS context",
            "Stage name should not use the same name as reserved stage \"context\"",
        ),
        ("FROM a AS b\nFROM a AS b", "Duplicate stage name \"b\", stage names should be unique"),
        ("FROM a\nMAINTAINER x", "Maintainer instruction is deprecated in favor of using label"),
        (
            "ARG VERSION=1\nFROM a:$VERSON",
            "Default value for ARG a:$VERSON results in empty or invalid base image name",
        ),
        (
            "ARG VERSION=1\nFROM a\nFROM --platform=$VERSON a",
            "FROM argument 'VERSON' is not declared (did you mean VERSION?)",
        ),
        (
            "FROM a\nCMD []\nCMD []",
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM a\nENV a b",
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ),
        (
            "from a\nlabel a b",
            "\"label key=value\" should be used instead of legacy \"label key value\" format",
        ),
        (
            "FROM --platform=$TARGETPLATFORM a",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            "FROM --platform=linux/amd64 a",
            "FROM --platform flag should not use constant value \"linux/amd64\"",
        ),
        (
            "FROM a\nARG DB_PASSWORD",
            "Do not use ARG or ENV instructions for sensitive data (ARG \"DB_PASSWORD\")",
        ),
        (
            "# check=experimental=all\n# x\nFROM a AS b",
            "Comment for FROM should follow the format: `# b <description>`",
        ),
        (
            "# check=experimental=all\nFROM a\n# x\nARG b c",
            "Comment for ARG should follow the format: `# <arg_key> <description>`",
        ),
    ] {
        assert_eq!(message(text), expected, "{text}");
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
    let asked = "# check=experimental=InvalidDefinitionDescription\n# x\nFROM a AS b";
    assert_eq!(found(asked), ["2 InvalidDefinitionDescription"]);
    let skipped = asked.replacen("check=", "check=skip=all;", 1);
    assert_eq!(found(&skipped), ["2 InvalidDefinitionDescription"], "it is not to be skipped");
    let text = "FROM a\nENV a b\nENV TOKEN=1\nFROM b";
    assert_eq!(found_in(text, &|stage| stage == 1), Vec::<String>::new());
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
