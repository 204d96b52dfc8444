//! The parser against the two published ones, over the forms that they know.
//!
//! They agree with us where they understand a file; the counts say how far that is, and only what
//! they know is compared: keywords in order, the base of a stage, environment pairs, exec forms.

use dockerfile_parser::{Dockerfile, Instruction as Theirs};
use lapstrake_builder::instruction::{self, Instruction};
use lapstrake_builder::source::SourceFile;
use lapstrake_builder::syntax;

/// Files in the common form, without heredocs, directives or flags.
const COMMON: [&str; 8] = [
    "FROM alpine:3.19\nRUN apk add --no-cache curl\nCMD [\"curl\", \"--help\"]\n",
    "FROM golang AS build\nWORKDIR /src\nCOPY go.mod go.sum ./\nRUN go mod download\nCOPY . .\nRUN go build -o /app\n\nFROM scratch\nCOPY --from=build /app /app\nENTRYPOINT [\"/app\"]\n",
    "FROM debian\nENV A=b C=d\nENV E=\"f g\"\nRUN apt-get update \\\n    && apt-get install -y \\\n       # comment\n       python3 \\\n    && rm -rf /var/lib/apt/lists/*\n",
    "ARG V=1\nFROM node:$V\nARG NODE_ENV=production\nLABEL a=b\nEXPOSE 80\nUSER node\nCMD node server.js\n",
    "# comment\n\nFROM a\n# another\nRUN b\n",
    "FROM python:3\r\nRUN pip install x\r\nCMD [\"python\"]\r\n",
    "from a as b\nrun c\nfrom b\ncmd d\n",
    "FROM a\nVOLUME /data\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/bash\", \"-c\"]\nHEALTHCHECK NONE\nONBUILD RUN x\nMAINTAINER y\nADD z /\n",
];

fn keywords(text: &str) -> Vec<String> {
    let (ast, problems) = syntax::parse(&SourceFile::new("Dockerfile", text));
    assert!(problems.is_empty(), "{text}: {problems:?}");
    ast.nodes().map(|node| node.keyword.to_uppercase()).collect()
}

#[test]
fn dockerfile_parser_reads_the_same_instructions() {
    let mut compared = 0;
    for text in COMMON {
        let Ok(theirs) = Dockerfile::parse(text) else { continue };
        let names: Vec<String> = theirs
            .instructions
            .iter()
            .map(|instruction| match instruction {
                Theirs::From(_) => "FROM".to_owned(),
                Theirs::Arg(_) => "ARG".to_owned(),
                Theirs::Label(_) => "LABEL".to_owned(),
                Theirs::Run(_) => "RUN".to_owned(),
                Theirs::Entrypoint(_) => "ENTRYPOINT".to_owned(),
                Theirs::Cmd(_) => "CMD".to_owned(),
                Theirs::Copy(_) => "COPY".to_owned(),
                Theirs::Env(_) => "ENV".to_owned(),
                Theirs::Misc(misc) => misc.instruction.content.to_uppercase(),
            })
            .collect();
        assert_eq!(keywords(text), names, "{text}");
        compared += 1;
    }
    println!("dockerfile-parser read {compared} of {} common files", COMMON.len());
    assert!(compared >= 5, "only {compared} files were compared");
}

#[test]
fn parse_dockerfile_reads_the_same_instructions() {
    for text in COMMON {
        let theirs = parse_dockerfile::parse(text).expect(text);
        assert_eq!(keywords(text).len(), theirs.instructions.len(), "{text}");
        let (ast, _) = syntax::parse(&SourceFile::new("Dockerfile", text));
        let (file, problems) = instruction::lower(&ast);
        assert!(problems.is_empty(), "{text}: {problems:?}");
        let bases: Vec<&str> = file.stages.iter().map(|stage| stage.base.as_str()).collect();
        let their_bases: Vec<&str> = theirs
            .instructions
            .iter()
            .filter_map(|instruction| match instruction {
                parse_dockerfile::Instruction::From(from) => Some(&*from.image.value),
                _ => None,
            })
            .collect();
        assert_eq!(bases, their_bases, "{text}");
    }
}

