//! Build checks: what can be built and probably should not be.
//!
//! The rules are the reference's, with its names, so that `# check=skip=…` means the same. [`RULES`]
//! lists all of them; those that need no more than the text are found by [`check`], the rest by
//! [`check_facts`] from what is known of base images and the ignore file. [`OWN_RULES`] are ours; they
//! speak only when asked for, by [`check_own`]. All go through the same [`Config`].
//!
//! Messages are the reference's, to the letter: scripts look for them. Where they stand, what else
//! explains them and how they are repaired is ours.
//!
//! A rule is switched off by `# check=skip=Name,…` at the top of the file, or for one instruction by
//! the same comment directly above it. `# check=error=true` turns what remains into a failure.

mod context;
mod facts;
mod own;
mod rules;

#[cfg(test)]
mod tests;

use crate::diagnostic::{Diagnostic, Severity, code};
use crate::graph::Graph;
use crate::instruction::{Ast, Comment, Dockerfile};
use crate::source::Span;
use crate::suggest;
pub use context::{ContextFacts, ContextPart};
pub use facts::Facts;
pub(crate) use rules::names_secret;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, which is the diagnostic's code.
    pub name: &'static str,
    /// What it is about, in a line.
    pub summary: &'static str,
    /// Whether it must be asked for with `experimental=`.
    pub experimental: bool,
}

const fn rule(name: &'static str, summary: &'static str) -> Rule {
    Rule { name, summary, experimental: false }
}

/// All rules of the reference.
pub const RULES: [Rule; 22] = [
    rule("StageNameCasing", "stage names should be lower case"),
    rule("FromAsCasing", "the casing of `AS` should match that of `FROM`"),
    rule("NoEmptyContinuation", "empty continuation lines will become errors"),
    rule("ConsistentInstructionCasing", "all keywords should have the same casing"),
    rule("DuplicateStageName", "stage names should be unique"),
    rule("ReservedStageName", "`context` and `scratch` should not name stages"),
    rule("JSONArgsRecommended", "the JSON form passes signals on to the program"),
    rule("MaintainerDeprecated", "MAINTAINER is deprecated in favour of a label"),
    rule("UndefinedArgInFrom", "variables in FROM must be declared before the first FROM"),
    rule("WorkdirRelativePath", "a relative WORKDIR depends on the base image"),
    rule("UndefinedVar", "variables should be defined before their use"),
    rule("MultipleInstructionsDisallowed", "only the last of several counts"),
    rule("LegacyKeyValueFormat", "`name=value` should be used instead of `name value`"),
    rule("InvalidBaseImagePlatform", "the base image's platform is not the one asked for"),
    rule("RedundantTargetPlatform", "`--platform=$TARGETPLATFORM` is the default"),
    rule("SecretsUsedInArgOrEnv", "secrets in ARG or ENV stay in the image"),
    rule("InvalidDefaultArgInFrom", "the defaults of ARG should make a valid base"),
    rule("FromPlatformFlagConstDisallowed", "a constant `--platform` cannot be built elsewhere"),
    rule("CopyIgnoredFile", "the source of a copy is ignored"),
    Rule {
        name: "InvalidDefinitionDescription",
        summary: "a comment above a stage or argument should begin with its name",
        experimental: true,
    },
    rule("ExposeProtoCasing", "the protocol of EXPOSE should be lower case"),
    rule("ExposeInvalidFormat", "EXPOSE takes no address and no host port"),
];

/// Our own rules, for `lap check` alone.
pub const OWN_RULES: [Rule; 10] = [
    rule("AptGetWithoutUpdate", "packages should be installed from lists of the same RUN"),
    rule("AptListsNotRemoved", "package lists should not stay in a layer"),
    rule("UnpinnedBase", "a base image should be named with a tag or digest"),
    rule("AddWhereCopyServes", "COPY says more plainly what is copied"),
    rule("ShellFormEntrypointWithCmd", "a shell-form ENTRYPOINT ignores CMD"),
    rule("CopyBeforeInstall", "copying everything before an install repeats it at each change"),
    rule("SecretInHistory", "tokens and keys written out stay in the image"),
    rule("LargeContextWithoutIgnoreFile", "what no build needs should be kept out of the context"),
    rule("RemovedInLaterLayer", "what a later layer removes still lies in the earlier one"),
    rule("MisspelledStage", "an image is named almost like a stage of the file"),
];

/// Every rule there is.
pub fn all_rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(&OWN_RULES)
}

/// Which rules count, and whether they fail the build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// No rule counts.
    pub skip_all: bool,
    /// The rules that do not count.
    pub skip: Vec<String>,
    /// All experimental rules count.
    pub experimental_all: bool,
    /// The experimental rules that count.
    pub experimental: Vec<String>,
    /// What remains fails the build.
    pub error: bool,
}

