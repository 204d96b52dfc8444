//! Diagnostics: what is wrong or doubtful in the user's text, as values.
//!
//! Nothing here prints. A [`Diagnostic`] carries facts (code, place, message, help); the command
//! line draws the excerpt. Codes are stable: scripts and `# check=skip=` refer to them.

use crate::source::Span;

/// How much a diagnostic matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file cannot be built.
    Error,
    /// The file can be built, and probably does not do what was meant.
    Warning,
}

/// One problem in a Dockerfile or a file that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code: one of [`code`], or the name of a rule of [`crate::lint`].
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Where in the file.
    pub span: Span,
    /// One line, lower case, without a final dot.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places that explain this one, each with a short note.
    pub related: Vec<(Span, String)>,
    /// A repair that changes nothing of what the file means, where there is one.
    pub fix: Option<Fix>,
}

/// A mechanical repair: pieces of the file and what shall stand in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What it does, in a few words: `write it in lower case`.
    pub summary: &'static str,
    /// The edits, in order of place; none overlaps another.
    pub edits: Vec<Edit>,
}

/// One piece of a [`Fix`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What is replaced.
    pub span: Span,
    /// What stands there afterwards.
    pub text: String,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, span, message)
    }

    /// A warning at `span`.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, span, message)
    }

    fn new(code: &'static str, severity: Severity, span: Span, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, severity, span, message, help: None, related: Vec::new(), fix: None }
    }

    /// The same diagnostic with a help line.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same diagnostic with "did you mean …?" if something near was found.
    #[must_use]
    pub fn with_suggestion(self, nearest: Option<&str>) -> Self {
        match nearest {
            Some(nearest) => self.with_help(format!("did you mean `{nearest}`?")),
            None => self,
        }
    }

    /// The same diagnostic with another place that explains it.
    #[must_use]
    pub fn with_related(mut self, span: Span, note: impl Into<String>) -> Self {
        self.related.push((span, note.into()));
        self
    }

    /// The same diagnostic with its repair.
    #[must_use]
    pub fn with_fix(mut self, summary: &'static str, span: Span, text: impl Into<String>) -> Self {
        self.fix = Some(Fix { summary, edits: vec![Edit { span, text: text.into() }] });
        self
    }

    /// Whether this one stops a build.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Whether any of these stops a build.
#[must_use]
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(Diagnostic::is_error)
}

/// Sorts by place (errors first at one place), drops duplicates and whatever is past the limit.
pub fn tidy(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| {
        (a.span, a.severity, a.code, &a.message).cmp(&(b.span, b.severity, b.code, &b.message))
    });
    diagnostics.dedup();
    diagnostics.truncate(crate::limits::MAX_DIAGNOSTICS);
}

/// The codes of the errors that the front end itself reports; `docs/checks/errors.md` explains each.
pub mod code {
    /// All of them.
    pub const ALL: [&str; 16] = [
        EMPTY_FILE,
        LINE_TOO_LONG,
        BAD_DIRECTIVE,
        UNTERMINATED_HEREDOC,
        UNKNOWN_INSTRUCTION,
        UNKNOWN_FLAG,
        BAD_FLAG,
        BAD_ARGUMENTS,
        JSON_NOT_STRINGS,
        BAD_STAGE_NAME,
        NO_STAGE,
        UNKNOWN_STAGE,
        BAD_TRIGGER,
        BAD_MOUNT,
        BAD_EXPANSION,
        BAD_IGNORE_FILE,
    ];

    /// The file is empty, or has no instruction.
    pub const EMPTY_FILE: &str = "D001";
    /// A line is longer than [`crate::limits::MAX_LINE_BYTES`].
    pub const LINE_TOO_LONG: &str = "D002";
    /// A parser directive is given twice or has a value that it cannot have.
    pub const BAD_DIRECTIVE: &str = "D003";
    /// A heredoc has no end line.
    pub const UNTERMINATED_HEREDOC: &str = "D004";
    /// The first word is no instruction.
    pub const UNKNOWN_INSTRUCTION: &str = "D005";
    /// The instruction has no such flag.
    pub const UNKNOWN_FLAG: &str = "D006";
    /// A flag is given twice, lacks its value or has one that it cannot have.
    pub const BAD_FLAG: &str = "D007";
    /// An instruction has too few or too many arguments, or arguments of the wrong form.
    pub const BAD_ARGUMENTS: &str = "D008";
    /// A JSON array holds something other than strings.
    pub const JSON_NOT_STRINGS: &str = "D009";
    /// A stage's name is not allowed.
    pub const BAD_STAGE_NAME: &str = "D010";
    /// An instruction stands where it cannot, or the file has no stage.
    pub const NO_STAGE: &str = "D011";
    /// A stage that is referred to does not exist.
    pub const UNKNOWN_STAGE: &str = "D012";
    /// An ONBUILD trigger that is not allowed or is not exactly one instruction.
    pub const BAD_TRIGGER: &str = "D013";
    /// A `--mount` option that cannot be read.
    pub const BAD_MOUNT: &str = "D014";
    /// A variable's use cannot be expanded.
    pub const BAD_EXPANSION: &str = "D015";
    /// The ignore file cannot be read.
    pub const BAD_IGNORE_FILE: &str = "D016";
    /// The file, or something in it, is over one of [`crate::limits`].
    pub const OVER_LIMIT: &str = "D017";
    /// `# syntax=` asks for a language that is not the one built in (a warning).
    pub const OTHER_SYNTAX: &str = "D018";
}
