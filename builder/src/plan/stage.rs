//! One stage's instructions, in order, into steps, config and history.

use super::reads::Reads;
use super::{BaseFacts, DEFAULT_PATH, HistoryDraft, StagePlan, Step, Trace};
use super::{config, copy, run};
use crate::diagnostic::{Diagnostic, code};
use crate::error::BuildError;
use crate::expand::{Budget, ExpandError, Lexer};
use crate::graph::{Graph, StageNode};
use crate::instruction::{Instruction, Located};
use crate::limits::{MAX_HISTORY_BYTES, MAX_VARIABLES};
use crate::options::BuildOptions;
use crate::scope::{BuildArgs, EnvList};
use crate::source::{SourceFile, Span};
use crate::text::Text;
use lapstrake_layerstore::oci::{ContainerConfig, History};
use smallvec::{SmallVec, smallvec};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// What planning one stage needs.
#[derive(Debug, Clone, Copy)]
pub struct StageInput<'a> {
    /// The stage.
    pub stage: &'a StageNode,
    /// The plan of the stage it builds on, if it builds on one.
    pub parent: Option<&'a StagePlan>,
    /// The image it builds on, if it builds on one.
    pub base: Option<&'a BaseFacts>,
    /// All stages.
    pub graph: &'a Graph,
    /// The build.
    pub options: &'a BuildOptions,
    /// The Dockerfile, for messages.
    pub file: &'a Arc<SourceFile>,
    /// Whether the image at the bottom is not known, so that what uses its variables cannot be judged:
    /// such a problem is kept with the instruction instead of failing the plan.
    pub guess: bool,
    /// What planning may still cost, for all stages together.
    pub budget: &'a Budget,
}

/// Everything that an instruction can change.
#[derive(Debug, Clone, Default)]
pub struct StageState {
    /// ARG and ENV, the later declaration of a name winning.
    pub(super) env: EnvList,
    /// Declared arguments in order, with their values, for the history of RUN.
    pub(super) args: Vec<(Text, Option<Text>)>,
    /// The run configuration so far.
    pub(super) config: ContainerConfig,
    /// Its user, working directory and shell (the defaults, where it says nothing), which steps share.
    pub(super) user: Text,
    pub(super) workdir: Text,
    pub(super) shell: Arc<[Text]>,
    /// Who made it.
    pub(super) author: String,
    /// Whether this stage set a CMD itself.
    pub(super) cmd_set: bool,
    /// History of the base image.
    pub(super) base_history: Arc<Vec<History>>,
    /// History since.
    pub(super) history: Vec<HistoryDraft>,
    /// Bytes of its texts.
    pub(super) history_bytes: usize,
}

/// Planning at work on one stage.
pub(super) struct Planner<'a> {
    pub(super) input: &'a StageInput<'a>,
    pub(super) given: BuildArgs,
    pub(super) state: StageState,
    pub(super) steps: Vec<Step>,
    /// What the history of each RUN begins with; none when a variable was changed since the last one.
    pub(super) run_head: Option<String>,
    /// Room for one text of the history.
    room: String,
    /// Room for one word that is expanded.
    expanded: Cell<String>,
    /// What the instruction at hand has read.
    reads: RefCell<Reads>,
}

/// A problem of one instruction, and the others that it has.
pub(super) struct Problem {
    code: &'static str,
    message: String,
    /// Where in the instruction it is, where that is known.
    at: Option<Span>,
    more: Vec<Self>,
}

impl Problem {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), at: None, more: Vec::new() }
    }

    /// The same, in a part of the instruction.
    pub(super) fn at(self, span: Span) -> Self {
        Self { at: self.at.or(Some(span)), ..self }
    }

    /// All of them as one, if there are any.
    pub(super) fn together(problems: Vec<Self>) -> Result<(), Self> {
        let mut problems = problems.into_iter();
        let Some(mut first) = problems.next() else { return Ok(()) };
        first.more.extend(problems);
        Err(first)
    }

    fn place(self, line: Span, out: &mut Vec<Diagnostic>) {
        out.push(Diagnostic::error(self.code, self.at.unwrap_or(line), self.message));
        self.more.into_iter().for_each(|problem| problem.place(line, out));
    }

    /// What cannot be expanded.
    pub(super) fn expansion(what: &str, error: &ExpandError) -> Self {
        let code = if error.is_exhaustion() { code::OVER_LIMIT } else { code::BAD_EXPANSION };
        Self::new(code, format!("failed to process {what}: {error}"))
    }

    pub(super) fn arguments(message: &(impl ToString + ?Sized)) -> Self {
        Self::new(code::BAD_ARGUMENTS, message.to_string())
    }
}

