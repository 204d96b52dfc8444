//! What a file of patterns ignores; the plain matcher in [`oracle`] is the judge of random ones.

mod oracle;

use super::*;
use oracle::Oracle;

#[track_caller]
fn check(file: &str, ignored: &[&str], kept: &[&str]) {
    let ignore = Ignore::parse(file.as_bytes()).expect(file);
    for path in ignored {
        assert!(ignore.is_excluded(path), "{path} should be ignored by {file:?}");
    }
    for path in kept {
        assert!(!ignore.is_excluded(path), "{path} should be kept by {file:?}");
    }
}

#[test]
fn lines() {
    check("\u{feff}b.txt\r\nn\r\n", &["b.txt", "n"], &["a"]);
    check("#c\n  #odd\n\n   \nb", &["#odd", "b"], &["c", "#c"]);
    check("  b.txt  \nwith space.x\n\tn\t", &["b.txt", "with space.x", "n"], &[]);
    check("/b.txt\n/d/s\nx/\n./y", &["b.txt", "d/s", "d/s/f", "x", "x/z", "y"], &["d", "d/b.txt"]);
    check("/\n.\n..\n../..\n../x", &[], &["a", "x", "a/b"]);
    check("*.txt\n! b.txt", &["a.txt"], &["b.txt"]);
    check("a/../b//c/./d", &["b/c/d"], &["a", "b/c"]);
    check("", &[], &["a"]);
}

#[test]
fn wildcards() {
    check("foo", &["foo", "foo/a"], &["a/foo", "foobar"]);
    check("*/foo", &["a/foo", "a/foo/b"], &["foo", "a/b/foo"]);
    check("**/foo", &["foo", "a/foo", "a/b/foo", "a/foo/c"], &["afoo", "foo2", "a/xfoo"]);
    check("**foo", &["foo", "xfoo", "a/xfoo"], &["foox"]);
    check("foo/**", &["foo/a", "foo/a/b"], &["foo", "foobar"]);
    check("foo**", &["foo", "foobar", "foo/a"], &["fo", "a/foo"]);
    check("**", &["a", "a/b", ".x"], &[]);
    check(
        "d/**/f.log",
        &["d/f.log", "d/a/f.log", "d/a/b/f.log"],
        &["f.log", "d/xf.log", "d/f.logx"],
    );
    check("a**/*.txt", &["a/b.txt", "ab/c.txt", "abc/d/e.txt", "a.txt"], &["b/a.txt", "x.txt"]);
    check("a**b", &["ab", "ax/b", "a/b", "a/x/b"], &["axb", "a/xb"]);
    check("**/*.log", &["a.log", "d/c.log", "d/e/.log", "d/x.log/y"], &["a.logs", "log"]);
    check("**/a/*.log", &["a/x.log", "b/a/x.log"], &["x.log", "a/b/x.log"]);
    check("**/a/**", &["a/x", "b/a/x", "b/a/c/d"], &["a", "x"]);
    check(
        "?.txt\nd/[c-d].log",
        &["a.txt", "\u{e9}.txt", "d/c.log"],
        &["ab.txt", "d/e.log", "/.txt"],
    );
    check("[^a].*", &["b.txt"], &["a.txt", "bb.txt"]);
    check("a\\*b", &["a*b"], &["axb"]);
    check("*", &["a", ".hidden", "a/b"], &[]);
    check("*\u{f1}*", &["ni\u{f1}o"], &["nino"]);
    check("a.b\nc+(d)|e$", &["a.b", "c+(d)|e$"], &["axb", "ccd"]);
    check("x^y\nx^*z", &["x^y"], &["x^az"]);
    check("*^*", &[], &["a^b"]);
    check("**/x/?/**/[a-c]*", &["x/1/b", "q/x/1/z/y/cc"], &["x/b", "x/12/b", "x/1/d"]);
}

