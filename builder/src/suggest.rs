//! "Did you mean …?": the nearest of a few known words by edit distance.

/// Largest distance at which a word is still suggested; more than two slips are another word.
const MAX_DISTANCE: usize = 2;

/// Longest word worth comparing; a longer one is no slip of a known word.
const MAX_WORD_BYTES: usize = 64;

/// The option nearest to `word` within two edits, ignoring case; the first one wins a tie. An exact
/// match yields nothing: then the word was not what was wrong.
#[must_use]
pub fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_WORD_BYTES {
        return None;
    }
    let lower = word.to_lowercase();
    let mut best = None;
    let mut best_distance = MAX_DISTANCE + 1;
    for option in options {
        let distance = distance(&lower, &option.to_lowercase());
        if distance == 0 {
            return None;
        }
        if distance < best_distance {
            best_distance = distance;
            best = Some(option);
        }
    }
    // A word that has to change entirely is no slip.
    best.filter(|_| best_distance < lower.chars().count())
}

/// Levenshtein's distance in characters, with one row of memory.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        let words = ["chown", "chmod", "from", "link"];
        assert_eq!(nearest("chwon", words), Some("chown"));
        assert_eq!(nearest("FORM", words), Some("from"));
        assert_eq!(nearest("from", words), None);
        assert_eq!(nearest("parents", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest("xy", ["ab"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
