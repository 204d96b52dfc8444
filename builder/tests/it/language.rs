//! Property tests of the language: what is printed is read back, formatting keeps it, and no bytes
//! break what [`crate::invariants`] promises.

use crate::invariants;
use lapstrake_builder::format::{Meaning, format};
use lapstrake_builder::instruction::{
    self, ArgDecl, Command, Copy, CopySource, Escape, Heredoc, Instruction, Network, Run, Security,
};
use lapstrake_builder::source::{SourceFile, Span};
use lapstrake_builder::syntax;
use lapstrake_builder::text::Text;
use proptest::collection::vec;
use proptest::prelude::*;

/// Files in the shapes that people write, to be mutated.
const FILES: [&str; 6] = [
    "# syntax=docker/dockerfile:1\nARG V=22\nFROM --platform=$BUILDPLATFORM node:${V:-20}-slim AS build\nWORKDIR /app\nCOPY package.json package-lock.json ./\nRUN --mount=type=cache,target=/root/.npm,sharing=locked \\\n    # the cache stays\n    npm ci && \\\n    npm run build\n\nFROM scratch\nCOPY --from=build --chown=1000:1000 --link /app/dist /srv/\nENV A=b C=\"d $V\" \\\n    E='f'\nHEALTHCHECK --interval=30s --timeout=3s CMD [\"/srv/check\"]\nENTRYPOINT [\"/srv/app\"]\n",
    "FROM debian:12 as base\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN <<-'EOF' bash\n\tset -e\n\tapt-get update\n\tEOF\nCOPY <<conf <<\"raw\" /etc/app/\nkey=${VALUE:-none}\nconf\n$literal\nraw\nLABEL org.example.a=\"b c\" d=e\nEXPOSE 80 443/udp 8000-8010\nVOLUME [\"/data\", \"/var/lib\"]\nUSER app:app\nSTOPSIGNAL SIGQUIT\nONBUILD COPY . /src\nCMD exec app --flag\n",
    "# escape=`\r\nFROM mcr/windows\r\nRUN dir C:\\ `\r\n  && echo ok\r\nWORKDIR C:\\app\\\r\nCOPY a `\r\n  # c\r\n  b C:\\\r\n",
    "FROM a\nADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 --unpack=false https://x/y.tar /z\nADD --keep-git-dir=true https://x/y.git#v1:sub /z\nCOPY --parents --exclude=*.md --chmod=u+x,go-w ./a/./b/* /x/\nRUN --network=none --security=sandbox --mount=type=secret,id=s,env=T,required --mount=type=ssh true\nENV old style value\nMAINTAINER me\n",
    "#check=skip=all\nFROM a AS x\nFROM x AS y\nCOPY --from=x / /\nFROM y\nRUN --mount=from=x,target=/m --mount=type=tmpfs,size=1m,target=/t ls\nARG P=${Q:+r} Q\nENV P=${P##*/} S=${P//a/b} T=${P%?}\nUSER $P\n",
    "\u{feff}\n\n# caf\u{e9}\nfrom a\nLABEL \u{fc}=\"\u{1f600}\" \\\n\n  x=\u{e9}\ncmd [ \"\u{e9}\", \"\\u00e9\" ]\n",
];

/// Pieces that are likely to matter side by side.
const PIECES: [&str; 46] = [
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "ARG ",
    "LABEL ",
    "CMD ",
    "SHELL ",
    "VOLUME ",
    "EXPOSE ",
    "a",
    "b=c",
    "a b /c/",
    "<<EOF",
    "<<-'X y'",
    "EOF\n",
    "X y\n",
    "\n",
    "\n\n",
    "\r\n",
    "\\\n",
    "\\ \n",
    "`\n",
    "\\",
    " ",
    "\t",
    "#",
    "# c\n",
    "# escape=`\n",
    "# syntax=",
    "\"",
    "'",
    "[\"a\", \"b\"]",
    "[1]",
    "--from=",
    "--mount=type=cache,target=/x ",
    "$x",
    "${x:-",
    "}",
    "\u{e9}",
    "\u{a0}",
    "NONE",
    "--",
];

/// Bytes that once broke something.
const FOUND: [&[u8]; 5] = [
    b"FROM a\nONBUILD \\ \\\n#",
    b"FROM a\nRUN \xff \\\n  # c\n\n",
    b"\xef\xbb\xbfsASsh\xe4",
    b"\xef\xbb\xbf\n# escape=`\nFROM a",
    // Replacements within replacements: 16 MiB over and over.
    b"//${///\x98${////\x98\x824\xc2\xdb//\x98${////\x98\x82\xc2\xdb$}c}${///\xf3c}=${/{RUN//c\
      }c}c}${sc}${a///\x82$//\xd1\xd0\xa3\xcbx\"}\n=${/{RUN/1\xff\xff\xff|}c}${c}=${//$}c}$}${\
      sc}=${/{RUN/1//\xaf}${///sc}=${/{RUN//c}c}c}${sc}=${/{RUN{///sc}a=*=",
];

