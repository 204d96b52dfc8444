//! From nodes to instructions.

use super::config::{self, Words, bad_arguments};
use super::flag::{self, FlagSpec, Flags};
use super::{
    Ast, Copy, CopySource, Device, Dockerfile, GlobalArg, Instruction, Located, MountFlag, NAMES,
    Network, Run, Security, from, healthcheck, onbuild,
};
use crate::diagnostic::{self, Diagnostic, code};
use crate::source::{SourceFile, Span};
use crate::suggest;
use crate::syntax::{self, Node, Parts, heredoc_word};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// So many instructions are worth more than one thread.
pub(crate) const LONG_FILE: usize = 256;

/// A part of so many bytes is worth a thread of its own: about half as many instructions.
const PART_BYTES: usize = 8 * 1024;

/// The flags of COPY.
const COPY_FLAGS: [FlagSpec; 6] = [
    flag::text("chown"),
    flag::text("from"),
    flag::text("chmod"),
    flag::switch("link"),
    flag::switch("parents"),
    flag::list("exclude"),
];

/// The flags of ADD.
const ADD_FLAGS: [FlagSpec; 7] = [
    flag::text("chown"),
    flag::text("chmod"),
    flag::switch("link"),
    flag::switch("keep-git-dir"),
    flag::text("checksum"),
    flag::switch("unpack"),
    flag::list("exclude"),
];

/// The flags of RUN.
const RUN_FLAGS: [FlagSpec; 4] =
    [flag::list("mount"), flag::text("network"), flag::text("security"), flag::list("device")];

/// Gives each line its meaning. Every problem of the file is reported, not just the first; an
/// instruction that cannot be understood is left out.
#[must_use]
pub fn lower(ast: &Ast) -> (Dockerfile, Vec<Diagnostic>) {
    let mut lowered = Lowered::default();
    ast.nodes().for_each(|node| lowered.add(node));
    assemble(ast, lowered)
}

/// Parses a file and gives each line its meaning; threads read the parts of a long file at once.
pub(crate) fn read(file: &SourceFile) -> (Ast, Dockerfile, Vec<Diagnostic>) {
    read_parts(file).unwrap_or_else(|| {
        let (ast, mut problems) = syntax::parse(file);
        let (dockerfile, more) = lower(&ast);
        problems.extend(more);
        (ast, dockerfile, problems)
    })
}

/// The same of a file that is long, and can be cut into parts that mean together what it does.
fn read_parts(file: &SourceFile) -> Option<(Ast, Dockerfile, Vec<Diagnostic>)> {
    let worth = file.bytes.len() / PART_BYTES;
    let parts = Parts::new(file, worth.min(rayon::current_num_threads()))?;
    let read: Vec<OnceLock<_>> = (0..parts.count()).map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((index, place)) = take(&next, &read) {
            place.get_or_init(|| {
                // An instruction is still near when it gets its meaning.
                let mut lowered = Lowered::default();
                let part = parts.parse(index, &mut |node| lowered.add(node));
                (part, lowered)
            });
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..read.len() {
            scope.spawn(|_| work());
        }
        work();
    });
    let (mut found, mut all) = (Vec::new(), Lowered::default());
    for place in read {
        let taken = "because each part was taken, and the threads have ended";
        let (part, lowered) = place.into_inner().expect(taken);
        found.push(part);
        all.found.extend(lowered.found);
        all.problems.extend(lowered.problems);
    }
    let (ast, mut problems) = parts.join(found)?;
    let (dockerfile, more) = assemble(&ast, all);
    problems.extend(more);
    Some((ast, dockerfile, problems))
}

/// The first place that none has taken.
fn take<'a, T>(next: &AtomicUsize, places: &'a [T]) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    places.get(index).map(|place| (index, place))
}

/// What some nodes mean. FROM has no meaning by itself; no other depends on those around it.
#[derive(Default)]
struct Lowered {
    found: Vec<Option<Arc<Located>>>,
    problems: Vec<Diagnostic>,
}

impl Lowered {
    fn add(&mut self, node: &Node) {
        let meaning = if is_from(node) { None } else { located(node, &mut self.problems) };
        self.found.push(meaning);
    }
}

