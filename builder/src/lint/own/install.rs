//! A copy of everything before an install of dependencies: each change of any file repeats it.

use super::plain_script;
use super::shell::commands;
use crate::instruction::{Copy, Instruction, Located};
use crate::lint::{ContextFacts, Found};
use crate::text::Text;
use std::sync::Arc;

/// A call that installs what a project's own files list.
struct Install {
    /// The program's names.
    programs: &'static [&'static str],
    /// The words after it, any one of these; an empty one stands for none.
    verbs: &'static [&'static str],
    /// The files that it reads, those first that every project has.
    files: &'static [&'static str],
}

const INSTALLS: [Install; 14] = [
    install(
        &["npm"],
        &["ci", "install", "i", "clean-install"],
        &["package.json", "package-lock.json"],
    ),
    install(&["yarn"], &["install", ""], &["package.json", "yarn.lock"]),
    install(&["pnpm"], &["install", "i"], &["package.json", "pnpm-lock.yaml"]),
    install(&["bun"], &["install", "i"], &["package.json", "bun.lock"]),
    install(&["poetry"], &["install"], &["pyproject.toml", "poetry.lock"]),
    install(&["uv"], &["sync"], &["pyproject.toml", "uv.lock"]),
    install(&["pipenv"], &["install", "sync"], &["Pipfile", "Pipfile.lock"]),
    install(&["bundle"], &["install"], &["Gemfile", "Gemfile.lock"]),
    install(&["composer"], &["install"], &["composer.json", "composer.lock"]),
    install(&["go"], &["mod download"], &["go.mod", "go.sum"]),
    install(&["cargo"], &["fetch"], &["Cargo.toml", "Cargo.lock"]),
    install(&["mix"], &["deps.get"], &["mix.exs", "mix.lock"]),
    install(&["mvn"], &["dependency:go-offline", "dependency:resolve"], &["pom.xml"]),
    install(&["pip", "pip3"], &["install"], &[]),
];

const fn install(
    programs: &'static [&'static str],
    verbs: &'static [&'static str],
    files: &'static [&'static str],
) -> Install {
    Install { programs, verbs, files }
}

/// An install that was found: what is called, and the files it reads.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    shown: String,
    files: Vec<String>,
}

pub(super) fn find<'a>(
    instructions: &'a [Arc<Located>],
    context: Option<&ContextFacts>,
) -> Option<Found<'a>> {
    let mut whole: Option<(&'a Located, &Copy)> = None;
    for located in instructions {
        match &located.instruction {
            Instruction::Copy(copy) | Instruction::Add(copy) if is_of_context(copy) => {
                let all = copy.sources.iter().any(|source| matches!(source.as_str(), "." | "./"));
                if !all && whole.is_none() {
                    // Some files come before the rest: someone has thought of this already.
                    return None;
                }
                whole = whole.or(all.then_some((located, copy)));
            }
            Instruction::Run(run) => {
                let Some((before, copy)) = whole else { continue };
                let Some(text) = plain_script(run) else { continue };
                let Some(call) = commands(&text).iter().find_map(|words| read(words)) else {
                    continue;
                };
                return Some(finding(before, copy, located, &present(call, context)?));
            }
            _ => {}
        }
    }
    None
}

/// Whether files of the context are copied.
fn is_of_context(copy: &Copy) -> bool {
    let is_remote = |source: &Text| source.contains("://") || source.starts_with("git@");
    copy.from.is_none() && !copy.sources.iter().all(is_remote)
}

/// Of the files, those that the context has; `None` if it has none of them at its top, where the
/// rule's advice would be wrong.
fn present(mut call: Call, context: Option<&ContextFacts>) -> Option<Call> {
    if let Some(context) = context {
        call.files.retain(|file| file.contains('/') || context.names.contains(file));
    }
    (!call.files.is_empty()).then_some(call)
}