/// Plan a stage. All problems of the stage are reported together.
pub fn plan_stage(input: &StageInput<'_>) -> Result<StagePlan, BuildError> {
    let mut planner = Planner {
        input,
        given: BuildArgs::new(&input.options.build_args),
        state: initial(input).map_err(|e| BuildError::plan(e.to_string()))?,
        steps: Vec::with_capacity(
            input.stage.instructions.iter().filter(|one| may_step(one)).count(),
        ),
        run_head: None,
        room: String::new(),
        expanded: Cell::default(),
        reads: RefCell::default(),
    };
    let mut problems = input.stage.trigger_problems.clone();
    let mut traces = Vec::with_capacity(input.stage.instructions.len());
    planner.state.history.reserve(input.stage.instructions.len());
    for located in &input.stage.instructions {
        let (entries, steps) = (planner.state.history.len(), planner.steps.len());
        let result = planner.instruction(located);
        let mut trace = Trace {
            reads: planner.reads.get_mut().take(),
            step: (planner.steps.len() > steps).then_some(steps),
            entry: (planner.state.history.len() > entries).then_some(entries),
            problem: None,
        };
        match result {
            Err(problem) if input.guess && located.text.contains('$') => {
                trace.problem = Some(problem.message);
            }
            Err(problem) => {
                let is_over = problem.code == code::OVER_LIMIT;
                problem.place(located.line_span, &mut problems);
                // What is over a limit would be so again at every line that follows.
                if is_over {
                    break;
                }
            }
            Ok(()) => {}
        }
        if planner.state.history_bytes > MAX_HISTORY_BYTES {
            let message =
                format!("the history of a stage takes more than {MAX_HISTORY_BYTES} bytes");
            problems.push(Diagnostic::error(code::OVER_LIMIT, located.line_span, message));
            break;
        }
        traces.push(trace);
    }
    if !problems.is_empty() {
        return Err(BuildError::Dockerfile { file: Arc::clone(input.file), diagnostics: problems });
    }
    let Planner { state: end, steps, .. } = planner;
    Ok(StagePlan { steps, traces, end })
}

/// Whether an instruction may make a layer.
fn may_step(located: &Located) -> bool {
    use Instruction::{Add, Copy, Run, Workdir};
    matches!(located.instruction, Add(_) | Copy(_) | Run(_) | Workdir(_))
}

/// What the first instruction of a stage finds.
fn initial(input: &StageInput<'_>) -> Result<StageState, ExpandError> {
    let mut state = match (input.parent, input.base) {
        (Some(parent), _) => {
            // All that instructions have set stands in the history, too.
            let entries = parent.end.history.len() * size_of::<HistoryDraft>();
            input.budget.spend(parent.end.history_bytes + entries)?;
            let mut state = StageState { cmd_set: false, ..parent.end.clone() };
            // What the parent's image says counts again over what its ARGs said.
            for (name, value) in EnvList::from_config(&parent.end.config.env).pairs() {
                state.env.set(name, value);
            }
            state
        }
        (None, Some(base)) => StageState {
            env: EnvList::from_config(&base.config.env),
            config: base.config.clone(),
            author: base.author.clone(),
            base_history: Arc::new(base.history.clone()),
            ..StageState::default()
        },
        (None, None) => {
            let config = ContainerConfig { working_dir: "/".to_owned(), ..Default::default() };
            StageState { config, ..StageState::default() }
        }
    };
    // Triggers ran at the top of this stage; they are not handed on.
    state.config.on_build.clear();
    if state.env.value("PATH").is_none() {
        state.env.set("PATH", DEFAULT_PATH);
        state.config.env.push(format!("PATH={DEFAULT_PATH}"));
    }
    Planner::share_config(&mut state);
    Ok(state)
}

