//! The plan: what building a target means, as a value.
//!
//! Planning is pure. It takes the Dockerfile's stages, the options, and what is known of the base images,
//! expands every variable, folds the instructions that only change the config, and leaves a list of
//! [`Step`]s that make layers. Nothing of it touches files: `lap build --plan` prints it.

mod arguments;
mod batch;
mod config;
mod copy;
mod describe;
mod outline;
mod reads;
mod run;
mod stage;
mod target;

pub(crate) use arguments::{bad_epoch, with_epoch};
pub use arguments::{epoch, global_scope};
pub use describe::{Described, describe};
pub use outline::{
    Base, BuildPlan, Cache, CacheState, Dependency, Device, Files, Heredoc, ImagePlace, ImageUse,
    Kind, Mounted, PLAN_FORMAT, Place, PlannedInstruction, PlannedStage, Reads, Variable,
};
pub use stage::{StageInput, plan_stage};
pub use target::{Found, Parsed, parse, plan, plan_needed};

use crate::chmod::Mode;
use crate::instruction::mount::Mount;
use crate::options::NetworkMode;
use crate::remote::Remote;
use crate::scope::SharedPair;
use crate::source::Span;
use crate::text::Text;
use lapstrake_layerstore::archive::Epoch;
use lapstrake_layerstore::oci::{ContainerConfig, History, Platform};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The search path of images that set none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is known of a base image when planning starts.
#[derive(Debug, Clone, Default)]
pub struct BaseFacts {
    /// Its run configuration.
    pub config: ContainerConfig,
    /// Its history.
    pub history: Vec<History>,
    /// Its author.
    pub author: String,
    /// What it runs on, if that is known.
    pub platform: Option<Platform>,
}

/// One planned stage.
#[derive(Debug, Clone)]
pub struct StagePlan {
    /// The steps that make layers, in order.
    pub steps: Vec<Step>,
    /// What each instruction of the stage read and came to, in the order of the instructions.
    pub traces: Vec<Trace>,
    /// State that a stage built on this one starts from.
    pub end: stage::StageState,
}

impl StagePlan {
    /// The run configuration after the last instruction.
    pub fn config(&self) -> &ContainerConfig {
        &self.end.config
    }

    /// Who made it.
    pub fn author(&self) -> &str {
        &self.end.author
    }

    /// History of the base image.
    pub fn base_history(&self) -> &[History] {
        &self.end.base_history
    }

    /// History of this stage's instructions and, for a stage built on another one, of those before.
    pub fn history(&self) -> &[HistoryDraft] {
        &self.end.history
    }
}

/// What one instruction read when it was planned, and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The variables that it looked up, each once, and whether they were set.
    pub reads: Vec<(Text, bool)>,
    /// Its place in [`StagePlan::steps`], when it makes a layer.
    pub step: Option<usize>,
    /// Its place in [`StagePlan::history()`]; ONBUILD has none.
    pub entry: Option<usize>,
    /// Why it could not be planned, when that may be for want of the base image's variables.
    pub problem: Option<String>,
}

/// A history entry whose time is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryDraft {
    /// The text; stages on top of this one share it.
    pub created_by: Arc<str>,
    /// Whether it stands for a layer.
    pub makes_layer: bool,
}

/// An instruction that makes a layer.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it is in the Dockerfile.
    pub span: Span,
    /// The instruction on one line, for people.
    pub title: Text,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Run a program.
    Run(Box<RunStep>),
    /// Copy files.
    Copy(Box<CopyStep>),
    /// Make the working directory.
    Workdir {
        /// Its path from the root.
        path: Text,
        /// Who owns what has to be made.
        user: Text,
    },
}

/// An image as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageKey {
    /// The reference as written, expanded.
    pub reference: String,
    /// The platform it is wanted for.
    pub platform: Platform,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The main build context.
    Context,
    /// A stage of the Dockerfile.
    Stage(usize),
    /// A named context that is a directory.
    Named(String),
    /// An image.
    Image(ImageKey),
    /// Nothing at all: an empty root.
    Scratch,
}

