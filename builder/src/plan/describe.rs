//! From graph and stage plans to the value that people and programs look at.

use super::outline::{
    Base, BuildPlan, Dependency, Device, Files, Heredoc, ImageUse, Kind, Mounted, PLAN_FORMAT,
    Place, PlannedInstruction, PlannedStage, Reads, Variable,
};
use super::{Action, CopyStep, Found, ImageKey, Origin, PlannedMount, RunStep, StagePlan, Trace};
use crate::graph::{self, Graph, StageNode};
use crate::instruction::mount::MountKind;
use crate::instruction::{Instruction, Located};
use crate::options::{BuildOptions, NetworkMode};
use crate::source::SourceFile;
use crate::text::Text;
use std::collections::{BTreeMap, BTreeSet};

/// A planned build in the forms that a build works with.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    /// The Dockerfile.
    pub file: &'a SourceFile,
    /// All stages.
    pub graph: &'a Graph,
    /// The plans of those that the target needs.
    pub plans: &'a BTreeMap<usize, StagePlan>,
}

/// The plan as a value; `found` says what is known of each image.
pub fn describe(
    all: &Described<'_>,
    options: &BuildOptions,
    found: &dyn Fn(&ImageKey) -> Found,
) -> BuildPlan {
    let mut stages = Vec::with_capacity(all.plans.len());
    // The last instruction so far that made a layer, for each stage.
    let mut tops: BTreeMap<usize, Option<Dependency>> = BTreeMap::new();
    let mut images = BTreeSet::new();
    for (index, plan) in all.plans {
        let node = &all.graph.stages[*index];
        let mut stage = Stage { all, node, plan, tops: &tops, top: base_dependency(node, &tops) };
        let instructions = stage.instructions();
        let top = stage.top;
        tops.insert(*index, top);
        images.extend(node.image().cloned());
        images.extend(origins(plan).filter_map(|origin| match origin {
            Origin::Image(image) => Some(image),
            _ => None,
        }));
        let mut depends_on: BTreeSet<usize> = node.parent().into_iter().collect();
        depends_on.extend(origins(plan).filter_map(|origin| match origin {
            Origin::Stage(stage) => Some(stage),
            _ => None,
        }));
        stages.push(PlannedStage {
            index: *index,
            name: node.name.clone(),
            line: all.file.line_col(node.span.start).line,
            base: base(&node.base),
            depends_on: depends_on.into_iter().collect(),
            instructions,
        });
    }
    BuildPlan {
        format: PLAN_FORMAT,
        dockerfile: all.file.name.clone(),
        platform: options.platform.to_string(),
        target: all.graph.target,
        images: images.into_iter().map(|image| image_use(image, found)).collect(),
        stages,
    }
}

fn origins(plan: &StagePlan) -> impl Iterator<Item = Origin> {
    plan.steps.iter().flat_map(super::Step::origins)
}

fn image_use(image: ImageKey, found: &dyn Fn(&ImageKey) -> Found) -> ImageUse {
    let Found { place, config, manifest, .. } = found(&image);
    let ImageKey { reference, platform } = image;
    ImageUse { reference, platform: platform.to_string(), place, config, manifest }
}

fn base(base: &graph::Base) -> Base {
    match base {
        graph::Base::Scratch => Base::Scratch,
        graph::Base::Stage(index) => Base::Stage { index: *index },
        graph::Base::Named(name) => Base::Context { name: name.clone() },
        graph::Base::Image(image) => Base::Image { reference: image.reference.clone() },
    }
}

/// What the first step of a stage stands on.
fn base_dependency(
    node: &StageNode,
    tops: &BTreeMap<usize, Option<Dependency>>,
) -> Option<Dependency> {
    match &node.base {
        graph::Base::Scratch => None,
        graph::Base::Stage(parent) => tops.get(parent).cloned().flatten(),
        graph::Base::Named(name) => Some(Dependency::Context { name: Some(name.clone()) }),
        graph::Base::Image(image) => Some(Dependency::Image { reference: image.reference.clone() }),
    }
}

fn place(origin: &Origin) -> Place {
    match origin {
        Origin::Context => Place::Context { name: None },
        Origin::Stage(index) => Place::Stage { index: *index },
        Origin::Named(name) => Place::Context { name: Some(name.clone()) },
        Origin::Image(image) => Place::Image { reference: image.reference.clone() },
        Origin::Scratch => Place::Scratch,
    }
}

