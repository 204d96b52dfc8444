//! Stages and what they need of each other: which ones matter for the target, and which images.
//!
//! *Invariant:* a stage that the target needs only ever refers to earlier stages, so file order is a
//! topological order and there are no cycles.

mod circle;
mod references;

use crate::diagnostic::{Diagnostic, code};
use crate::error::BuildError;
use crate::expand::expand;
use crate::instruction::{
    Dockerfile, Escape, Instruction, Instructions, Located, Stage, parse_onbuild,
};
use crate::limits::{MAX_DOCKERFILE_BYTES, MAX_INSTRUCTIONS};
use crate::options::{BuildOptions, NamedContext, context_key};
use crate::plan::{BaseFacts, ImageKey, Origin, bad_epoch, global_scope};
use crate::scope::EnvList;
use crate::source::{SourceFile, Span};
use crate::suggest;
use lapstrake_layerstore::oci::Platform;
pub use references::BadReference;
use references::{Later, check_reference};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The name of the empty base.
const SCRATCH: &str = "scratch";

/// Names of stages for which no named context can stand.
const RESERVED: [&str; 2] = [SCRATCH, "context"];

/// What is known of base images so far.
pub type KnownBases<'a> = &'a dyn Fn(&ImageKey) -> Option<&'a BaseFacts>;

/// What a stage builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// A directory given as a named context.
    Named(String),
    /// An image.
    Image(ImageKey),
}

/// One stage with its base looked up.
#[derive(Debug, Clone)]
pub struct StageNode {
    /// Index in the file.
    pub index: usize,
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// What it builds on.
    pub base: Base,
    /// Its instructions, triggers of its base first.
    pub instructions: Instructions,
    /// Where its FROM line is.
    pub span: Span,
    /// Whether a named context stands in its place: of the file's lines, none counts.
    pub replaced: bool,
    /// What is wrong with the triggers of its base; it counts only when the stage is needed.
    pub trigger_problems: Vec<Diagnostic>,
    triggers_applied: bool,
}

impl StageNode {
    /// The stage it builds on, if it is one.
    pub fn parent(&self) -> Option<usize> {
        match self.base {
            Base::Stage(index) => Some(index),
            _ => None,
        }
    }

    /// The image it builds on, if it is one.
    pub fn image(&self) -> Option<&ImageKey> {
        match &self.base {
            Base::Image(image) => Some(image),
            _ => None,
        }
    }

    /// Its name for people.
    pub fn shown_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.index.to_string())
    }
}

/// All stages of a Dockerfile.
#[derive(Debug, Clone)]
pub struct Graph {
    /// In file order.
    pub stages: Vec<StageNode>,
    /// The stage that becomes the image.
    pub target: usize,
    /// Indexes of the stages of each name, ascending.
    named: HashMap<String, Vec<usize>>,
    /// Global arguments and platform arguments.
    pub global: EnvList,
    /// The file's escape character.
    pub escape: Escape,
    /// The platform that images are wanted for.
    platform: Platform,
    contexts: BTreeMap<String, NamedContext>,
    /// Triggers of bases so far, and bytes of them.
    triggers: usize,
    trigger_bytes: usize,
}

impl Graph {
    /// The platform that a stage's programs are for.
    pub fn platform(&self, stage: usize) -> &Platform {
        match &self.stages[stage].base {
            Base::Image(image) => &image.platform,
            Base::Stage(parent) => self.platform(*parent),
            Base::Scratch | Base::Named(_) => &self.platform,
        }
    }
}

/// Look up every stage's base and the target.
pub fn resolve(
    dockerfile: &Dockerfile,
    options: &BuildOptions,
    file: &Arc<SourceFile>,
) -> Result<Graph, BuildError> {
    let (mut graph, mut problems) = stages(dockerfile, options);
    let aimed = graph.aim(options);
    graph.check_references(Later::WhereFollowed, &mut problems);
    if !problems.is_empty() {
        return Err(BuildError::Dockerfile { file: Arc::clone(file), diagnostics: problems });
    }
    aimed?;
    Ok(graph)
}

/// Look up every stage's base, with all that is wrong in them: a stage whose base cannot be looked up
/// stands on an image of which nothing is known. The target is the last stage.
pub(crate) fn lay_out(dockerfile: &Dockerfile, options: &BuildOptions) -> (Graph, Vec<Diagnostic>) {
    let (graph, mut problems) = stages(dockerfile, options);
    graph.check_references(Later::Everywhere, &mut problems);
    (graph, problems)
}

