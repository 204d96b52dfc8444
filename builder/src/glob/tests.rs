use super::*;

#[test]
fn as_go_matches() {
    for (pattern, name, expected) in [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "ab/c", false),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "ab", false),
        ("a?b", "a\u{263a}b", true),
        ("a[^a]b", "a\u{263a}b", true),
        ("a???b", "a\u{263a}b", false),
        ("[a-\u{3b6}]*", "\u{3b1}", true),
        ("*[a-\u{3b6}]", "A", false),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        ("[\\]a]", "]", true),
        ("[\\-]", "-", true),
        ("[x\\-]", "x", true),
        ("[x\\-]", "z", false),
        ("[\\-x]", "a", false),
        ("*x", "xxx", true),
        ("**", "a/b", false),
        ("**/x", "a/x", true),
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("*", ".hidden", true),
        ("arr[[]0].txt", "arr[0].txt", true),
        ("a[!b]c", "a!c", true),
    ] {
        let parsed = Pattern::parse(pattern).expect(pattern);
        assert_eq!(parsed.matches(name), expected, "{pattern} against {name}");
    }
}

#[test]
fn bytes_that_are_no_characters() {
    let pattern = Pattern::parse("a?b").expect("a pattern");
    assert!(pattern.matches(b"a\xffb"));
    assert!(!pattern.matches(b"a\xff\xffb"));
    assert!(Pattern::parse(b"[\xff]").is_err());
    assert!(Pattern::parse(b"\xff*").expect("a pattern").matches(b"\xff\xfe"));
}

#[test]
fn malformed() {
    for pattern in [
        "[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "\\", "[a", "[a-b-c]", "x[a\\",
        "*[",
    ] {
        let error = Pattern::parse(pattern).expect_err(pattern);
        assert_eq!(error.to_string(), format!("syntax error in pattern: {pattern}"));
    }
}

#[test]
fn no_blow_up() {
    let pattern = Pattern::parse("*a".repeat(2_000)).expect("a pattern");
    assert!(!pattern.matches("a".repeat(1_999) + "b"));
}

#[test]
fn paths() {
    for (path, cleaned) in [
        ("", "."),
        ("a//b/./c/", "a/b/c"),
        ("/..//a/../b", "/b"),
        ("../a/../..", "../.."),
        ("./", "."),
        ("/", "/"),
        ("a/..", "."),
    ] {
        assert_eq!(clean(path), cleaned, "{path}");
    }
    assert_eq!(split_wildcards("a/b*/c"), ("a", "b*/c"));
    assert_eq!(split_wildcards("/a/b/[c]"), ("/a/b", "[c]"));
    assert_eq!(split_wildcards("/*"), ("/", "*"));
    assert_eq!(split_wildcards("*"), ("", "*"));
    assert_eq!(split_wildcards("a/b"), ("a/b", ""));
    assert!(!has_wildcard("a\\*b"));
    assert!(has_wildcard("a\\\\*b"));
}
