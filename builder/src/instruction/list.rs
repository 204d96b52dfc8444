//! The instructions of a stage, shared by all who look at them.

use super::{Instruction, Located};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Instructions in order: a slice, of which a clone costs nothing.
#[derive(Clone, Default)]
pub struct Instructions(Arc<List>);

#[derive(Clone, Default)]
struct List {
    all: Vec<Arc<Located>>,
    /// Which of them refer to stages, images or contexts: few do, and these are often looked for.
    referring: Vec<usize>,
}

impl Instructions {
    /// Those of them that refer to a stage, an image or a context.
    pub(crate) fn referring(&self) -> impl Iterator<Item = &Located> {
        self.0.referring.iter().map(|index| &*self.0.all[*index])
    }
}

/// Whether an instruction refers to a stage, an image or a context.
pub(super) fn refers(instruction: &Instruction) -> bool {
    match instruction {
        Instruction::Copy(copy) | Instruction::Add(copy) => copy.from.is_some(),
        Instruction::Run(run) => run.mounts.iter().any(|mount| mount.from.is_some()),
        _ => false,
    }
}

/// Collects instructions of which it is known whether they refer to something.
#[derive(Default)]
pub(super) struct Builder(List);

impl Builder {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self(List { all: Vec::with_capacity(capacity), referring: Vec::new() })
    }

    pub(super) fn push(&mut self, located: Arc<Located>, refers: bool) {
        if refers {
            self.0.referring.push(self.0.all.len());
        }
        self.0.all.push(located);
    }

    pub(super) fn finish(self) -> Instructions {
        Instructions(Arc::new(self.0))
    }
}

impl FromIterator<Arc<Located>> for Instructions {
    fn from_iter<I: IntoIterator<Item = Arc<Located>>>(all: I) -> Self {
        let mut builder = Builder::default();
        for located in all {
            let refers = refers(&located.instruction);
            builder.push(located, refers);
        }
        builder.finish()
    }
}

impl Deref for Instructions {
    type Target = [Arc<Located>];

    fn deref(&self) -> &[Arc<Located>] {
        &self.0.all
    }
}

impl<'a> IntoIterator for &'a Instructions {
    type Item = &'a Arc<Located>;
    type IntoIter = std::slice::Iter<'a, Arc<Located>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Instructions {
    type Item = Arc<Located>;
    type IntoIter = std::vec::IntoIter<Arc<Located>>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).all.into_iter()
    }
}

impl fmt::Debug for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::{Instructions, lower};
    use crate::source::SourceFile;
    use crate::syntax::parse;

    #[test]
    fn what_refers_is_found_again() {
        let text = "FROM a\nCOPY --from=x a b\nRUN c\nRUN --mount=from=y,target=/z c\n\
                    RUN --mount=type=cache,target=/z c\nADD f g\nCOPY d e\n";
        let (file, _) = lower(&parse(&SourceFile::new("f", text)).0);
        let all = &file.stages[0].instructions;
        let same: Instructions = all.iter().cloned().collect();
        for list in [all, &same] {
            let lines: Vec<&str> = list.referring().map(|located| located.text.as_str()).collect();
            assert_eq!(lines, ["COPY --from=x a b", "RUN --mount=from=y,target=/z c"]);
        }
        assert_eq!(same.into_iter().count(), all.len());
    }
}
