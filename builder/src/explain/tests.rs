use super::*;
use crate::copy::Selected;
use crate::tree::Node;
use lapstrake_layerstore::LayerPath;
use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::toc::Kind;
use serde_json::{Value, json};

fn old_step(instruction: &str, key: &str) -> StepReport {
    StepReport {
        line: 1,
        instruction: instruction.to_owned(),
        outcome: Outcome::Miss,
        milliseconds: 0,
        reasons: Vec::new(),
        result: Some(StepResult {
            key: key.to_owned(),
            layer: "l".to_owned(),
            files: None,
            list: None,
        }),
    }
}

fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn steps_pair_by_text_and_the_edited_one_by_its_place() {
    let old: Vec<_> =
        ["COPY a /", "RUN one", "RUN two", "COPY b /"].map(|text| old_step(text, "k")).into();
    let pairs = |new: &[&str]| pair_steps(&old, &texts(new));
    assert_eq!(
        pairs(&["COPY a /", "RUN one", "RUN two", "COPY b /"]),
        [Some(0), Some(1), Some(2), Some(3)]
    );
    // Edited, inserted before, removed.
    assert_eq!(pairs(&["COPY a /", "RUN uno", "RUN two"]), [Some(0), Some(1), Some(2)]);
    assert_eq!(
        pairs(&["RUN new", "COPY a /", "RUN one", "RUN two"]),
        [None, Some(0), Some(1), Some(2)]
    );
    assert_eq!(pairs(&["RUN two", "COPY b /"]), [Some(2), Some(3)]);
    // A COPY is not an edited RUN.
    assert_eq!(pairs(&["COPY a /", "WORKDIR /x", "RUN two", "COPY b /"])[1], None);
}

#[test]
fn a_new_file_is_named_by_the_source_that_takes_it() {
    let sources = texts(&["./docs/*.md", "src/", "a?c"]);
    let named = |path: &str| named_by(&sources, path.as_bytes());
    assert_eq!(named("docs/a.md").as_deref(), Some("./docs/*.md"));
    assert_eq!(named("src/deep/x.c").as_deref(), Some("src/"));
    assert_eq!(named("abc").as_deref(), Some("a?c"));
    assert_eq!(named("docs/a.txt"), None);
    assert_eq!(named_by(&texts(&["."]), b"any/thing").as_deref(), Some("."));
}

fn selected(files: &[(&str, u32, &[u8])]) -> Vec<Selected> {
    let one = |(path, mode, content): &(&str, u32, &[u8])| {
        let source = LayerPath::parse(path).expect("a good path");
        let mut node = Node::empty_file(*mode, 0);
        node.size = content.len() as u64;
        node.content = Some(ContentHash::from_bytes(*blake3::hash(content).as_bytes()));
        let name = path.as_bytes().to_vec();
        Selected { name, source, node, items: Vec::new(), parents: false }
    };
    files.iter().map(one).collect()
}

#[test]
fn lists_of_files_are_read_back_and_compared() {
    let old = selected(&[("a", 0o644, b"1"), ("b", 0o644, b"2"), ("c", 0o644, b"3")]);
    let new = selected(&[("b", 0o755, b"2"), ("c", 0o644, b"4"), ("d", 0o644, b"")]);
    let old = FileList::of("old", [old.as_slice()]);
    let new = FileList::of("new", [new.as_slice()]);
    let bytes = old.encode().expect("short");
    let old = FileList::decode(&bytes).expect("just written");
    assert!(old.is_of("old") && !old.is_of("new"));

    let changes = new.changes(&old, &|_| Some("*".to_owned()));
    assert_eq!((changes.added, changes.removed, changes.changed), (1, 1, 2));
    let told: Vec<_> = changes.files.iter().map(|f| (f.path.as_str(), f.what.join(" "))).collect();
    let expected = [("a", ""), ("b", "mode"), ("c", "content"), ("d", "")];
    assert_eq!(told, expected.map(|(path, what)| (path, what.to_owned())));
    let [gone, mode, content, added] = changes.files.as_slice() else { panic!("four") };
    assert_eq!(gone.new, None);
    assert_eq!(mode.new.as_ref().map(|f| f.mode.as_str()), Some("0755"));
    assert_ne!(content.old, content.new);
    assert_eq!((added.old.is_none(), added.named_by.as_deref()), (true, Some("*")));

    for at in 0..bytes.len() {
        // Whatever it yields, it does not panic; what is cut is not taken for a list.
        assert_eq!(FileList::decode(&bytes[..at]), None);
    }
}

