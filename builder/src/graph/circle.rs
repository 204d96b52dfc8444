//! Stages that wait for each other.
//!
//! A reference to a later stage is only an error where it is followed: in a stage that the target
//! needs, or where following it leads back. Whether it leads back is found by taking away, until
//! nothing changes, every stage that reads none and every stage that none reads: what is left reads
//! in circles.

use super::Graph;

impl Graph {
    /// For each stage, whether it is part of a circle or of a way between two.
    pub(super) fn circles(&self) -> Vec<bool> {
        let reads: Vec<Vec<usize>> =
            (0..self.stages.len()).map(|index| self.reads_of(index)).collect();
        let mut read_by: Vec<Vec<usize>> = vec![Vec::new(); reads.len()];
        for (index, all) in reads.iter().enumerate() {
            for read in all {
                read_by[*read].push(index);
            }
        }
        let mut left = vec![true; reads.len()];
        take_away(&reads, &read_by, &mut left);
        take_away(&read_by, &reads, &mut left);
        left
    }
}

/// Takes away what leads nowhere, and then what led only there.
fn take_away(ways: &[Vec<usize>], back: &[Vec<usize>], left: &mut [bool]) {
    let count = |index: usize, left: &[bool]| ways[index].iter().filter(|to| left[**to]).count();
    let mut open: Vec<usize> = (0..ways.len()).map(|index| count(index, left)).collect();
    let mut todo: Vec<usize> = (0..ways.len()).filter(|i| left[*i] && open[*i] == 0).collect();
    while let Some(index) = todo.pop() {
        left[index] = false;
        for before in back[index].iter().filter(|before| left[**before]) {
            open[*before] -= 1;
            if open[*before] == 0 {
                todo.push(*before);
            }
        }
    }
}
