//! The plan of a build as a value for people and programs: what `lap build --plan` shows.
//!
//! Its JSON form is these types field by field, with names and tags in snake case; `docs/formats/plan.md`
//! describes it. New fields may come; a changed meaning is a new [`PLAN_FORMAT`].

use serde::Serialize;

/// Version of the JSON form.
pub const PLAN_FORMAT: u32 = 1;

/// What building a target means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildPlan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// What the Dockerfile is called.
    pub dockerfile: String,
    /// The platform that is built for.
    pub platform: String,
    /// The index of the stage that becomes the image.
    pub target: usize,
    /// The images that the build needs, in order of name.
    pub images: Vec<ImageUse>,
    /// The stages that the target needs, in file order.
    pub stages: Vec<PlannedStage>,
}

/// An image that the build needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageUse {
    /// The name, expanded.
    pub reference: String,
    /// The platform that it is wanted for.
    pub platform: String,
    /// Where it was found.
    pub place: ImagePlace,
    /// The digest of its config, when it was found.
    pub config: Option<String>,
    /// The digest of its manifest, when that is known.
    pub manifest: Option<String>,
}

/// Where an image is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImagePlace {
    /// In the store.
    Store,
    /// In its registry: the build will fetch it.
    Registry,
    /// Nobody could say. What it sets (variables, ONBUILD triggers) is not in the plan.
    #[default]
    Unknown,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStage {
    /// Its index in the Dockerfile, from 0.
    pub index: usize,
    /// Its name in lower case.
    pub name: Option<String>,
    /// The line of its FROM, from 1.
    pub line: usize,
    /// What it builds on.
    pub base: Base,
    /// The stages that it needs, by index: the one it builds on and those it copies or mounts from.
    pub depends_on: Vec<usize>,
    /// Its instructions after FROM; those that a base image's ONBUILD adds come first.
    pub instructions: Vec<PlannedInstruction>,
}

/// What a stage builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage {
        /// Its index.
        index: usize,
    },
    /// A named context that is a directory.
    Context {
        /// The context's name.
        name: String,
    },
    /// An image.
    Image {
        /// Its name, expanded.
        reference: String,
    },
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedInstruction {
    /// Its number in the stage, from 1; FROM is not counted.
    pub number: usize,
    /// Its number among the steps of the stage that make layers, from 1, as progress shows it; none for
    /// what only changes the config.
    pub step: Option<usize>,
    /// Its line, from 1; that of FROM for a trigger.
    pub line: usize,
    /// The instruction's name in upper case.
    pub instruction: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The instruction after expansion, on one line but for the text of a shell.
    pub text: String,
    /// Whether it comes from an ONBUILD of what the stage builds on.
    pub trigger: bool,
    /// What it reads.
    pub reads: Reads,
    /// What has to be there before it.
    pub depends_on: Vec<Dependency>,
    /// Its key and whether there is a result for it; none for what makes no layer, and when nothing was
    /// looked up.
    pub cache: Option<Cache>,
    /// What may be wrong with it, when that hangs on a base image that is not known.
    pub problem: Option<String>,
}

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Changes the image's config, or what later instructions see.
    Config,
    /// Runs a program.
    Run,
    /// Copies files.
    Copy,
    /// Copies files, unpacks archives, fetches what is remote.
    Add,
    /// Sets the working directory and makes it.
    Workdir,
}

/// What an instruction reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reads {
    /// Variables that its words look up.
    pub variables: Vec<Variable>,
    /// Variables that the program of a RUN receives, in order. All of them count for its key.
    pub environment: Vec<String>,
    /// Files that it copies.
    pub files: Vec<Files>,
    /// Texts that stand in the Dockerfile itself.
    pub heredocs: Vec<Heredoc>,
    /// What a RUN has mounted.
    pub mounts: Vec<Mounted>,
    /// URLs and git repositories that ADD fetches.
    pub remote: Vec<String>,
    /// Devices that a RUN asks for.
    pub devices: Vec<Device>,
}

