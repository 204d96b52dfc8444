//! Arguments before the first FROM, and those that the builder itself sets.

use crate::diagnostic::{Diagnostic, code};
use crate::expand::{Budget, Lexer};
use crate::instruction::{self, Dockerfile};
use crate::options::BuildOptions;
use crate::scope::{BuildArgs, EnvList};
use crate::source::SourceFile;
use crate::syntax;
use lapstrake_layerstore::oci::Platform;
use std::borrow::Cow;
use std::sync::Arc;

/// The argument that is the latest time of an image.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The arguments that describe the platforms, and the target: `last` is the name of the last stage,
/// which is the target when none is asked for.
fn platform_arguments(options: &BuildOptions, last: Option<&str>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (prefix, platform) in [("BUILD", &options.build_platform), ("TARGET", &options.platform)] {
        let Platform { os, architecture, variant, os_version, .. } = platform;
        all.push((format!("{prefix}PLATFORM"), platform.to_string()));
        all.push((format!("{prefix}OS"), os.clone()));
        all.push((format!("{prefix}OSVERSION"), os_version.clone()));
        all.push((format!("{prefix}ARCH"), architecture.clone()));
        all.push((format!("{prefix}VARIANT"), variant.clone()));
    }
    let stage = options.target.as_deref().or(last).unwrap_or("default");
    all.push(("TARGETSTAGE".to_owned(), stage.to_owned()));
    all
}

/// The scope in which FROM is expanded: platform arguments, then the ARGs before the first FROM, each of
/// which sees the earlier ones.
pub fn global_scope(
    dockerfile: &Dockerfile,
    options: &BuildOptions,
    problems: &mut Vec<Diagnostic>,
) -> EnvList {
    let given = BuildArgs::new(&options.build_args);
    let escape = dockerfile.directives.escape;
    let last = dockerfile.stages.last().and_then(|stage| stage.name.as_deref());
    let budget = Budget::of_file();
    let lexer = Lexer::new(escape.as_char()).within(&budget);
    let mut scope = EnvList::default();
    for (name, value) in platform_arguments(options, last) {
        scope.set(&name, given.value(&name).unwrap_or(&value));
    }
    for line in &dockerfile.global_args {
        for arg in &line.args {
            let value = match (given.value(&arg.name), &arg.default) {
                (Some(value), _) => Some(value.to_owned()),
                (None, Some(default)) => match lexer.expand(default, &scope) {
                    Ok(expanded) => Some(expanded.text),
                    Err(e) => {
                        let text = format!("failed to process \"{default}\": {e}");
                        problems.push(Diagnostic::error(code::BAD_EXPANSION, arg.span, text));
                        if e.is_exhaustion() {
                            return scope;
                        }
                        None
                    }
                },
                (None, None) => None,
            };
            if let Some(value) = value {
                scope.set(&arg.name, &value);
            }
            if let Some(message) = scope.over_limit() {
                problems.push(Diagnostic::error(code::OVER_LIMIT, arg.span, message));
                return scope;
            }
        }
    }
    scope
}

/// The latest time that a file of the image has, in seconds since 1970: that of the options, else of a
/// build argument `SOURCE_DATE_EPOCH`, else of an ARG of that name before the first FROM. An empty value
/// is none; an empty build argument takes the ARG's value away. What is no number is reported when the
/// stages are looked up.
#[must_use]
pub fn epoch(options: &BuildOptions) -> Option<i64> {
    let given = BuildArgs::new(&options.build_args);
    let value = match (options.epoch, given.value(EPOCH)) {
        (Some(epoch), _) => return Some(epoch),
        (None, Some(given)) => given.to_owned(),
        (None, None) => declared(options)?,
    };
    value.parse().ok()
}

/// The value of the ARG before the first FROM.
fn declared(options: &BuildOptions) -> Option<String> {
    let text = &options.dockerfile;
    if !text.windows(EPOCH.len()).any(|window| window == EPOCH.as_bytes()) {
        return None;
    }
    let file = Arc::new(SourceFile::new(&options.dockerfile_name, text.clone()));
    let (dockerfile, _) = instruction::lower(&syntax::parse(&file).0);
    let is_epoch = |arg: &instruction::ArgDecl| arg.name == EPOCH;
    dockerfile.global_args.iter().flat_map(|line| &line.args).find(|arg| is_epoch(arg))?;
    // Problems are reported when the stages are looked up.
    global_scope(&dockerfile, options, &mut Vec::new()).value(EPOCH).map(str::to_owned)
}

/// The options with the epoch that the file or an argument sets.
pub(crate) fn with_epoch(options: &BuildOptions) -> Cow<'_, BuildOptions> {
    match (options.epoch, epoch(options)) {
        (None, Some(epoch)) => Cow::Owned(BuildOptions { epoch: Some(epoch), ..options.clone() }),
        _ => Cow::Borrowed(options),
    }
}

/// What is wrong with the file's own epoch.
pub(crate) fn bad_epoch(dockerfile: &Dockerfile, global: &EnvList) -> Option<Diagnostic> {
    let mut args = dockerfile.global_args.iter().flat_map(|line| &line.args).rev();
    let arg = args.find(|arg| arg.name == EPOCH)?;
    let value = global.value(EPOCH).filter(|value| !value.is_empty())?;
    value.parse::<i64>().is_err().then(|| {
        let message = format!("{EPOCH} is `{value}`, not a number of seconds since 1970");
        Diagnostic::error(code::BAD_ARGUMENTS, arg.span, message)
    })
}