fn all(bytes: &[u8]) {
    invariants::syntax(bytes);
    invariants::check(bytes);
    invariants::format(bytes);
    invariants::heredoc(bytes);
    invariants::expansion(bytes);
    invariants::ignore(bytes);
}

/// What fuzzing and property tests found, each once more.
#[test]
fn what_was_found_stays_mended() {
    for bytes in FOUND {
        all(bytes);
    }
    for file in FILES {
        all(file.as_bytes());
    }
}

/// All real shapes can be formatted, and nothing in them is left as it is.
#[test]
fn real_shapes_are_formatted_whole() {
    for file in FILES {
        let formatted = format(&SourceFile::new("Dockerfile", file)).expect(file);
        assert!(formatted.untouched.is_empty(), "{file}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        all(&bytes);
    }

    #[test]
    fn likely_pieces(pieces in vec(proptest::sample::select(PIECES.to_vec()), 0..30)) {
        all(pieces.concat().as_bytes());
        all(["FROM a\n", &pieces.concat()].concat().as_bytes());
    }

    #[test]
    fn mutated_files(
        file in proptest::sample::select(FILES.to_vec()),
        cuts in vec((any::<prop::sample::Index>(), 0..12_usize, proptest::sample::select(PIECES.to_vec())), 1..4),
        bad in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = file.as_bytes().to_vec();
        for (at, length, piece) in cuts {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, piece.bytes());
        }
        if let Some((at, byte)) = bad {
            let at = at.index(bytes.len() + 1);
            bytes.insert(at, byte);
        }
        all(&bytes);
    }

    /// An instruction, printed in any layout, is read back as it was; so is its canonical form.
    #[test]
    fn what_is_printed_is_read_back(
        samples in vec((sample(), any::<bool>()), 1..8),
        layout in vec(gap(), 64),
        backtick in any::<bool>(),
        crlf in any::<bool>(),
    ) {
        let escape = if backtick { Escape::Backtick } else { Escape::Backslash };
        let newline = if crlf { "\r\n" } else { "\n" };
        let mut gaps = layout.iter().cycle();
        let mut text = if backtick { format!("# escape=`{newline}") } else { String::new() };
        text.push_str("FROM scratch");
        text.push_str(newline);
        for (sample, lower) in &samples {
            sample.print(&mut text, *lower, escape, newline, &mut gaps);
        }
        let expected: Vec<Instruction> =
            samples.iter().map(|(sample, _)| sample.instruction.clone()).collect();
        let source = SourceFile::new("Dockerfile", text);
        prop_assert_eq!(&read(&source), &expected, "{}", source.text(Span::new(0, usize::MAX)));
        let formatted = format(&source).expect("because it has no errors");
        prop_assert!(formatted.untouched.is_empty());
        let after = SourceFile::new("Dockerfile", formatted.bytes);
        prop_assert_eq!(&read(&after), &expected);
        prop_assert_eq!(Meaning::of(&source), Meaning::of(&after));
        let again = format(&after).expect("because it has no errors");
        prop_assert_eq!(again.bytes, after.bytes);
    }
}

/// The instructions of the only stage, without places.
fn read(source: &SourceFile) -> Vec<Instruction> {
    let (ast, problems) = syntax::parse(source);
    assert!(problems.is_empty(), "{problems:?}");
    let (file, problems) = instruction::lower(&ast);
    assert!(problems.is_empty(), "{problems:?}");
    let located = file.stages.into_iter().flat_map(|stage| stage.instructions);
    located.map(|located| bare(located.instruction.clone())).collect()
}

fn bare(mut instruction: Instruction) -> Instruction {
    match &mut instruction {
        Instruction::Arg(args) => args.iter_mut().for_each(|arg| arg.span = Span::default()),
        Instruction::Run(run) => {
            run.heredocs.iter_mut().for_each(|heredoc| heredoc.body_span = Span::default());
        }
        _ => {}
    }
    instruction
}

/// An instruction with the words that say it.
#[derive(Clone, Debug)]
struct Sample {
    keyword: &'static str,
    /// Between them any white space may stand.
    words: Vec<String>,
    /// What stands below the line, ends included.
    below: String,
    instruction: Instruction,
}

