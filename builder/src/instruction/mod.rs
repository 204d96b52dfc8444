//! Instructions with types: what each line of a Dockerfile means.
//!
//! [`lower`] turns an [`Ast`] into a [`Dockerfile`]: global arguments and stages of typed
//! instructions. It reports everything that the reference refuses when it parses and converts a
//! file, and nothing else; what can only be judged after expansion (ports, modes, mounts, signals)
//! is judged by the functions of [`expose`], [`mount`], [`signal`] and [`crate::chmod`].
//!
//! Words stay as written, quotes and all: the plan expands them with the scope of their place.

mod config;
mod copy;
pub mod device;
pub mod duration;
pub mod expose;
mod flag;
pub mod format;
mod from;
pub mod healthcheck;
mod list;
mod lower;
pub mod mount;
mod onbuild;
mod run;
pub mod signal;
#[cfg(test)]
mod tests;
mod value;

use crate::source::Span;
pub use crate::syntax::{Ast, Comment, Directive, Directives, Escape, Heredoc};
use crate::text::Text;

pub use copy::{Copy, CopySource};
pub use device::Device;
pub use healthcheck::Healthcheck;
pub use list::Instructions;
pub use lower::lower;
pub(crate) use lower::{LONG_FILE, read};
pub use mount::MountFlag;
pub use onbuild::{OnBuild, parse_onbuild};
pub use run::{Network, Run, RunScript, Security};

/// The names of all instructions, in upper case.
pub const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A whole Dockerfile, understood.
#[derive(Clone, Debug, Default)]
pub struct Dockerfile {
    /// The parser directives.
    pub directives: Directives,
    /// The ARG lines before the first FROM, in order.
    pub global_args: Vec<GlobalArg>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// One ARG line before the first FROM.
#[derive(Clone, Debug)]
pub struct GlobalArg {
    /// What it declares.
    pub args: Vec<ArgDecl>,
    /// Where it stands.
    pub span: Span,
    /// The joined line as written, trimmed.
    pub text: Text,
}

/// A stage: a FROM line and the instructions up to the next one.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its number, from 0.
    pub index: usize,
    /// Its name in lower case.
    pub name: Option<String>,
    /// Its name as written.
    pub name_written: Option<Text>,
    /// Where the name stands.
    pub name_span: Option<Span>,
    /// The base as written, not expanded.
    pub base: Text,
    /// Where the base stands.
    pub base_span: Span,
    /// The value of `--platform`, not expanded.
    pub platform: Option<Text>,
    /// Where that flag stands.
    pub platform_span: Option<Span>,
    /// The instructions after FROM.
    pub instructions: Instructions,
    /// Where the FROM line stands.
    pub span: Span,
    /// The FROM line, joined and trimmed.
    pub text: Text,
    /// The comments directly above the FROM line.
    pub comments: Vec<Comment>,
}

/// An instruction with its place.
#[derive(Clone, Debug)]
pub struct Located {
    /// What it means.
    pub instruction: Instruction,
    /// From its keyword to the end of its last line, heredocs included.
    pub span: Span,
    /// Where the joined line stands, without heredoc bodies.
    pub line_span: Span,
    /// The joined line as written, trimmed: for history, progress and messages. Steps share it.
    pub text: Text,
    /// The keyword as written.
    pub keyword: Text,
    /// Where each argument word stands, where words have places of their own.
    pub word_spans: Vec<Span>,
    /// Where each flag stands, by name.
    pub flag_spans: Vec<(&'static str, Span)>,
    /// The comments directly above.
    pub comments: Vec<Comment>,
}

impl Located {
    /// Where a flag stands; the line if it is not given.
    #[must_use]
    pub fn flag_span(&self, name: &str) -> Span {
        let flag = self.flag_spans.iter().find(|(flag, _)| *flag == name);
        flag.map_or(self.line_span, |(_, span)| *span)
    }

    /// Where an argument word stands; the line if it has no place of its own.
    #[must_use]
    pub fn word_span(&self, index: usize) -> Span {
        self.word_spans.get(index).copied().unwrap_or(self.line_span)
    }
}

/// An instruction other than FROM. Words are not expanded, and quotes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `ARG name[=default] …`
    Arg(Vec<ArgDecl>),
    /// `ENV key=value …` or `ENV key value`
    Env(Vec<(Text, Text)>),
    /// `LABEL key=value …` or `LABEL key value`
    Label(Vec<(Text, Text)>),
    /// `RUN …`
    Run(Run),
    /// `COPY …`
    Copy(Copy),
    /// `ADD …`
    Add(Copy),
    /// `CMD …`
    Cmd(Command),
    /// `ENTRYPOINT …`; the empty JSON form removes the entrypoint.
    Entrypoint(Command),
    /// `SHELL ["…", …]`, at least one word
    Shell(Vec<Text>),
    /// `USER name[:group]`
    User(Text),
    /// `WORKDIR path`
    Workdir(Text),
    /// `EXPOSE port …`, sorted as the reference sorts them: as text, before expansion
    Expose(Vec<Text>),
    /// `VOLUME path …`
    Volume(Vec<Text>),
    /// `HEALTHCHECK …`
    Healthcheck(Healthcheck),
    /// `STOPSIGNAL signal`
    StopSignal(Text),
    /// `ONBUILD instruction`
    OnBuild(OnBuild),
    /// `MAINTAINER name`
    Maintainer(Text),
}

impl Instruction {
    /// The instruction's name, in upper case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Arg(_) => "ARG",
            Self::Env(_) => "ENV",
            Self::Label(_) => "LABEL",
            Self::Run(_) => "RUN",
            Self::Copy(_) => "COPY",
            Self::Add(_) => "ADD",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Shell(_) => "SHELL",
            Self::User(_) => "USER",
            Self::Workdir(_) => "WORKDIR",
            Self::Expose(_) => "EXPOSE",
            Self::Volume(_) => "VOLUME",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::OnBuild(_) => "ONBUILD",
            Self::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// One declared argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDecl {
    /// The name, not expanded.
    pub name: Text,
    /// The default, not expanded; `None` if there is no `=`.
    pub default: Option<Text>,
    /// Where it stands.
    pub span: Span,
}

/// The command of RUN, CMD and ENTRYPOINT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Text for the shell; empty if nothing was written.
    Shell(Text),
    /// The words of the JSON form.
    Exec(Vec<Text>),
}

/// As it would be written.
impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shell(text) => f.write_str(text),
            Self::Exec(words) => {
                let quoted: Vec<String> = words
                    .iter()
                    .map(|word| serde_json::Value::from(word.as_str()).to_string())
                    .collect();
                write!(f, "[{}]", quoted.join(", "))
            }
        }
    }
}