fn finding<'a>(before: &'a Located, copy: &Copy, run: &Located, call: &Call) -> Found<'a> {
    let (files, shown) = (call.files.join(" "), &call.shown);
    let dest = match copy.dest.as_str() {
        "." | "./" => "./".to_owned(),
        dest => format!("{}/", dest.trim_end_matches('/')),
    };
    let named = match call.files.as_slice() {
        [only] => only.clone(),
        [some @ .., last] => format!("{} and {last}", some.join(", ")),
        [] => String::new(),
    };
    let message = format!(
        "a change of any file repeats `{shown}`, which reads {named} of the files copied here"
    );
    let (rule, span) = ("CopyBeforeInstall", before.line_span);
    Found::new(rule, span, message, &before.comments).with(|it| {
        it.with_related(run.line_span, "repeated after every change").with_help(format!(
            "copy what it reads first: `COPY {files} {dest}`, then `RUN {shown}`, then `{}`",
            before.text
        ))
    })
}

/// What a command installs from the project's own files, if that shows in its words.
fn read(words: &[String]) -> Option<Call> {
    let words = match words {
        // `python -m pip install` is `pip install`.
        [python, flag, rest @ ..] if python.starts_with("python") && flag == "-m" => rest,
        words => words,
    };
    let (program, rest) = words.split_first()?;
    let install = INSTALLS.iter().find(|known| known.programs.contains(&program.as_str()))?;
    if rest.iter().any(|word| word.contains(['$', '*', '`'])) {
        return None;
    }
    if install.files.is_empty() {
        return requirements(program, rest);
    }
    // Options may have values that look like words, so only bare calls and plain options count.
    let plain: Vec<&str> =
        rest.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let global =
        rest.iter().any(|word| matches!(word.as_str(), "-g" | "--global" | "-C" | "--prefix"));
    if global || !install.verbs.contains(&plain.join(" ").as_str()) {
        return None;
    }
    let files = install.files.iter().map(|file| (*file).to_owned()).collect();
    Some(Call { shown: words.join(" "), files })
}

/// `pip install -r FILE …` and nothing besides: the project itself would need all files.
fn requirements(program: &str, rest: &[String]) -> Option<Call> {
    let mut files = Vec::new();
    let mut words = rest.iter().map(String::as_str);
    if words.next() != Some("install") {
        return None;
    }
    while let Some(word) = words.next() {
        match word {
            "-r" | "--requirement" => files.push(words.next()?.to_owned()),
            option if option.starts_with("-r") && !option.starts_with("--") => {
                files.push(option[2..].to_owned());
            }
            option if option.starts_with("--") && (option.contains('=') || is_switch(option)) => {}
            "-U" | "-q" | "-v" => {}
            _ => return None,
        }
    }
    // A file elsewhere is not of the context.
    let is_near = |file: &String| !file.starts_with('/') && !file.contains("..");
    if files.is_empty() || !files.iter().all(is_near) {
        return None;
    }
    let files: Vec<String> =
        files.into_iter().map(|file| file.trim_start_matches("./").to_owned()).collect();
    Some(Call { shown: format!("{program} {}", rest.join(" ")), files })
}

/// Options of pip that take no value.
fn is_switch(option: &str) -> bool {
    const SWITCHES: [&str; 8] = [
        "--no-cache-dir",
        "--upgrade",
        "--no-deps",
        "--user",
        "--quiet",
        "--break-system-packages",
        "--require-hashes",
        "--disable-pip-version-check",
    ];
    SWITCHES.contains(&option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_are_read() {
        let files = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            read(&words).map(|call| call.files.join(" ")).unwrap_or_default()
        };
        for (text, expected) in [
            ("npm ci", "package.json package-lock.json"),
            ("npm install --omit=dev", "package.json package-lock.json"),
            ("npm install express", ""),
            ("npm install -g npm", ""),
            ("yarn --frozen-lockfile", "package.json yarn.lock"),
            ("yarn build", ""),
            ("go mod download", "go.mod go.sum"),
            ("go mod tidy", ""),
            ("pip install -r requirements.txt", "requirements.txt"),
            ("pip install --no-cache-dir -r a.txt -rb.txt", "a.txt b.txt"),
            ("python3 -m pip install -r ./a.txt", "a.txt"),
            ("pip install .", ""),
            ("pip install -r a.txt .", ""),
            ("pip install -r /opt/a.txt", ""),
            ("poetry install $FLAGS", ""),
        ] {
            assert_eq!(files(text), expected, "{text}");
        }
    }
}