/// The same without what is wrong in references between stages.
fn stages(dockerfile: &Dockerfile, options: &BuildOptions) -> (Graph, Vec<Diagnostic>) {
    let escape = dockerfile.directives.escape;
    let mut problems = Vec::new();
    let global = global_scope(dockerfile, options, &mut problems);
    problems.extend(bad_epoch(dockerfile, &global));
    let mut graph = Graph {
        stages: Vec::new(),
        target: 0,
        named: HashMap::new(),
        global,
        escape,
        platform: options.platform.clone(),
        contexts: options.contexts(),
        triggers: 0,
        trigger_bytes: 0,
    };
    for stage in &dockerfile.stages {
        let node = graph.node(stage).unwrap_or_else(|problem| {
            problems.push(*problem);
            graph.broken(stage)
        });
        if let Some(name) = &node.name {
            graph.named.entry(name.clone()).or_default().push(node.index);
        }
        graph.stages.push(node);
    }
    for index in 0..graph.stages.len() {
        graph.apply_stage_triggers(index);
    }
    graph.target = graph.stages.len().saturating_sub(1);
    (graph, problems)
}

impl Graph {
    /// Make the stage that the options ask for the target.
    pub(crate) fn aim(&mut self, options: &BuildOptions) -> Result<(), BuildError> {
        self.target = self.find_target(options)?;
        Ok(())
    }

    /// The stages that the target needs, in file order.
    pub fn needed(&self) -> Vec<usize> {
        if self.stages.is_empty() {
            return Vec::new();
        }
        let mut needed = BTreeSet::from([self.target]);
        let mut todo = vec![self.target];
        while let Some(index) = todo.pop() {
            for stage in self.stage_dependencies(index) {
                if needed.insert(stage) {
                    todo.push(stage);
                }
            }
        }
        needed.into_iter().collect()
    }

    fn stage_dependencies(&self, index: usize) -> Vec<usize> {
        let mut all: Vec<usize> = self.stages[index].parent().into_iter().collect();
        all.extend(self.origins(index).into_iter().filter_map(|origin| match origin {
            Origin::Stage(stage) => Some(stage),
            _ => None,
        }));
        all
    }

    /// Images that needed stages name and that are not in `known`; none when planning can go on.
    pub fn missing_bases(&self, known: KnownBases<'_>) -> Option<Vec<ImageKey>> {
        let mut missing = BTreeSet::new();
        for index in self.needed() {
            missing.extend(self.stages[index].image().cloned());
            missing.extend(self.origins(index).into_iter().filter_map(|origin| match origin {
                Origin::Image(image) => Some(image),
                _ => None,
            }));
        }
        missing.retain(|image| known(image).is_none());
        (!missing.is_empty()).then(|| missing.into_iter().collect())
    }

    /// The images that programs of needed stages run over.
    pub fn run_over(&self) -> BTreeSet<ImageKey> {
        let runs = |located: &Arc<Located>| matches!(located.instruction, Instruction::Run(_));
        let mut images = BTreeSet::new();
        for index in self.needed() {
            if self.stages[index].instructions.iter().any(runs) {
                let chain = std::iter::successors(Some(index), |at| self.stages[*at].parent());
                images.extend(chain.filter_map(|at| self.stages[at].image().cloned()));
            }
        }
        images
    }

    /// Put the ONBUILD triggers of base images that are known now before their stages' instructions.
    pub fn apply_triggers(
        &mut self,
        known: KnownBases<'_>,
        file: &Arc<SourceFile>,
    ) -> Result<(), BuildError> {
        let mut problems = Vec::new();
        for index in 0..self.stages.len() {
            let node = &self.stages[index];
            if node.triggers_applied {
                continue;
            }
            let Some(facts) = node.image().and_then(known) else { continue };
            let texts: Vec<&str> = facts.config.on_build.iter().map(String::as_str).collect();
            self.prepend(index, &texts);
        }
        self.check_references(Later::WhereFollowed, &mut problems);
        if problems.is_empty() {
            return Ok(());
        }
        Err(BuildError::Dockerfile { file: Arc::clone(file), diagnostics: problems })
    }