/// Where the published ones go wrong: forms of today's Dockerfiles.
#[test]
fn heredocs_are_beyond_them() {
    let text = "FROM a\nRUN python3 <<EOF\nprint(1)\nEOF\nCOPY <<X /x\ny\nX\n";
    assert_eq!(keywords(text), ["FROM", "RUN", "COPY"]);
    assert!(Dockerfile::parse(text).is_err());
    let (ast, _) = syntax::parse(&SourceFile::new("Dockerfile", text));
    let (file, _) = instruction::lower(&ast);
    let Instruction::Run(run) = &file.stages[0].instructions[0].instruction else {
        panic!("a RUN")
    };
    assert_eq!(run.heredocs[0].content_text(), "print(1)\n");
}

/// What a reading of a file comes to: keywords, bases with names, exec forms, names of variables, and how
/// many heredocs there are. Only what a parser knows is filled in, on both sides alike.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    keywords: Vec<String>,
    stages: Vec<(String, Option<String>)>,
    commands: Vec<Vec<String>>,
    heredocs: usize,
}

/// A command in either form: the words of the exec form, or the shell's text without its blanks.
fn shell_words(text: &str) -> Vec<String> {
    vec![text.split_whitespace().collect::<Vec<_>>().join(" ")]
}

fn ours(text: &str) -> Reading {
    let (ast, _) = syntax::parse(&SourceFile::new("Dockerfile", text));
    let (file, _) = instruction::lower(&ast);
    let mut reading = Reading::default();
    for node in ast.nodes() {
        reading.keywords.push(node.keyword.to_uppercase());
        reading.heredocs += node.heredocs.len();
    }
    for stage in &file.stages {
        let name = stage.name_written.as_ref().map(ToString::to_string);
        reading.stages.push((stage.base.to_string(), name));
        for located in &stage.instructions {
            let command = match &located.instruction {
                Instruction::Run(run) => &run.command,
                Instruction::Cmd(command) | Instruction::Entrypoint(command) => command,
                _ => continue,
            };
            reading.commands.push(match command {
                instruction::Command::Exec(words) => {
                    words.iter().map(ToString::to_string).collect()
                }
                instruction::Command::Shell(text) => shell_words(text),
            });
        }
    }
    reading
}

/// dockerfile-parser's reading; it knows no heredocs, so whatever bodies became counts as instructions.
fn of_dockerfile_parser(text: &str) -> Option<Reading> {
    let file = Dockerfile::parse(text).ok()?;
    let mut reading = Reading::default();
    for instruction in &file.instructions {
        reading.keywords.push(match instruction {
            Theirs::From(_) => "FROM".to_owned(),
            Theirs::Arg(_) => "ARG".to_owned(),
            Theirs::Label(_) => "LABEL".to_owned(),
            Theirs::Run(_) => "RUN".to_owned(),
            Theirs::Entrypoint(_) => "ENTRYPOINT".to_owned(),
            Theirs::Cmd(_) => "CMD".to_owned(),
            Theirs::Copy(_) => "COPY".to_owned(),
            Theirs::Env(_) => "ENV".to_owned(),
            Theirs::Misc(misc) => misc.instruction.content.to_uppercase(),
        });
        if let Theirs::From(from) = instruction {
            let alias = from.alias.as_ref().map(|alias| alias.content.clone());
            reading.stages.push((from.image.content.clone(), alias));
        }
        let expr = match instruction {
            Theirs::Run(run) => &run.expr,
            Theirs::Cmd(cmd) => &cmd.expr,
            Theirs::Entrypoint(entrypoint) => &entrypoint.expr,
            _ => continue,
        };
        reading.commands.push(match (expr.as_exec(), expr.as_shell()) {
            (Some(words), _) => words.as_str_vec().into_iter().map(str::to_owned).collect(),
            (None, Some(text)) => shell_words(&text.to_string()),
            (None, None) => Vec::new(),
        });
    }
    Some(reading)
}

