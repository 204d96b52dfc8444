use super::*;

fn formatted(text: impl Into<Vec<u8>>) -> Formatted {
    let source = SourceFile::new("Dockerfile", text);
    let result = format(&source).unwrap_or_else(|error| panic!("{error}: {source:?}"));
    let again = format(&SourceFile::new("Dockerfile", result.bytes.clone()));
    assert_eq!(again.map(|again| again.bytes).as_ref(), Ok(&result.bytes), "not idempotent");
    result
}

/// Formats a file in which nothing may be left as it is.
fn text(text: impl Into<Vec<u8>>) -> String {
    let result = formatted(text);
    assert!(result.untouched.is_empty(), "{:?}", result.untouched);
    String::from_utf8(result.bytes).expect("text")
}

#[test]
fn one_line_instructions() {
    for (before, after) in [
        ("from  a  as  B", "FROM a AS B\n"),
        ("  FROM --platform=x   a\t \n\n\n\nrun  a   b ", "FROM --platform=x a\n\nRUN a   b\n"),
        (
            "FROM a\nCOPY  --link   --chown=1:2\ta  b   /c/",
            "FROM a\nCOPY --link --chown=1:2 a b /c/\n",
        ),
        ("FROM a\nCMD [ \"a\",\"b\"  ,\t\"c d\" ]", "FROM a\nCMD [\"a\", \"b\", \"c d\"]\n"),
        ("FROM a\nENTRYPOINT []", "FROM a\nENTRYPOINT []\n"),
        ("FROM a\nENV  A=b   C=\"d  e\"", "FROM a\nENV A=b C=\"d  e\"\n"),
        ("FROM a\nENV  A   b  c ", "FROM a\nENV A b  c\n"),
        ("FROM a\nLABEL  x='y z'  q=r\\ s", "FROM a\nLABEL x='y z' q=r\\ s\n"),
        ("ARG  A=1   B\nFROM $A", "ARG A=1 B\nFROM $A\n"),
        ("FROM a\nEXPOSE 80   443/tcp", "FROM a\nEXPOSE 80 443/tcp\n"),
        ("FROM a\nVOLUME  /a   /b", "FROM a\nVOLUME /a /b\n"),
        ("FROM a\nvolume [ \"/a\" ]", "FROM a\nVOLUME [\"/a\"]\n"),
        ("FROM a\nUSER   me ", "FROM a\nUSER me\n"),
        ("FROM a\nWORKDIR  /a  b", "FROM a\nWORKDIR /a  b\n"),
        (
            "FROM a\nhealthcheck --interval=5s   cmd  curl  x",
            "FROM a\nHEALTHCHECK --interval=5s CMD curl  x\n",
        ),
        ("FROM a\nHEALTHCHECK CMD [\"a\",\"b\"]", "FROM a\nHEALTHCHECK CMD [\"a\", \"b\"]\n"),
        ("FROM a\nHEALTHCHECK  none", "FROM a\nHEALTHCHECK NONE\n"),
        ("FROM a\nonbuild   run  x  y", "FROM a\nONBUILD run  x  y\n"),
        ("FROM a\nCMD  --   --help", "FROM a\nCMD -- --help\n"),
        (
            "FROM a\nRUN --mount=type=tmpfs,target='/a b'   x",
            "FROM a\nRUN --mount=type=tmpfs,target='/a b' x\n",
        ),
        ("FROM a\nMAINTAINER  a  b", "FROM a\nMAINTAINER a  b\n"),
        ("FROM a\nSHELL [ \"a\" , \"-c\"]", "FROM a\nSHELL [\"a\", \"-c\"]\n"),
        ("FROM a\nRUN [ -f x ]  ||  y", "FROM a\nRUN [ -f x ]  ||  y\n"),
    ] {
        assert_eq!(text(before), after, "{before:?}");
    }
}

