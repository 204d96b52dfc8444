//! `lap build --plan`: what it shows, and that it does nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::Lap;

const TWO: &str = "FROM scratch AS files\nARG DIR=x\nCOPY *.txt /$DIR/\nFROM none AS unused\n\
    FROM scratch\nCOPY --from=files /x /y/\nLABEL a=$NOPE\n";

fn json_plan(lap: &Lap, context: &str) -> Value {
    serde_json::from_str(&lap.ok(["build", "--plan=json", context])).expect("JSON")
}

#[test]
fn a_plan_shows_steps_and_makes_nothing() {
    let lap = Lap::new("plan");
    let context = lap.context("context", TWO);
    lap.work.write("context/a.txt", "one");
    let empty = lap.ok(["du", "--format", "json"]);
    let planned = lap.run(["build", "--plan", "-t", "app", &context]);
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    for words in [
        "stage 0 files, line 1: FROM scratch",
        "    3    1  miss    COPY *.txt /x/",
        "reads 1 file, 3 B, of the context: *.txt",
        "reads $DIR",
        "    6    1  later   COPY --from=files /x /y/",
        "because it reads stage `files`: step 1 of stage `files` has to be done first",
        "2 steps: 0 hit, 1 miss, 1 not known yet",
    ] {
        assert!(planned.stdout.contains(words), "`{words}` is not in:\n{}", planned.stdout);
    }
    assert!(!planned.stdout.contains("unused"), "{}", planned.stdout);
    assert!(planned.stderr.contains("warning[UndefinedVar]"), "{}", planned.stderr);
    assert_eq!(lap.ok(["images", "-q"]), "");
    assert_eq!(lap.ok(["du", "--format", "json"]), empty);
    lap.is_whole();
    lap.ok(["build", "-q", &context]);
    let again = lap.ok(["build", "--plan", &context]);
    assert!(again.ends_with("2 steps: 2 hit, 0 miss, 0 not known yet\n"), "{again}");
}

#[test]
fn a_plan_is_a_value() {
    let lap = Lap::new("plan-json");
    let context = lap.context("context", TWO);
    lap.work.write("context/a.txt", "one");
    let before = json_plan(&lap, &context);
    assert_eq!((&before["format"], &before["target"]), (&json!(1), &json!(2)));
    assert_eq!(before["images"], json!([]));
    let stages = before["stages"].as_array().expect("stages");
    assert_eq!(stages.len(), 2);
    assert_eq!(stages[1]["depends_on"], json!([0]));
    let copy = &stages[0]["instructions"][1];
    assert_eq!((&copy["kind"], &copy["text"]), (&json!("copy"), &json!("COPY *.txt /x/")));
    assert_eq!(copy["reads"]["variables"], json!([{"name": "DIR", "set": true}]));
    assert_eq!(copy["depends_on"], json!([{"kind": "context", "name": null}]));
    assert_eq!(copy["cache"]["state"], "miss");
    lap.ok(["build", "-q", &context]);
    let after = json_plan(&lap, &context);
    let copied = &after["stages"][0]["instructions"][1]["cache"];
    assert_eq!((&copied["state"], &copied["key"]), (&json!("hit"), &copy["cache"]["key"]));
    // The record of the step and the plan name the same layer.
    assert_eq!(copied["layer"].as_str().map(str::len), Some(64));
}

#[test]
fn what_is_wrong_is_said_as_by_a_build() {
    let lap = Lap::new("plan-wrong");
    let missing = lap.context("missing", "FROM scratch\nCOPY nope /\n");
    lap.refused(["build", "--plan", &missing], 3, &["\"/nope\": not found", "Dockerfile:2"]);
    let wrong = lap.context("wrong", "FROM scratch\nCPOY a /\n");
    lap.refused(["build", "--plan=json", &wrong], 3, &["unknown instruction: CPOY"]);
    let target = ["build", "--plan", "--target", "nope", &missing];
    lap.refused(target, 3, &["target stage \"nope\" could not be found"]);
}