impl Planner<'_> {
    fn instruction(&mut self, located: &Located) -> Result<(), Problem> {
        match &located.instruction {
            Instruction::Arg(args) => config::arg(self, located, args),
            Instruction::Env(pairs) => config::env(self, located, pairs),
            Instruction::Label(pairs) => config::label(self, located, pairs),
            Instruction::Run(instruction) => run::plan(self, located, instruction),
            Instruction::Copy(instruction) => copy::plan(self, located, instruction, false),
            Instruction::Add(instruction) => copy::plan(self, located, instruction, true),
            Instruction::Cmd(command) => {
                config::cmd(self, command);
                Ok(())
            }
            Instruction::Entrypoint(command) => {
                config::entrypoint(self, command);
                Ok(())
            }
            Instruction::Shell(words) => {
                config::shell(self, words);
                Ok(())
            }
            Instruction::User(user) => config::user(self, user),
            Instruction::Workdir(path) => config::workdir(self, located, path),
            Instruction::Expose(ports) => config::expose(self, located, ports),
            Instruction::Volume(paths) => config::volume(self, located, paths),
            Instruction::Healthcheck(check) => {
                config::healthcheck(self, check);
                Ok(())
            }
            Instruction::StopSignal(signal) => config::stop_signal(self, signal),
            Instruction::OnBuild(trigger) => {
                self.state.config.on_build.push(trigger.text.clone());
                Ok(())
            }
            Instruction::Maintainer(name) => {
                config::maintainer(self, name);
                Ok(())
            }
        }
    }

    /// Expand one word with what is set before this instruction.
    pub(super) fn expand(&self, word: &Text) -> Result<Text, Problem> {
        let lexer = self.lexer();
        if lexer.is_plain(word) {
            return Ok(word.clone());
        }
        let mut room = self.expanded.take();
        room.clear();
        let note = &mut |name: &str, is_set| self.note_read(word.part_of(name), is_set);
        let done = lexer.expand_onto(&mut room, word, &self.state.env, note);
        let text = done.map(|()| Text::from(&room));
        self.expanded.set(room);
        text.map_err(|e| Problem::expansion(&format!("\"{word}\""), &e))
    }

    /// Expand a word that is part of a text, leaving the error as it is.
    pub(super) fn try_expand<'w>(
        &self,
        text: &Text,
        word: &'w str,
    ) -> Result<Cow<'w, str>, ExpandError> {
        let lexer = self.lexer();
        if lexer.is_plain(word) {
            return Ok(Cow::Borrowed(word));
        }
        let note = &mut |name: &str, is_set| self.note_read(text.part_of(name), is_set);
        let mut expanded = String::with_capacity(word.len());
        lexer.expand_onto(&mut expanded, word, &self.state.env, note)?;
        Ok(Cow::Owned(expanded))
    }

    /// Expand a word of EXPOSE, which is cut into words only then.
    pub(super) fn expand_words(&self, word: &Text) -> Result<SmallVec<[Text; 1]>, Problem> {
        if self.lexer().is_plain(word) && !word.contains(char::is_whitespace) {
            return Ok(smallvec![word.clone()]);
        }
        self.expand(word)?;
        let words = self.lexer().split(word, &self.state.env);
        let words = words.map_err(|e| Problem::expansion(&format!("\"{word}\""), &e))?;
        Ok(words.iter().map(Text::from).collect())
    }

    /// Expand the body of a heredoc.
    pub(super) fn expand_body(&self, name: &str, body: &str) -> Result<String, Problem> {
        let note = &mut |name: &str, is_set| self.note_read(Text::from(name), is_set);
        let lexer = Lexer::of_bodies().within(self.input.budget);
        let mut expanded = String::with_capacity(body.len());
        let done = lexer.expand_onto(&mut expanded, body, &self.state.env, note);
        done.map_err(|e| Problem::expansion(&format!("the heredoc `{name}`"), &e))?;
        Ok(expanded)
    }

    fn lexer(&self) -> Lexer<'_> {
        Lexer::new(self.input.graph.escape.as_char()).within(self.input.budget)
    }

    /// A place in the file: that of a part of a trigger is where the trigger was pulled in.
    pub(super) fn in_file(&self, located: &Located, part: Span) -> Span {
        if located.span == self.input.stage.span { located.line_span } else { part }
    }

    /// Remember that a variable was looked up.
    pub(super) fn note_read(&self, name: Text, is_set: bool) {
        self.reads.borrow_mut().note(name, is_set);
    }

    /// Set a variable. The steps so far keep the list that they saw, so that this may copy it.
    pub(super) fn set(&mut self, name: &Text, value: Text) -> Result<(), Problem> {
        self.arguments_changed();
        let copied = self.state.env.bytes_to_copy();
        let spent = self.input.budget.spend(copied);
        spent.map_err(|e| Problem::expansion("the variables", &e))?;
        self.state.env.set(name, value);
        Ok(())
    }

    /// Too many variables are an error: every step that changes them pays for all.
    pub(super) fn check_variables(&self) -> Result<(), Problem> {
        if self.state.args.len() > MAX_VARIABLES {
            let message = format!("a stage has more than {MAX_VARIABLES} variables");
            return Err(Problem::new(code::OVER_LIMIT, message));
        }
        match self.state.env.over_limit() {
            Some(message) => Err(Problem::new(code::OVER_LIMIT, message)),
            None => Ok(()),
        }
    }

    /// What is said of arguments in the history has to be put together again.
    pub(super) fn arguments_changed(&mut self) {
        self.run_head = None;
    }

    /// An empty text to write a history entry into, for [`Self::history_in`].
    pub(super) fn room(&mut self) -> String {
        let mut room = std::mem::take(&mut self.room);
        room.clear();
        room
    }

    /// Add the history entry of a step that changes the config alone, of these parts.
    pub(super) fn history_of(&mut self, parts: [&str; 2]) {
        let mut room = self.room();
        for part in parts {
            room.push_str(part);
        }
        self.history_in(room, false);
    }

    /// Add a history entry that was written into [`Self::room`].
    pub(super) fn history_in(&mut self, room: String, makes_layer: bool) {
        let created_by = Arc::from(room.as_str());
        self.state.history_bytes += room.len();
        self.state.history.push(HistoryDraft { created_by, makes_layer });
        self.room = room;
    }

    /// The working directory, `/` when none is set.
    pub(super) fn workdir(&self) -> &str {
        &self.state.workdir
    }
}