impl Config {
    /// Reads the value of a check directive: `skip=A,B;error=true;experimental=all`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let Some((key, value)) = option.split_once('=') else {
                return Err(format!("invalid check option \"{option}\""));
            };
            let names = || value.split(',').map(|name| name.trim().to_owned());
            match (key.trim(), value.trim()) {
                ("skip", "all") => config.skip_all = true,
                // As in the reference, a key that is given again replaces what it was given first.
                ("skip", _) => config.skip = names().collect(),
                ("experimental", "all") => config.experimental_all = true,
                ("experimental", _) => config.experimental = names().collect(),
                ("error", "1" | "t" | "T" | "true" | "TRUE" | "True") => config.error = true,
                ("error", "0" | "f" | "F" | "false" | "FALSE" | "False") => config.error = false,
                ("error", _) => return Err(format!("failed to parse check option \"{option}\"")),
                (key, _) => return Err(format!("invalid check option \"{key}\"")),
            }
        }
        Ok(config)
    }

    /// The configuration of a file; what cannot be read is reported, also of the comments above
    /// instructions: one that switches nothing off would otherwise be silently without effect.
    #[must_use]
    pub fn of(ast: &Ast) -> (Self, Vec<Diagnostic>) {
        let mut problems = Vec::new();
        for comment in ast.nodes().flat_map(|node| &node.comments) {
            match above(comment) {
                Some(Ok(config)) => config.unknown_rules(comment.span, &mut problems),
                Some(Err(message)) => {
                    problems.push(Diagnostic::warning(code::BAD_DIRECTIVE, comment.span, message));
                }
                None => {}
            }
        }
        let Some(directive) = &ast.directives.check else { return (Self::default(), problems) };
        let config = Self::parse(&directive.value).unwrap_or_else(|message| {
            problems.push(Diagnostic::error(code::BAD_DIRECTIVE, directive.span, message));
            Self::default()
        });
        config.unknown_rules(directive.span, &mut problems);
        (config, problems)
    }

    /// Reports the names that no rule has.
    fn unknown_rules(&self, place: Span, problems: &mut Vec<Diagnostic>) {
        for name in self.skip.iter().chain(&self.experimental) {
            if !all_rules().any(|rule| rule.name == name) {
                let nearest = suggest::nearest(name, all_rules().map(|rule| rule.name));
                let message = format!("no check is named `{name}`");
                problems.push(
                    Diagnostic::warning(code::BAD_DIRECTIVE, place, message)
                        .with_suggestion(nearest),
                );
            }
        }
    }

    /// Whether a rule counts for an instruction with these comments above it. An experimental rule
    /// is asked for and cannot be skipped, any other is there until it is skipped.
    #[must_use]
    pub fn counts(&self, name: &str, comments: &[Comment]) -> bool {
        let any = |says: &dyn Fn(&Self) -> bool| {
            says(self) || comments.iter().filter_map(above).flatten().any(|config| says(&config))
        };
        if RULES.iter().any(|rule| rule.name == name && rule.experimental) {
            return any(&|config| {
                config.experimental_all || config.experimental.iter().any(|asked| asked == name)
            });
        }
        !any(&|config| config.skip_all || config.skip.iter().any(|skip| skip == name))
    }
}

/// The configuration in a comment above an instruction, if it is meant to have one.
fn above(comment: &Comment) -> Option<Result<Config, String>> {
    let (name, value) = comment.text.split_once('=')?;
    name.trim().eq_ignore_ascii_case("check").then(|| Config::parse(value))
}

/// Whether a diagnostic is a rule's, as opposed to an error of the front end.
#[must_use]
pub fn is_rule(code: &str) -> bool {
    all_rules().any(|rule| rule.name == code)
}

/// The message of a build that `error=true` makes fail, if anything was found.
#[must_use]
pub fn failure(found: &[Diagnostic]) -> Option<String> {
    let mut names: Vec<&str> =
        found.iter().map(|found| found.code).filter(|code| is_rule(code)).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| format!("lint violation found for rules: {}", names.join(", ")))
}

/// With `error=true`, what remains is an error.
pub fn raise(found: &mut [Diagnostic], config: &Config) {
    for diagnostic in found.iter_mut().filter(|found| config.error && is_rule(found.code)) {
        diagnostic.severity = Severity::Error;
    }
}

/// A finding of a rule, if the rule counts where these comments stand.
pub(crate) struct Found<'a> {
    diagnostic: Diagnostic,
    comments: &'a [Comment],
}

impl<'a> Found<'a> {
    fn new(rule: &'static str, span: Span, message: String, comments: &'a [Comment]) -> Self {
        Self { diagnostic: Diagnostic::warning(rule, span, message), comments }
    }

    /// The same finding with more in its diagnostic.
    fn with(self, more: impl FnOnce(Diagnostic) -> Diagnostic) -> Self {
        Self { diagnostic: more(self.diagnostic), ..self }
    }
}

/// Finds what needs no more than the text. `reached` says which stages are looked at; the rules that
/// the reference applies only there are applied only there.
#[must_use]
pub fn check(
    ast: &Ast,
    file: &Dockerfile,
    config: &Config,
    reached: &dyn Fn(usize) -> bool,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    rules::lines(ast, reached, &mut found);
    rules::stages(ast, file, &mut found);
    rules::instructions(file, reached, &mut found);
    counted(found, config)
}

/// Finds what needs to be known of base images and the ignore file, in these stages (in file order).
#[must_use]
pub fn check_facts(
    file: &Dockerfile,
    (graph, stages): (&Graph, &[usize]),
    build_args: &[(String, String)],
    config: &Config,
    facts: Facts<'_>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    facts::find(file, (graph, stages), build_args, facts, &mut found);
    counted(found, config)
}

/// Finds what [`OWN_RULES`] speak of, in these stages (in file order).
#[must_use]
pub fn check_own(
    file: &Dockerfile,
    (graph, stages): (&Graph, &[usize]),
    config: &Config,
    facts: Facts<'_>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    own::find(file, (graph, stages), facts, &mut found);
    counted(found, config)
}

/// The findings of rules that count where they were found.
fn counted(found: Vec<Found<'_>>, config: &Config) -> Vec<Diagnostic> {
    let mut diagnostics: Vec<Diagnostic> = found
        .into_iter()
        .filter(|found| config.counts(found.diagnostic.code, found.comments))
        .map(|found| found.diagnostic)
        .collect();
    crate::diagnostic::tidy(&mut diagnostics);
    diagnostics
}