/// A RUN, expanded.
#[derive(Debug, Clone)]
pub struct RunStep {
    /// Program and arguments.
    pub argv: Vec<Text>,
    /// Environment in order, as the key counts it.
    pub env: Arc<Vec<SharedPair>>,
    /// Working directory.
    pub cwd: Text,
    /// USER as written, expanded.
    pub user: Text,
    /// A script that a heredoc holds, with its path in the step.
    pub script: Option<(String, Vec<u8>)>,
    /// Mounts, expanded, with where each reads from.
    pub mounts: Vec<PlannedMount>,
    /// `--network`.
    pub network: NetworkMode,
    /// `--security=insecure`.
    pub insecure: bool,
    /// `--device`.
    pub devices: Vec<crate::instruction::Device>,
}

/// A mount with its source looked up.
#[derive(Debug, Clone)]
pub struct PlannedMount {
    /// The mount.
    pub mount: Mount,
    /// What `from` means.
    pub origin: Origin,
    /// Target from the root, cleaned.
    pub target: String,
}

/// A COPY or ADD, expanded.
#[derive(Debug, Clone)]
pub struct CopyStep {
    /// Whether it is ADD: archives are unpacked.
    pub is_add: bool,
    /// Where sources are.
    pub origin: Origin,
    /// Sources as written, expanded; those that are not here without passwords.
    pub sources: Vec<Text>,
    /// What those sources are that do not lie in `origin`, by their place among `sources`.
    pub remotes: BTreeMap<usize, Remote>,
    /// Files whose contents stand in the Dockerfile: name and content.
    pub inline: Vec<(String, Vec<u8>)>,
    /// Destination from the root; a trailing slash means a directory.
    pub dest: Vec<u8>,
    /// `--chown`, expanded.
    pub owner: Option<Text>,
    /// `--chmod`, as written and parsed.
    pub mode: Option<(Text, Mode)>,
    /// `--link`, where it has an effect.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub excludes: Vec<Text>,
    /// `--unpack`, when given.
    pub unpack: Option<bool>,
    /// `--checksum`, expanded.
    pub checksum: Option<Text>,
}

impl CopyStep {
    /// The sources that ADD fetches.
    pub fn remote(&self) -> impl Iterator<Item = &Text> {
        self.split(true)
    }

    /// The sources that are paths and wildcards.
    pub fn paths(&self) -> impl Iterator<Item = &Text> {
        self.split(false)
    }

    fn split(&self, remote: bool) -> impl Iterator<Item = &Text> {
        let all = self.sources.iter().enumerate();
        all.filter(move |(place, _)| self.remotes.contains_key(place) == remote)
            .map(|(_, text)| text)
    }
}

impl Action {
    /// How the times in the layer's tar are made reproducible: what comes from the context, and directories
    /// that the build makes, get exactly the epoch (a clone and an old checkout differ in their times);
    /// the rest is at most the epoch.
    pub fn epoch(&self, seconds: Option<i64>) -> Option<Epoch> {
        let from_context = match self {
            Self::Workdir { .. } => true,
            // What servers and repositories bring has the same times everywhere.
            Self::Copy(copy) => {
                matches!(copy.origin, Origin::Context | Origin::Named(_))
                    && (copy.remotes.is_empty() || copy.remotes.len() < copy.sources.len())
            }
            Self::Run(_) => false,
        };
        seconds.map(if from_context { Epoch::Set } else { Epoch::Clamp })
    }
}

impl Step {
    /// Everything that must be there before the step can be keyed.
    pub fn origins(&self) -> Vec<Origin> {
        match &self.action {
            Action::Run(run) => run.mounts.iter().map(|m| m.origin.clone()).collect(),
            Action::Copy(copy) => vec![copy.origin.clone()],
            Action::Workdir { .. } => Vec::new(),
        }
    }
}
