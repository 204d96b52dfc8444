//! Files made to use up time or memory: a bound on both, and an error that names the limit.

use crate::support::Bench;
use lapstrake_builder::check::{Surroundings, check};
use lapstrake_builder::source::SourceFile;
use lapstrake_builder::{BuildError, instruction, syntax};
use std::fmt::Write as _;

/// All messages of a check of the file.
fn messages(text: &str) -> String {
    let found = match check(
        &Bench::new().options(text),
        &Surroundings { base: &|_| None, context: None, own_rules: false, every_stage: true },
    ) {
        Ok(report) => report.diagnostics,
        Err(BuildError::Dockerfile { diagnostics, .. }) => diagnostics,
        Err(error) => return error.to_string(),
    };
    let all: Vec<String> = found.into_iter().map(|found| found.message).collect();
    all.join("\n")
}

#[track_caller]
fn names(text: &str, limit: &str) {
    let messages = messages(text);
    assert!(messages.contains(limit), "{}", &messages[..messages.len().min(2_000)]);
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    let mut text = String::from("FROM scratch\n");
    for n in 0..count {
        writeln!(text, "{}", line(n)).unwrap();
    }
    text
}

#[test]
fn bytes_that_mean_nothing() {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let bytes: Vec<u8> = (0..1_000_000).map(|_| byte()).collect();
    let (ast, _) = syntax::parse(&SourceFile::new("f", bytes));
    let (_, problems) = instruction::lower(&ast);
    assert!(problems.len() <= 1_000);
}

#[test]
fn too_many_stages() {
    let chain = lines(100_000, |n| match n {
        0 => "FROM scratch AS s0".into(),
        n => format!("FROM s{} AS s{n}", n - 1),
    });
    names(&chain, "more than 1000 stages");
}

#[test]
fn heredocs_without_end() {
    names(&lines(20_000, |n| format!("RUN <<E{n}")), "unterminated heredoc `E0`");
    let many = (0..20_000).fold(String::new(), |all, n| all + "<<E" + &n.to_string() + " \\\n");
    names(&format!("FROM scratch\nRUN {many}\nx"), "unterminated heredoc");
}

#[test]
fn arguments_that_refer_to_each_other() {
    let text =
        "ARG A=$B\nARG B=$A\nARG A=${B:-$A}\nFROM scratch\nARG C=$D\nARG D=$C\nWORKDIR /x$C\n";
    assert!(!messages(text).contains("error"));
}

#[test]
fn nested_substitutions() {
    for depth in [1_000, 15_000] {
        let nested = "${a:-".repeat(depth - 1) + "x" + &"}".repeat(depth - 1);
        let joined = nested.replace("${a:-".repeat(500).as_str(), &("${a:-".repeat(500) + "\\\n"));
        names(&format!("FROM scratch\nWORKDIR /{joined}\n"), "more than 200 deep");
    }
}

#[test]
fn values_that_double() {
    let doubled = |n: usize| match n {
        0 => "ARG X0=0123456789abcdef".to_owned(),
        n => format!("ARG X{n}=$X{0}$X{0}", n - 1),
    };
    names(&lines(60, doubled), "more than 2097152 bytes");
    let global = lines(60, doubled).replace("FROM scratch\n", "") + "FROM scratch\n";
    names(&global, "more than 2097152 bytes");
    names(&lines(5_000, |n| format!("ENV V{n}=1")), "more than 2000 variables");
    let repeated = lines(2_000, |n| match n {
        0..13 => doubled(n),
        _ => "RUN true".into(),
    });
    names(&repeated, "history of a stage takes more than 8388608 bytes");
}

#[test]
fn flags_without_end() {
    let flags =
        |flag: &str| format!("FROM scratch\nRUN {} true", format!("{flag} \\\n").repeat(80_000));
    names(&flags("--a"), "more than 1000 flags");
    names(&flags("--mount=x"), "more than 1000 flags");
    let list = "type=tmpfs,".repeat(5_000);
    assert!(!messages(&format!("FROM scratch\nRUN --mount={list} true")).is_empty());
}

#[test]
fn json_without_end() {
    let deep = "[".repeat(60_000);
    assert!(!messages(&format!("FROM scratch\nCMD {deep}")).contains("panicked"));
    let wide = format!("FROM scratch\nCMD [{}\"\"]", "\"a\", \\\n".repeat(100_000));
    assert!(!messages(&wide).contains("limit"));
}

/// Each of these would take gigabytes if it were planned as it stands.
#[test]
fn copies_without_end() {
    let value = format!("{}\\\n", "x".repeat(10_000)).repeat(90);
    let big = |keyword: &str| format!("{keyword}{value}x");
    let env = lines(8_000, |n| match n {
        0 => big("ENV B="),
        1..1_900 => format!("ENV V{n}={n}"),
        n if n % 2 == 1 => "RUN true".into(),
        n => format!("ENV A={n}"),
    });
    names(&env, "more than 67108864 steps");
    let on_top = lines(900, |n| match n {
        0 => "FROM scratch AS s0".into(),
        1..8 => big("LABEL x="),
        n => format!("FROM s{} AS s{}\nENV A={n}", n.max(8) - 8, n - 7),
    });
    names(&on_top, "more than 67108864 steps");
    let replaced = lines(5_000, |n| match n {
        0 => format!("ARG Y=y X={}", "x".repeat(60_000)),
        n => format!("USER a{n}${{Y:+}}${{NONE+$X}}"),
    });
    names(&replaced, "more than 67108864 steps");
}

#[test]
fn undefined_variables_without_end() {
    let many = (0..20_000).fold(String::new(), |all, n| all + "$v" + &n.to_string() + "/ \\\n");
    names(&format!("FROM scratch\nWORKDIR /{many}"), "undefined variable '$v0'");
    names(&lines(20_000, |n| format!("USER $u{n}")), "undefined variable '$u0'");
}

/// Each stage on top of another one has its triggers once more.
#[test]
fn triggers_without_end() {
    let pulled = |stages: usize, trigger: &str| {
        let triggers = format!("ONBUILD RUN {trigger}\n").repeat(5_000);
        let on_top = (0..stages).fold(String::new(), |all, n| all + &format!("FROM a AS b{n}\n"));
        let copied =
            (0..stages).fold(String::new(), |all, n| all + &format!("COPY --from=b{n} / /\n"));
        format!("FROM scratch AS a\n{triggers}{on_top}FROM scratch\n{copied}")
    };
    names(&pulled(300, "x"), "the triggers are more than 200000 instructions");
    names(&pulled(10, &"x".repeat(1_000)), "the triggers take more than 16777216 bytes");
}
