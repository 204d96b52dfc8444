use super::*;

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

    #[test]
    fn never_panics(file in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60), path in "\\PC{0,20}") {
        if let Ok(ignore) = Ignore::parse(&file) {
            let _ = ignore.is_excluded(&path);
        }
    }
}