/// Puts the instructions into their stages.
fn assemble(
    ast: &Ast,
    Lowered { found, problems: mut out }: Lowered,
) -> (Dockerfile, Vec<Diagnostic>) {
    let mut file = Dockerfile { directives: ast.directives.clone(), ..Dockerfile::default() };
    let mut homeless = None;
    let any = !found.is_empty();
    for (node, located) in ast.nodes().zip(found) {
        if is_from(node) {
            let stage = from::stage(node, file.stages.len(), &mut out);
            file.stages.push(stage);
        } else if let Some(stage) = file.stages.last_mut() {
            stage.instructions.extend(located);
        } else if node.keyword.eq_ignore_ascii_case("arg") {
            file.global_args.extend(located.as_deref().and_then(global_arg));
        } else if name_of(&node.keyword).is_some() {
            homeless.get_or_insert(node.keyword_span);
        }
    }
    if let Some(span) = homeless {
        out.push(
            Diagnostic::error(code::NO_STAGE, span, "no build stage in current context")
                .with_help("only ARG and comments may stand before the first FROM"),
        );
    } else if any && file.stages.is_empty() && out.is_empty() {
        let end = ast.items.last().map_or(0, |item| item.span.end);
        out.push(
            Diagnostic::error(
                code::NO_STAGE,
                Span::new(end, end),
                "dockerfile contains no stages to build",
            )
            .with_help("a stage begins with `FROM <image>`"),
        );
    }
    diagnostic::tidy(&mut out);
    (file, out)
}

fn is_from(node: &Node) -> bool {
    node.keyword.eq_ignore_ascii_case("from")
}

fn global_arg(located: &Located) -> Option<GlobalArg> {
    match &located.instruction {
        Instruction::Arg(args) => {
            Some(GlobalArg { args: args.clone(), span: located.span, text: located.text.clone() })
        }
        _ => None,
    }
}

/// The instruction's name in upper case, if there is one.
fn name_of(keyword: &str) -> Option<&'static str> {
    // Lengths tell nearly all of them apart.
    let mut names = NAMES.iter().filter(|name| name.len() == keyword.len());
    let as_written = names.clone().find(|name| **name == keyword);
    as_written.or_else(|| names.find(|name| keyword.eq_ignore_ascii_case(name))).copied()
}

/// One instruction other than FROM, with its place.
pub(super) fn located(node: &Node, out: &mut Vec<Diagnostic>) -> Option<Arc<Located>> {
    let mut places = Places::default();
    let instruction = instruction(node, &mut places, out)?;
    Some(Arc::new(Located {
        instruction,
        span: node.span,
        line_span: node.line_span(),
        text: node.line.text.trimmed(),
        keyword: node.keyword.clone(),
        word_spans: places.words,
        flag_spans: places.flags,
        comments: node.comments.clone(),
    }))
}

/// Where the words and flags of an instruction stand.
#[derive(Default)]
struct Places {
    words: Vec<Span>,
    flags: Vec<(&'static str, Span)>,
}

fn instruction(node: &Node, places: &mut Places, out: &mut Vec<Diagnostic>) -> Option<Instruction> {
    let Some(keyword) = name_of(&node.keyword) else {
        out.push(unknown(node));
        return None;
    };
    match keyword {
        "RUN" => return run(node, places, out),
        "COPY" => return copy(node, places, &COPY_FLAGS, out).map(Instruction::Copy),
        "ADD" => return copy(node, places, &ADD_FLAGS, out).map(Instruction::Add),
        "HEALTHCHECK" => {
            let (healthcheck, spans) = healthcheck::lower(node, out)?;
            places.flags = spans;
            return Some(Instruction::Healthcheck(healthcheck));
        }
        // The reference never looks at the flags of these two.
        "ARG" => return config::args(node, out).map(Instruction::Arg),
        "STOPSIGNAL" => return config::one(node, out).map(Instruction::StopSignal),
        _ => drop(Flags::read(node, &[], out)),
    }
    Some(match keyword {
        "ENV" | "LABEL" => {
            let pairs = config::pairs(node, out)?;
            places.words = pairs.spans;
            if keyword == "ENV" {
                Instruction::Env(pairs.pairs)
            } else {
                Instruction::Label(pairs.pairs)
            }
        }
        "CMD" => Instruction::Cmd(config::command(node, out)?),
        "ENTRYPOINT" => Instruction::Entrypoint(config::command(node, out)?),
        "SHELL" => config::shell(node, out)?,
        "USER" => Instruction::User(config::one(node, out)?),
        "WORKDIR" => Instruction::Workdir(config::one(node, out)?),
        "MAINTAINER" => Instruction::Maintainer(config::one(node, out)?),
        "ONBUILD" => Instruction::OnBuild(onbuild::read(node, out)?),
        "EXPOSE" => {
            let words = config::expose(node, out)?;
            places.words = words.spans;
            Instruction::Expose(words.texts)
        }
        "VOLUME" => {
            let words = config::volume(node, out)?;
            places.words = words.spans;
            Instruction::Volume(words.texts)
        }
        // FROM has no place here: a trigger cannot begin a stage.
        _ => {
            out.push(Diagnostic::error(
                code::BAD_TRIGGER,
                node.keyword_span,
                format!("{keyword} isn't allowed as an ONBUILD trigger"),
            ));
            return None;
        }
    })
}

fn unknown(node: &Node) -> Diagnostic {
    Diagnostic::error(
        code::UNKNOWN_INSTRUCTION,
        node.keyword_span,
        format!("unknown instruction: {}", node.keyword),
    )
    .with_suggestion(suggest::nearest(&node.keyword, NAMES))
}

fn run(node: &Node, places: &mut Places, out: &mut Vec<Diagnostic>) -> Option<Instruction> {
    let flags = Flags::read(node, &RUN_FLAGS, out);
    let command = config::command(node, out)?;
    let mut run = Run {
        command,
        heredocs: node.heredocs.clone(),
        mounts: Vec::new(),
        network: Network::default(),
        security: Security::default(),
        devices: Vec::new(),
    };
    for (text, span) in flags.list("mount") {
        match MountFlag::new(text, span) {
            Ok(mount) => run.mounts.push(mount),
            Err(error) => {
                out.push(Diagnostic::error(code::BAD_MOUNT, span, error.to_string()));
            }
        }
    }
    for (text, span) in flags.list("device") {
        match Device::parse(text) {
            Ok(device) => run.devices.push(device),
            Err(error) => out.push(Diagnostic::error(code::BAD_FLAG, span, error.to_string())),
        }
    }
    let networks =
        [("default", Network::Default), ("none", Network::None), ("host", Network::Host)];
    run.network = choice(&flags, "network", &networks, out).unwrap_or_default();
    let securities = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];
    run.security = choice(&flags, "security", &securities, out).unwrap_or_default();
    places.flags = flags.spans();
    Some(Instruction::Run(run))
}