#[test]
fn taking_back() {
    check("*\n!d", &["a", "b.txt"], &["d", "d/s/f"]);
    check("*\n!d\nd/s/*.log", &["a", "d/s/c.log"], &["d", "d/s", "d/s/f"]);
    check("**\n!d/s/g.txt", &["a", "d", "d/s", "d/s/f"], &["d/s/g.txt"]);
    check("d\n!d/s/g.txt", &["d", "d/s", "d/x"], &["d/s/g.txt"]);
    check("*.log\n!a.log\na.*", &["a.log", "b.log", "a.txt"], &["c.txt"]);
    check("!b.txt\n!zzz", &[], &["b.txt", "a"]);
    check("a/*\n!a/b", &["a/c", "a/c/d"], &["a", "a/b", "a/b/c"]);
    check("a\n!a/b\na/b/c", &["a/x", "a/b/c", "a/b/c/d"], &["a/b", "a/b/d"]);
}

#[test]
fn refused() {
    for (file, message) in [
        ("!", "illegal exclusion pattern: \"!\""),
        ("b\n ! ", "illegal exclusion pattern: \"!\""),
        ("[a-", "syntax error in pattern: [a-"),
        ("a\\", "syntax error in pattern: a\\"),
        ("![", "syntax error in pattern: ["),
    ] {
        assert_eq!(Ignore::parse(file.as_bytes()).expect_err(file).to_string(), message);
    }
    let long = "a".repeat(MAX_LINE_BYTES + 1);
    assert!(matches!(Ignore::parse(long.as_bytes()), Err(IgnoreError::LineTooLong { .. })));
}

#[test]
fn pruning() {
    let prune = |file: &str, dir: &str| {
        let ignore = Ignore::parse(file.as_bytes()).expect(file);
        let (ignored, matches) = ignore.decide(dir, &ParentMatches::default());
        assert!(ignored, "{dir} by {file:?}");
        ignore.can_prune(dir, &matches)
    };
    assert!(prune("d", "d"));
    assert!(prune("*\n!e", "d"));
    assert!(!prune("*\n!d/x", "d"));
    assert!(prune("*\n!dd/x", "d"));
    assert!(!prune("*\n!**/x", "d"));
    assert!(!prune("*\n!d/*/x", "d"));
    assert!(prune("*\n!e/*/x", "d"));
    assert!(!prune("*\n!d/**", "d"));
}

#[test]
fn lists_are_not_normalised_as_lines_are() {
    let matcher = Matcher::new(&["/a", "#b", "*.md"]).expect("fine");
    assert!(!matcher.is_excluded("a"));
    assert!(matcher.is_excluded("#b"));
    assert!(matcher.is_excluded("x.md"));
    assert!(!matcher.is_excluded("d/x.md"));
}

#[test]
fn limits_are_named() {
    for (file, message) in [
        ("a".repeat(4_097), "pattern 0 is longer than 4096 bytes"),
        ("a\n".repeat(100_001), "there are more than 100000 patterns"),
        ("#\n".repeat(3_000_000), "the ignore file is larger than 4194304 bytes"),
    ] {
        assert_eq!(Ignore::parse(file.as_bytes()).expect_err("too much").to_string(), message);
    }
}

