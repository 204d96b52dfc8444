//! Plans: what is in them, that a look ahead is right, and that it leaves no trace.

use crate::support::Bench;
use lapstrake_builder::BuildOptions;
use lapstrake_builder::plan::{
    Base, BaseFacts, BuildPlan, CacheState, Dependency, Found, ImagePlace, Kind, Place,
    PlannedInstruction, plan,
};
use lapstrake_layerstore::oci::ContainerConfig;
use std::path::Path;
use std::time::SystemTime;

fn planned(dockerfile: &str) -> BuildPlan {
    plan(&BuildOptions::of(dockerfile), &mut |_| None).expect(dockerfile)
}

/// The only instruction after FROM.
fn only(dockerfile: &str) -> PlannedInstruction {
    let mut plan = planned(dockerfile);
    assert_eq!(plan.stages.len(), 1, "{dockerfile}");
    plan.stages[0].instructions.pop().expect("an instruction")
}

fn names(instruction: &PlannedInstruction) -> Vec<(&str, bool)> {
    instruction.reads.variables.iter().map(|v| (v.name.as_str(), v.set)).collect()
}

#[test]
fn stages_that_the_target_does_not_need_are_not_there() {
    let text = "FROM a AS one\nFROM b AS two\nCOPY --from=one /x /\nFROM c AS three\nFROM two\n";
    let all = planned(text);
    assert_eq!(all.stages.iter().map(|stage| stage.index).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!((all.target, all.stages[1].depends_on.as_slice()), (3, &[0][..]));
    assert_eq!(all.stages[2].base, Base::Stage { index: 1 });
    let images: Vec<&str> = all.images.iter().map(|image| image.reference.as_str()).collect();
    assert_eq!(images, ["a", "b"]);
    let mut options = BuildOptions::of(text);
    options.target = Some("THREE".into());
    let three = plan(&options, &mut |_| None).unwrap();
    assert_eq!((three.stages.len(), three.stages[0].line), (1, 4));
}

#[test]
fn instructions_are_shown_after_expansion_with_what_they_read() {
    let env = only("ARG G=1\nFROM scratch\nENV A=${B:-x} C=$D\n");
    assert_eq!((env.kind, env.text.as_str()), (Kind::Config, "ENV A=x C="));
    assert_eq!(names(&env), [("B", false), ("D", false)]);
    assert_eq!((env.step, env.depends_on.len()), (None, 0));
    let copy = planned("FROM scratch\nARG D=/opt\nCOPY --chown=1:2 --exclude=*.md a b* $D/x/\n");
    let copy = &copy.stages[0].instructions[1];
    assert_eq!(copy.text, "COPY --chown=1:2 --exclude=*.md a b* /opt/x/");
    assert_eq!((copy.number, copy.step, copy.line), (2, Some(1), 3));
    assert_eq!(names(copy), [("D", true)]);
    assert_eq!(copy.reads.files[0].from, Place::Context { name: None });
    assert_eq!(copy.reads.files[0].paths, ["a", "b*"]);
    assert_eq!(copy.depends_on, [Dependency::Context { name: None }]);
    let expose = only("FROM scratch\nEXPOSE $P 80\n");
    assert_eq!((expose.text.as_str(), names(&expose)), ("EXPOSE [80/tcp]", vec![("P", false)]));
    let from_argument = planned("FROM scratch\nARG A\nARG B=$A\n");
    assert_eq!(names(&from_argument.stages[0].instructions[0]), [("A", false)]);
    assert_eq!(names(&from_argument.stages[0].instructions[1]), [("A", false)]);
}

#[test]
fn a_run_names_mounts_heredocs_devices_and_its_environment() {
    let run = only(concat!(
        "FROM scratch\n",
        "RUN --mount=type=bind,from=alpine,source=/etc,target=/e ",
        "--mount=type=cache,target=/c,sharing=locked --mount=type=tmpfs,target=/t ",
        "--mount=type=secret,id=s,required --mount=type=ssh --network=none ",
        "--device=vendor/x=y cat <<A <<B\n1\nA\n22\nB\n",
    ));
    let kinds: Vec<&str> = run.reads.mounts.iter().map(|mount| mount.kind).collect();
    assert_eq!(kinds, ["bind", "cache", "tmpfs", "secret", "ssh"]);
    let image = Place::Image { reference: "alpine".into() };
    assert_eq!(run.reads.mounts[0].from, Some(image));
    assert_eq!(run.reads.mounts[1].sharing, Some("locked"));
    assert!(run.reads.mounts[3].required);
    let heredocs: Vec<_> =
        run.reads.heredocs.iter().map(|doc| (doc.name.as_str(), doc.bytes)).collect();
    assert_eq!(heredocs, [("A", 2), ("B", 3)]);
    assert_eq!(run.reads.devices[0].name, "vendor/x=y");
    assert_eq!(run.reads.environment, ["PATH"]);
    assert_eq!(run.depends_on, [Dependency::Image { reference: "alpine".into() }]);
    assert!(run.text.ends_with("--network=none --device=vendor/x=y cat <<A <<B"), "{}", run.text);
}

#[test]
fn what_add_fetches_is_planned() {
    let digest = "0".repeat(64);
    let text = format!(
        "FROM scratch\nADD --checksum=sha256:{digest} https://a:b@host.example/a.tar /x/\n"
    );
    let add = only(&text);
    assert_eq!(add.text, format!("ADD --checksum=sha256:{digest} https://host.example/a.tar /x/"));
    assert_eq!(add.reads.remote, ["https://host.example/a.tar"]);
    assert!(add.reads.files.is_empty());
    let url = "https://host.example/a.tar".to_owned();
    assert_eq!(add.depends_on, [Dependency::Remote { url }]);
    let both = only("FROM scratch\nADD git@host.example:a/b.git#v1 c /x/\n");
    assert_eq!((both.reads.remote.len(), both.reads.files[0].paths.len()), (1, 1));
}

#[test]
fn a_linked_copy_does_not_depend_on_what_is_below() {
    let plan = planned("FROM scratch\nWORKDIR /a\nCOPY --link a /\nCOPY b /\n");
    let of = |index: usize| plan.stages[0].instructions[index].depends_on.clone();
    assert_eq!(of(1), [Dependency::Context { name: None }]);
    assert_eq!(
        of(2),
        [Dependency::Instruction { stage: 0, number: 2 }, Dependency::Context { name: None }]
    );
}

#[test]
fn what_is_known_of_an_image_counts() {
    let mut options = BuildOptions::of("FROM base\nEXPOSE ${PORT:?none}\nCOPY a $HOME_DIR/\n");
    let unknown = plan(&options, &mut |_| None).unwrap();
    assert_eq!(unknown.images[0].place, ImagePlace::Unknown);
    // Whether there is a port is not ours to say while nothing is known of the image.
    assert!(unknown.stages[0].instructions[0].problem.is_some());
    let config = ContainerConfig {
        env: vec!["PORT=8080".into(), "HOME_DIR=/srv".into()],
        on_build: vec!["COPY --from=tools /t /".into()],
        ..ContainerConfig::default()
    };
    let found = Found {
        facts: BaseFacts { config, ..BaseFacts::default() },
        place: ImagePlace::Store,
        ..Found::default()
    };
    let mut asked = Vec::new();
    let mut find = |image: &lapstrake_builder::plan::ImageKey| {
        asked.push(image.reference.clone());
        (image.reference == "base").then(|| found.clone())
    };
    let known = plan(&options, &mut find).unwrap();
    assert_eq!(asked, ["base", "tools"]);
    let [trigger, expose, copy] = known.stages[0].instructions.as_slice() else {
        panic!("a trigger and two instructions")
    };
    assert!(trigger.trigger && !expose.trigger);
    assert_eq!((trigger.line, expose.text.as_str()), (1, "EXPOSE [8080/tcp]"));
    assert_eq!(copy.text, "COPY a /srv/");
    options.dockerfile = b"FROM base\nEXPOSE x\n".to_vec();
    assert!(plan(&options, &mut |_| None).is_err(), "this port is wrong whatever the image is");
}

/// Paths, sizes and times of everything in the store, but for the folder where leases come and go.
fn listing(folder: &Path, all: &mut Vec<(String, u64, SystemTime)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if !path.ends_with("leases") {
            all.push((path.display().to_string(), meta.len(), meta.modified().unwrap()));
        }
        if meta.is_dir() {
            listing(&path, all);
        }
    }
}

