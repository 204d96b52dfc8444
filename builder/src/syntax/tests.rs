use super::json::json_form;
use super::word::quoted_words;
use super::*;
use crate::diagnostic::Diagnostic;
use crate::source::SourceFile;

fn parsed(text: impl Into<Vec<u8>>) -> (Ast, Vec<Diagnostic>) {
    parse(&SourceFile::new("Dockerfile", text))
}

/// Keyword, flags and rest of each instruction, one per line.
fn outline(text: impl Into<Vec<u8>>) -> String {
    let (ast, _) = parsed(text);
    let lines: Vec<String> = ast
        .nodes()
        .map(|node| {
            let flags: Vec<&str> = node.flags.iter().map(|flag| flag.text.as_str()).collect();
            format!("{}{flags:?}{}", node.keyword, node.rest())
        })
        .collect();
    lines.join("\n")
}

fn messages(text: impl Into<Vec<u8>>) -> Vec<String> {
    parsed(text).1.into_iter().map(|diagnostic| diagnostic.message).collect()
}

#[test]
fn keywords_and_rest() {
    assert_eq!(outline("FROM a\n  run  x  y \n\tLABEL\ta=1"), "FROM[]a\nrun[]x  y\nLABEL[]a=1");
    assert_eq!(outline("CMD[\"a\"]"), "CMD[\"a\"][]");
    assert_eq!(outline("ENV\u{a0}A=b"), "ENV\u{a0}A=b[]");
    assert_eq!(outline("\u{a0}ENV A=b"), "ENV[]A=b");
    assert_eq!(outline("FROM a\r\nCMD x\r\n"), "FROM[]a\nCMD[]x");
    assert_eq!(outline("\u{feff}FROM a"), "FROM[]a");
}

#[test]
fn flags() {
    assert_eq!(outline("COPY --from=x --link a b"), "COPY[\"--from=x\", \"--link\"]a b");
    assert_eq!(outline("COPY --chown=5:6 -- f /f"), "COPY[\"--chown=5:6\"]f /f");
    assert_eq!(outline("CMD -- --help"), "CMD[]--help");
    assert_eq!(
        outline("RUN --mount='a b,\"c\"' --x=\\ y z"),
        "RUN[\"--mount=a b,\\\"c\\\"\", \"--x= y\"]z"
    );
    assert_eq!(outline("RUN echo --mount=x"), "RUN[]echo --mount=x");
    assert_eq!(outline("RUN --"), "RUN[]");
    assert_eq!(outline("RUN --é=ü \u{e0}"), "RUN[\"--é=ü\"]\u{e0}");
    assert_eq!(outline("RUN --a \\\n  --b c"), "RUN[\"--a\", \"--b\"]c");
}

#[test]
fn continuations() {
    assert_eq!(outline("CMD a\\\n    b\\\n\tc"), "CMD[]a    b\tc");
    assert_eq!(outline("CMD a \\  \n b \\\t\n c"), "CMD[]a  b  c");
    assert_eq!(outline("CMD x\\\\\nCMD y"), "CMD[]x\\\\\nCMD[]y");
    assert_eq!(outline("CMD a \\\n\\\n  \\\n b"), "CMD[]a    b");
    assert_eq!(outline("LA\\\nBEL a=1\nE\\\n# c\nNV B=2"), "LABEL[]a=1\nENV[]B=2");
    assert_eq!(outline("CMD a \\\n# c \\\n   # d\n b"), "CMD[]a  b");
    assert_eq!(outline("CMD a \\\n\n   \n b"), "CMD[]a  b");
    assert_eq!(outline("CMD a \\"), "CMD[]a");
    assert_eq!(outline("CMD a \\\n# end"), "CMD[]a");
    assert_eq!(outline("# escape=`\nCMD a\\\nCMD b `\n c"), "CMD[]a\\\nCMD[]b  c");
    let (ast, _) = parsed("CMD a \\\n\n \\\n\t\n b");
    assert_eq!(ast.nodes().next().expect("a node").blank_continuations.len(), 2);
}

