//! What a Dockerfile says, places and layout left out: what formatting must not change.
//!
//! | counts | does not count |
//! |---|---|
//! | directives: names and values, in order | the case of keywords and of `AS` |
//! | every comment, in order, and the instruction each stands above | blank lines, indentation |
//! | stages: names as written, bases, platforms | blanks between words, line breaks |
//! | instructions with all their values, text for shells to the last blank | how JSON is spaced |
//! | heredocs, byte for byte | line endings outside heredocs, a byte order mark |
//! | errors | warnings: they are about layout, too |

use crate::diagnostic::Diagnostic;
use crate::instruction::{self, ArgDecl, Comment, Instruction, Stage};
use crate::source::{SourceFile, Span, decode};
use crate::syntax::{self, Escape, Item, ItemKind, Node};
use crate::text::Text;

/// The meaning of a Dockerfile: two files with equal meanings build the same image from the same
/// cache keys, and say the same to their readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    directives: Vec<(String, String)>,
    /// All comments, those within continuations included.
    comments: Vec<String>,
    global_args: Vec<Vec<ArgDecl>>,
    stages: Vec<StageMeaning>,
    errors: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct StageMeaning {
    name: Option<Text>,
    base: Text,
    platform: Option<Text>,
    comments: Vec<String>,
    /// Each with the comments above it.
    instructions: Vec<(Vec<String>, Instruction)>,
}

impl Meaning {
    /// The meaning of a file.
    #[must_use]
    pub fn of(source: &SourceFile) -> Self {
        let (ast, mut errors) = syntax::parse(source);
        let (file, more) = instruction::lower(&ast);
        errors.extend(more);
        errors.retain(Diagnostic::is_error);
        let directives = ast.items.iter().filter_map(|item| match &item.kind {
            ItemKind::Directive(directive) => {
                Some((directive.name.clone(), directive.value.clone()))
            }
            _ => None,
        });
        Self {
            directives: directives.collect(),
            comments: ast.items.iter().flat_map(|item| comments(source, item)).collect(),
            global_args: file.global_args.iter().map(|line| bare_args(&line.args)).collect(),
            stages: file.stages.iter().map(stage).collect(),
            errors: errors.into_iter().map(|error| error.message).collect(),
        }
    }

    /// The meaning of one instruction's lines by themselves, under this escape character.
    pub(super) fn of_instruction(lines: &[u8], escape: Escape) -> Self {
        let head: &[u8] = match escape {
            Escape::Backslash => b"FROM scratch\n",
            Escape::Backtick => b"# escape=`\nFROM scratch\n",
        };
        Self::of(&SourceFile::new("", [head, lines].concat()))
    }
}

/// The comments of an item, in order.
fn comments(source: &SourceFile, item: &Item) -> Vec<String> {
    match &item.kind {
        ItemKind::Comment(comment) => vec![comment.text.to_string()],
        ItemKind::Instruction(node) => {
            let body = node.heredocs.first().map(|heredoc| heredoc.body_span.start);
            inner_comments(source, node, body.unwrap_or(item.span.end))
        }
        _ => Vec::new(),
    }
}

/// The comments within an instruction's lines: each line but the first that begins with `#`.
fn inner_comments(source: &SourceFile, node: &Node, end: usize) -> Vec<String> {
    let lines = source.slice(Span::new(node.span.start, end)).split(|byte| *byte == b'\n').skip(1);
    let comment = |line: &[u8]| Some(decode(line).trim().strip_prefix('#')?.trim().to_owned());
    lines.filter_map(comment).collect()
}

fn texts(comments: &[Comment]) -> Vec<String> {
    comments.iter().map(|comment| comment.text.to_string()).collect()
}

fn stage(stage: &Stage) -> StageMeaning {
    let instructions = stage.instructions.iter();
    StageMeaning {
        name: stage.name_written.clone(),
        base: stage.base.clone(),
        platform: stage.platform.clone(),
        comments: texts(&stage.comments),
        instructions: instructions
            .map(|located| (texts(&located.comments), bare(located.instruction.clone())))
            .collect(),
    }
}

/// An instruction without the places that are in it.
fn bare(mut instruction: Instruction) -> Instruction {
    match &mut instruction {
        Instruction::Arg(args) => *args = bare_args(args),
        Instruction::Run(run) => {
            run.heredocs.iter_mut().for_each(|heredoc| heredoc.body_span = Span::default());
            run.mounts.iter_mut().for_each(|mount| mount.span = Span::default());
        }
        _ => {}
    }
    instruction
}

fn bare_args(args: &[ArgDecl]) -> Vec<ArgDecl> {
    args.iter().map(|arg| ArgDecl { span: Span::default(), ..arg.clone() }).collect()
}