fn states(plan: &BuildPlan) -> Vec<CacheState> {
    let instructions = plan.stages.iter().flat_map(|stage| &stage.instructions);
    instructions.filter_map(|i| i.cache.as_ref().map(|cache| cache.state)).collect()
}

const TWO_STAGES: &str = "FROM scratch AS one\nCOPY a /x/\nCOPY d /y/\n\
    FROM scratch\nCOPY --from=one /x /z/\nCOPY --link b /b\n";

#[test]
fn a_look_ahead_says_what_a_build_then_does_and_leaves_no_trace() {
    use CacheState::{Hit, Miss, Unknown};
    let bench = Bench::new();
    for (name, text) in [("a", "one"), ("b", "four"), ("d/b", "two"), ("d/c", "three")] {
        bench.write(name, text);
    }
    let look = || {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        listing(bench.store.root(), &mut before);
        let plan = bench.forecast(&bench.options(TWO_STAGES)).expect("it can be planned");
        listing(bench.store.root(), &mut after);
        before.sort();
        after.sort();
        assert_eq!(before, after);
        plan
    };
    let first = look();
    assert_eq!(states(&first), [Miss, Unknown, Unknown, Miss]);
    let files = &first.stages[0].instructions[1].reads.files[0];
    assert_eq!((files.count, files.bytes), (Some(2), Some(8)));
    assert_eq!(bench.executed(TWO_STAGES), 4);
    let second = look();
    assert_eq!(states(&second), [Hit; 4]);
    assert_eq!(second.forecast(), (4, 0, 0));
    let key = |plan: &BuildPlan| plan.stages[0].instructions[0].cache.clone().unwrap().key;
    assert_eq!(key(&first), key(&second));
    bench.write("d/b", "TWO");
    assert_eq!(states(&look()), [Hit, Miss, Unknown, Hit]);
    assert_eq!(bench.executed(TWO_STAGES), 1);
    let options = BuildOptions { no_cache_filter: vec!["one".into()], ..bench.options(TWO_STAGES) };
    assert_eq!(states(&bench.forecast(&options).unwrap()), [Miss, Unknown, Unknown, Hit]);
}