#[test]
fn directives() {
    let escape = |text: &str| parsed(text).0.directives.escape;
    for text in [
        "# escape=`\n",
        "#escape=`\n",
        "  \t# EsCaPe  =  `  \n",
        "\u{feff}# escape=`\n",
        "# check=skip=all\n#escape=`\r\n",
    ] {
        assert_eq!(escape(text), Escape::Backtick, "{text:?}");
    }
    for text in [
        "\n# escape=`",
        "ARG a\n# escape=`",
        "#!/x\n# escape=`",
        "# x\n# escape=`",
        "# foo=bar\n# escape=`",
        "# escape=\\",
    ] {
        assert_eq!(escape(text), Escape::Backslash, "{text:?}");
    }
    assert_eq!(messages("# escape=x\nFROM a"), ["invalid escape token `x`"]);
    assert_eq!(messages("# escape= \nFROM a"), ["invalid escape token ` `"]);
    assert!(messages("# escape=\nFROM a").is_empty());
    assert_eq!(
        messages("# check=a\n# check=b\nFROM a"),
        ["only one check parser directive can be used"]
    );
    let (ast, _) = parsed("# syntax=docker/dockerfile:1\n# check=skip=A;error=true\nFROM a");
    assert_eq!(ast.directives.syntax.expect("given").value, "docker/dockerfile:1");
    assert_eq!(ast.directives.check.expect("given").value, "skip=A;error=true");
}

#[test]
fn syntax_is_recorded_and_never_fetched() {
    let said = |value: &str| messages(format!("# syntax={value}\nFROM a"));
    for known in [
        "docker/dockerfile",
        "docker/dockerfile:1",
        "docker/dockerfile:1.27.1",
        "docker/dockerfile:1-labs",
        "docker/dockerfile:1.20-labs@sha256:00",
        "docker.io/docker/dockerfile:1.4 some=option",
        "docker/dockerfile-upstream:master",
        "localhost:5000/docker/dockerfile:1",
        "dockerfile.v0",
    ] {
        assert!(said(known).is_empty(), "{known}");
    }
    for newer in ["docker/dockerfile:1.28", "docker/dockerfile:2", "docker/dockerfile:99.0.1-labs"]
    {
        assert!(said(newer)[0].contains("is newer than what is built in"), "{newer}");
    }
    for other in ["r2d4/mocker", "localhost:5000/x", "not-docker/dockerfile:1"] {
        assert!(said(other)[0].contains("is not fetched"), "{other}");
    }
    let (_, diagnostics) = parsed("# syntax=docker/dockerfile:7\nFROM a");
    assert!(!diagnostics[0].is_error());
}

fn heredocs(text: impl Into<Vec<u8>>) -> Vec<(String, String, bool, u64)> {
    let (ast, _) = parsed(text);
    let heredocs = ast.nodes().flat_map(|node| node.heredocs.clone());
    heredocs.map(|doc| (doc.name.to_string(), doc.content_text(), doc.expand, doc.fd)).collect()
}

fn doc(name: &str, text: &str, expand: bool, fd: u64) -> (String, String, bool, u64) {
    (name.to_owned(), text.to_owned(), expand, fd)
}

#[test]
fn heredoc_bodies() {
    assert_eq!(heredocs("RUN <<EOF\na\n\n  b\nEOF\nRUN x"), [doc("EOF", "a\n\n  b\n", true, 0)]);
    assert_eq!(
        heredocs("RUN <<-EOF\n\t\ta\tb\n\t EOF\n\tEOF"),
        [doc("EOF", "a\tb\n EOF\n", true, 0)]
    );
    assert_eq!(heredocs("RUN <<'E F'\nx\nE F"), [doc("E F", "x\n", false, 0)]);
    assert_eq!(heredocs("RUN <<\"#E\"\nx\n#E"), [doc("#E", "x\n", false, 0)]);
    assert_eq!(
        heredocs("RUN a 3<<L <<R > /o\n1\nL\n2\nR\n"),
        [doc("L", "1\n", true, 3), doc("R", "2\n", true, 0)]
    );
    assert_eq!(
        heredocs("COPY <<a <<b /d/\na\nb\n"),
        [doc("a", "", true, 0), doc("b", "", true, 0)]
    );
    assert_eq!(heredocs("COPY <<EOF /f\r\nwin\r\nEOF\r\n"), [doc("EOF", "win\r\n", true, 0)]);
    assert_eq!(heredocs("COPY <<EOF /f\n EOF\nEOF \nEOF"), [doc("EOF", " EOF\nEOF \n", true, 0)]);
    assert_eq!(heredocs("ONBUILD COPY <<EOF /f\nx\nEOF"), [doc("EOF", "x\n", true, 0)]);
    assert_eq!(
        heredocs("RUN cat <<EOF \\\n > /x\nbody \\\nEOF"),
        [doc("EOF", "body \\\n", true, 0)]
    );
    assert_eq!(heredocs("# escape=`\nCOPY <<EOF /f\nC:\\\nEOF"), [doc("EOF", "C:\\\n", true, 0)]);
}

