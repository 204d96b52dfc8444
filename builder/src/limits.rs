//! Limits of the Dockerfile front end, each with its reason.
//!
//! Going over a limit is an error that names it, never a silent cut.

use std::time::Duration;

/// Longest physical line of a Dockerfile or an ignore file, without its newline. The reference has
/// the same limit, and files that it refuses should not build here only.
pub const MAX_LINE_BYTES: usize = 65_535;

/// Largest Dockerfile. The reference takes no larger message over its wire; 100,000 instructions of
/// the usual kind are half of it.
pub const MAX_DOCKERFILE_BYTES: usize = 16 * 1024 * 1024;

/// Most instructions of a Dockerfile: each takes about a kilobyte of memory.
pub const MAX_INSTRUCTIONS: usize = 200_000;

/// Most things that stand in a Dockerfile: instructions, blank lines, comments.
pub const MAX_ITEMS: usize = 1_000_000;

/// Longest instruction, its continuation lines joined, without heredocs. The kernel hands a program no
/// argument over 128 KiB.
pub const MAX_INSTRUCTION_BYTES: usize = 1024 * 1024;

/// Most `--flags` of one instruction. People write a handful of mounts.
pub const MAX_FLAGS: usize = 1_000;

/// Largest ignore file. People write a few lines; the largest known lists of paths have some thousand.
pub const MAX_IGNORE_BYTES: usize = 4 * 1024 * 1024;

/// Most patterns of an ignore file, or of the `--exclude`s of one COPY. Each costs a bit for every path.
pub const MAX_IGNORE_PATTERNS: usize = 100_000;

/// Longest pattern of an ignore file: as long as a path may be on Linux, so that what is longer
/// names nothing.
pub const MAX_IGNORE_PATTERN_BYTES: usize = 4_096;

/// Most wildcards of all patterns of an ignore file together. Each may be tried at every character of
/// every path; the largest known lists have a few for each of some thousand lines.
pub const MAX_IGNORE_WILDCARDS: usize = 20_000;

/// Most diagnostics that one file yields. A binary file taken for a Dockerfile would yield millions,
/// and nobody reads past the first screen.
pub const MAX_DIAGNOSTICS: usize = 1_000;

/// Deepest nesting of `${…${…}…}` in one word. People write two or three; the bound keeps a hostile
/// word from using up the stack.
pub const MAX_EXPANSION_DEPTH: usize = 200;

/// Longest text that the expansion of one word may yield. Values that double with each ARG line
/// would else need memory without end.
pub const MAX_EXPANDED_BYTES: usize = 16 * 1024 * 1024;

/// Most steps that the expansion of one word may take: bytes that its substitutions yield, and places
/// of patterns tried on characters. Substitutions in the replacements of others multiply; twice what
/// all variables of a stage may hold is enough for any use of them.
pub const MAX_EXPANSION_STEPS: usize = 2 * MAX_VARIABLE_BYTES;

/// Most steps that expanding all words of a file may take, and bytes that planning may copy: variables
/// for each step that sees others than the one before, history for each stage on top of another one.
/// A Dockerfile of a thousand instructions needs some hundred thousand.
pub const MAX_PLANNING_STEPS: usize = 64 * 1024 * 1024;

/// Longest pattern in `${name#pattern}` and its kin, in characters. Matching costs pattern times
/// text, and no hand-written pattern comes near.
pub const MAX_PATTERN_CHARS: usize = 4_096;

/// Deepest nesting of arrays and objects in a JSON form; what is deeper is no JSON, as in Go.
pub const MAX_JSON_DEPTH: usize = 10_000;

/// Most ports that one EXPOSE word can name: all of them.
pub const MAX_PORT: u32 = 65_535;

/// Most variables that the ARGs and ENVs of a stage may set. A step is handed all of them, and the
/// kernel takes two megabytes.
pub const MAX_VARIABLES: usize = 2_000;

/// Most bytes that the names and values of a stage's variables may have together: the kernel takes no
/// larger environment, and values that double with each line would else need memory without end.
pub const MAX_VARIABLE_BYTES: usize = 2 * 1024 * 1024;

/// Most bytes of history of one stage. It stands in the image's config, of which registries take a few
/// megabytes; each RUN's entry repeats all arguments.
pub const MAX_HISTORY_BYTES: usize = 8 * 1024 * 1024;

/// Most stages that a target may need. Each is planned with a copy of what it builds on; images with more
/// than a few dozen are made by programs.
pub const MAX_NEEDED_STAGES: usize = 1_000;

/// Most history entries over all needed stages, inherited ones counted for each: they are what planning
/// keeps in memory, some hundred bytes each.
pub const MAX_HISTORY_ENTRIES: usize = 1_000_000;

/// A context of as many files is large: hashing them takes longer than most builds, and only
/// dependencies, caches and version control have so many.
pub const LARGE_CONTEXT_FILES: u64 = 10_000;

/// A context of as many bytes is large: more than the sources of a large program.
pub const LARGE_CONTEXT_BYTES: u64 = 100_000_000;

/// Most bytes that the list of the files of one step may have before it is compressed: some five million
/// files. What is longer is not kept, and a change of it is explained without names.
pub const MAX_FILE_LIST_BYTES: usize = 512 << 20;

/// Most changed files that the report of a step names; the rest is counted.
pub const MAX_SHOWN_FILES: usize = 50;

/// Most bytes of a record in a shared cache: the longest instruction, escaped, and two digests.
pub const MAX_SHARED_STEP_BYTES: u64 = 8 << 20;

/// Longest address of a remote source. Presigned URLs reach two or three KiB, and web servers refuse what
/// has more than eight.
pub const MAX_REMOTE_ADDRESS_BYTES: usize = 8 * 1024;

/// Most bytes of one file behind a URL. Images of tens of GiB exist; a stream without end must stop.
pub const MAX_REMOTE_BYTES: u64 = 64 << 30;

/// Longest time that one file behind a URL may take: the largest one at 3 MB/s.
pub const MAX_REMOTE_TIME: Duration = Duration::from_secs(6 * 3600);

/// Most bytes of a stream that are looked at to tell an archive from text: two tar headers.
pub const ARCHIVE_PROBE_BYTES: u64 = 1024;