#[test]
fn line_breaks_stay_where_they_are() {
    for (before, after) in [
        ("COPY a  \\\n  b \\\n\t/c/", "COPY a \\\n    b \\\n    /c/\n"),
        ("COPY --link\\\n a b", "COPY --link \\\n    a b\n"),
        ("ENV A=b\\\n  C=d", "ENV A=b \\\n    C=d\n"),
        (
            "CMD [ \\\n\"a\",\\\n  \"b\"\\\n , \"c\" \\\n]",
            "CMD [ \\\n    \"a\", \\\n    \"b\", \\\n    \"c\" \\\n]\n",
        ),
        ("E\\\nXPOSE 8\\\n0 1", "EXPOSE 8\\\n0 1\n"),
        ("RUN \\\n  a", "RUN \\\n    a\n"),
        ("COPY a \\\n\n\n   b", "COPY a \\\n    b\n"),
        ("COPY a \\\n#x\n  # y\n   b", "COPY a \\\n    # x\n    # y\n    b\n"),
        ("CMD a \\", "CMD a\n"),
        ("CMD a \\\n# end", "CMD a\n# end\n"),
        ("EXPOSE 1 \\\n # one\n\n  # two", "EXPOSE 1\n# one\n# two\n"),
    ] {
        assert_eq!(text(format!("FROM a\n{before}")), format!("FROM a\n{after}"), "{before:?}");
    }
}

/// The text of a shell command is in the history and in cache keys: no blank of it may change.
#[test]
fn shell_text_stays_to_the_last_blank() {
    for (before, after) in [
        ("RUN a && \\\n    b", "RUN a && \\\n    b\n"),
        ("RUN a &&\\\n     b", "RUN a && \\\n    b\n"),
        ("RUN a &&     \\\nb", "RUN a && \\\n    b\n"),
        ("RUN a &&\\\n\tb", "RUN a &&\\\n\tb\n"),
        ("RUN a\\\nb", "RUN a\\\nb\n"),
        ("RUN a   \\\n  # c  \n   && b", "RUN a \\\n     # c\n     && b\n"),
        ("RUN a \\\n  \\\n\\\n b", "RUN a \\\n   b\n"),
        ("RUN a \\\n\n b \\ \n c", "RUN a \\\n b \\\n c\n"),
        ("LABEL a=\"b   \\\n c\"", "LABEL a=\"b \\\n   c\"\n"),
        ("ENV A b   \\\n c", "ENV A b \\\n   c\n"),
        ("RUN a\\  \\\n  b", "RUN a\\ \\\n   b\n"),
        ("RUN echo 'a\\\n   b'", "RUN echo 'a \\\n  b'\n"),
    ] {
        let before = format!("FROM a\n{before}");
        let result = text(before.as_str());
        assert_eq!(result, format!("FROM a\n{after}"), "{before:?}");
        let line = |text: &str| {
            let (ast, _) = syntax::parse(&SourceFile::new("f", text));
            ast.nodes().nth(1).expect("two").rest().to_owned()
        };
        assert_eq!(line(&before), line(&result));
    }
}

#[test]
fn escape_of_the_file() {
    assert_eq!(
        text("#escape = `\nFROM a\nCOPY a`\n b\nRUN dir C:\\\nRUN a ` \n   b"),
        "# escape=`\nFROM a\nCOPY a `\n    b\nRUN dir C:\\\nRUN a `\n   b\n"
    );
    assert_eq!(text("FROM a\nRUN echo x\\\\\nCMD y"), "FROM a\nRUN echo x\\\\\nCMD y\n");
}

#[test]
fn heredocs_stay_byte_for_byte() {
    let body: &[u8] = b"  a \t\r\n\n\n#x  \n\xff\n";
    let before = [b"FROM a\ncopy  <<E   <<-'F' /x/\n", body, b"E\n\tb\n\t\tF"].concat();
    let after = [b"FROM a\nCOPY <<E <<-'F' /x/\n", body, b"E\n\tb\n\t\tF\n"].concat();
    assert_eq!(formatted(before).bytes, after);
    assert_eq!(text("FROM a\nRUN  cat  <<E\nE\n\n\nCMD x"), "FROM a\nRUN cat  <<E\nE\n\nCMD x\n");
    assert_eq!(
        text("FROM a\nRUN cat <<E   \\\n > /x\nbody \\\nE\n"),
        "FROM a\nRUN cat <<E \\\n   > /x\nbody \\\nE\n"
    );
    assert_eq!(text("FROM a\r\nRUN <<E\nx\nE\n"), "FROM a\r\nRUN <<E\r\nx\nE\r\n");
}

