use super::*;
use crate::limits::{
    MAX_EXPANDED_BYTES, MAX_EXPANSION_DEPTH, MAX_EXPANSION_STEPS, MAX_PATTERN_CHARS,
    MAX_PLANNING_STEPS,
};

fn scope() -> Vec<(String, String)> {
    let pairs = [
        ("SET", "val"),
        ("EMPTY", ""),
        ("F", "path/to/file.tar.gz"),
        ("S", "foofoobar"),
        ("B", "[ab]cab"),
        ("W", "a*b*c"),
        ("PAT", "*/"),
        ("P", "80 81/udp   82"),
        ("M", "one\ntwo"),
        ("\u{e9}t\u{e9}", "warm"),
        ("H", "#x"),
        ("X", "#xy"),
    ];
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[track_caller]
fn check(word: &str, expected: &str) {
    match expand(word, '\\', &scope()) {
        Ok(expanded) => assert_eq!(expanded.text, expected, "{word}"),
        Err(error) => panic!("{word}: {error}"),
    }
}

#[track_caller]
fn check_error(word: &str, expected: &str) {
    let error = expand(word, '\\', &scope()).expect_err(word);
    assert_eq!(error.to_string(), expected, "{word}");
}

#[test]
fn plain_uses() {
    check("$SET", "val");
    check("${SET}x$SET.y", "valxval.y");
    check("$UNSET|${UNSET}", "|");
    check("$\u{e9}t\u{e9}-${\u{e9}t\u{e9}}x", "warm-warmx");
    check("$ x$ $/ $. \"$\"", "$ x$ $/ $. $");
    check("[$$SET] [$1x] [$@] [$?] [$12a] [$0] [$-]", "[SET] [x] [] [] [a] [] []");
    check("\u{feff}x", "x");
    check("$SET_", "");
    check("${-}${!}", "");
}

#[test]
fn quotes_and_escapes() {
    check(r#""x\ny" x\ny 'x\ny'"#, r"x\ny xny x\ny");
    check(r#""x\\y" x\\y "q\"q" q\"q "it\'s""#, r#"x\y x\y q"q q"q it\'s"#);
    check(r#"g"h i"'j k'l"#, "gh ij kl");
    check(r#""$SET" '$SET' \$SET "\$SET""#, "val $SET $SET $SET");
    check(r"end\", "end");
    check(r#""it's" 'a"b'"#, "it's a\"b");
    check("''\"\"", "");
    assert_eq!(
        expand("`$SET \\$SET \"a`\"b\" c` d", '`', &scope()).expect("fine").text,
        "$SET \\val a\"b c d"
    );
    check_error("it's", "unexpected end of statement while looking for matching single-quote");
    check_error("\"x", "unexpected end of statement while looking for matching double-quote");
    check_error("\"x\\", "unexpected end of statement while looking for matching double-quote");
}

#[test]
fn defaults_and_alternatives() {
    check("${UNSET-d}${EMPTY-d}${SET-d}", "dval");
    check("${UNSET:-d}${EMPTY:-d}${SET:-d}", "ddval");
    check("[${UNSET+a}${EMPTY+a}${SET+a}]", "[aa]");
    check("[${UNSET:+a}${EMPTY:+a}${SET:+a}]", "[a]");
    check("${SET:?m}${SET?m}[${EMPTY?m}]", "valval[]");
    check("${A:-${C:-}x${SET}}", "xval");
    check(r#"${UNSET:-"a b"} ${UNSET:-'$SET'} "${UNSET:-x y}" "${UNSET:-'q'}""#, "a b $SET x y q");
    check(r"${UNSET:-a\}b}", "a}b");
    check("${+x}", "");
    check_error("${EMPTY:?is needed}", "EMPTY: is needed");
    check_error("${UNSET?}", "UNSET: is not allowed to be unset");
    check_error("${EMPTY:?}", "EMPTY: is not allowed to be empty");
    check_error("${SET:-${UNSET:?inner}}", "UNSET: inner");
}

#[test]
fn trimming() {
    check("${F#*/}", "to/file.tar.gz");
    check("${F##*/}", "file.tar.gz");
    check("${F%.*}|${F%%.*}", "path/to/file.tar|path/to/file");
    check(
        "${F#x*}|${F#path}|${F#}|[${F#*z}]|[${F##*}]",
        "path/to/file.tar.gz|/to/file.tar.gz|path/to/file.tar.gz|[]|[]",
    );
    check("${F%x}|${F%.gz}|${F%/*}", "path/to/file.tar.gz|path/to/file.tar|path/to");
    check("${B#[ab]}|${B%[b]}", "cab|[ab]cab");
    check(r"${W#a\*}|${W%\**}", "b*c|a*b");
    check("${F#$PAT}|${F##${PAT}}", "to/file.tar.gz|file.tar.gz");
    check("${X#${H}}", "#xy");
    check("${F#?????}", "to/file.tar.gz");
    check("${M#*}|${M##*}", "one\ntwo|\ntwo");
    check("${UNSET#x}${UNSET%%x}", "");
    check_error(r"${F#\x}", r"invalid pattern (\x) in substitution: invalid escape '\x'");
}

#[test]
fn replacing() {
    check("${S/foo/X} ${S/zzz/X} ${S/foo/} ${S/ob/__}", "Xfoobar foofoobar foobar foofo__ar");
    check("${S//foo/X} ${S//o/0} ${S//o/}", "XXbar f00f00bar ffbar");
    check(
        "${F/t*t/X} ${F//./-} ${F/*./X} ${F/?o/X}",
        "paXar.gz path/to/file-tar-gz Xgz path/X/file.tar.gz",
    );
    check("${B//[ab]/_}", "_cab");
    check(r"${W//\*/+}", "a+b+c");
    check(r"${F/\//-}", "path-to/file.tar.gz");
    check("${S//foo/$SET}|${S/foo/${UNSET:-d}}", "valvalbar|dfoobar");
    check("${S/#a/X}", "foofoobar");
    check("${UNSET/a/b}", "");
    check_error("${F/x}", "syntax error: missing '/' in ${}");
    check_error("${F/x/y", "syntax error: missing '}'");
}

#[test]
fn refused() {
    for (word, message) in [
        ("${}", "syntax error: bad substitution"),
        ("${:-x}", "syntax error: bad substitution"),
        ("${{a}", "syntax error: bad substitution"),
        ("${", "syntax error: missing '}'"),
        ("${UNSET", "syntax error: missing '}'"),
        ("${UNSET:", "syntax error: missing '}'"),
        ("${UNSET:-x", "syntax error: missing '}'"),
        ("${UNSET=d}", "unsupported modifier (=) in substitution"),
        ("${UNSET:=d}", "unsupported modifier (:=) in substitution"),
        ("${F:#p}", "unsupported modifier (:#) in substitution"),
        ("${F:%p}", "unsupported modifier (:%) in substitution"),
        ("${a.b}", "unsupported modifier (.) in substitution"),
        ("${F^^}", "unsupported modifier (^) in substitution"),
        ("${!F}", "unsupported modifier (F) in substitution"),
        ("${#F}", "unsupported modifier (F) in substitution"),
    ] {
        check_error(word, message);
    }
}

#[test]
fn words() {
    let words = |word: &str| expand_words(word, '\\', &scope()).expect(word);
    assert_eq!(words("$P"), ["80", "81/udp", "82"]);
    assert_eq!(words("\"$P\" x\\ y"), ["80 81/udp   82", "x y"]);
    assert_eq!(words("$UNSET ''"), Vec::<String>::new());
    assert_eq!(words("a${P}b"), ["a80", "81/udp", "82b"]);
}

#[test]
fn bodies() {
    let body =
        "$SET ${SET} \\$SET \\\\ \\n \"$SET\" '$SET' ${NONE:-dflt} [$NONE] $(no) `no` \\\" $$ $1";
    assert_eq!(
        expand_body(body, &scope()).expect("fine").text,
        "val val $SET \\ n \"val\" 'val' dflt [] $(no) `no` \"  "
    );
}

#[test]
fn what_was_read() {
    let expanded = expand("$SET ${A:-$B2} ${SET:+$C} '$D'", '\\', &scope()).expect("fine");
    assert_eq!(expanded.reads, ["SET", "B2", "A", "C"]);
    assert_eq!(expanded.unset, ["B2", "A", "C"]);
}

#[test]
fn bounds() {
    let deep = "${a:-".repeat(MAX_EXPANSION_DEPTH) + &"}".repeat(MAX_EXPANSION_DEPTH);
    check(&deep, "");
    check_error(&format!("${{a:-{deep}}}"), "substitutions are nested more than 200 deep");
    check_error(&"${a:-".repeat(100_000), "substitutions are nested more than 200 deep");
    let pattern = "?".repeat(MAX_PATTERN_CHARS + 1);
    check_error(
        &format!("${{F#{pattern}}}"),
        "pattern in substitution is longer than 4096 characters",
    );
    let long: Vec<(String, String)> = vec![("L".into(), "a".repeat(100_000))];
    let stars = expand(&format!("${{L##{}b}}", "*a".repeat(10)), '\\', &long).expect("fine");
    assert_eq!(stars.text.len(), 100_000);
    let doubled: Vec<(String, String)> = vec![("L".into(), "a".repeat(1 << 20))];
    let error = |word: &str| expand(word, '\\', &doubled).expect_err("it is over a limit");
    let long = "${L}".repeat(3) + &"x".repeat(MAX_EXPANDED_BYTES - (2 << 20));
    assert_eq!(error(&long), ExpandError::TooLong { limit: MAX_EXPANDED_BYTES });
    let too_much = ExpandError::TooMuchWork { limit: MAX_EXPANSION_STEPS };
    assert_eq!(error(&"$L".repeat(20)), too_much);
    assert_eq!(error(&format!("${{L##{}b}}", "*a".repeat(200))), too_much);
    assert_eq!(error(&format!("${{L//*/{}}}", "\\$0".repeat(100_000))), too_much);
    let nested = (0..10).fold(String::new(), |inner, _| format!("${{P//?/{inner}x$0}}"));
    assert_eq!(expand(&nested, '\\', &scope()), Err(too_much));
}

/// Names are looked for in a table once there are many.
#[test]
fn many_names() {
    let word: String = (0..100).flat_map(|_| (0..30).map(|n| format!("$V{n} $SET "))).collect();
    let expanded = expand(&word, '\\', &scope()).expect("fine");
    assert_eq!((expanded.reads.len(), expanded.unset.len()), (31, 30));
    assert_eq!(expanded.reads[..3], ["V0", "SET", "V1"]);
}

/// What words cost together is bounded, too.
#[test]
fn shared_budget() {
    let long: Vec<(String, String)> = vec![("L".into(), "a".repeat(1 << 20))];
    let budget = Budget::of_file();
    let lexer = Lexer::new('\\').within(&budget);
    for _ in 0..MAX_PLANNING_STEPS >> 20 {
        assert!(lexer.expand("${L", &long).is_err());
        assert!(lexer.expand("$L", &long).is_ok());
    }
    let spent = ExpandError::TooMuchWork { limit: MAX_PLANNING_STEPS };
    assert_eq!(lexer.expand("$L", &long), Err(spent));
}

proptest::proptest! {
    #[test]
    fn never_panics(word in "\\PC*", escape in proptest::sample::select(vec!['\\', '`'])) {
        drop(expand(&word, escape, &scope()));
        drop(expand_words(&word, escape, &scope()));
        drop(expand_body(&word, &scope()));
    }

    #[test]
    fn never_panics_on_syntax(word in "[$ {}:+?#%/*\\\\'\"SETab0-9-]{0,40}") {
        drop(expand(&word, '\\', &scope()));
        drop(expand_words(&word, '\\', &scope()));
    }
}
