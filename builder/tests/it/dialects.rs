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