/// White space between words: blanks, or a line break with comments and blank lines.
#[derive(Clone, Debug)]
enum Gap {
    Blanks(String),
    Break { before: String, between: Vec<&'static str>, after: String },
}

fn gap() -> impl Strategy<Value = Gap> {
    let between = proptest::sample::select(vec!["", "# c", "  #d ", "\t", "## e"]);
    prop_oneof![
        3 => "[ \t]{1,3}".prop_map(Gap::Blanks),
        1 => ("[ \t]{1,2}", vec(between, 0..3), "[ \t]{0,5}")
            .prop_map(|(before, between, after)| Gap::Break { before, between, after }),
    ]
}

impl Sample {
    fn new(keyword: &'static str, words: Vec<String>, instruction: Instruction) -> Self {
        Self { keyword, words, below: String::new(), instruction }
    }

    fn print<'a>(
        &self,
        text: &mut String,
        lower: bool,
        escape: Escape,
        newline: &str,
        gaps: &mut impl Iterator<Item = &'a Gap>,
    ) {
        let keyword = if lower { self.keyword.to_lowercase() } else { self.keyword.to_owned() };
        text.push_str(&keyword);
        for word in &self.words {
            match gaps.next().expect("because they go round") {
                Gap::Blanks(blanks) => text.push_str(blanks),
                Gap::Break { before, between, after } => {
                    text.push_str(before);
                    text.push(escape.as_char());
                    text.push_str(newline);
                    for line in between {
                        text.push_str(line);
                        text.push_str(newline);
                    }
                    text.push_str(after);
                }
            }
            text.push_str(word);
        }
        text.push_str(newline);
        text.push_str(&self.below);
    }
}

const WORD: &str = "[a-z0-9/._][a-z0-9/._-]{0,4}[a-z]";
const NAME: &str = "[A-Z][A-Z0-9_]{0,4}";
/// Shell text: no escape character at its end, no heredoc, no JSON.
const SHELL_TEXT: &str = "[a-z&|;$\"'= \t]{0,12}[a-z]";

fn words() -> impl Strategy<Value = Vec<String>> {
    vec(WORD, 1..4)
}

fn texts(words: Vec<String>) -> Vec<Text> {
    words.into_iter().map(Text::from).collect()
}

fn json(words: &[String]) -> String {
    serde_json::to_string(words).expect("strings become JSON")
}

/// Strings with everything that JSON has to escape.
fn strings() -> impl Strategy<Value = Vec<String>> {
    vec("[a-z \u{e9}\"\\\\/\n\t]{0,4}", 1..4)
}

fn shell_text() -> impl Strategy<Value = String> {
    (WORD, SHELL_TEXT).prop_map(|(first, rest)| format!("a{first} {rest}"))
}

fn command(keyword: &'static str, make: fn(Command) -> Instruction) -> BoxedStrategy<Sample> {
    prop_oneof![
        shell_text().prop_map(move |text| Sample::new(
            keyword,
            vec![text.clone()],
            make(Command::Shell(text.into()))
        )),
        strings().prop_map(move |words| Sample::new(
            keyword,
            vec![json(&words)],
            make(Command::Exec(texts(words)))
        )),
    ]
    .boxed()
}

fn run(command: Command) -> Instruction {
    Instruction::Run(Run {
        command,
        heredocs: Vec::new(),
        mounts: Vec::new(),
        network: Network::default(),
        security: Security::default(),
        devices: Vec::new(),
    })
}

fn pairs(
    keyword: &'static str,
    make: fn(Vec<(Text, Text)>) -> Instruction,
) -> impl Strategy<Value = Sample> {
    let value = prop_oneof![WORD.boxed(), "\"[a-z #$]{0,5}\"".boxed(), "'[a-z ]{0,5}'".boxed()];
    vec((NAME, value), 1..4).prop_map(move |pairs| {
        let words = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let text = |(name, value): (String, String)| (name.into(), value.into());
        Sample::new(keyword, words, make(pairs.into_iter().map(text).collect()))
    })
}

fn arg() -> impl Strategy<Value = Sample> {
    vec((NAME, proptest::option::of(WORD)), 1..4).prop_map(|args| {
        let word = |(name, default): &(String, Option<String>)| match default {
            Some(default) => format!("{name}={default}"),
            None => name.clone(),
        };
        let words = args.iter().map(word).collect();
        let decl = |(name, default): (String, Option<String>)| ArgDecl {
            name: name.into(),
            default: default.map(Text::from),
            span: Span::default(),
        };
        Sample::new("ARG", words, Instruction::Arg(args.into_iter().map(decl).collect()))
    })
}