/// One stage at work.
struct Stage<'a> {
    all: &'a Described<'a>,
    node: &'a StageNode,
    plan: &'a StagePlan,
    tops: &'a BTreeMap<usize, Option<Dependency>>,
    top: Option<Dependency>,
}

impl Stage<'_> {
    fn instructions(&mut self) -> Vec<PlannedInstruction> {
        let all = self.node.instructions.iter().zip(&self.plan.traces).enumerate();
        all.map(|(index, (located, trace))| self.instruction(index + 1, located, trace)).collect()
    }

    fn instruction(
        &mut self,
        number: usize,
        located: &Located,
        trace: &Trace,
    ) -> PlannedInstruction {
        let action = trace.step.map(|step| &self.plan.steps[step].action);
        let mut reads = Reads::default();
        let as_variable =
            |(name, set): &(Text, bool)| Variable { name: name.to_string(), set: *set };
        reads.variables = trace.reads.iter().map(as_variable).collect();
        match action {
            Some(Action::Run(run)) => read_by_run(run, located, &mut reads),
            Some(Action::Copy(copy)) => read_by_copy(copy, &mut reads),
            Some(Action::Workdir { .. }) | None => {}
        }
        let depends_on = action.map(|action| self.dependencies(action)).unwrap_or_default();
        if action.is_some() {
            self.top = Some(Dependency::Instruction { stage: self.node.index, number });
        }
        PlannedInstruction {
            number,
            step: trace.step.map(|step| step + 1),
            line: self.all.file.line_col(located.span.start).line,
            instruction: located.instruction.name(),
            kind: kind(&located.instruction),
            text: text(located, action, trace, self.plan),
            trigger: located.span == self.node.span,
            reads,
            depends_on,
            cache: None,
            problem: trace.problem.clone(),
        }
    }

    fn dependencies(&self, action: &Action) -> Vec<Dependency> {
        let mut all = Vec::new();
        let (origins, linked): (Vec<Origin>, bool) = match action {
            Action::Copy(copy) => {
                let origin = copy.paths().next().map(|_| copy.origin.clone());
                (origin.into_iter().collect(), copy.link)
            }
            Action::Run(run) => (run.mounts.iter().map(|m| m.origin.clone()).collect(), false),
            Action::Workdir { .. } => (Vec::new(), false),
        };
        if !linked {
            all.extend(self.top.clone());
        }
        all.extend(origins.into_iter().filter_map(|origin| match origin {
            Origin::Context => Some(Dependency::Context { name: None }),
            Origin::Named(name) => Some(Dependency::Context { name: Some(name) }),
            Origin::Image(image) => Some(Dependency::Image { reference: image.reference }),
            Origin::Stage(stage) => self.tops.get(&stage).cloned().flatten(),
            Origin::Scratch => None,
        }));
        if let Action::Copy(copy) = action {
            all.extend(copy.remote().map(|url| Dependency::Remote { url: url.to_string() }));
        }
        all.sort();
        all.dedup();
        all
    }
}

fn kind(instruction: &Instruction) -> Kind {
    match instruction {
        Instruction::Run(_) => Kind::Run,
        Instruction::Copy(_) => Kind::Copy,
        Instruction::Add(_) => Kind::Add,
        Instruction::Workdir(_) => Kind::Workdir,
        _ => Kind::Config,
    }
}

fn read_by_run(run: &RunStep, located: &Located, reads: &mut Reads) {
    reads.environment = run.env.iter().map(|(name, _)| name.to_string()).collect();
    reads.mounts = run.mounts.iter().map(mounted).collect();
    let device = |device: &crate::instruction::Device| Device {
        name: device.name.clone(),
        required: device.required,
    };
    reads.devices = run.devices.iter().map(device).collect();
    if let Instruction::Run(written) = &located.instruction {
        let heredoc = |doc: &crate::instruction::Heredoc| Heredoc {
            name: doc.name.to_string(),
            bytes: doc.content().len(),
        };
        reads.heredocs = written.heredocs.iter().map(heredoc).collect();
    }
}

