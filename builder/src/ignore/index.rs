//! Which patterns can match a path at all.
//!
//! Every pattern is filed under a few bytes that a matching path must have at fixed places, and under
//! how many slashes it must have. For a path, one row of bits is taken from each table; a pattern is
//! worth trying only if its bit stands in all of them.
//!
//! ```text
//!            row 0: no such byte needed   row 'a'   row 's'  …
//! first byte      011001                   011101    111001
//! last byte       010000                   …                      one bit for each pattern
//! slashes         …
//! ```
//!
//! *Invariant:* a row holds every pattern of row 0: what needs nothing is never left out.

use super::pattern::{Ends, IgnorePattern};

/// Paths with so many slashes or more are not told apart.
const SLASHES_MAX: usize = 32;

/// Rows of bits by a byte of the path.
#[derive(Clone, Debug)]
struct Table {
    /// The row of each byte; 0 for those that no pattern needs.
    row_of: Box<[u16; 256]>,
    rows: Vec<u64>,
    words: usize,
}

impl Table {
    /// Files each pattern under the byte it needs; what needs none is in every row.
    fn new(words: usize, needed: impl Iterator<Item = Need> + Clone) -> Self {
        let mut row_of = Box::new([0; 256]);
        let mut count = 1;
        for need in needed.clone() {
            if let Need::Byte(byte) = need
                && row_of[usize::from(byte)] == 0
            {
                row_of[usize::from(byte)] = count;
                count += 1;
            }
        }
        let mut rows = vec![0; words * usize::from(count)];
        for (index, need) in needed.enumerate() {
            let (word, bit) = (index / 64, 1 << (index % 64));
            match need {
                Need::Never => {}
                Need::Byte(byte) => {
                    rows[usize::from(row_of[usize::from(byte)]) * words + word] |= bit;
                }
                Need::Nothing => {
                    rows.iter_mut().skip(word).step_by(words).for_each(|row| *row |= bit);
                }
            }
        }
        Self { row_of, rows, words }
    }

    fn row(&self, byte: Option<u8>) -> &[u64] {
        let row = byte.map_or(0, |byte| usize::from(self.row_of[usize::from(byte)]));
        &self.rows[row * self.words..(row + 1) * self.words]
    }
}

/// What a pattern needs of one place of a path.
#[derive(Clone, Copy)]
enum Need {
    Nothing,
    Byte(u8),
    Never,
}

/// All tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    words: usize,
    /// First, second, last, last but one, slashes; empty if there are no patterns.
    tables: Vec<Table>,
}

impl Index {
    /// Files the patterns.
    pub(super) fn new(patterns: &[IgnorePattern]) -> Self {
        if patterns.is_empty() {
            return Self::default();
        }
        let words = patterns.len().div_ceil(64);
        let ends: Vec<Ends> = patterns.iter().map(IgnorePattern::ends).collect();
        let table = |need: fn(&Ends) -> Option<u8>| {
            let needed = ends.iter().map(move |ends| match need(ends) {
                _ if ends.never => Need::Never,
                Some(byte) => Need::Byte(byte),
                None => Need::Nothing,
            });
            Table::new(words, needed)
        };
        let tables = vec![
            table(|ends| ends.prefix.first().copied()),
            table(|ends| ends.prefix.get(1).copied()),
            table(|ends| ends.suffix.last().copied()),
            table(|ends| ends.suffix.iter().nth_back(1).copied()),
            table(|ends| ends.slashes.and_then(slashes_row)),
        ];
        Self { words, tables }
    }

    /// Words of 64 patterns.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// The rows of a path.
    pub(super) fn likely(&self, path: &[u8]) -> Likely<'_> {
        let [first, second, last, before_last, slashes] = self.tables.as_slice() else {
            return Likely([&[]; 5]);
        };
        let count = path.split(|byte| *byte == b'/').count() - 1;
        Likely([
            first.row(path.first().copied()),
            second.row(path.get(1).copied()),
            last.row(path.last().copied()),
            before_last.row(path.iter().nth_back(1).copied()),
            slashes.row(slashes_row(count)),
        ])
    }
}

/// The row of so many slashes; `None` where they are too many to be told apart. A path with more than
/// any pattern needs gets row 0, as does a pattern that needs as many: then it is always tried.
fn slashes_row(count: usize) -> Option<u8> {
    u8::try_from(count).ok().filter(|count| usize::from(*count) < SLASHES_MAX)
}

/// The patterns worth trying on one path.
pub(super) struct Likely<'a>([&'a [u64]; 5]);

impl Likely<'_> {
    /// Their bits, 64 at a time.
    pub(super) fn word(&self, word: usize) -> u64 {
        self.0.iter().fold(u64::MAX, |all, row| all & row[word])
    }
}
