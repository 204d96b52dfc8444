//! Arguments before the first FROM, and those that the builder itself sets.

use crate::diagnostic::{Diagnostic, code};
use crate::expand::{Budget, Lexer};
use crate::instruction::Dockerfile;
use crate::options::BuildOptions;
use crate::scope::{BuildArgs, EnvList};
use lapstrake_layerstore::oci::Platform;

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