#[test]
fn comments_and_blank_lines() {
    assert_eq!(
        text("\n\n#a\n\n\n  #  b  \n##c\n#!d\n#\nFROM a\n#e\nRUN x\n\n# f\n\n\n"),
        "# a\n\n#  b\n##c\n#!d\n#\nFROM a\n# e\nRUN x\n\n# f\n"
    );
}

/// What is a comment only because of where it stands must not become a directive.
#[test]
fn a_comment_never_becomes_a_directive() {
    for (before, after) in [
        ("\n\n# escape=`\nFROM a", "\n# escape=`\nFROM a\n"),
        ("\n#syntax=x\nFROM a", "\n# syntax=x\nFROM a\n"),
        ("\n# x\n# escape=`\nFROM a", "# x\n# escape=`\nFROM a\n"),
        ("#syntax=x\n\n\n#escape=`\nFROM a", "# syntax=x\n\n# escape=`\nFROM a\n"),
        ("#x=y\n#escape=`\nFROM a", "# x=y\n# escape=`\nFROM a\n"),
        ("# CHECK = skip=all \nFROM a", "# check=skip=all\nFROM a\n"),
    ] {
        assert_eq!(text(before), after);
    }
}

#[test]
fn line_endings_and_marks() {
    assert_eq!(text("FROM a\r\n\r\n\r\nCMD  x\r\n"), "FROM a\r\n\r\nCMD x\r\n");
    assert_eq!(text("FROM a\nCMD  x\r\n"), "FROM a\nCMD x\n");
    assert_eq!(text("FROM a\r\nCOPY a\\\r\n b\r\n"), "FROM a\r\nCOPY a \\\r\n    b\r\n");
    assert_eq!(text("\u{feff}# syntax=x\nFROM a"), "# syntax=x\nFROM a\n");
    assert_eq!(text("\u{feff}\n# syntax=x\nFROM a"), "\n# syntax=x\nFROM a\n");
}

#[test]
fn what_is_not_sure_stays_as_it_is() {
    for line in ["RUN  caf\u{e9}\\\n x", "LA\\\n# c\nBEL  a=b"] {
        let bytes: Vec<u8> =
            format!("from a\n{line}\ncmd x\n").chars().map(|c| c as u32 as u8).collect();
        let result = formatted(bytes);
        assert_eq!(result.untouched.len(), 1, "{line}");
        let line: Vec<u8> = line.chars().map(|c| c as u32 as u8).collect();
        assert_eq!(result.bytes, [b"FROM a\n", line.as_slice(), b"\nCMD x\n"].concat());
    }
}

#[test]
fn files_with_errors_are_refused() {
    for text in ["", "FORM a", "FROM a\nRUN <<E\nx", "FROM a\nCOPY x", "RUN x"] {
        let result = format(&SourceFile::new("f", text));
        let Err(FormatError::Invalid { errors }) = result else { panic!("{text:?}: {result:?}") };
        assert!(!errors.is_empty());
    }
}

#[test]
fn meanings_differ_where_they_should() {
    let meaning = |text: &str| Meaning::of(&SourceFile::new("f", text));
    let same = |a: &str, b: &str| meaning(a) == meaning(b);
    assert!(same("from a as B\nrun  x", "FROM  a  AS B\r\n\r\nRUN x\r\n"));
    for (a, b) in [
        ("FROM a\nRUN x  y", "FROM a\nRUN x y"),
        ("FROM a\nRUN <<E\nx\nE", "FROM a\nRUN <<E\nx \nE"),
        ("FROM a AS b", "FROM a AS B"),
        ("FROM a\n# c\nRUN x", "FROM a\nRUN x"),
        ("FROM a\n# c\nRUN x\nRUN y", "FROM a\nRUN x\n# c\nRUN y"),
        ("FROM a\nRUN x \\\n# c\n y", "FROM a\nRUN x \\\n y"),
        ("# syntax=a\nFROM a", "\n# syntax=a\nFROM a"),
        ("FROM a\nCMD [\"a\"]", "FROM a\nCMD a"),
        ("FROM a\nENV a=b", "FROM a\nENV a=\"b\""),
    ] {
        assert!(!same(a, b), "{a:?} {b:?}");
    }
}