#[test]
fn several_platforms_have_a_plan_each() {
    let lap = Lap::new("plan-platforms");
    let text = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH.txt /\nENV a $NOPE\n";
    let context = lap.context("context", text);
    lap.work.write("context/amd64.txt", "one");
    lap.work.write("context/arm64.txt", "three");
    let platforms = "linux/amd64,linux/arm64";
    let shown = lap.run(["build", "--plan", "--platform", platforms, &context]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for words in [
        "/Dockerfile for linux/amd64, target 0\n",
        "COPY amd64.txt /\n",
        "/Dockerfile for linux/arm64, target 0\n",
        "COPY arm64.txt /\n",
        "5 B, of the context: arm64.txt",
    ] {
        assert!(shown.stdout.contains(words), "`{words}` is not in:\n{}", shown.stdout);
    }
    assert_eq!(shown.stderr.matches("warning[UndefinedVar]").count(), 1, "{}", shown.stderr);
    let json = lap.ok(["build", "--plan=json", "--platform", platforms, &context]);
    let plans: Value = serde_json::from_str(&json).expect("JSON");
    let of = |index: usize| (&plans[index]["platform"], &plans[index]["stages"][0]);
    assert_eq!((of(0).0, of(1).0), (&json!("linux/amd64"), &json!("linux/arm64")));
    assert_eq!(of(1).1["instructions"][1]["text"], "COPY arm64.txt /");
    assert_eq!(plans.as_array().map(Vec::len), Some(2));
}

/// A file that has every field of a plan at least once, with an image `base:1` and a context `ctx`.
const EVERY_FIELD: &str = "FROM scratch AS a\nCOPY a.txt /\nFROM a AS b\nARG X\n\
    COPY --from=base:1 --exclude=x /a.txt /y$X/\nADD http://127.0.0.1:9/x /z\nCOPY <<T /t\nt\nT\n\
    FROM ctx\nCOPY --from=b / /b/\n\
    RUN --mount=from=a,source=/a.txt,target=/g --mount=from=base:1,target=/i --mount=target=/j \
    --device=v.com/x=y true\nFROM base:1\nCOPY --from=2 / /\n";

/// Every path of names in a value: `.stages[].base.kind`.
fn fields(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{at}.{name}");
                fields(member, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) => {
            for item in items {
                fields(item, &format!("{at}[]"), found);
            }
        }
        _ => {}
    }
}

/// The names in `{kind: "stage", index}` and `{name, set}`.
fn inline(text: &str) -> BTreeSet<String> {
    let objects = text.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let names = objects.flat_map(|object| object.split(','));
    let name = |member: &str| member.split(':').next().unwrap_or_default().trim().to_owned();
    names.map(|member| name(member).trim_end_matches("[]").to_owned()).collect()
}

/// The paths that docs/formats/plan.md lists: names by indentation, or within braces.
fn documented() -> BTreeSet<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats/plan.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let place: String = page.split("`from` is ").nth(1).expect("it says what `from` is").into();
    let place = inline(place.split("\n\n").next().unwrap_or_default());
    let mut found = BTreeSet::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("    ")) {
        let indent = line.len() - line.trim_start().len();
        let (names, text) = line.trim_start().split_once("  ").unwrap_or((line.trim_start(), ""));
        if names.starts_with('|') {
            // The line before goes on.
            let (_, parent) = above.last().expect("there is a line before");
            found.extend(inline(names).iter().map(|name| format!("{parent}.{name}")));
            continue;
        }
        above.retain(|(at, _)| *at < indent);
        let parent = above.last().map(|(_, path)| path.clone()).unwrap_or_default();
        for name in names.split(", ") {
            let path = format!("{parent}.{name}");
            found.insert(path.trim_end_matches("[]").to_owned());
            for member in inline(text) {
                if member == "from" {
                    found.extend(place.iter().map(|name| format!("{path}.from.{name}")));
                }
                found.insert(format!("{path}.{member}"));
            }
            above.push((indent, path));
        }
    }
    found
}

#[test]
fn the_page_has_every_field_and_no_other() {
    let lap = Lap::new("plan-page");
    lap.work.write("base/a.txt", "one");
    lap.work.write("context/a.txt", "one");
    lap.work.write("ctx/b.txt", "two");
    let base = lap.context("base", "FROM scratch\nCOPY a.txt /\n");
    lap.ok(["build", "-q", "-t", "base:1", &base]);
    let context = lap.context("context", EVERY_FIELD);
    let mut found = BTreeSet::new();
    let ctx = format!("ctx={}", lap.work.join("ctx").display());
    let plan = lap.ok(["build", "--plan=json", "--build-context", &ctx, &context]);
    fields(&serde_json::from_str(&plan).expect("JSON"), "", &mut found);
    assert_eq!(found, documented());
}
