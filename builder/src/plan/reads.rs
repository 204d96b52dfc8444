//! Which variables an instruction has looked up, each once, in order of the first look.

use crate::text::Text;
use std::collections::HashSet;

/// So many names are searched one by one; for more, a table is kept.
const FEW_NAMES: usize = 16;

/// An instruction that reads variables at all reads so many of them.
const USUAL_NAMES: usize = 2;

/// Names as they come, and whether each was set.
#[derive(Debug, Default)]
pub(super) struct Reads {
    names: Vec<(Text, bool)>,
    /// The same names, once there are many.
    known: HashSet<Text>,
}

impl Reads {
    /// Notes a name unless it is known.
    pub(super) fn note(&mut self, name: Text, is_set: bool) {
        if self.names.len() < FEW_NAMES {
            if self.names.iter().any(|(known, _)| *known == name) {
                return;
            }
            if self.names.is_empty() {
                self.names.reserve_exact(USUAL_NAMES);
            }
        } else {
            if self.known.is_empty() {
                self.known.extend(self.names.iter().map(|(name, _)| name.clone()));
            }
            if !self.known.insert(name.clone()) {
                return;
            }
        }
        self.names.push((name, is_set));
    }

    /// All names so far; none are known afterwards.
    pub(super) fn take(&mut self) -> Vec<(Text, bool)> {
        self.known.clear();
        std::mem::take(&mut self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_once_however_many_there_are() {
        let mut reads = Reads::default();
        for round in 0..2 {
            for n in 0..100 {
                reads.note(format!("V{n}").into(), round == 0);
            }
        }
        let names = reads.take();
        assert_eq!(names.len(), 100);
        assert_eq!(names[99], ("V99".into(), true));
        reads.note("V0".into(), false);
        assert_eq!(reads.take(), [("V0".into(), false)]);
    }
}