#[test]
fn a_file_that_is_missing_is_an_error_even_behind_a_miss() {
    let bench = Bench::new();
    bench.write("a", "1");
    let error =
        bench.forecast(&bench.options("FROM scratch\nCOPY a /\nCOPY nope /\n")).unwrap_err();
    assert_eq!(error.to_string(), "\"/nope\": not found");
}

#[test]
fn what_cannot_be_done_yet_can_be_planned() {
    let bench = Bench::new();
    let text = "FROM scratch\nRUN --device=vendor.example/d=all,required x\nCOPY <<E /e\nE\n";
    let plan = bench.forecast(&bench.options(text)).unwrap();
    assert_eq!(states(&plan), [CacheState::Miss, CacheState::Unknown]);
    let error = bench.build(&bench.options(text)).outcome.unwrap_err();
    assert!(format!("{error:?}").contains("RUN --device is not there yet"), "{error:?}");
}

#[test]
fn what_has_to_be_asked_for_is_not_forecast() {
    let bench = Bench::new();
    let (digest, commit) = ("0".repeat(64), "1".repeat(40));
    // The text pins the second and the third; without any source of remote files they can be keyed.
    let text = format!(
        "FROM scratch AS a\nADD https://host.example/x /\n\
         FROM scratch AS b\nADD --checksum=sha256:{digest} https://host.example/x /\n\
         FROM scratch AS c\nADD https://host.example/x.git#{commit} /\n\
         FROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\nCOPY --from=c / /\n"
    );
    let plan = bench.forecast(&bench.options(&text)).unwrap();
    assert_eq!(states(&plan)[..3], [CacheState::Unknown, CacheState::Miss, CacheState::Miss]);
}
