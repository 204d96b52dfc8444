//! From nodes to instructions.

use super::config::{self, Words, bad_arguments};
use super::flag::{self, FlagSpec, Flags};
use super::{
    Ast, Copy, CopySource, Device, Dockerfile, GlobalArg, Instruction, Located, MountFlag, NAMES,
    Network, Run, Security, from, healthcheck, list, onbuild,
};
use crate::diagnostic::{self, Diagnostic, code};
use crate::pieces;
use crate::source::{SourceFile, Span};
use crate::suggest;
use crate::syntax::{self, Node, Parts, heredoc_word};
use std::sync::Arc;

/// So many instructions are worth more than one thread.
pub(crate) const LONG_FILE: usize = 256;

/// A part of so many bytes is worth a thread of its own: about half as many instructions.
const PART_BYTES: usize = 8 * 1024;

/// Each thread reads a part so many times as long as the short ones, which those read that end first.
const LONG_PART: usize = 7;

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
    if worth < 2 {
        return None;
    }
    let threads = worth.min(pieces::threads());
    let mut lengths = vec![LONG_PART; threads];
    // They lie between those of this thread and of the others.
    lengths.splice(1..1, vec![1; threads - 1]);
    let parts = Parts::new(file, &lengths)?;
    let read = pieces::all(parts.count(), |index| {
        // An instruction is still near when it gets its meaning.
        let mut lowered = Lowered::default();
        let part = parts.parse(index, &mut |node| lowered.add(node));
        (part, lowered)
    });
    let (mut found, mut all) = (Vec::with_capacity(read.len()), Lowered::default());
    for (part, lowered) in read {
        found.push(part);
        all.append(lowered);
    }
    let (ast, mut problems) = parts.join(found)?;
    let (dockerfile, more) = assemble(&ast, all);
    problems.extend(more);
    Some((ast, dockerfile, problems))
}

/// What some nodes mean. FROM has no meaning by itself; no other depends on those around it.
#[derive(Default)]
struct Lowered {
    /// With each, whether it refers to something, so that nobody has to look at it again for that.
    found: Vec<(Option<Arc<Located>>, bool)>,
    /// Which of the nodes begin a stage.
    froms: Vec<usize>,
    problems: Vec<Diagnostic>,
}

impl Lowered {
    fn add(&mut self, node: &Node) {
        if node.keyword.eq_ignore_ascii_case("from") {
            self.froms.push(self.found.len());
            self.found.push((None, false));
        } else {
            let meaning = located(node, &mut self.problems);
            let refers = meaning.as_ref().is_some_and(|it| list::refers(&it.instruction));
            self.found.push((meaning, refers));
        }
    }

    /// What nodes mean that follow.
    fn append(&mut self, next: Self) {
        let before = self.found.len();
        self.froms.extend(next.froms.into_iter().map(|index| before + index));
        self.found.extend(next.found);
        self.problems.extend(next.problems);
    }
}

/// Puts the instructions into their stages.
fn assemble(
    ast: &Ast,
    Lowered { found, froms, problems: mut out }: Lowered,
) -> (Dockerfile, Vec<Diagnostic>) {
    let mut file = Dockerfile { directives: ast.directives.clone(), ..Dockerfile::default() };
    let mut homeless = None;
    let count = found.len();
    let before = froms.first().copied().unwrap_or(count);
    let (mut nodes, mut found) = (ast.nodes(), found.into_iter());
    for (node, (located, _)) in nodes.by_ref().zip(&mut found).take(before) {
        if node.keyword.eq_ignore_ascii_case("arg") {
            file.global_args.extend(located.as_deref().and_then(global_arg));
        } else if name_of(&node.keyword).is_some() {
            homeless.get_or_insert(node.keyword_span);
        }
    }
    for (number, start) in froms.iter().enumerate() {
        let length = froms.get(number + 1).unwrap_or(&count) - start;
        let Some(node) = nodes.next() else { break };
        let mut stage = from::stage(node, number, &mut out);
        let mut instructions = list::Builder::with_capacity(length - 1);
        for (located, refers) in found.by_ref().take(length) {
            if let Some(located) = located {
                instructions.push(located, refers);
            }
        }
        stage.instructions = instructions.finish();
        file.stages.push(stage);
        // To the next FROM.
        nodes.by_ref().take(length - 1).for_each(drop);
    }
    if let Some(span) = homeless {
        out.push(
            Diagnostic::error(code::NO_STAGE, span, "no build stage in current context")
                .with_help("only ARG and comments may stand before the first FROM"),
        );
    } else if count > 0 && file.stages.is_empty() && out.is_empty() {
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
    run.mounts.reserve_exact(flags.list("mount").count());
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