/// A variable that was looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether it was set.
    pub set: bool,
}

/// Files that are read from one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Files {
    /// Where they are.
    pub from: Place,
    /// Paths and wildcards from the root of that place, expanded.
    pub paths: Vec<String>,
    /// Patterns of what is left out.
    pub excludes: Vec<String>,
    /// How many files that is, when it was looked up; directories and links are not counted.
    pub count: Option<u64>,
    /// How many bytes they have.
    pub bytes: Option<u64>,
}

/// A place that files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Place {
    /// The build context, or a named one.
    Context {
        /// The context's name; none for the main one.
        name: Option<String>,
    },
    /// A stage of the Dockerfile.
    Stage {
        /// Its index.
        index: usize,
    },
    /// An image.
    Image {
        /// Its name.
        reference: String,
    },
    /// An empty root.
    Scratch,
}

/// A heredoc.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heredoc {
    /// The word that ends it; the file's name for COPY and ADD.
    pub name: String,
    /// How long it is, variables expanded where that is done.
    pub bytes: usize,
}

/// A mount of a RUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mounted {
    /// `bind`, `cache`, `tmpfs`, `secret` or `ssh`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where it is in the step; empty for a secret that is only a variable, or at its usual place.
    pub target: String,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Where the files of a bind mount, or the first ones of a cache, come from.
    pub from: Option<Place>,
    /// The path in there.
    pub source: Option<String>,
    /// The id of a cache, a secret or an agent.
    pub id: Option<String>,
    /// Whether a secret or agent must be there.
    pub required: bool,
    /// The variable that holds a secret.
    pub env: Option<String>,
    /// How steps share a cache: `shared`, `private` or `locked`.
    pub sharing: Option<&'static str>,
}

/// A device of a RUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its CDI name.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

/// What an instruction needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Dependency {
    /// The layers up to this instruction of this or an earlier stage.
    Instruction {
        /// The stage's index.
        stage: usize,
        /// The instruction's number.
        number: usize,
    },
    /// An image.
    Image {
        /// Its name.
        reference: String,
    },
    /// The main build context, or a named one.
    Context {
        /// The context's name; none for the main one.
        name: Option<String>,
    },
    /// A URL or git repository.
    Remote {
        /// As written, expanded.
        url: String,
    },
}

/// What the cache has for a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Hit, miss, or not known.
    pub state: CacheState,
    /// The step's key, when everything that goes into it is known.
    pub key: Option<String>,
    /// The layer that will be used, of a hit.
    pub layer: Option<String>,
    /// Why it is no hit.
    pub why: Option<String>,
}

/// Whether a step will be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheState {
    /// It will not: there is a result.
    Hit,
    /// It will.
    Miss,
    /// That shows when what it reads has been made.
    Unknown,
}

impl BuildPlan {
    /// The stage of this index, when the target needs it.
    pub fn stage(&self, index: usize) -> Option<&PlannedStage> {
        self.stages.iter().find(|stage| stage.index == index)
    }

    /// How many steps are hits, misses, and not known yet.
    pub fn forecast(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for instruction in self.stages.iter().flat_map(|stage| &stage.instructions) {
            match instruction.cache.as_ref().map(|cache| cache.state) {
                Some(CacheState::Hit) => counts.0 += 1,
                Some(CacheState::Miss) => counts.1 += 1,
                Some(CacheState::Unknown) => counts.2 += 1,
                None => {}
            }
        }
        counts
    }
}

impl PlannedStage {
    /// Its name for people: the index when it has none.
    pub fn shown_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.index.to_string())
    }

    /// The instruction that makes the step of this index among the stage's steps, from 0.
    pub fn step_mut(&mut self, step: usize) -> Option<&mut PlannedInstruction> {
        self.instructions.iter_mut().find(|instruction| instruction.step == Some(step + 1))
    }
}