fn mounted(planned: &PlannedMount) -> Mounted {
    let mount = &planned.mount;
    let has_files = match mount.kind {
        MountKind::Bind => true,
        MountKind::Cache => mount.from.is_some(),
        MountKind::Tmpfs | MountKind::Secret | MountKind::Ssh => false,
    };
    Mounted {
        kind: mount.kind.name(),
        target: if mount.target.is_empty() { String::new() } else { planned.target.clone() },
        read_only: mount.read_only,
        from: has_files.then(|| place(&planned.origin)),
        source: mount.source.clone(),
        id: mount.id.clone(),
        required: mount.required,
        env: mount.env.clone(),
        sharing: (mount.kind == MountKind::Cache).then(|| mount.sharing.unwrap_or_default().name()),
    }
}

fn read_by_copy(copy: &CopyStep, reads: &mut Reads) {
    let paths: Vec<String> = copy.paths().map(Text::to_string).collect();
    if !paths.is_empty() {
        reads.files.push(Files {
            from: place(&copy.origin),
            paths,
            excludes: copy.excludes.iter().map(Text::to_string).collect(),
            count: None,
            bytes: None,
        });
    }
    let heredoc =
        |(name, content): &(String, Vec<u8>)| Heredoc { name: name.clone(), bytes: content.len() };
    reads.heredocs = copy.inline.iter().map(heredoc).collect();
    reads.remote = copy.remote().map(Text::to_string).collect();
}

/// The instruction after expansion. What only changes the config is shown as the history shows it.
fn text(located: &Located, action: Option<&Action>, trace: &Trace, plan: &StagePlan) -> String {
    match action {
        Some(Action::Run(run)) => run_text(located, run),
        Some(Action::Copy(copy)) => copy_text(located, copy),
        _ => match trace.entry {
            Some(entry) => plan.history()[entry].created_by.to_string(),
            None => located.text.to_string(),
        },
    }
}

/// The command stands as written, since nothing of it is expanded; the flags are.
fn run_text(located: &Located, run: &RunStep) -> String {
    let mut words = vec!["RUN".to_owned()];
    for planned in &run.mounts {
        let mounted = mounted(planned);
        let mut fields = vec![format!("type={}", mounted.kind)];
        let mut field = |key: &str, value: Option<&str>| {
            fields.extend(value.map(|value| format!("{key}={value}")));
        };
        field("id", mounted.id.as_deref());
        field("target", Some(mounted.target.as_str()).filter(|target| !target.is_empty()));
        field("from", planned.mount.from.as_deref());
        field("source", mounted.source.as_deref());
        field("env", mounted.env.as_deref());
        words.push(format!("--mount={}", fields.join(",")));
    }
    match run.network {
        NetworkMode::Default => {}
        NetworkMode::None => words.push("--network=none".to_owned()),
        NetworkMode::Host => words.push("--network=host".to_owned()),
    }
    if run.insecure {
        words.push("--security=insecure".to_owned());
    }
    words.extend(run.devices.iter().map(|device| format!("--device={}", device.name)));
    if let Instruction::Run(written) = &located.instruction {
        words.push(written.command.to_string());
    }
    words.join(" ")
}

fn copy_text(located: &Located, copy: &CopyStep) -> String {
    let mut words = vec![if copy.is_add { "ADD" } else { "COPY" }.to_owned()];
    if let Instruction::Copy(written) | Instruction::Add(written) = &located.instruction {
        words.extend(written.from.as_ref().map(|from| format!("--from={from}")));
        words.extend(copy.checksum.as_ref().map(|sum| format!("--checksum={sum}")));
        words.extend(written.keep_git_dir.map(|keep| format!("--keep-git-dir={keep}")));
    }
    words.extend(copy.owner.as_ref().map(|owner| format!("--chown={owner}")));
    words.extend(copy.mode.as_ref().map(|(mode, _)| format!("--chmod={mode}")));
    for (flag, given) in [("--link", copy.link), ("--parents", copy.parents)] {
        words.extend(given.then(|| flag.to_owned()));
    }
    words.extend(copy.unpack.map(|unpack| format!("--unpack={unpack}")));
    words.extend(copy.excludes.iter().map(|pattern| format!("--exclude={pattern}")));
    words.extend(copy.sources.iter().map(Text::to_string));
    words.extend(copy.inline.iter().map(|(name, _)| format!("<<{name}")));
    words.push(String::from_utf8_lossy(&copy.dest).into_owned());
    words.join(" ")
}