    /// Triggers of a stage of this file are known from the start.
    fn apply_stage_triggers(&mut self, index: usize) {
        let Some(parent) = self.stages[index].parent() else { return };
        let instructions = &self.stages[parent].instructions;
        let is_trigger =
            |located: &&Arc<Located>| matches!(located.instruction, Instruction::OnBuild(_));
        let triggers: Vec<Arc<Located>> =
            instructions.iter().filter(is_trigger).map(Arc::clone).collect();
        let texts: Vec<&str> = triggers
            .iter()
            .filter_map(|located| match &located.instruction {
                Instruction::OnBuild(trigger) => Some(trigger.text.as_str()),
                _ => None,
            })
            .collect();
        self.prepend(index, &texts);
    }

    /// Triggers count as if they stood in the file, where each stage that pulls them in has them again.
    fn count_triggers(&mut self, texts: &[&str]) -> Result<(), String> {
        self.triggers += texts.len();
        self.trigger_bytes += texts.iter().map(|text| text.len()).sum::<usize>();
        if self.triggers > MAX_INSTRUCTIONS {
            return Err(format!("the triggers are more than {MAX_INSTRUCTIONS} instructions"));
        }
        if self.trigger_bytes > MAX_DOCKERFILE_BYTES {
            return Err(format!("the triggers take more than {MAX_DOCKERFILE_BYTES} bytes"));
        }
        Ok(())
    }

    fn prepend(&mut self, index: usize, texts: &[&str]) {
        let mut problems = Vec::new();
        let span = self.stages[index].span;
        if let Err(message) = self.count_triggers(texts) {
            let node = &mut self.stages[index];
            node.triggers_applied = true;
            node.trigger_problems = vec![Diagnostic::error(code::OVER_LIMIT, span, message)];
            return;
        }
        let mut triggered = Vec::new();
        for text in texts {
            match parse_onbuild(text) {
                Ok(mut located) => {
                    // The trigger's text is not in this file: problems point at the FROM that pulls it in.
                    located.span = span;
                    located.line_span = span;
                    located.word_spans.clear();
                    located.flag_spans.clear();
                    triggered.push(Arc::new(located));
                }
                Err(found) => problems.extend(found.into_iter().map(|mut problem| {
                    problem.span = span;
                    problem.message = format!("trigger `{text}` of the base: {}", problem.message);
                    problem
                })),
            }
        }
        let node = &mut self.stages[index];
        node.triggers_applied = true;
        node.trigger_problems = problems;
        if !triggered.is_empty() {
            triggered.extend_from_slice(&node.instructions);
            node.instructions = triggered.into_iter().collect();
        }
    }

    /// The named context that stands for an image or stage of this name.
    fn named_context(&self, name: &str) -> Option<(String, NamedContext)> {
        if self.contexts.is_empty() {
            return None;
        }
        let name = context_key(name);
        let keys = [format!("{name}::{}", self.platform), name];
        let found = keys.iter().find_map(|key| self.contexts.get_key_value(key));
        found.map(|(key, context)| (key.clone(), context.clone()))
    }

    fn node(&self, stage: &Stage) -> Result<StageNode, Box<Diagnostic>> {
        if let Some(name) = &stage.name
            && !RESERVED.contains(&name.as_str())
            && let Some((key, context)) = self.named_context(name)
        {
            return Ok(self.replaced(stage, key, &context));
        }
        let problem = |message: String| {
            Box::new(Diagnostic::error(code::BAD_EXPANSION, stage.base_span, message))
        };
        let escape = self.escape.as_char();
        let base = expand(&stage.base, escape, &self.global)
            .map_err(|e| problem(format!("failed to process \"{}\": {e}", stage.base)))?
            .text;
        if base.is_empty() {
            return Err(problem(format!("base name ({}) should not be blank", stage.base)));
        }
        let platform = self.stage_platform(stage)?;
        Ok(StageNode {
            index: stage.index,
            name: stage.name.clone(),
            base: self
                .base(stage, &base, platform)
                .map_err(|message| self.not_a_stage(&base, problem(message)))?,
            instructions: stage.instructions.clone(),
            span: stage.span,
            replaced: false,
            trigger_problems: Vec::new(),
            triggers_applied: false,
        })
    }

