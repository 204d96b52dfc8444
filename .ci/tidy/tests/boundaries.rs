//! What only one place may do: unsafe calls, printing, reading the environment, ending the process.

use lapstrake_tidy::{Source, assert_none, sources};

const LIBRARIES: [&str; 4] = ["builder", "layerstore", "runner", "registry"];

/// Text that no library holds outside its tests, why, and the files that may after all.
const FORBIDDEN: [(&[&str], &str, &[&str]); 3] = [
    (&["println!(", "print!(", "eprintln!(", "eprint!("], "libraries do not print", &[]),
    (&["env::var", "env::vars", "env::home_dir"], "libraries do not read the environment", &[]),
    // The sandbox's child is a process of its own: it ends as its program ended.
    (&["process::exit(", "process::abort("], "libraries do not end the process", &["runner/src/"]),
];

fn library_code() -> Vec<Source> {
    let library = |source: &Source| {
        LIBRARIES.contains(&source.krate()) && source.path.contains("/src/") && !source.is_test()
    };
    sources().into_iter().filter(library).collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn libraries_stay_silent() {
    let mut findings = Vec::new();
    for source in library_code() {
        for (number, line) in source.code().filter(|(_, line)| !is_comment(line)) {
            for (texts, rule, allowed) in FORBIDDEN {
                let found = texts.iter().any(|text| line.contains(text));
                if found && !allowed.iter().any(|prefix| source.path.starts_with(prefix)) {
                    findings.push(format!("{}:{number}: {rule}: {}", source.path, line.trim()));
                }
            }
        }
    }
    assert_none("a library does what only the program may", &findings);
}

#[test]
fn unsafe_lives_in_runner_sys() {
    // In pieces, so that this file does not find itself.
    let words = [
        concat!("unsafe", " {"),
        concat!("unsafe", " fn"),
        concat!("unsafe", " impl"),
        concat!("unsafe", " extern"),
    ];
    let mut findings = Vec::new();
    for source in sources() {
        let allowed = source.path.starts_with("runner/src/sys");
        for (number, line) in source.text.lines().enumerate() {
            if !allowed && !is_comment(line) && words.iter().any(|word| line.contains(word)) {
                findings.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    assert_none("unsafe outside runner/src/sys", &findings);
}

#[test]
fn crates_that_need_no_unsafe_forbid_it() {
    let mut findings = Vec::new();
    for source in sources() {
        let top = source.path.ends_with("/src/lib.rs") || source.path.ends_with("/src/main.rs");
        let runner = source.krate() == "runner";
        if top && !runner && !source.text.contains("#![forbid(unsafe_code)]") {
            findings.push(source.path);
        }
    }
    assert_none("the crate does not say `#![forbid(unsafe_code)]`", &findings);
}
