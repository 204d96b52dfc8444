use super::*;
use crate::diagnostic::Severity;
use crate::lint::ContextPart;
use crate::options::ContextSource;
use lapstrake_layerstore::oci::Platform;

fn options(text: &str) -> BuildOptions {
    let platform = Platform::new("linux", "amd64", "");
    BuildOptions {
        ignore_file: Some((
            ".dockerignore".into(),
            b"secret\nnode_modules\nsrc\n!src/kept".to_vec(),
        )),
        build_args: vec![("GIVEN".into(), "1".into())],
        ..BuildOptions::new(text, "Dockerfile", ContextSource::Empty, platform)
    }
}

fn check(options: &BuildOptions) -> Result<Report, BuildError> {
    super::check(options, &Surroundings::default())
}

fn found(text: &str) -> String {
    let report = check(&options(text)).expect("no target is asked for");
    let line = |found: &Diagnostic| report.file.line_col(found.span.start).line;
    let all: Vec<String> =
        report.diagnostics.iter().map(|found| format!("{} {}", line(found), found.code)).collect();
    all.join(", ")
}

#[test]
fn undefined_variables() {
    for (text, expected) in [
        ("FROM scratch\nCOPY $x /", "2 UndefinedVar"),
        ("FROM scratch\nCOPY <<E /a\n$x\nE", "2 UndefinedVar"),
        ("FROM scratch\nLABEL a=${x#y}", "2 UndefinedVar"),
        ("ARG x=1\nFROM scratch\nWORKDIR /$x", "3 UndefinedVar"),
        ("FROM scratch AS a\nENV x=1\nFROM a\nCOPY $x /", ""),
        ("FROM scratch AS a\nARG x\nFROM a\nCOPY a$x /", ""),
        ("FROM scratch\nARG GIVEN\nCOPY $GIVEN /", ""),
        ("FROM scratch\nENV a=1 b=$a", "2 UndefinedVar"),
        ("FROM scratch\nENV a=${x:-1} b=${y+z} PATH=$PATH:/x", ""),
        ("FROM scratch\nCMD [\"$x\"]", ""),
        // The image may set it.
        ("FROM a:1\nWORKDIR /$x", ""),
        ("FROM a:1 AS b\nFROM b\nWORKDIR /$x", ""),
        // This stage is not built, and looked at all the same.
        ("FROM scratch\nCOPY $x /\nFROM scratch", "2 UndefinedVar"),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
    let report = check(&options("FROM scratch\nENV VERSION=1\nCOPY $VERSON /")).expect("fine");
    assert_eq!(
        report.diagnostics[0].message,
        "Usage of undefined variable '$VERSON' (did you mean $VERSION?)"
    );
}

/// Without a target all stages are looked at, as in the reference's check; with one, those it needs. A
/// build looks at the latter alone.
#[test]
fn without_a_target_every_stage_is_looked_at() {
    let text = "FROM scratch AS a\nENV a b\nENV TOKEN=$x\nCMD x\nCMD []\nONBUILD RUN y\n\
        FROM scratch AS b\nENV c d\nCOPY --from=nope:1 / /\nFROM scratch AS c\n";
    let of = |target: Option<&str>, every_stage| {
        let target = target.map(str::to_owned);
        let options = BuildOptions { target, ..options(text) };
        let surroundings = Surroundings { every_stage, ..Surroundings::default() };
        let report = super::check(&options, &surroundings).expect("a stage of this file");
        let line = |found: &Diagnostic| report.file.line_col(found.span.start).line;
        report.diagnostics.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(of(None, true), [2, 3, 3, 4, 4, 8]);
    assert_eq!(of(Some("a"), true), [2, 3, 3, 4, 4]);
    assert_eq!(of(Some("b"), true), [8]);
    assert_eq!(of(Some("c"), true), [0; 0]);
    assert_eq!(of(None, false), [0; 0]);
    // So many stages are not planned one by one; those of the target are.
    let many = "FROM scratch\nENV a b\n".repeat(MAX_NEEDED_STAGES + 1);
    let report = check(&options(&many)).expect("no target is asked for");
    assert_eq!(report.diagnostics.len(), 1);
}

#[test]
fn ignored_sources() {
    for (text, expected) in [
        ("FROM scratch\nCOPY secret /", "2 CopyIgnoredFile"),
        ("FROM scratch\nADD ./node_modules/a /", "2 CopyIgnoredFile"),
        ("FROM scratch\nARG d=secret\nCOPY $d/x /", "3 CopyIgnoredFile"),
        ("FROM scratch\nCOPY src /", ""),
        ("FROM scratch\nCOPY secre* /", ""),
        ("FROM scratch AS a\nFROM scratch\nCOPY --from=a /secret /", ""),
        ("FROM a:1\nCOPY ${d}secret /", ""),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn facts_decide() {
    for (text, expected) in [
        ("FROM a:1\nCMD y", "2 JSONArgsRecommended"),
        ("FROM a:1\nENTRYPOINT y", "2 JSONArgsRecommended"),
        ("FROM a:1\nSHELL [\"x\"]\nCMD y", ""),
        ("FROM a:1 AS b\nSHELL [\"x\"]\nWORKDIR /w\nFROM b\nCMD y\nWORKDIR z", ""),
        ("FROM a:1\nWORKDIR x\nWORKDIR y", "2 WorkdirRelativePath"),
        ("FROM a:1\nWORKDIR $X\nWORKDIR \"/a b\"", ""),
        ("FROM scratch\nARG D=d\nWORKDIR $D", "3 WorkdirRelativePath"),
        ("FROM scratch\nARG D=/d\nWORKDIR $D\nWORKDIR e", ""),
        ("FROM a:1\nEXPOSE 80/TCP", "2 ExposeProtoCasing"),
        ("FROM a:1\nEXPOSE 1:80", "2 ExposeInvalidFormat"),
        ("FROM a:1\nEXPOSE 1:80/TCP", "2 ExposeInvalidFormat, 2 ExposeProtoCasing"),
        ("FROM scratch\nARG P=80/TCP\nEXPOSE $P", "3 ExposeProtoCasing"),
        ("FROM a:1\nEXPOSE $P", ""),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn what_is_known_of_a_base_counts() {
    use lapstrake_layerstore::oci::ContainerConfig;
    let config = ContainerConfig {
        env: vec!["SET=1".into()],
        shell: vec!["x".into()],
        ..ContainerConfig::default()
    };
    let platform = Some(Platform::new("linux", "arm64", ""));
    let facts = BaseFacts { config, platform, ..BaseFacts::default() };
    let base = |_: &ImageKey| Some(&facts);
    let surroundings = Surroundings { base: &base, ..Surroundings::default() };
    let text = "FROM a:1\nCMD y\nCOPY $SET $OTHERS /";
    let report = super::check(&options(text), &surroundings).expect("no target is asked for");
    let found: Vec<String> = report.diagnostics.into_iter().map(|found| found.message).collect();
    assert_eq!(
        found,
        [
            "Base image a:1 was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build",
            "Usage of undefined variable '$OTHERS'",
        ]
    );
}

#[test]
fn a_large_context_is_told_of() {
    let part = |name: &str, files, bytes| ContextPart { name: name.into(), files, bytes };
    let context = ContextFacts {
        files: 23_456,
        bytes: 321_000_000,
        parts: vec![part("node_modules", 20_000, 300_000_000), part("src", 5, 1000)],
        ..ContextFacts::default()
    };
    let found = |text: &str, ignore: bool| {
        let surroundings = Surroundings { context: Some(&context), ..Surroundings::default() };
        let mut options = options(text);
        options.ignore_file = options.ignore_file.filter(|_| ignore);
        super::check(&options, &surroundings).expect("no target is asked for").diagnostics
    };
    let text = "FROM scratch\nCOPY . /";
    assert_eq!(found(text, true), []);
    assert_eq!(found("FROM scratch\nCOPY src /", false), []);
    let large = &found(text, false)[0];
    assert_eq!(large.code, "LargeContextWithoutIgnoreFile");
    assert_eq!(large.message, "this copies 23456 files, 321 MB: there is no .dockerignore");
    let help = large.help.as_deref().unwrap_or_default();
    assert!(help.ends_with("largest: node_modules (20000 files, 300 MB)"), "{help}");
}

#[test]
fn removed_later() {
    for (text, removed) in [
        ("COPY a.tgz /tmp/\nRUN tar xf /tmp/a.tgz && rm /tmp/a.tgz", true),
        ("COPY a.tgz /tmp/a.tgz\nRUN rm -f /tmp/a.tgz", true),
        ("COPY src /src\nRUN make -C /src && rm -rf /src", true),
        ("WORKDIR /w\nCOPY a.tgz .\nRUN rm a.tgz", true),
        ("WORKDIR /w\nCOPY a.tgz .\nRUN rm -rf /w/*", true),
        ("ADD https://x/y/a.tgz /tmp/\nRUN rm /tmp/a.tgz", true),
        ("RUN curl -sSLo /tmp/x https://x\nRUN rm /tmp/x", false),
        ("RUN curl -sSL -o /tmp/x https://x\nRUN /tmp/x && rm /tmp/x", true),
        ("RUN wget -O /tmp/x https://x\nRUN rm -rf /tmp/*", true),
        ("RUN wget -O /tmp/x https://x && rm /tmp/x\nRUN rm -rf /tmp/*", false),
        ("RUN wget -O /tmp/x https://x && rm -rf /tmp/*\nRUN rm -rf /tmp/*", false),
        ("ADD rootfs.tgz /\nRUN rm /rootfs.tgz", false),
        ("COPY a.tgz /tmp/\nRUN cd / && rm tmp/a.tgz", false),
        ("COPY a.tgz /tmp/\nRUN rm $X", false),
        ("COPY dir /tmp/\nRUN rm -rf /tmp/dir", false),
        ("COPY a /a\nRUN --mount=type=tmpfs,target=/a rm -rf /a", false),
        ("WORKDIR $X\nCOPY a.tgz .\nRUN rm a.tgz", false),
    ] {
        let found = found(&format!("FROM a:1\n{text}"));
        assert_eq!(found.contains("RemovedInLaterLayer"), removed, "{text}: {found}");
    }
    let not_kept = "FROM a:1 AS b\nCOPY a /a\nRUN rm /a\nFROM scratch\nCOPY --from=b /x /";
    assert_eq!(found(not_kept), "");
    let chain = "FROM a:1 AS b\nCOPY a /a\nFROM b\nRUN rm /a";
    assert_eq!(found(chain), "4 RemovedInLaterLayer");
}

#[test]
fn our_own_rules() {
    let update = "RUN apt-get update && rm -r /var/lib/apt/lists/*";
    let token = "ghp_0123456789abcdefghijABCDEFGHIJ456789";
    for (text, expected) in [
        (&*format!("FROM a:1\n{update}\nRUN apt-get install -y x"), "3 AptGetWithoutUpdate"),
        ("FROM a:1\nRUN apt-get install -y x", "2 AptGetWithoutUpdate"),
        ("FROM a:1\nRUN ./prepare\nRUN apt-get install -y x", ""),
        ("FROM a:1\nRUN --mount=type=cache,target=/var/lib/apt apt-get install -y x", ""),
        ("FROM a:1 AS b\nFROM b\nRUN apt-get install -y x", ""),
        ("FROM a:1\nRUN echo apt-get update\nRUN apt-get install x", ""),
        ("FROM a:1\nRUN apt-get update && apt-get clean", "2 AptListsNotRemoved"),
        ("FROM a:1\nRUN --mount=type=cache,target=/var/lib/apt apt-get update", ""),
        ("FROM a:1\nRUN apt-get update && ./cleanup", ""),
        ("FROM a:1 AS b\nRUN apt-get update\nFROM scratch\nCOPY --from=b /x /", ""),
        ("FROM a", "1 UnpinnedBase"),
        ("FROM h:5000/a", "1 UnpinnedBase"),
        ("ARG T=latest\nFROM a:$T", "2 UnpinnedBase"),
        ("FROM a:1 AS b\nFROM b", ""),
        ("FROM scratch\nADD a.json src/ /d/", "2 AddWhereCopyServes"),
        ("FROM scratch\nADD a.tar.gz /", ""),
        ("FROM scratch\nADD rootfs /", ""),
        ("FROM a:1\nCOPY . .\nRUN npm ci", "2 CopyBeforeInstall"),
        ("FROM a:1\nADD . .\nRUN npm ci", "2 AddWhereCopyServes, 2 CopyBeforeInstall"),
        ("FROM a:1\nADD https://a/b.sh /\nCOPY . .\nRUN npm ci", "3 CopyBeforeInstall"),
        ("FROM a:1\nCOPY p.json .\nRUN npm ci\nCOPY . .\nRUN npm ci", ""),
        (
            "FROM a:1\nCOPY . /app/\nRUN cd /app && pip install -r requirements.txt",
            "2 CopyBeforeInstall",
        ),
        ("FROM a:1\nCOPY . .\nRUN npm install express", ""),
        ("FROM a:1\nRUN <<E\napt-get update\nE", "2 AptListsNotRemoved"),
        ("FROM a:1 AS builder\nFROM scratch\nCOPY --from=bulder /x /", "3 MisspelledStage"),
        ("FROM a:1 AS builder\nFROM scratch\nCOPY --from=builder:1 /x /", ""),
        ("FROM node:1 AS node1\nFROM node", "2 UnpinnedBase"),
        ("FROM scratch\nCOPY --from=h/uv:latest /uv /", "2 UnpinnedBase"),
        (&*format!("FROM a:1\nRUN curl -u {token} x"), "2 SecretInHistory"),
        ("FROM a:1\nRUN curl -u ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx x", ""),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
    assert!(!found("FROM scratch\nADD https://x/y.json /").contains("AddWhere"));
    let shell = "FROM a:1\nENTRYPOINT x\nCMD [\"y\"]";
    assert!(found(shell).ends_with("3 ShellFormEntrypointWithCmd"), "{}", found(shell));
    assert!(!found("FROM a:1\nENTRYPOINT x \"$@\"\nCMD [\"y\"]").contains("ShellForm"));
    assert_eq!(found("# check=skip=UnpinnedBase\nFROM a"), "");
}

#[test]
fn everything_at_once() {
    let text = "FROM scratch AS a\nRUNN x\nCOPY --form=b x /\nCOPY x\nEXPOSE x\nCOPY --chmod=9 a /";
    // A file that cannot be read in full is planned as far as it can be.
    assert_eq!(found(text), "2 D005, 3 D006, 4 D008, 5 D008, 6 D008");
    assert_eq!(found("FROM a:1\nEXPOSE $p\nEXPOSE y"), "3 D008");
    assert_eq!(found("FROM $x"), "1 D015, 1 InvalidDefaultArgInFrom, 1 UndefinedArgInFrom");
    assert_eq!(found(""), "1 D001");
    // What refers to a stage that is not there yet does not hide the rest.
    let text = "FROM scratch\nCOPY --from=later /a /\nEXPOSE x\nMAINTAINER y\nFROM scratch AS later\nCOPY --from=0 /a /";
    assert_eq!(found(text), "2 D012, 3 D008, 4 MaintainerDeprecated");
    let mut missing = options("FROM scratch AS build");
    missing.target = Some("bild".into());
    assert!(check(&missing).is_err());
}

#[test]
fn repairs_keep_the_meaning() {
    for (text, expected, count) in [
        ("from a:1 As b\nRun x\nrun y\nenv p q", "from a:1 as b\nrun x\nrun y\nenv p=q", 3),
        ("From a:1 as B\nRUN x", "FROM a:1 AS b\nRUN x", 3),
        ("FROM a:1\nRUN x \\\n\n\n  y", "FROM a:1\nRUN x \\\n  y", 1),
        ("FROM a:1\nENV p q  r\nLABEL l $p", "FROM a:1\nENV p=\"q  r\"\nLABEL l=$p", 2),
        ("FROM --platform=$TARGETPLATFORM a:1 AS b", "FROM a:1 AS b", 1),
        ("FROM a:1\nEXPOSE 80/TCP 81", "FROM a:1\nEXPOSE 80/tcp 81", 1),
    ] {
        let fixed = fix(&options(text)).expect("no target is asked for");
        assert_eq!(String::from_utf8_lossy(&fixed.bytes), expected);
        assert_eq!(fixed.rules.len(), count, "{text}: {:?}", fixed.rules);
    }
    for text in [
        // Quotes of the value would go, and these are wanted.
        "FROM a:1\nENV p \"q\" r",
        // The ARG may name another platform than the default.
        "ARG TARGETPLATFORM=linux/arm64\nFROM --platform=$TARGETPLATFORM a:1",
        // The words are sorted before they are read: in lower case the history would be another.
        "FROM a:1\nEXPOSE 80/UDP 80/tcp",
        "FROM a:1\nRUNN x\nrun y",
        "FROM a:1\nMAINTAINER x",
    ] {
        let fixed = fix(&options(text)).expect("no target is asked for");
        assert_eq!((fixed.bytes.as_slice(), fixed.rules), (text.as_bytes(), Vec::new()), "{text}");
    }
}

/// The Dockerfiles of a page: what triggers its rule, and the repaired form.
fn examples(page: &str) -> (String, String) {
    let mut blocks = page.split("```dockerfile\n").skip(1);
    let mut next = || {
        let block = blocks.next().expect("a page has two examples");
        let text = block.split("```").next().expect("a block ends").to_owned();
        // The page spares the reader a token that looks real.
        let text = text.replace("ghp_…", "ghp_0123456789abcdefghijABCDEFGHIJ456789");
        if text.contains("FROM ") { text } else { format!("FROM debian:12\n{text}") }
    };
    (next(), next())
}

/// Whether the rule speaks of the text, with everything known that the page takes for granted.
fn speaks(rule: &str, text: &str) -> bool {
    !of_rule(rule, &format!("# check=experimental=all\n{text}")).is_empty()
}

/// What the rule finds in the text: lines of the instructions, and severities.
fn of_rule(rule: &str, text: &str) -> Vec<(usize, Severity)> {
    let mut options = options(text);
    let ignore: &[u8] = match rule {
        "CopyIgnoredFile" if text.contains("!secret.txt") => b"*.txt\n!secret.txt",
        "CopyIgnoredFile" => b"secret.txt",
        _ => b"",
    };
    options.ignore_file =
        (rule != "LargeContextWithoutIgnoreFile").then(|| (".dockerignore".into(), ignore.into()));
    let facts =
        BaseFacts { platform: Some(Platform::new("linux", "amd64", "")), ..BaseFacts::default() };
    let base = |_: &ImageKey| (rule == "InvalidBaseImagePlatform").then_some(&facts);
    let names = ["package.json", "package-lock.json"].map(str::to_owned).into();
    let context = ContextFacts { files: 50_000, names, ..ContextFacts::default() };
    let surroundings =
        Surroundings { base: &base, context: Some(&context), own_rules: true, every_stage: true };
    let report = super::check(&options, &surroundings).expect("no target is asked for");
    let (ast, _) = syntax::parse(&report.file);
    let start = |found: &Diagnostic| {
        let mut nodes = ast.nodes().map(syntax::Node::line_span);
        let node = nodes.find(|span| (span.start..=span.end).contains(&found.span.start));
        report.file.line_col(node.unwrap_or(found.span).start).line
    };
    let found = report.diagnostics.iter().filter(|found| found.code == rule);
    found.map(|found| (start(found), found.severity)).collect()
}

/// Every rule: silent when it is skipped for the file or for the one instruction, an error when that is
/// asked for, and otherwise a warning. The experimental one is there when it is asked for.
#[test]
fn every_rule_can_be_switched() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/checks");
    for rule in lint::all_rules() {
        let name = rule.name;
        let page = std::fs::read_to_string(format!("{folder}/{name}.md")).expect("there is a page");
        let text = examples(&page).0;
        let with = |directive: &str| {
            let asked = if rule.experimental { ";experimental=all" } else { "" };
            of_rule(name, &format!("# check={directive}{asked}\n{text}"))
        };
        let found = with("error=false");
        assert!(!found.is_empty(), "{name}: nothing is found");
        assert!(found.iter().all(|(_, severity)| *severity == Severity::Warning), "{name}");
        let errors = with("error=true");
        assert!(errors.iter().all(|(_, severity)| *severity == Severity::Error), "{name}");
        assert_eq!(errors.len(), found.len(), "{name}");
        if rule.experimental {
            assert_eq!(of_rule(name, &format!("# check=error=true\n{text}")), [], "{name}");
            assert_eq!(with("skip=all"), found, "{name}: what was asked for is not skipped");
            continue;
        }
        assert_eq!(with("skip=all"), [], "{name}: skip=all");
        assert_eq!(with(&format!("skip=Other, {name};error=true")), [], "{name}: skip");
        assert_eq!(with("skip=StageNameCasin"), found, "{name}: another one is skipped");
        // The same comment directly above each instruction that it speaks of, and nowhere else.
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut places: Vec<usize> = found.iter().map(|(line, _)| *line - 1).collect();
        places.sort_unstable();
        places.dedup();
        for place in places.into_iter().rev() {
            lines.insert(place - 1, format!("# check=skip={name}"));
        }
        assert_eq!(of_rule(name, &format!("\n{}\n", lines.join("\n"))), [], "{name}: {lines:?}");
    }
}

/// A comment above an instruction that switches nothing off is told.
#[test]
fn comments_that_switch_nothing_off_are_told() {
    for (comment, expected) in [
        ("# check=skip=MaintainerDeprecated", ""),
        ("# Check = skip=MaintainerDeprecated", ""),
        ("# check this=that", "3 MaintainerDeprecated"),
        ("# check=skip=MaintainerDeprecate", "2 D002, 3 MaintainerDeprecated"),
        ("# check=skp=MaintainerDeprecated", "2 D002, 3 MaintainerDeprecated"),
    ] {
        let code = code::BAD_DIRECTIVE;
        let expected = expected.replace("D002", code);
        assert_eq!(found(&format!("FROM scratch\n{comment}\nMAINTAINER a\n")), expected);
    }
}

#[test]
fn every_rule_has_a_page_whose_examples_are_true() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/checks");
    let mut pages: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|page| page.expect("it can be read").file_name().to_string_lossy().into_owned())
        .collect();
    let mut expected: Vec<String> =
        lint::all_rules().map(|rule| format!("{}.md", rule.name)).collect();
    expected.push("errors.md".to_owned());
    pages.sort();
    expected.sort();
    assert_eq!(pages, expected);
    for rule in lint::all_rules() {
        let page = std::fs::read_to_string(format!("{folder}/{}.md", rule.name))
            .expect("the page can be read");
        let (bad, good) = examples(&page);
        assert!(speaks(rule.name, &bad), "{}: the bad example is fine:\n{bad}", rule.name);
        assert!(!speaks(rule.name, &good), "{}: the good example is bad:\n{good}", rule.name);
    }
    let errors = std::fs::read_to_string(format!("{folder}/errors.md")).expect("it is there");
    for code in code::ALL {
        assert!(errors.contains(&format!("## {code}\n")), "{code} is not explained");
    }
}
