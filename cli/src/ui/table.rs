//! Text tables: columns as wide as their widest cell, two spaces between them.

use std::fmt::Write as _;

/// Between two columns.
const GAP: usize = 2;

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these column heads; a head that begins with `>` makes its column flush right.
    pub(crate) fn new(heads: &[&str]) -> Self {
        let right = heads.iter().map(|head| head.starts_with('>')).collect();
        let heads = heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![heads], right }
    }

    /// Adds a row with as many cells as there are heads.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.right.len(), "every row has a cell for each column");
        self.rows.push(cells.map(|cell| one_line(&cell)).into());
    }

    /// The table as lines of text, no spaces at the ends of lines.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = widths[column];
                let _infallible = if self.right[column] {
                    write!(line, "{cell:>pad$}")
                } else {
                    write!(line, "{cell:<pad$}")
                };
                line.push_str(&" ".repeat(GAP));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The text with every control character made visible, so that it cannot break the table or the
/// terminal.
pub(crate) fn one_line(text: &str) -> String {
    let blank = |c: char| if c == '\n' || c == '\t' { ' ' } else { c };
    text.chars().map(blank).flat_map(visible).collect()
}

/// A character as it may be shown on a terminal.
pub(crate) fn visible(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", ">SIZE", "WHAT"]);
        table.row(["a".into(), "1".into(), "x".into()]);
        table.row(["longer".into(), "1000".into(), String::new()]);
        assert_eq!(table.render(), "NAME    SIZE  WHAT\na          1  x\nlonger  1000\n");
    }

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(one_line("a\x1b[31m\nb"), "a\\u{1b}[31m b");
    }
}