fn copy() -> impl Strategy<Value = Sample> {
    let flags = (
        proptest::option::of(WORD),
        proptest::option::of(WORD),
        any::<bool>(),
        any::<bool>(),
        vec(WORD, 0..2),
    );
    (flags, words(), WORD, any::<bool>()).prop_map(|(flags, sources, dest, as_json)| {
        let (from, chown, link, parents, excludes) = flags;
        let mut words = Vec::new();
        words.extend(from.iter().map(|value| format!("--from={value}")));
        words.extend(excludes.iter().map(|value| format!("--exclude=\"{value}\"")));
        words.extend(link.then(|| "--link".to_owned()));
        words.extend(chown.iter().map(|value| format!("--chown={value}")));
        words.extend(parents.then(|| "--parents=true".to_owned()));
        let paths: Vec<String> = sources.iter().chain([&dest]).cloned().collect();
        if as_json {
            words.push(json(&paths));
        } else {
            words.extend(paths);
        }
        let copy = Copy {
            sources: texts(sources),
            dest: dest.into(),
            from: from.map(Text::from),
            chown: chown.map(Text::from),
            link,
            parents,
            excludes: texts(excludes),
            json: as_json,
            ..Copy::default()
        };
        Sample::new("COPY", words, Instruction::Copy(copy))
    })
}

/// A body that holds neither end, and anything else.
fn body() -> impl Strategy<Value = String> {
    vec("[a-z \t#\\\\`$]{0,6}", 1..4).prop_map(|lines| [lines.join("\n"), String::new()].join("\n"))
}

fn run_heredoc() -> impl Strategy<Value = Sample> {
    (body(), any::<bool>(), any::<bool>(), proptest::option::of(WORD)).prop_map(
        |(body, expand, strip_tabs, program)| {
            let dash = if strip_tabs { "-" } else { "" };
            let word = if expand { "EOF" } else { "'EOF'" };
            let opening = format!("<<{dash}{word}");
            let text = program.map_or(opening.clone(), |program| format!("a{program} {opening}"));
            let heredoc = Heredoc {
                name: "EOF".into(),
                body: body.as_bytes().into(),
                expand,
                strip_tabs,
                fd: 0,
                body_span: Span::default(),
            };
            let Instruction::Run(plain) = run(Command::Shell(text.as_str().into())) else {
                unreachable!("because run makes a RUN")
            };
            Sample {
                keyword: "RUN",
                words: vec![text],
                below: format!("{body}EOF\n"),
                instruction: Instruction::Run(Run { heredocs: vec![heredoc], ..plain }),
            }
        },
    )
}

fn copy_heredoc() -> impl Strategy<Value = Sample> {
    (body(), body(), WORD).prop_map(|(one, two, dest)| {
        let source = |name: &str, body: &str| CopySource {
            name: name.into(),
            content: body.as_bytes().into(),
            expand: true,
        };
        let heredocs = vec![source("ONE", &one), source("TWO", &two)];
        Sample {
            keyword: "COPY",
            words: vec!["<<ONE".to_owned(), "<<TWO".to_owned(), dest.clone()],
            below: format!("{one}ONE\n{two}TWO\n"),
            instruction: Instruction::Copy(Copy { heredocs, dest: dest.into(), ..Copy::default() }),
        }
    })
}

fn one(keyword: &'static str, make: fn(Text) -> Instruction) -> impl Strategy<Value = Sample> {
    WORD.prop_map(move |word| Sample::new(keyword, vec![word.clone()], make(word.into())))
}

fn sample() -> impl Strategy<Value = Sample> {
    prop_oneof![
        command("RUN", run),
        command("CMD", Instruction::Cmd),
        command("ENTRYPOINT", Instruction::Entrypoint),
        strings().prop_map(|words| Sample::new(
            "SHELL",
            vec![json(&words)],
            Instruction::Shell(texts(words))
        )),
        pairs("ENV", Instruction::Env),
        pairs("LABEL", Instruction::Label),
        arg(),
        copy(),
        copy_heredoc(),
        run_heredoc(),
        words().prop_map(|words| {
            let mut sorted = words.clone();
            sorted.sort();
            Sample::new("EXPOSE", words, Instruction::Expose(texts(sorted)))
        }),
        words().prop_map(|words| Sample::new(
            "VOLUME",
            words.clone(),
            Instruction::Volume(texts(words))
        )),
        one("USER", Instruction::User),
        one("WORKDIR", Instruction::Workdir),
        one("STOPSIGNAL", Instruction::StopSignal),
        one("MAINTAINER", Instruction::Maintainer),
    ]
}