#[test]
fn equal_paths_of_two_mounts_are_two_files() {
    let (first, second) = (selected(&[("a", 0o644, b"1")]), selected(&[("a", 0o644, b"2")]));
    let both = FileList::of("x", [first.as_slice(), second.as_slice()]);
    let same = FileList::of("y", [first.as_slice(), first.as_slice()]);
    assert_eq!(both.changes(&same, &|_| None).changed, 1);
}

#[test]
fn links_say_where_they_lead() {
    let mut link = selected(&[("l", 0o777, b"")]);
    link[0].node.kind = Kind::Symlink;
    link[0].node.link = "one".into();
    let old = FileList::of("old", [link.as_slice()]);
    link[0].node.link = "two".into();
    let changes = FileList::of("new", [link.as_slice()]).changes(&old, &|_| None);
    assert_eq!(changes.files[0].new.as_ref().map(|f| f.content.as_str()), Some("-> two"));
}

/// The reasons for a step whose inputs changed from `old` to `new`, its text being the same.
fn why(old: &Value, new: &Value) -> Vec<Reason> {
    let step = old_step("RUN x", "1");
    reasons(Compared {
        old: Some(&step),
        old_inputs: Some(old),
        instruction: "RUN x",
        key: "2",
        inputs: new,
        below: None,
        files: None,
        no_cache: false,
    })
}

#[test]
fn variables_are_told_one_by_one_and_secrets_masked() {
    let old = json!({"environment": ["A=1", "GONE=x", "API_TOKEN=abc", "SAME=1"]});
    let new = json!({"environment": ["A=2", "API_TOKEN=def", "SAME=1", "NEW="]});
    let variable = |name: &str, old: Option<&str>, new: Option<&str>| Reason::Variable {
        name: name.to_owned(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    };
    assert_eq!(
        why(&old, &new),
        [
            variable("A", Some("1"), Some("2")),
            variable("API_TOKEN", Some("***"), Some("***")),
            variable("GONE", Some("x"), None),
            variable("NEW", None, Some("")),
        ]
    );
    let [Reason::Input { name, .. }] =
        &why(&json!({"environment": ["A=1", "B=2"]}), &json!({"environment": ["B=2", "A=1"]}))[..]
    else {
        panic!("the order alone is different")
    };
    assert!(name.contains("order"));
}

#[test]
fn what_else_is_different_is_named() {
    let input = |name: &str, old: Option<&str>, new: Option<&str>| Reason::Input {
        name: name.to_owned(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    };
    let (old, new) = (json!({"user": "a", "chown": "1"}), json!({"user": "b", "x": ["p", "q"]}));
    assert_eq!(
        why(&old, &new),
        [
            input("chown", Some("1"), None),
            input("user", Some("a"), Some("b")),
            input("x", None, Some("p q")),
        ]
    );
    assert_eq!(why(&json!({"parent": "1"}), &json!({"parent": "2"})), [Reason::OtherParent]);
}

#[test]
fn a_step_without_a_past_was_never_built() {
    let inputs = json!({});
    let compared = |old, key, no_cache| Compared {
        old,
        old_inputs: Some(&inputs),
        instruction: "RUN y",
        key,
        inputs: &inputs,
        below: None,
        files: None,
        no_cache,
    };
    assert_eq!(reasons(compared(None, "1", false)), [Reason::NeverBuilt]);
    let same = old_step("RUN y", "1");
    assert_eq!(reasons(compared(Some(&same), "1", false)), [Reason::ResultGone]);
    assert_eq!(reasons(compared(Some(&same), "1", true)), [Reason::NoCache]);
    let edited = old_step("RUN x", "0");
    let told = reasons(compared(Some(&edited), "1", false));
    assert_eq!(told, [Reason::Instruction { old: "RUN x".into(), new: "RUN y".into() }]);
}

#[test]
fn a_report_of_another_version_is_none() {
    let report = Report {
        version: REPORT_VERSION,
        dockerfile: "Dockerfile".into(),
        target: None,
        platform: "linux/amd64".into(),
        started_unix: 1,
        milliseconds: 2,
        previous: None,
        image: Some("sha256:abcd".into()),
        stages: Vec::new(),
        other_stages: Vec::new(),
    };
    let bytes = report.encode();
    assert_eq!(Report::decode(&bytes), Some(report.clone()));
    assert!(report.made("abc") && report.made("sha256:abcd") && !report.made("b"));
    let newer = Report { version: REPORT_VERSION + 1, ..report };
    assert_eq!(Report::decode(&newer.encode()), None);
    assert_eq!(Report::decode(&bytes[1..]), None);
}
