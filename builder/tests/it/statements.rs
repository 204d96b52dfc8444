//! The hard cases of the language, one test for each numbered statement of the list that the front end
//! was written after: reading the file, words, variables, stages, metadata, config and history. Those about
//! files are in `copied.rs`; what programs see is tested where programs run.

use crate::semantics::{entries, pointed_at, target, with_args};
use lapstrake_builder::BuildOptions;
use lapstrake_builder::check::{Surroundings, check};
use lapstrake_builder::expand::{expand, expand_body};
use lapstrake_builder::plan::{Action, BaseFacts, RunStep, StagePlan};
use lapstrake_layerstore::oci::ContainerConfig;

fn planned(text: &str) -> StagePlan {
    target(&BuildOptions::of(text), &BaseFacts::default()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// History without the base's, entries that make no layer in brackets.
fn history(text: &str) -> Vec<String> {
    entries(&planned(text))
}

/// History of instructions on a base of which nothing is known.
fn of(instructions: &str) -> Vec<String> {
    history(&format!("FROM a\n{instructions}\n"))
}

fn config(text: &str) -> ContainerConfig {
    planned(text).config().clone()
}

/// What a build says that cannot be done, on one line.
fn refused(text: impl Into<Vec<u8>>) -> String {
    let options = BuildOptions::of(text);
    let report =
        match check(&options, &Surroundings { own_rules: false, ..Surroundings::default() }) {
            Ok(report) => report,
            Err(error) => return error.to_string(),
        };
    let errors = report.diagnostics.iter().filter(|found| found.is_error());
    errors.map(|found| found.message.clone()).collect::<Vec<_>>().join("; ")
}

/// The names of the checks that speak of a file.
fn warned(text: &str) -> Vec<&'static str> {
    let surroundings = Surroundings { own_rules: false, ..Surroundings::default() };
    let report = check(&BuildOptions::of(text), &surroundings).expect("no target is asked for");
    report.diagnostics.iter().map(|found| found.code).collect()
}

fn runs(plan: &StagePlan) -> Vec<&RunStep> {
    let mut found = Vec::new();
    for step in &plan.steps {
        if let Action::Run(run) = &step.action {
            found.push(&**run);
        }
    }
    found
}

/// The words of the last RUN.
fn argv(text: &str) -> Vec<String> {
    runs(&planned(text))
        .last()
        .expect("there is a RUN")
        .argv
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn base(env: &[&str]) -> BaseFacts {
    let mut facts = BaseFacts::default();
    facts.config.env = env.iter().map(|pair| (*pair).to_owned()).collect();
    facts
}

#[test]
fn s1_lines() {
    let long = |bytes: usize| format!("FROM a\nUSER {}\n", "x".repeat(bytes - 5));
    assert_eq!(history(&long(65_535)).len(), 1);
    let message = "dockerfile line greater than max allowed size of 65535";
    assert!(refused(long(65_536)).contains(message), "{}", refused(long(65_536)));
    assert_eq!(
        history("\u{feff}FROM a\r\nUSER b\r\nLABEL c=d \\\r\n e=f\r\n"),
        ["(USER b)", "(LABEL c=d e=f)"]
    );
    // A mark is dropped from the first line alone.
    assert!(refused("FROM a\n\u{feff}USER b\n").contains("unknown instruction"));
    // Bodies keep their line ends; the word that ends them does not have to.
    assert_eq!(argv("FROM a\r\nRUN <<E\r\nb\r\nE\r\n"), ["/bin/sh", "-c", "b\r\n"]);
}

#[test]
fn s2_comments() {
    assert_eq!(of(" \t USER b"), ["(USER b)"]);
    assert_eq!(
        argv("FROM a\nRUN b\\\n  c \\\n # d \\\n#e\n  f # g"),
        ["/bin/sh", "-c", "b  c   f # g"]
    );
    assert_eq!(of("LABEL a=#b"), ["(LABEL a=#b)"]);
}

#[test]
fn s3_continuations() {
    assert_eq!(argv("FROM a\nRUN b\\ \t\nc"), ["/bin/sh", "-c", "bc"]);
    assert_eq!(argv("FROM a\nRUN b\\\\\nUSER c"), ["/bin/sh", "-c", "b\\\\"]);
    assert_eq!(argv("FROM a\nRUN b \\\n\\\nc"), ["/bin/sh", "-c", "b c"]);
}

#[test]
fn s4_blank_lines_in_continuations() {
    let text = "FROM a\nRUN b \\\n\n \\\n\n c";
    assert_eq!(argv(text)[2], "b   c");
    assert_eq!(warned(text), ["NoEmptyContinuation"]);
    assert_eq!(argv("FROM a\nRUN b \\")[2], "b");
    assert_eq!(argv("FROM a\nRUN b \\\n\n\n")[2], "b");
}

#[test]
fn s5_files_without_stages() {
    for (text, message) in [
        ("", "the Dockerfile cannot be empty"),
        ("\n# a\n", "file with no instructions"),
        ("ARG a=b\n", "dockerfile contains no stages to build"),
        ("RUN a\nFROM b\n", "no build stage in current context"),
    ] {
        assert!(refused(text).contains(message), "{text}: {}", refused(text));
    }
}

#[test]
fn s6_directives() {
    assert!(refused("FROM a\nRUN b `\n c").contains("unknown instruction: c"));
    assert_eq!(argv("#EsCaPe = ` \nFROM a\nRUN b `\n c")[2], "b  c");
    // What is not known ends the zone, and so does a `#!` line.
    for first in ["# foo=bar", "#!/usr/bin/env x", "", "# plain"] {
        let text = format!("{first}\n# escape=`\nFROM a\nRUN b \\\n c");
        assert_eq!(argv(&text)[2], "b  c", "{first}");
    }
    assert!(refused("# escape=`\n# escape=`\nFROM a").contains("only one escape parser directive"));
    assert!(refused("# escape=x\nFROM a").contains("escape"));
}

#[test]
fn s7_what_escape_changes() {
    let text = "# escape=`\nFROM a\nARG X=1\nENV A=`$X B=\"`$X\" C=\\$X\nLABEL a=b` c\nCOPY <<E /\n\\$X `$X\nE\n";
    let env = config(text).env;
    assert_eq!(env[1..], ["A=$X", "B=$X", "C=\\1"]);
    assert_eq!(config(text).labels.get("a").map(String::as_str), Some("b c"));
    let Action::Copy(copy) = &planned(text).steps[0].action else { panic!("a copy") };
    assert_eq!(copy.inline[0].1, b"$X `1\n");
    // In the words of a heredoc it is always the backslash.
    assert_eq!(argv("# escape=`\nFROM a\nRUN cat <<\\E\nx\nE\n")[2], "cat <<\\E\nx\nE");
}

#[test]
fn s8_flags() {
    assert_eq!(of("COPY\t --chown=1  a /"), ["COPY --chown=1 a / # buildkit"]);
    assert_eq!(of("COPY -- a /"), ["COPY a / # buildkit"]);
    assert_eq!(of("COPY --link=TRUE --parents=false a /"), ["COPY a / # buildkit"]);
    assert_eq!(of("COPY --chmod=\"6\"44 a /"), ["COPY --chmod=644 a / # buildkit"]);
    for (line, message) in [
        ("COPY --chown 1 a /", "missing a value on flag"),
        ("COPY --chown=1 --chown=2 a /", "duplicate flag specified"),
        ("COPY --link= a /", "link"),
        ("COPY --link=maybe a /", "link"),
        ("COPY --nope a /", "unknown flag"),
    ] {
        let text = refused(format!("FROM a\n{line}\n"));
        assert!(text.to_lowercase().contains(message), "{line}: {text}");
    }
}

#[test]
fn s9_flags_that_nobody_reads() {
    assert_eq!(
        of("STOPSIGNAL --nope 9\nHEALTHCHECK --nope NONE"),
        [
            "(STOPSIGNAL 9)",
            "(HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0})"
        ]
    );
    assert_eq!(of("ARG --nope B=c"), ["(ARG B=c)"]);
}

#[test]
fn s10_unknown_instructions() {
    let text = "FROM a\nCPOY b c\nEXPOSE x\n";
    assert_eq!(pointed_at(text), ["CPOY", "x"]);
    assert!(refused(text).contains("unknown instruction: CPOY"));
}

#[test]
fn s11_pairs() {
    assert_eq!(config("FROM a\nENV ONE TWO= THREE=world").env[1], "ONE=TWO= THREE=world");
    assert_eq!(
        config("FROM a\nENV A=b\\ c D=\"e f\" G='h \"i'").env[1..],
        ["A=b c", "D=e f", "G=h \"i"]
    );
    assert!(
        refused("FROM a\nENV A=b c")
            .contains("can't find = in \"c\". Must be of the form: name=value")
    );
    assert!(refused("FROM a\nENV =b").contains("ENV names can not be blank"));
    assert!(refused("FROM a\nENV A").contains("must have two arguments"));
}

#[test]
fn s12_json_forms() {
    assert_eq!(argv("FROM a\nRUN [\"b\", \"c d\"]"), ["b", "c d"]);
    for shell in ["[\"a\"] x", "['a']", "[\"a\",]", "[\"c:\\windows\"]"] {
        assert_eq!(argv(&format!("FROM a\nRUN {shell}")), ["/bin/sh", "-c", shell]);
    }
    let strings = "when using JSON array syntax, arrays must be comprised of strings only";
    assert!(refused("FROM a\nRUN [\"b\", 1]").contains(strings));
    assert!(refused("FROM a\nSHELL b").contains("SHELL requires the arguments to be in JSON form"));
    assert!(refused("FROM a\nSHELL []").contains("SHELL requires at least one argument"));
    assert_eq!(of("COPY [\"b c\", \"/d e\"]"), ["COPY b c /d e # buildkit"]);
    assert_eq!(of("VOLUME ['b'"), ["(VOLUME [[b])"]);
}

#[test]
fn s13_nothing_to_run() {
    let text = "FROM a\nENTRYPOINT [\"b\"]\nCMD [\"c\"]\nCMD []\n";
    assert_eq!((config(text).cmd.len(), config(text).entrypoint), (0, vec!["b".to_owned()]));
    assert_eq!(config(&format!("{text}ENTRYPOINT []")).entrypoint.len(), 0);
    assert_eq!(config("FROM a\nCMD").cmd, ["/bin/sh", "-c", ""]);
    assert_eq!(argv("FROM a\nRUN []").len(), 0);
}

#[test]
fn s14_shells() {
    let text = "FROM a AS x\nSHELL [\"b\", \"-c\"]\nFROM x\nRUN c d\nCMD e f\nHEALTHCHECK CMD g\n";
    assert_eq!(argv(text), ["b", "-c", "c d"]);
    assert_eq!(config(text).cmd, ["b", "-c", "e f"]);
    let test = config(text).healthcheck.expect("there is one").test;
    assert_eq!(test, ["CMD-SHELL", "g"]);
    let mut facts = BaseFacts::default();
    facts.config.shell = vec!["of-base".to_owned()];
    let plan = target(&BuildOptions::of("FROM a\nRUN b"), &facts).expect("fine");
    assert_eq!(entries(&plan), ["RUN of-base b # buildkit"]);
}

#[test]
fn s15_words() {
    assert_eq!(of("EXPOSE\t80  81"), ["(EXPOSE [80/tcp 81/tcp])"]);
    assert_eq!(
        of("USER b c\nWORKDIR /d e\nMAINTAINER f \"g"),
        ["(USER b c)", "WORKDIR /d e", "(MAINTAINER f \"g)"]
    );
    assert!(refused("FROM a\nCOPY \"a b\" /x").contains("while looking for matching double-quote"));
    assert_eq!(of("COPY \"a\" '/x'"), ["COPY a /x # buildkit"]);
}

#[test]
fn s16_before_the_instruction() {
    let text = "FROM a\nENV A=1 K=L\nENV A=2 B=$A $K=3\nLABEL x=$A y=$B\nARG P=1 Q=$P R=$Q$A\n";
    assert_eq!(config(text).env[1..], ["A=2", "K=L", "B=1", "L=3"]);
    assert_eq!(history(text)[2..], ["(LABEL x=2 y=1)", "(ARG P=1 Q=1 R=12)"]);
}

#[test]
fn s17_the_later_declaration_wins() {
    let text = "FROM a\nENV A=env\nARG A=arg\nRUN b\nLABEL l=$A\nARG A\nLABEL m=$A\nENV A=again\nLABEL n=$A";
    let plan = planned(text);
    let env = &runs(&plan)[0].env;
    assert!(env.iter().any(|(name, value)| (&**name, &**value) == ("A", "arg")), "{env:?}");
    assert_eq!(plan.config().env[1], "A=again");
    let labels: Vec<String> = entries(&plan).into_iter().filter(|e| e.contains("LABEL")).collect();
    assert_eq!(labels, ["(LABEL l=arg)", "(LABEL m=arg)", "(LABEL n=again)"]);
    assert_eq!(config("FROM a\nENV A=env\nARG A=arg").env[1], "A=env");
    assert_eq!(of("ENV A=env\nARG A\nLABEL l=$A")[2], "(LABEL l=env)");
}

#[test]
fn s18_values_of_arguments() {
    let text =
        "ARG G=global\nFROM scratch\nARG G=own\nARG H=${G}2\nARG I=${X:?no}\nLABEL l=$G-$H-$I";
    let shown = |args: &[(&str, &str)]| entries(&with_args(text, args)).pop().expect("a label");
    assert_eq!(shown(&[("I", "i")]), "(LABEL l=own-own2-i)");
    assert_eq!(shown(&[("I", "$G"), ("G", "given")]), "(LABEL l=given-given2-$G)");
    assert!(refused(text).contains("no"), "{}", refused(text));
    assert_eq!(history("ARG G=global\nFROM a\nARG G\nLABEL l=$G")[1], "(LABEL l=global)");
    assert!(refused("ARG X\nFROM $X").contains("base name ($X) should not be blank"));
}

#[test]
fn s19_from_sees_global_arguments_alone() {
    let text = "ARG A=x B=$A$TARGETOS\nFROM $B AS one\nARG A=y\nENV B=z\nFROM $B\n";
    let plan = lapstrake_builder::plan::plan(&BuildOptions::of(text), &mut |_| None).expect("fine");
    let names: Vec<&str> = plan.images.iter().map(|image| image.reference.as_str()).collect();
    assert_eq!(names, ["xlinux"]);
    assert!(refused("ARG N=b\nFROM a AS $N").contains("invalid name for build stage"));
}

#[test]
fn s20_arguments_of_a_parent_stage() {
    let text = "FROM a AS x\nARG P=1\nFROM x\nRUN b\nLABEL l=$P\nFROM a\nLABEL m=$P-$TARGETOS\nARG TARGETOS\nLABEL n=$TARGETOS\n";
    assert_eq!(history(text), ["(LABEL m=-)", "(ARG TARGETOS=linux)", "(LABEL n=linux)"]);
    let child = text.split("FROM a\nLABEL").next().expect("a part");
    assert_eq!(history(child)[1..], ["RUN |1 P=1 /bin/sh -c b # buildkit", "(LABEL l=1)"]);
    let given = with_args("FROM a\nARG TARGETARCH\nLABEL l=$TARGETARCH", &[("TARGETARCH", "mine")]);
    assert_eq!(entries(&given)[1], "(LABEL l=mine)");
}

#[test]
fn s21_modifiers() {
    let scope = [("A", "a/b/c.tar.gz"), ("E", ""), ("P", "*"), ("N", "x\ny")];
    let scope: Vec<(String, String)> =
        scope.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    for (word, expected) in [
        ("${E:-d}|${E-d}|${U-d}|${U:-$A}", "d||d|a/b/c.tar.gz"),
        ("${A:+s}|${E:+s}|${E+s}|${U+s}", "s||s|"),
        ("${A:?m}|${E?m}", "a/b/c.tar.gz|"),
        ("${A#*/}|${A##*/}|${A%.*}|${A%%.*}", "b/c.tar.gz|c.tar.gz|a/b/c.tar|a/b/c"),
        ("${A/\\//-}|${A//\\//-}|${A/?b/X}", "a-b/c.tar.gz|a-b-c.tar.gz|aX/c.tar.gz"),
        ("${N#x?}|${N%?y}", "x\ny|x\ny"),
        ("${A/b/$E}|${A//[a]/X}", "a//c.tar.gz|a/b/c.tar.gz"),
        ("${A/b/\\$1}", "a/\\$1/c.tar.gz"),
    ] {
        assert_eq!(expand(word, '\\', &scope).expect(word).text, expected, "{word}");
    }
    for (word, message) in [
        ("${E:?m}", "m"),
        ("${U?m}", "m"),
        ("${A:#b}", "unsupported modifier"),
        ("${}", "bad substitution"),
        ("${:x}", "bad substitution"),
        ("${{", "bad substitution"),
        ("${A", "missing '}'"),
        ("${A#\\b}", "invalid escape"),
    ] {
        let error = expand(word, '\\', &scope).expect_err(word).to_string();
        assert!(error.contains(message), "{word}: {error}");
    }
}

#[test]
fn s22_names() {
    let scope = [("1", "one"), ("a1_é", "u"), ("@", "at")];
    let scope: Vec<(String, String)> =
        scope.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    for (word, expected) in [
        ("$1x", "onex"),
        ("$a1_é-", "u-"),
        ("$@x$*$#$?$-$!$0", "atx"),
        ("$ $. a$", "$ $. a$"),
        ("-$U-", "--"),
    ] {
        assert_eq!(expand(word, '\\', &scope).expect(word).text, expected, "{word}");
    }
    assert_eq!(warned("FROM scratch\nLABEL a=$U"), ["UndefinedVar"]);
}

#[test]
fn s23_quotes() {
    let scope = vec![("A".to_owned(), "v".to_owned())];
    for (word, expected) in [
        ("'$A\\'", "$A\\"),
        ("\"$A\\$A\\\"\\\\\\x\"", "v$A\"\\\\x"),
        ("\\$A\\x\\", "$Ax"),
        ("a\"b\"'c'", "abc"),
    ] {
        assert_eq!(expand(word, '\\', &scope).expect(word).text, expected, "{word}");
    }
}

#[test]
fn s24_what_is_expanded() {
    let all = "FROM scratch\nARG A=1 P=80 S=9 U=u\nADD --chown=$A --chmod=64$A $A /$A\nCOPY $A /$A\nENV $U=$A\n\
        EXPOSE $P\nLABEL $U=$A\nSTOPSIGNAL $S\nUSER $U\nVOLUME /$A\nWORKDIR /$A\n";
    assert_eq!(
        history(all)[1..],
        [
            "ADD --chown=1 --chmod=641 1 /1 # buildkit",
            "COPY 1 /1 # buildkit",
            "(ENV u=1)",
            "(EXPOSE [80/tcp])",
            "(LABEL u=1)",
            "(STOPSIGNAL 9)",
            "(USER u)",
            "(VOLUME [/1])",
            "WORKDIR /1"
        ]
    );
    let none =
        of("ARG A=1\nRUN $A\nCMD $A\nENTRYPOINT $A\nSHELL [\"$A\"]\nMAINTAINER $A\nONBUILD RUN $A");
    assert!(none[1..].iter().all(|entry| entry.contains("$A")), "{none:?}");
    assert!(
        refused("FROM a\nARG A=1\nCOPY --from=$A a /")
            .contains("variable expansion is not supported for --from")
    );
    let text = "FROM a\nARG T=/t\nRUN --mount=type=cache,target=$T true\n";
    assert_eq!(runs(&planned(text))[0].mounts[0].target, "/t");
}

#[test]
fn s25_only_expose_splits_values() {
    assert_eq!(of("ENV P=\"80 443\"\nEXPOSE $P")[1], "(EXPOSE [80/tcp 443/tcp])");
    assert_eq!(
        of("ENV P=\"b c\"\nCOPY $P /\nVOLUME $P")[1..],
        ["COPY b c / # buildkit", "(VOLUME [b c])"]
    );
    // They are sorted as they are written.
    assert_eq!(of("ENV P=9\nEXPOSE 80 $P")[1], "(EXPOSE [9/tcp 80/tcp])");
}

#[test]
fn s26_bodies() {
    let scope = vec![("A".to_owned(), "v".to_owned())];
    assert_eq!(
        expand_body("'$A' \"$A\" \\$A $U.\n", &scope).expect("fine").text,
        "'v' \"v\" $A .\n"
    );
    assert_eq!(argv("FROM a\nARG A=1\nRUN <<E\necho $A\nE\n")[2], "echo $A\n");
}

#[test]
fn s27_proxies() {
    let args = [("HTTP_PROXY", "up"), ("http_proxy", "low")];
    let plan = with_args("FROM a\nRUN b", &args);
    assert_eq!(entries(&plan), ["RUN /bin/sh -c b # buildkit"]);
    assert!(!runs(&plan)[0].env.iter().any(|(name, _)| name.to_lowercase() == "http_proxy"));
    let declared = with_args("FROM a\nARG HTTP_PROXY\nRUN b", &args);
    assert_eq!(entries(&declared)[1], "RUN |1 HTTP_PROXY=up /bin/sh -c b # buildkit");
}

#[test]
fn s28_the_order_of_variables() {
    let text = "FROM x\nENV A=1 B=2\nENV A=3\nRUN c\n";
    let plan = target(&BuildOptions::of(text), &base(&["PATH=/p", "C=0"])).expect("fine");
    let names: Vec<&str> = runs(&plan)[0].env.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["PATH", "C", "B", "A"]);
    assert_eq!(plan.config().env, ["PATH=/p", "C=0", "A=3", "B=2"]);
}

#[test]
fn s29_names_of_stages() {
    assert!(refused("FROM a AS 1b").contains("invalid name for build stage"));
    assert_eq!(
        history("FROM a AS X\nLABEL l=1\nFROM b AS x\nLABEL l=2\nFROM x\nLABEL m=$l").len(),
        2
    );
    assert!(refused("FROM a AS foo\nFROM Foo").contains("Foo"));
    assert_eq!(history("FROM a AS foo\nFROM b\nCOPY --from=FOO / /").len(), 1);
    for (line, message) in [
        ("COPY --from=9 / /", "invalid stage index 9"),
        ("COPY --from=1 / /", "circular"),
        ("COPY --from=later / /", "needs to be defined before current stage"),
    ] {
        let text = refused(format!("FROM a\nFROM b\n{line}\nFROM c AS later\nFROM scratch"))
            .to_lowercase();
        assert!(text.contains(message), "{line}: {text}");
    }
    // A number is the name of an image where a mount names it.
    let options = BuildOptions::of("FROM a\nFROM b\nRUN --mount=from=0,target=/m x");
    let plan = lapstrake_builder::plan::plan(&options, &mut |_| None).expect("fine");
    assert!(plan.images.iter().any(|image| image.reference == "0"), "{:?}", plan.images);
}

#[test]
fn s30_unreachable_stages() {
    let text = "FROM nowhere:1 AS unused\nRUN x\nFROM scratch AS used\nFROM used\nLABEL a=b\n";
    let plan = lapstrake_builder::plan::plan(&BuildOptions::of(text), &mut |_| None).expect("fine");
    assert_eq!((plan.target, plan.images.len()), (2, 0));
    assert_eq!(plan.stages.iter().map(|stage| stage.index).collect::<Vec<_>>(), [1, 2]);
    // They are read, and what their FROM says is expanded.
    assert!(refused("FROM $X\nFROM scratch").contains("should not be blank"));
    assert!(refused("FROM a\nCPOY b\nFROM scratch").contains("unknown instruction"));
}

#[test]
fn s31_scratch() {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = config("FROM scratch\nUSER a");
    assert_eq!((config.working_dir.as_str(), config.env), ("/", vec![path.to_owned()]));
    let plan = target(&BuildOptions::of("FROM a\nUSER b"), &base(&["A=b"])).expect("fine");
    assert_eq!(plan.config().env, ["A=b", path]);
}

#[test]
fn s32_triggers() {
    let text = "FROM a AS x\nONBUILD ARG P=1\nONBUILD RUN <<E\nb $P\nE\nONBUILD LABEL l=$P\nFROM x AS y\nFROM y\nUSER z\n";
    assert_eq!(
        config(text.split("FROM x").next().expect("a part")).on_build,
        ["ARG P=1", "RUN <<E\nb $P\nE", "LABEL l=$P"]
    );
    assert_eq!(
        history(text),
        ["(ARG P=1)", "RUN |1 P=1 /bin/sh -c b $P\n # buildkit", "(LABEL l=1)", "(USER z)"]
    );
    assert_eq!(config(text).on_build.len(), 0);
    for forbidden in ["ONBUILD ONBUILD RUN a", "ONBUILD FROM a", "ONBUILD MAINTAINER a"] {
        assert!(!refused(format!("FROM a\n{forbidden}")).is_empty(), "{forbidden}");
    }
    let mut facts = BaseFacts::default();
    facts.config.on_build = vec!["COPY --from=nope:1 a /".to_owned(), "USER t".to_owned()];
    let plan = target(&BuildOptions::of("FROM a\nUSER u"), &facts).expect("fine");
    assert_eq!(entries(&plan), ["COPY a / # buildkit", "(USER t)", "(USER u)"]);
    facts.config.on_build = vec!["USER t\nUSER u".to_owned()];
    assert!(target(&BuildOptions::of("FROM a"), &facts).is_err());
}

#[test]
fn s33_named_contexts() {
    use lapstrake_builder::options::NamedContext;
    let images = |text: &str, contexts: &[(&str, &str)]| {
        let mut options = BuildOptions::of(text);
        let context = |(name, image): &(&str, &str)| {
            ((*name).to_owned(), NamedContext::Image((*image).to_owned()))
        };
        options.named_contexts = contexts.iter().map(context).collect();
        let plan = lapstrake_builder::plan::plan(&options, &mut |_| None).expect(text);
        let images: Vec<String> = plan.images.into_iter().map(|image| image.reference).collect();
        let steps = plan.stages.iter().map(|stage| stage.instructions.len()).sum::<usize>();
        (images.join(" "), steps)
    };
    let text = "FROM a AS x\nRUN b\nFROM x\nRUN c\n";
    assert_eq!(images(text, &[("x", "other:1")]), ("other:1".to_owned(), 1));
    assert_eq!(images(text, &[("a", "other:1")]), ("other:1".to_owned(), 2));
    for name in ["docker.io/library/a:latest", "a:latest", "a::linux/amd64"] {
        assert_eq!(images("FROM a:latest\nRUN b", &[(name, "other:1")]).0, "other:1", "{name}");
    }
    assert_eq!(images("FROM scratch\n", &[("scratch", "other:1")]).0, "");
    assert_eq!(images("FROM a AS Context\nRUN b", &[("context", "other:1")]).0, "a");
    // What the replaced stage's own FROM says does not matter, but for its platform.
    assert_eq!(images("FROM $NO AS x\nFROM x", &[("x", "other:1")]).0, "other:1");
}