/// parse-dockerfile's reading.
fn of_parse_dockerfile(text: &str) -> Option<Reading> {
    use parse_dockerfile::{Command, Instruction as Parsed, Source};
    let file = parse_dockerfile::parse(text).ok()?;
    let mut reading = Reading::default();
    let command = |command: &Command<'_>| match command {
        Command::Exec(words) => words.value.iter().map(|word| word.value.to_string()).collect(),
        Command::Shell(text) => shell_words(&joined(text.value)),
        _ => Vec::new(),
    };
    let sources = |sources: &[Source<'_>]| {
        sources.iter().filter(|source| matches!(source, Source::HereDoc(_))).count()
    };
    for parsed in &file.instructions {
        let keyword = match parsed {
            Parsed::Add(add) => {
                reading.heredocs += sources(&add.src);
                "ADD"
            }
            Parsed::Copy(copy) => {
                reading.heredocs += sources(&copy.src);
                "COPY"
            }
            Parsed::Run(run) => {
                reading.heredocs += run.here_docs.len();
                reading.commands.push(command(&run.arguments));
                "RUN"
            }
            Parsed::Cmd(cmd) => {
                reading.commands.push(command(&cmd.arguments));
                "CMD"
            }
            Parsed::Entrypoint(entrypoint) => {
                reading.commands.push(command(&entrypoint.arguments));
                "ENTRYPOINT"
            }
            Parsed::From(from) => {
                let name = from.as_.as_ref().map(|(_, name)| name.value.to_string());
                reading.stages.push((from.image.value.to_string(), name));
                "FROM"
            }
            Parsed::Arg(_) => "ARG",
            Parsed::Env(_) => "ENV",
            Parsed::Expose(_) => "EXPOSE",
            Parsed::Healthcheck(_) => "HEALTHCHECK",
            Parsed::Label(_) => "LABEL",
            Parsed::Maintainer(_) => "MAINTAINER",
            Parsed::Onbuild(_) => "ONBUILD",
            Parsed::Shell(_) => "SHELL",
            Parsed::Stopsignal(_) => "STOPSIGNAL",
            Parsed::User(_) => "USER",
            Parsed::Volume(_) => "VOLUME",
            Parsed::Workdir(_) => "WORKDIR",
            _ => "?",
        };
        reading.keywords.push(keyword.to_owned());
    }
    Some(reading)
}

/// It hands out a shell's text as it stands in the file: continuations are joined and comments dropped here,
/// in its favour.
fn joined(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.map(|line| line.trim_end().trim_end_matches('\\')).collect::<Vec<_>>().join("")
}

/// Files that the reference builds: of the conformance cases, when they are beside the checkout, those that
/// it does not refuse.
fn conformance() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../../shared/conformance/cases");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries {
        let case = entry.unwrap().path();
        let about = std::fs::read_to_string(case.join("case.json")).unwrap_or_default();
        let Ok(bytes) = std::fs::read(case.join("ctx/Dockerfile")) else { continue };
        if let (false, Ok(text)) = (about.contains("\"fail\""), String::from_utf8(bytes)) {
            all.push((case.display().to_string(), text));
        }
    }
    all
}

/// How many of the files a parser reads at all, and how many it reads as we do.
fn count(
    files: &[(String, String)],
    read: impl Fn(&str) -> Option<Reading>,
    knows_heredocs: bool,
) -> (usize, usize) {
    let (mut any, mut right) = (0, 0);
    for (_, text) in files {
        let Some(theirs) = read(text) else { continue };
        any += 1;
        let mut ours = ours(text);
        if !knows_heredocs {
            ours.heredocs = 0;
        }
        right += usize::from(theirs == ours);
    }
    (any, right)
}

/// Why the parser is ours: the figures in `docs/dependencies.md` are those that this test prints.
#[test]
fn how_far_the_published_parsers_come() {
    let real: Vec<_> = crate::real_files::all().into_iter().map(|f| (f.name, f.text)).collect();
    let cases = conformance();
    if cases.is_empty() {
        println!("the conformance cases are not beside this checkout: not counted");
    }
    for (what, files) in [("real shapes", &real), ("conformance cases", &cases)] {
        let (read, right) = count(files, of_dockerfile_parser, false);
        println!("{what}: dockerfile-parser reads {read}, rightly {right} of {}", files.len());
        let (read, right) = count(files, of_parse_dockerfile, true);
        println!("{what}: parse-dockerfile reads {read}, rightly {right} of {}", files.len());
    }
    // Ours must read all of them; the others must at least agree on the plain ones.
    for (name, text) in real.iter().chain(&cases) {
        let (ast, problems) = syntax::parse(&SourceFile::new("Dockerfile", text.as_str()));
        let (_, more) = instruction::lower(&ast);
        let errors: Vec<_> = problems.iter().chain(&more).filter(|d| d.is_error()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    assert!(count(&real, of_dockerfile_parser, false).1 * 5 > real.len());
    assert!(count(&real, of_parse_dockerfile, true).1 * 2 > real.len());
}