/// Patterns that cost a matcher that goes back and tries again more time than there is.
#[test]
fn hostile_patterns_take_little_time() {
    let begun = std::time::Instant::now();
    let name = "a".repeat(255);
    let path = "a/".repeat(2_000) + "a";
    for pattern in [
        "*a".repeat(2_000) + "b",
        "**a".repeat(1_300) + "b",
        "**/".repeat(1_300) + "b",
        "**/a*".repeat(800) + "/b",
        "?".repeat(4_000) + "b",
        "[a-c]*".repeat(600) + "b",
        "*a[a-z]?".repeat(500) + "**/b",
    ] {
        check(&pattern, &[], &[&name, &path]);
    }
    let many = "**/*a*a*b\n".repeat(MAX_IGNORE_WILDCARDS / 5) + "x\n";
    let ignore = Ignore::parse(many.as_bytes()).expect("as many as may be");
    let more = Ignore::parse((many + "?").as_bytes());
    let limit = MAX_IGNORE_WILDCARDS;
    assert_eq!(more.err(), Some(IgnoreError::TooManyWildcards { limit }));
    assert!(ignore.is_excluded("x") && !ignore.is_excluded(&name));
    // Generous: it takes well under a second alone on an idle machine, unoptimised.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

#[test]
fn no_blow_up() {
    let pattern = "**/a*".repeat(100) + "/b";
    let path = "a/".repeat(1_000) + "c";
    check(&pattern, &[], &[&path[..200]]);
    assert!(
        !Ignore::parse(pattern.as_bytes()).expect("fine").matcher().patterns()[0]
            .matches(path.as_bytes())
    );
}

proptest::proptest! {
    /// Pruning is only speed: below a pruned directory everything is ignored.
    #[test]
    fn pruned_means_ignored(
        file in proptest::collection::vec("!?(\\*\\*/|[ab]/){0,2}[ab*?]{1,2}(/\\*\\*)?", 1..6),
        path in "[ab]{1,2}(/[ab]{1,2}){1,3}",
    ) {
        let file = file.join("\n");
        let Ok(ignore) = Ignore::parse(file.as_bytes()) else { return Ok(()) };
        let mut matches = ParentMatches::default();
        let mut pruned = false;
        for (at, _) in path.match_indices('/') {
            let (ignored, below) = ignore.decide(&path[..at], &matches);
            pruned |= ignored && ignore.can_prune(&path[..at], &below);
            matches = below;
        }
        if pruned {
            proptest::prop_assert!(ignore.is_excluded(&path), "{} by {:?}", path, file);
        }
    }

    /// Sorting patterns is only speed, too: each answer is that of trying all of them.
    #[test]
    fn as_the_oracle_says(
        patterns in proptest::collection::vec(
            "!?(\\*\\*/|/|[abc]{1,3}/|\\*/){0,3}([abc*?é]|\\[[abc^-]{1,3}\\]|\\\\[*?ab]|\\*\\*|\\^){1,4}(/\\*\\*|/|/\\*|\\*\\*/[abc])?",
            1..90,
        ),
        paths in proptest::collection::vec("([abcé*?^\n]|[abc]{2,3})(/[abcé]{1,3}){0,4}", 1..8),
    ) {
        // What one of them cannot read, the other cannot.
        let good: Vec<_> = patterns.iter().filter(|p| Oracle::new(&[p]).is_some()).collect();
        proptest::prop_assert!(
            patterns.iter().all(|p| Oracle::new(&[p]).is_some() == Matcher::new(&[p]).is_ok())
        );
        let oracle = Oracle::new(&good).expect("each was read by itself");
        let matcher = Matcher::new(&good).expect("each was read by itself");
        for path in paths {
            let (mut ours, mut theirs) = (ParentMatches::default(), Vec::new());
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            for part in ends.map(|end| &path[..end]) {
                let (ignored, matches) = matcher.decide(part, &ours);
                let (expected, expected_matches) = oracle.decide(part.as_bytes(), &theirs);
                proptest::prop_assert_eq!(ignored, expected, "{} by {:?}", part, good);
                for (index, expected) in expected_matches.iter().enumerate() {
                    proptest::prop_assert_eq!(matches.get(index), *expected, "{} in {:?}", part, good);
                }
                proptest::prop_assert_eq!(
                    matcher.can_prune(part, &matches),
                    oracle.can_prune(part.as_bytes(), &expected_matches)
                );
                (ours, theirs) = (matches, expected_matches);
            }
        }
    }

    #[test]
    fn never_panics(file in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60), path in "\\PC{0,20}") {
        if let Ok(ignore) = Ignore::parse(&file) {
            let _ = ignore.is_excluded(&path);
        }
    }
}