#[test]
fn no_heredocs() {
    for text in [
        "RUN [\"<<EOF\"]\nx",
        "CMD <<EOF\nx",
        "ENV A=<<EOF",
        "RUN echo '<<EOF'",
        "RUN echo it's <<EOF",
        "RUN a <<<EOF",
        "RUN a << EOF",
        "RUN a<<EOF",
        "RUN cat <<EOF>x",
        "ONBUILD CMD <<X",
    ] {
        let expected = text == "RUN cat <<EOF>x";
        assert_eq!(!heredocs(text).is_empty(), expected, "{text}");
    }
}

#[test]
fn unterminated() {
    let (ast, diagnostics) = parsed("FROM a\nRUN <<EOF\necho\nCMD x");
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].message, "unterminated heredoc `EOF`");
    assert_eq!(ast.nodes().count(), 2);
}

#[test]
fn json_forms() {
    let strings =
        |words: &[&str]| JsonForm::Strings(words.iter().map(|w| String::from(*w).into()).collect());
    for (text, form) in [
        ("[]", strings(&[])),
        (" [ \"a\" ,\t\"b c\"   ,\"\" ] ", strings(&["a", "b c", ""])),
        (r#"["\u0041\t\n\/\\\"", "a\u00e9"]"#, strings(&["A\t\n/\\\"", "a\u{e9}"])),
        (r#"["\ud83d\ude00\ud800x\udc00"]"#, strings(&["\u{1f600}\u{fffd}x\u{fffd}"])),
        ("[\"a\"", JsonForm::NotJson),
        ("[\"a\",]", JsonForm::NotJson),
        ("[\"a\"] x", JsonForm::NotJson),
        ("['a']", JsonForm::NotJson),
        ("[ -f /x ]", JsonForm::NotJson),
        ("[\"c:\\windows\"]", JsonForm::NotJson),
        ("[\"a\tb\"]", JsonForm::NotJson),
        ("{\"a\": \"b\"}", JsonForm::NotJson),
        ("[1]", JsonForm::NotStrings),
        ("[\"a\", true]", JsonForm::NotStrings),
        ("[[\"a\"]]", JsonForm::NotStrings),
        ("[null]", JsonForm::NotStrings),
        ("[{\"a\": [1, -2.5e+3, {}]}, []]", JsonForm::NotStrings),
        ("[01]", JsonForm::NotJson),
        ("[1.]", JsonForm::NotJson),
        ("[1e999]", JsonForm::NotJson),
        ("[{\"a\"}]", JsonForm::NotJson),
        ("[{\"a\":1,}]", JsonForm::NotJson),
        ("[[1,]]", JsonForm::NotJson),
        ("[tru]", JsonForm::NotJson),
        ("[", JsonForm::NotJson),
        ("", JsonForm::NotJson),
    ] {
        assert_eq!(json_form(text), form, "{text}");
    }
    assert_eq!(json_form(&"[".repeat(1_000_000)), JsonForm::NotJson);
    assert_eq!(
        json_form(&format!("[{}{}]", "[".repeat(5_000), "]".repeat(5_000))),
        JsonForm::NotStrings
    );
}

#[test]
fn words_with_quotes() {
    let words = |text: &str| -> Vec<String> {
        quoted_words(text, Escape::Backslash).into_iter().map(|word| word.text.to_owned()).collect()
    };
    assert_eq!(
        words(r#"a="x y" b='q r' c=e\ f d=\"g h"#),
        [r#"a="x y""#, "b='q r'", r"c=e\ f", r#"d=\"g"#, "h"]
    );
    assert_eq!(words(r"a='x\' b"), [r"a='x\'", "b"]);
    assert_eq!(words(r#"a="x\" y" '' b\"#), [r#"a="x\" y""#, "''", "b"]);
    assert_eq!(words("  "), Vec::<String>::new());
    assert_eq!(words("a\u{a0}b"), ["a", "b"]);
}

#[test]
fn spans_name_bytes() {
    let text = "FROM a\nCOPY --from=x \\\n  src \\\n  # c\n  /dst\n";
    let (ast, _) = parsed(text);
    let node = ast.nodes().nth(1).expect("two nodes");
    let at = |span: crate::source::Span| &text[span.range()];
    assert_eq!(at(node.keyword_span), "COPY");
    assert_eq!(at(node.flags[0].span), "--from=x");
    assert_eq!(at(node.rest_span()), "src \\\n  # c\n  /dst");
    assert_eq!(at(node.span_in_rest(0..3)), "src");
    let rest = node.rest();
    let dst = rest.find("/dst").expect("in the rest");
    assert_eq!(at(node.span_in_rest(dst..dst + 4)), "/dst");
    assert_eq!(at(node.span), "COPY --from=x \\\n  src \\\n  # c\n  /dst");
}

#[test]
fn spans_of_bytes_that_are_no_text() {
    let bytes = b"ENV A=\xff\xfe B=x\\\n\xe9 C=\xffy";
    let (ast, _) = parsed(&bytes[..]);
    let node = ast.nodes().next().expect("a node");
    assert_eq!(node.rest(), "A=\u{fffd}\u{fffd} B=x\u{fffd} C=\u{fffd}y");
    let at = |part: &str| {
        let start = node.rest().find(part).expect(part);
        &bytes[node.span_in_rest(start..start + part.len()).range()]
    };
    assert_eq!(at("A=\u{fffd}\u{fffd}"), b"A=\xff\xfe");
    assert_eq!(at("B=x"), b"B=x");
    assert_eq!(at("\u{fffd} C"), b"\xe9 C");
    assert_eq!(at("C=\u{fffd}y"), b"C=\xffy");
    assert_eq!(at("C=\u{fffd}"), b"C=\xff");
}

#[test]
fn comments_belong_to_the_next_instruction() {
    let (ast, _) = parsed("# syntax=x\n# one\n\n  #two \nFROM a\nRUN x");
    let nodes: Vec<_> = ast.nodes().collect();
    let texts: Vec<&str> = nodes[0].comments.iter().map(|comment| comment.text.as_str()).collect();
    assert_eq!(texts, ["one", "two"]);
    assert!(nodes[1].comments.is_empty());
}

#[test]
fn nothing_to_build() {
    assert_eq!(messages(""), ["the Dockerfile cannot be empty"]);
    assert_eq!(messages("# nothing\n\n  # x\n"), ["file with no instructions"]);
}

#[test]
fn long_lines() {
    let fits = format!("FROM a\nRUN {}\n", "x".repeat(65_531));
    assert!(messages(fits).is_empty());
    let too_long = format!("FROM a\nRUN {}\nCMD x", "x".repeat(65_532));
    assert_eq!(
        messages(too_long.as_str()),
        ["dockerfile line greater than max allowed size of 65535"]
    );
    assert_eq!(outline(too_long), "FROM[]a\nCMD[]x");
    let (ast, diagnostics) = parsed(vec![b'a'; 20_000_000]);
    assert_eq!((ast.items.len(), diagnostics.len()), (1, 1));
}

/// The items cover the file, and what is named within them lies within them.
fn check_cover(bytes: &[u8]) {
    let source = SourceFile::new("f", bytes);
    let (ast, diagnostics) = parse(&source);
    let mut at = 0;
    for item in &ast.items {
        assert_eq!(item.span.start, at);
        assert!(item.span.end > at);
        at = item.span.end;
        if let ItemKind::Instruction(node) = &item.kind {
            assert!(item.span.start <= node.span.start && node.span.end <= item.span.end);
            for span in [node.keyword_span, node.rest_span(), node.line_span()] {
                assert!(node.span.start <= span.start && span.start <= span.end, "{span:?}");
                assert!(span.end <= node.span.end, "{span:?} in {:?}", node.span);
            }
        }
    }
    assert_eq!(at, bytes.len());
    for diagnostic in diagnostics {
        assert!(diagnostic.span.end <= bytes.len());
        let text = std::str::from_utf8(bytes);
        assert!(
            text.is_err_and(|_| true) || std::str::from_utf8(source.slice(diagnostic.span)).is_ok()
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        check_cover(&bytes);
        drop(crate::instruction::lower(&parse(&SourceFile::new("f", bytes)).0));
    }

    #[test]
    fn likely_text(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "FROM ", "RUN ", "COPY ", "ENV ", "ONBUILD ", "HEALTHCHECK ", "ARG ", "LABEL ", "a=b ", "<<EOF", "<<-'X y'",
            "\n", "\r\n", "\\\n", "\\", " ", "\t", "#", "# escape=`\n", "`\n", "\"", "'", "[\"a\"]", "[1]", "EOF\n", "--from=",
            "--mount=type=cache,", "$x", "${x:-", "}", "é", "\u{feff}", "CMD ", "NONE", "--",
        ]), 0..40),
    ) {
        let text = pieces.concat();
        check_cover(text.as_bytes());
        let (ast, _) = parse(&SourceFile::new("f", text));
        let (file, _) = crate::instruction::lower(&ast);
        for located in file.stages.iter().flat_map(|stage| &stage.instructions) {
            if let crate::instruction::Instruction::OnBuild(onbuild) = &located.instruction {
                drop(crate::instruction::parse_onbuild(&onbuild.text));
            }
        }
    }
}
