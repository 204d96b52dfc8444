//! The flags of `lap build`, as typed. Names and meanings are docker's.

use crate::args::{Format, RegistryArgs};
use crate::values;
use clap::ArgAction;
use lapstrake_runner::Ulimit;
use std::path::PathBuf;

/// What `lap build --help` ends with.
const AFTER_HELP: &str = "\
Examples:
  lap build -t app:1 .                                    ./Dockerfile, files from here
  lap build --explain .                                   and say why steps ran again
  lap build -f docker/app.df --target test .              another file, one of its stages
  lap build --build-arg VERSION=2 --build-arg TOKEN .     a value, and one from the environment
  lap build --secret id=npm,src=$HOME/.npmrc .            for RUN --mount=type=secret,id=npm
  lap build --build-context src=../src .                  for COPY --from=src
  lap build -o type=oci,dest=app.tar .                    an OCI archive
  lap build -o type=local,dest=out --target files .       the files themselves
  lap build -t registry.example/app:1 --push .            into a registry
  lap build --plan .                                      what would be done, and what is cached
  lap build https://host/x.git#main:dir                   files from a repository
  tar c . | lap build -                                   files from an archive
  echo 'FROM busybox' | lap build -                       no context at all

The image is put into the store in any case, under every -t name. Progress goes to standard error,
one line per event; with -q there is none, and standard output is the image's id.

Outputs (-o): type=oci|docker|tar|local|image|registry with dest=, compression=gzip|zstd|uncompressed,
compression-level=, force-compression=, rewrite-timestamp=, oci-mediatypes=, annotation.KEY=,
platform-split= (local), tar=false (oci: a directory), name=, push=true.";

/// Build an image from a Dockerfile
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, next_help_heading = "Input")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that docker has")]
pub(crate) struct Args {
    /// The directory, git repository or archive behind a URL that COPY and ADD take files from; `-`
    /// reads an archive from standard input, or a Dockerfile that has no files
    #[arg(value_name = "PATH", help_heading = "Arguments")]
    pub(super) context: String,

    /// The Dockerfile, seen from here or else from PATH; `-` is standard input [default:
    /// PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Set a variable that the Dockerfile declares with ARG; without =VALUE it is taken from the
    /// environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) build_arg: Vec<String>,
    /// Another source of files or base images for FROM and --from: a directory, a repository, an
    /// archive behind a URL, docker-image://NAME, oci-layout://DIR
    #[arg(long, value_name = "NAME=SOURCE")]
    pub(super) build_context: Vec<String>,
    /// Give a secret to steps that mount it: id=ID with src=FILE or env=VARIABLE
    #[arg(long, value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub(super) secret: Vec<String>,
    /// Give an SSH agent's socket to steps that mount it [default socket: $SSH_AUTH_SOCK]
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub(super) ssh: Vec<String>,
    /// Stop after this stage
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// Build for this platform; several become one image with an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub(super) platform: Vec<String>,

    /// Show what would be done, what each step reads, and what the cache has for it; do nothing
    #[arg(
        long,
        value_name = "text|json",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        conflicts_with = "check",
        help_heading = "Output"
    )]
    pub(super) plan: Option<super::plan::PlanFormat>,
    /// Name the image; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]", help_heading = "Output")]
    pub(super) tag: Vec<String>,
    /// Where the result goes beside the store: type=TYPE,dest=PATH,…, or just a directory
    #[arg(short, long, value_name = "type=TYPE[,KEY=VALUE…]", help_heading = "Output")]
    pub(super) output: Vec<String>,
    /// Push every -t name to its registry
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = values::switch(),
        help_heading = "Output",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true
    )]
    #[arg(action = ArgAction::Set)]
    pub(super) push: bool,
    /// Keep the image in the store, which happens in any case
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = values::switch(),
        help_heading = "Output",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true
    )]
    #[arg(action = ArgAction::Set)]
    pub(super) load: bool,
    /// Add a label to the image
    #[arg(
        long,
        value_name = "KEY=VALUE",
        value_parser = values::key_value,
        help_heading = "Output"
    )]
    pub(super) label: Vec<(String, String)>,
    /// Annotate the manifest, or with index:, manifest-descriptor:, index-descriptor: before the key what
    /// these say
    #[arg(long, value_name = "[TYPE:]KEY=VALUE", help_heading = "Output")]
    pub(super) annotation: Vec<String>,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) iidfile: Option<PathBuf>,
    /// Write digests and names as JSON to this file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) metadata_file: Option<PathBuf>,
    /// How progress is shown [default: $BUILDKIT_PROGRESS, else auto]
    #[arg(long, value_name = "HOW", value_enum, help_heading = "Output")]
    pub(super) progress: Option<ProgressMode>,
    /// Write when each step ran, waited and was hashed, as a page for a browser
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) timeline: Option<PathBuf>,
    /// Show no progress; print the image's id
    #[arg(
        short,
        long,
        value_name = "BOOL",
        value_parser = values::switch(),
        help_heading = "Output",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true
    )]
    #[arg(action = ArgAction::Set)]
    pub(super) quiet: bool,

    /// At the end, print why each step was or was not found in the cache (see also `lap explain`)
    #[arg(
        long,
        value_name = "text|json",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        help_heading = "Cache"
    )]
    pub(super) explain: Option<Format>,
    /// Use no earlier result
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = values::switch(),
        help_heading = "Cache",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true
    )]
    #[arg(action = ArgAction::Set)]
    pub(super) no_cache: bool,
    /// Use no earlier result in these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "Cache")]
    pub(super) no_cache_filter: Vec<String>,
    /// Look for results here, too, that the store does not have
    #[arg(long, value_name = "type=local,src=DIR", help_heading = "Cache")]
    pub(super) cache_from: Vec<String>,
    /// Put the results of the image's steps there, with mode=max those of all steps
    #[arg(long, value_name = "type=local,dest=DIR[,mode=max]", help_heading = "Cache")]
    pub(super) cache_to: Vec<String>,
    /// Ask registries for newer base images
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = values::switch(),
        help_heading = "Cache",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true
    )]
    #[arg(action = ArgAction::Set)]
    pub(super) pull: bool,

    /// Keep the store below this size: what was least recently used of the cache goes [default:
    /// $LAP_KEEP_STORAGE, else `keep-storage` of the configuration, else no limit]
    #[arg(long, value_name = "BYTES", value_parser = values::size_bytes, help_heading = "Cache")]
    pub(super) keep_storage: Option<u64>,

    /// Build again without the cache, and show the first step and file that come out otherwise; the
    /// image is named and sent only if none does
    #[arg(long, help_heading = "Output")]
    pub(super) verify: bool,

    #[command(flatten)]
    pub(super) steps: StepArgs,
    #[command(flatten)]
    pub(super) registry: RegistryArgs,
    #[command(flatten)]
    pub(super) foreign: ForeignArgs,
}