    fn base(&self, stage: &Stage, base: &str, platform: Platform) -> Result<Base, String> {
        if let Some(earlier) = self.named.get(base).and_then(|all| all.last()) {
            return Ok(Base::Stage(*earlier));
        }
        if base == SCRATCH {
            return Ok(Base::Scratch);
        }
        debug_assert_eq!(self.stages.len(), stage.index);
        let reference = match self.named_context(base) {
            Some((name, context)) => match context.image() {
                Some(image) => image,
                None => return Ok(Base::Named(name)),
            },
            None => base.to_owned(),
        };
        check_reference(&reference)?;
        Ok(Base::Image(ImageKey { reference, platform }))
    }

    /// FROM finds a stage by its name in lower case alone, COPY by any.
    fn not_a_stage(&self, base: &str, problem: Box<Diagnostic>) -> Box<Diagnostic> {
        let lower = base.to_lowercase();
        match self.named.get(&lower).and_then(|all| all.last()) {
            Some(stage) => Box::new(
                problem
                    .with_help(format!("write the stage's name in lower case: `FROM {lower}`"))
                    .with_related(self.stages[*stage].span, "the stage"),
            ),
            None => problem,
        }
    }

    fn stage_platform(&self, stage: &Stage) -> Result<Platform, Box<Diagnostic>> {
        let Some(text) = &stage.platform else { return Ok(self.platform.clone()) };
        let span = stage.platform_span.unwrap_or(stage.span);
        let problem =
            |message: String| Box::new(Diagnostic::error(code::BAD_ARGUMENTS, span, message));
        let expanded = expand(text, self.escape.as_char(), &self.global)
            .map_err(|e| problem(format!("failed to process \"{text}\": {e}")))?
            .text;
        if expanded.is_empty() {
            return Err(problem(format!("empty platform value from expression {text}")));
        }
        expanded
            .parse::<Platform>()
            .map(Platform::normalised)
            .map_err(|e| problem(format!("failed to parse platform {expanded}: {e}")))
    }

    /// A stage that a named context of its name replaces: its instructions are skipped, and what its
    /// FROM names does not matter. Only the platform that FROM asks for, if that can be known, is the one
    /// that the image is wanted for.
    fn replaced(&self, stage: &Stage, key: String, context: &NamedContext) -> StageNode {
        let base = match context.image() {
            None => Base::Named(key),
            Some(reference) => {
                let platform = self.stage_platform(stage);
                let platform = platform.unwrap_or_else(|_| self.platform.clone());
                Base::Image(ImageKey { reference, platform })
            }
        };
        StageNode {
            base,
            instructions: Instructions::default(),
            replaced: true,
            ..self.broken(stage)
        }
    }

    /// Holds the place of a stage whose FROM is wrong, so that indexes stay right for what follows.
    fn broken(&self, stage: &Stage) -> StageNode {
        let (reference, platform) = (stage.base.to_string(), self.platform.clone());
        StageNode {
            index: stage.index,
            name: stage.name.clone(),
            base: Base::Image(ImageKey { reference, platform }),
            instructions: stage.instructions.clone(),
            span: stage.span,
            replaced: false,
            trigger_problems: Vec::new(),
            triggers_applied: false,
        }
    }

    /// What a stage builds on, for people.
    pub fn shown_base(&self, index: usize) -> String {
        match &self.stages[index].base {
            Base::Scratch => SCRATCH.to_owned(),
            Base::Stage(parent) => self.stages[*parent].shown_name(),
            Base::Named(name) => name.clone(),
            Base::Image(image) => image.reference.clone(),
        }
    }

    fn find_target(&self, options: &BuildOptions) -> Result<usize, BuildError> {
        let Some(last) = self.stages.len().checked_sub(1) else {
            return Err(BuildError::plan("dockerfile contains no stages to build"));
        };
        let Some(target) = &options.target else { return Ok(last) };
        let lower = target.to_lowercase();
        self.named.get(&lower).and_then(|all| all.last()).copied().ok_or_else(|| {
            let names: Vec<&str> = self.stages.iter().filter_map(|s| s.name.as_deref()).collect();
            let help = match suggest::nearest(&lower, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "no stage of this file has a name".to_owned(),
                None => format!("the named stages are: {}", names.join(", ")),
            };
            let message = format!("target stage \"{target}\" could not be found");
            BuildError::Plan { message, help: Some(help) }
        })
    }
}