/// The value of a flag that takes one of a few words.
fn choice<T: Clone>(
    flags: &Flags,
    name: &str,
    words: &[(&str, T)],
    out: &mut Vec<Diagnostic>,
) -> Option<T> {
    let value = flags.raw(name)?;
    if let Some((_, choice)) = words.iter().find(|(word, _)| *word == value) {
        return Some(choice.clone());
    }
    let span = flags.span(name).unwrap_or_default();
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let diagnostic =
        Diagnostic::error(code::BAD_FLAG, span, format!("invalid value for --{name}: \"{value}\""));
    out.push(match suggest::nearest(value, names.iter().copied()) {
        Some(nearest) => diagnostic.with_suggestion(Some(nearest)),
        None => diagnostic.with_help(format!("one of {}", names.join(", "))),
    });
    None
}

fn copy(
    node: &Node,
    places: &mut Places,
    specs: &[FlagSpec],
    out: &mut Vec<Diagnostic>,
) -> Option<Copy> {
    let errors_before = out.len();
    let flags = Flags::read(node, specs, out);
    let mut words = Words::json_or_blank(node, out)?;
    let dest = words.texts.pop().filter(|_| !words.texts.is_empty());
    let Some(dest) = dest else {
        let keyword = node.keyword.to_uppercase();
        out.push(bad_arguments(
            node.rest_span(),
            format!(
                "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
            ),
        ));
        return None;
    };
    if heredoc_word(&dest).is_some() {
        let span = words.spans.last().copied().unwrap_or(node.rest_span());
        let keyword = node.keyword.to_uppercase();
        let message = format!("{keyword} cannot accept a heredoc as a destination");
        out.push(bad_arguments(span, message));
    }
    if let Some(value) = flags.text("from").filter(|from| from.contains('$')) {
        out.push(
            Diagnostic::error(
                code::BAD_FLAG,
                flags.span("from").unwrap_or(node.keyword_span),
                format!("variable expansion is not supported for --from: {value}"),
            )
            .with_help("define a new stage with FROM using ARG from global scope as a workaround"),
        );
    }
    let mut copy = Copy {
        dest,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or_default(),
        parents: flags.switch("parents").unwrap_or_default(),
        excludes: flags.list("exclude").map(|(text, _)| text.to_owned()).collect(),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
        json: words.json,
        ..Copy::default()
    };
    copy.sources = words.texts;
    copy.sources.retain(|source| match heredoc_word(source) {
        Some(word) => {
            copy.heredocs.push(CopySource::new(&word, &node.heredocs));
            false
        }
        None => true,
    });
    places.words = words.spans;
    places.flags = flags.spans();
    (out.len() == errors_before).then_some(copy)
}