/// The surroundings of RUN.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Steps")]
pub(super) struct StepArgs {
    /// The network of steps that name none
    #[arg(
        long,
        value_name = "default|none|host",
        default_value = "default",
        hide_default_value = true
    )]
    pub(super) network: String,
    /// Allow what steps may not do otherwise: network.host, security.insecure
    #[arg(long, value_name = "RIGHT", value_delimiter = ',')]
    pub(super) allow: Vec<String>,
    /// Keep the files of a RUN that failed as an image, for `lap run`
    #[arg(long)]
    pub(super) keep_failed: bool,
    /// Open a shell on this terminal in the root of a RUN that failed, with its environment and mounts
    #[arg(long)]
    pub(super) debug_shell: bool,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:IP", value_parser = values::extra_host)]
    pub(super) add_host: Vec<(String, String)>,
    /// Set a resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = values::ulimit)]
    pub(super) ulimit: Vec<Ulimit>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = values::size_bytes)]
    pub(super) shm_size: Option<u64>,
    /// How many steps may run at once [default: 4 for each processor]
    #[arg(long, short = 'j', value_name = "N")]
    pub(super) jobs: Option<usize>,
}

/// Flags of docker that fingers and scripts know. What they ask for happens anyway, or is refused
/// with a reason; nothing is silently ignored that would change the result.
#[derive(Debug, clap::Args)]
pub(super) struct ForeignArgs {
    /// Nothing is ever left behind, so whether to remove it is no question.
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) rm: Option<String>,
    #[arg(
        long,
        hide = true,
        value_parser = values::switch(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true
    )]
    #[arg(action = ArgAction::Set)]
    pub(super) force_rm: bool,
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) provenance: Option<String>,
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) sbom: Option<String>,
    #[arg(long, hide = true)]
    pub(super) attest: Vec<String>,
    #[arg(long, hide = true)]
    pub(super) builder: Option<String>,
    #[arg(
        long,
        hide = true,
        value_parser = values::switch(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true
    )]
    #[arg(action = ArgAction::Set)]
    pub(super) squash: bool,
    /// Check the Dockerfile as `lap check` does, and build nothing
    #[arg(long, help_heading = "Input")]
    pub(super) check: bool,
    #[arg(long, hide = true)]
    pub(super) call: Option<String>,
    #[arg(long, short = 'm', hide = true)]
    pub(super) memory: Option<String>,
    #[arg(long, hide = true)]
    pub(super) cgroup_parent: Option<String>,
    #[arg(long, hide = true)]
    pub(super) isolation: Option<String>,
    /// Nothing is sent to a daemon that could be compressed on the way.
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) compress: Option<String>,
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) disable_content_trust: Option<String>,
    #[arg(
        long,
        short = 'D',
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) debug: Option<String>,
    #[arg(long, short = 'c', hide = true)]
    pub(super) cpu_shares: Option<String>,
    #[arg(long, hide = true)]
    pub(super) cpu_period: Option<String>,
    #[arg(long, hide = true)]
    pub(super) cpu_quota: Option<String>,
    #[arg(long, hide = true)]
    pub(super) cpuset_cpus: Option<String>,
    #[arg(long, hide = true)]
    pub(super) cpuset_mems: Option<String>,
    #[arg(long, hide = true)]
    pub(super) memory_swap: Option<String>,
    #[arg(long, hide = true)]
    pub(super) security_opt: Vec<String>,
    #[arg(long, hide = true)]
    pub(super) policy: Vec<String>,
    #[arg(long, hide = true)]
    pub(super) invoke: Option<String>,
    #[arg(long, hide = true)]
    pub(super) print: Option<String>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgressMode {
    /// A live view where standard error is a terminal, else lines.
    Auto,
    /// Lines.
    Plain,
    /// The live view; lines where there is no terminal.
    Tty,
    /// Nothing but errors; the image's id on standard output.
    Quiet,
    /// Nothing but errors.
    None,
    /// A JSON object for each event.
    Rawjson,
}
