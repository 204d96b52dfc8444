//! Images for several platforms, annotations, and outputs in every form.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::fs;
use std::path::Path;
use std::process::Command;

use lapstrake_fixtures::{require, sha256_hex};
use serde_json::Value;

use crate::registry::Serving;
use crate::support::{Lap, RUN};

/// Copies, and says which platform it is for.
const DOCKERFILE: &str = "FROM scratch\nARG TARGETPLATFORM\nENV FOR=$TARGETPLATFORM\n\
                          COPY Dockerfile /f\n";
const PLATFORMS: &str = "--platform=linux/amd64,linux/arm64,linux/arm/v7";

/// A JSON blob of a layout, with its digest checked.
fn blob(layout: &Path, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = fs::read(layout.join("blobs/sha256").join(&digest[7..])).unwrap();
    assert_eq!(format!("sha256:{}", sha256_hex(&bytes)), digest);
    assert_eq!(descriptor["size"], bytes.len());
    serde_json::from_slice(&bytes).unwrap()
}

/// What a layout names first.
fn top(layout: &Path) -> Value {
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    index["manifests"][0].clone()
}

#[test]
fn several_platforms_are_one_image() {
    let lap = Lap::new("platforms");
    let context = lap.context("context", DOCKERFILE);
    let layout = lap.work.join("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    let epoch = "--build-arg=SOURCE_DATE_EPOCH=1000000000";
    let said = lap.run(["build", PLATFORMS, epoch, "-t", "x:1", "-o", &output, &context]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("3 platforms"), "{}", said.stderr);
    let top = top(&layout);
    assert_eq!(top["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(top["annotations"]["org.opencontainers.image.ref.name"], "1");
    let index = blob(&layout, &top);
    let entries = index["manifests"].as_array().unwrap();
    let mut layers = Vec::new();
    for (entry, (architecture, variant)) in
        entries.iter().zip([("amd64", ""), ("arm", "v7"), ("arm64", "")])
    {
        assert_eq!(entry["platform"]["architecture"], architecture);
        assert_eq!(entry["platform"]["variant"].as_str().unwrap_or_default(), variant);
        let manifest = blob(&layout, entry);
        let config = blob(&layout, &manifest["config"]);
        let slash = if variant.is_empty() { "" } else { "/" };
        let expected = format!("FOR=linux/{architecture}{slash}{variant}");
        assert!(
            config["config"]["Env"].as_array().unwrap().contains(&expected.into()),
            "{config:#}"
        );
        assert_eq!(config["architecture"], architecture);
        layers.push(manifest["layers"][0]["digest"].clone());
    }
    assert_eq!(entries.len(), 3);
    assert!(layers.iter().all(|layer| *layer == layers[0]), "the files are the same for all");

    // The name keeps all of them, and this machine's is what commands see.
    lap.ok(["prune", "--all", "--force"]);
    lap.is_whole();
    let again = lap.work.join("again");
    lap.ok(["save", "--format", "oci", "-o", &again.display().to_string(), "x:1"]);
    let read = Command::new("tar").arg("-xOf").arg(&again).arg("index.json").output().unwrap();
    let saved: Value = serde_json::from_slice(&read.stdout).unwrap();
    assert_eq!(saved["manifests"][0]["digest"], top["digest"]);
    let archive = format!("oci-archive:{}", again.display());
    if let Ok(seen) = Command::new("skopeo").args(["inspect", "--raw", &archive]).output() {
        assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
        let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
        assert_eq!(seen, index);
    }
    let id = lap.ok(["build", PLATFORMS, epoch, "-q", &context]);
    assert_eq!(id.trim(), top["digest"].as_str().unwrap());
    lap.ok(["rmi", "x:1"]);
    lap.refused(["build", PLATFORMS, "-o", "type=docker,dest=x", &context], 2, &["one platform"]);
    lap.refused(["build", "--platform", "linux/what?", &context], 2, &["platform"]);
}

/// The digest of the index that a name stands for.
fn index_of(lap: &Lap, name: &str) -> String {
    let archive = lap.work.join("look.tar").display().to_string();
    lap.ok(["save", "-o", &archive, name]);
    let read = Command::new("tar").args(["-xOf", &archive, "index.json"]).output().unwrap();
    let saved: Value = serde_json::from_slice(&read.stdout).unwrap();
    saved["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn neither_order_nor_threads_show_in_an_index() {
    let mut seen = Vec::new();
    for (order, jobs) in [
        ("linux/amd64,linux/arm64,linux/arm/v7", "--jobs=8"),
        ("linux/arm/v7,linux/arm64,linux/amd64", "--jobs=1"),
        ("linux/arm64,linux/amd64,linux/arm/v7,linux/amd64", "--jobs=3"),
    ] {
        let lap = Lap::new("platform-order");
        let text = format!("{DOCKERFILE}WORKDIR /$TARGETPLATFORM\nCOPY . .\n");
        let context = lap.context("context", &text);
        let epoch = "--build-arg=SOURCE_DATE_EPOCH=1000000000";
        let asked = ["build", "--platform", order, jobs, epoch, "-q", &context];
        seen.push(lap.ok(asked));
        let explained = lap.ok(["build", "--explain", "--platform", order, epoch, &context]);
        let starts = ["linux/amd64: build ", "linux/arm/v7: build ", "linux/arm64: build "];
        let lines = explained.lines().filter(|line| starts.iter().any(|it| line.starts_with(it)));
        assert_eq!(lines.count(), 3, "{explained}");
        each_platform_is_explained(&lap);
        assert_eq!(
            lap.ok(["build", "--no-cache", "--platform", order, epoch, "-q", &context]),
            seen[0]
        );
        lap.is_whole();
    }
    assert!(seen.iter().all(|id| *id == seen[0] && id.starts_with("sha256:")), "{seen:?}");
}

/// `lap explain` shows one platform of the newest command, and says where the other two are.
fn each_platform_is_explained(lap: &Lap) {
    let newest = lap.ok(["explain"]);
    let others: Vec<&str> = newest
        .lines()
        .filter_map(|line| line.split_once(": lap explain "))
        .map(|it| it.1)
        .collect();
    assert_eq!(others.len(), 2, "{newest}");
    let platform = |id: &str| {
        let report = lap.ok(["explain", "--format", "json", id]);
        let report: Value = serde_json::from_str(&report).unwrap();
        report["platform"].as_str().unwrap().to_owned()
    };
    let shown = newest.split_whitespace().nth(1).unwrap();
    let mut platforms = [shown, others[0], others[1]].map(platform);
    platforms.sort();
    assert_eq!(platforms, ["linux/amd64", "linux/arm/v7", "linux/arm64"]);
}

/// A stage on this machine's own platform whose program goes by the target's name.
fn on_this_machine(program: &str) -> String {
    format!(
        "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\n\
         RUN --mount=type=cache,target=/c {program}\n\
         FROM scratch\nCOPY --from=build /out /out\n"
    )
}

/// Tells the other that it is here, and waits for it for 30 s.
const MEET: &str = "touch /c/$TARGETARCH; i=0; \
                    while [ ! -e /c/amd64 -o ! -e /c/arm64 ]; do \
                    i=$((i + 1)); [ $i -lt 300 ] || exit 9; sleep 0.1; done";
const BOTH: &str = "--platform=linux/arm64,linux/amd64";

#[test]
fn platforms_are_built_at_once() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("at-once");
    let context =
        lap.context("context", &on_this_machine(&format!("{MEET}; echo $TARGETARCH > /out")));
    let asked = ["build", BOTH, "--jobs=2", "--progress=plain", "-t", "x:1", &context];
    let said = lap.run(asked);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for platform in ["linux/amd64", "linux/arm64"] {
        for words in
            [format!("[{platform} build 1/1] RUN"), format!("[{platform} stage 1 1/1] COPY")]
        {
            assert!(said.stderr.contains(&words), "{}", said.stderr);
        }
    }
    let said = lap.run(["build", BOTH, "--progress=rawjson", &context]);
    let events: Vec<Value> =
        said.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for platform in ["linux/amd64", "linux/arm64"] {
        let of = |name: &str| {
            let is = |it: &&Value| it["platform"] == platform && it["event"] == name;
            events.iter().filter(is).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of("planned")[0]["stages"][0]["name"], "build");
        assert_eq!(of("step-cached").len(), 2);
        assert!(of("step-cached").iter().all(|it| it["stage"].as_u64().unwrap() < 2));
    }
    lap.is_whole();
}

#[test]
fn jobs_are_counted_over_all_platforms() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("one-job");
    let alone = "mkdir /c/busy || exit 9; sleep 0.3; rm -r /c/busy; echo > /out";
    let context = lap.context("context", &on_this_machine(&format!("echo $TARGETARCH; {alone}")));
    lap.ok(["build", BOTH, "--jobs=1", &context]);
}

#[test]
fn each_platform_that_fails_is_told() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("both-fail");
    let text = format!("{MEET}; [ $TARGETARCH = amd64 ] && exit 7; exit 8");
    let context = lap.context("context", &on_this_machine(&text));
    let said = lap.run(["build", BOTH, "--jobs=2", "-t", "x:1", &context]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    // The second may have been stopped by the first's end; whoever failed by itself is told.
    let told = |code: i32, platform: &str| {
        let words = [format!("exit code: {code}"), format!("in the build for {platform}")];
        let is = words.map(|words| said.stderr.contains(&words));
        assert_eq!(is[0], is[1], "{}", said.stderr);
        is[0]
    };
    let (amd64, arm64) = (told(7, "linux/amd64"), told(8, "linux/arm64"));
    assert!(amd64 || arm64, "{}", said.stderr);
    // What is wrong for every platform is told once.
    let context = lap.context("wrong", "FROM scratch\nCOPY nothing /\n");
    lap.refused(["build", BOTH, &context], 3, &["not found", "Dockerfile:2"]);
    // One that fails stops the other at once, and there is no image.
    let text = format!("{MEET}; [ $TARGETARCH = amd64 ] && exit 7; sleep 600");
    let context = lap.context("one", &on_this_machine(&text));
    let begun = std::time::Instant::now();
    lap.ok(["prune", "--all", "--force"]);
    let asked = ["build", BOTH, "--jobs=2", "-t", "x:1", &context];
    lap.refused(asked, 1, &["exit code: 7", "in the build for linux/amd64"]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(300));
    lap.refused(["inspect", "x:1"], 3, &["no image"]);
}

#[test]
fn a_step_of_all_platforms_is_done_once_even_without_the_cache() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("once");
    let text = "FROM --platform=$BUILDPLATFORM busybox AS build\n\
                RUN --mount=type=cache,target=/c echo made; mkdir /c/made && touch /out\n\
                FROM scratch\nCOPY --from=build /out /out\n";
    let context = lap.context("context", text);
    let said = lap.run(["build", BOTH, "--no-cache", "--progress=plain", &context]);
    assert_eq!((said.code, said.stderr.matches("| made").count()), (Some(0), 1), "{}", said.stderr);
}

#[test]
fn all_platforms_travel_together() {
    let lap = Lap::new("travel");
    let context = lap.context("context", DOCKERFILE);
    lap.ok(["build", PLATFORMS, "-t", "x:1", &context]);
    let digest = index_of(&lap, "x:1");
    let archive = lap.work.join("x.tar").display().to_string();
    lap.ok(["save", "-o", &archive, "x:1"]);
    let fresh = Lap::new("travelled");
    let said = fresh.ok(["load", "--all-platforms", "-i", &archive]);
    assert!(said.contains("loaded x:1") && said.lines().count() == 1, "{said}");
    assert_eq!(index_of(&fresh, "x:1"), digest);
    for platform in ["linux/amd64", "linux/arm64", "linux/arm/v7"] {
        let shown = fresh.ok(["inspect", "--platform", platform, "x:1"]);
        assert!(shown.contains(&format!("FOR={platform}")), "{shown}");
        let text = format!("FROM --platform={platform} x:1\nLABEL from=$FOR\n");
        let context = fresh.context("from", &text);
        fresh.ok(["build", "--platform", platform, "-t", "y:1", &context]);
        assert!(fresh.ok(["inspect", "y:1"]).contains(&format!("\"from\": \"{platform}\"")));
    }
    fresh.refused(["inspect", "--platform", "linux/s390x", "x:1"], 3, &["linux/arm64", "s390x"]);
    let one = lap.work.join("one.tar").display().to_string();
    fresh.ok(["save", "--platform", "linux/arm64", "-o", &one, "x:1"]);
    let alone = Lap::new("travelled-alone");
    alone.ok(["load", "-i", &one]);
    assert!(alone.ok(["inspect", "x:1"]).contains("FOR=linux/arm64"));
    fresh.ok(["prune", "--all", "--force"]);
    fresh.is_whole();
    assert_eq!(index_of(&fresh, "x:1"), digest);
}

#[test]
fn all_platforms_are_pulled() {
    let (here, between, there) =
        (Lap::new("all-here"), Lap::new("all-between"), Lap::new("all-there"));
    let serving = Serving::start(&between, &["--writable"]);
    let name = format!("{}/app:1", serving.address());
    let context = here.context("context", DOCKERFILE);
    here.ok(["build", PLATFORMS, "-t", &name, "--push", &context]);
    let digest = index_of(&here, &name);
    let pulled = there.run(["pull", "--all-platforms", &name]);
    assert!(pulled.stdout.trim().ends_with(&digest), "{digest} {}", pulled.stdout);
    assert!(pulled.stderr.contains("linux/arm/v7"), "{}", pulled.stderr);
    assert_eq!(index_of(&there, &name), digest);
    assert!(there.ok(["inspect", "--platform=linux/arm64", &name]).contains("FOR=linux/arm64"));
    // The image of one platform has no index.
    let one = format!("{}/one:1", serving.address());
    there.ok(["tag", &name, &one]);
    there.ok(["push", "--platform=linux/arm64", &one]);
    let alone = Lap::new("all-alone");
    assert!(alone.ok(["pull", "--all-platforms", &one]).contains("one@sha256:"));
    assert!(alone.ok(["inspect", &one]).contains("FOR=linux/arm64"));
    there.is_whole();
}

#[test]
fn files_of_several_platforms_lie_side_by_side() {
    let lap = Lap::new("platform-split");
    let context = lap.context("context", DOCKERFILE);
    let out = lap.work.join("out");
    let output = format!("type=local,dest={}", out.display());
    fs::create_dir(&out).unwrap();
    lap.ok(["build", PLATFORMS, "-o", &output, &context]);
    for name in ["linux_amd64", "linux_arm64", "linux_arm_v7"] {
        assert!(out.join(name).join("f").exists(), "{name}");
    }
    fs::remove_dir_all(&out).unwrap();
    lap.ok(["build", PLATFORMS, "-o", &format!("{output},platform-split=false"), &context]);
    assert!(out.join("f").exists() && !out.join("linux_arm64").exists());
}

/// A platform whose programs this machine certainly does not run by itself.
fn foreign() -> &'static str {
    if cfg!(target_arch = "s390x") { "linux/riscv64" } else { "linux/s390x" }
}

#[test]
fn a_missing_emulator_is_named() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("foreign");
    let context = lap.context("context", "FROM scratch\nCOPY Dockerfile /bin/sh\nRUN true\n");
    let probe = lap.run(["build", "--platform", foreign(), &context]);
    assert_eq!(probe.code, Some(4), "{}", probe.stderr);
    for word in [foreign(), "binfmt_misc", "qemu-", "Dockerfile:3:1", "hint:"] {
        assert!(probe.stderr.contains(word), "`{word}` is not in:\n{}", probe.stderr);
    }
    // Nothing that is only copied needs one, and steps of the machine's own platform do not either.
    let text = "FROM --platform=$BUILDPLATFORM busybox AS build\nRUN echo a > /made\n\
                FROM scratch\nARG TARGETARCH\nENV A=$TARGETARCH\nCOPY --from=build /made /\n";
    let context = lap.context("cross", text);
    let both = format!("--platform={},linux/arm64", foreign());
    let said = lap.run(["build", &both, &context]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("1 of 4 steps cached"), "done once for both:\n{}", said.stderr);
}

#[test]
fn annotations_stand_where_they_are_wanted() {
    let lap = Lap::new("annotations");
    let context = lap.context("context", DOCKERFILE);
    let layout = lap.work.join("layout");
    let output = format!("type=oci,tar=false,annotation-index.Own=o,dest={}", layout.display());
    let annotations = [
        "--annotation=a=1",
        "--annotation=index,manifest-descriptor:b=2",
        "--annotation=manifest[linux/arm64]:c=3",
        "--annotation=index-descriptor:d=4",
    ];
    let mut arguments =
        vec!["build", "--platform=linux/amd64,linux/arm64", "-t", "x:1", "-o", &output];
    arguments.extend(annotations);
    arguments.push(&context);
    lap.ok(&arguments);
    let top = top(&layout);
    assert_eq!((&top["annotations"]["d"], &top["annotations"]["b"]), (&"4".into(), &Value::Null));
    let index = blob(&layout, &top);
    assert_eq!(
        (&index["annotations"]["b"], &index["annotations"]["Own"]),
        (&"2".into(), &"o".into())
    );
    assert_eq!(index["manifests"][1]["annotations"]["b"], "2");
    let manifests = [0, 1].map(|at| blob(&layout, &index["manifests"][at])["annotations"].clone());
    assert_eq!((&manifests[0]["a"], &manifests[0]["c"]), (&"1".into(), &Value::Null));
    assert_eq!((&manifests[1]["a"], &manifests[1]["c"]), (&"1".into(), &"3".into()));

    // Of one platform: in the manifest, also of an image that goes out later.
    lap.ok(["build", "--annotation", "org.x:y=z", "-t", "y:1", &context]
        .map(|word| if word == "org.x:y=z" { "manifest:org.x=z" } else { word }));
    let archive = lap.work.join("y.tar").display().to_string();
    lap.ok(["save", "--format", "oci", "-o", &archive, "y:1"]);
    let unpacked = lap.work.join("y");
    fs::create_dir(&unpacked).unwrap();
    assert!(
        Command::new("tar")
            .args(["-xf", &archive, "-C"])
            .arg(&unpacked)
            .status()
            .unwrap()
            .success()
    );
    let manifest = blob(&unpacked, &self::top(&unpacked));
    assert_eq!(manifest["annotations"]["org.x"], "z");
    let index_of_one = ["build", "--annotation", "index:a=b", &context];
    lap.refused(index_of_one, 2, &["no index"]);
    lap.refused(["build", "--annotation", "what:a=b", &context], 2, &["annotation type `what`"]);
    lap.is_whole();
}

#[test]
fn each_output_has_its_own_form() {
    let lap = Lap::new("forms");
    let context = lap.context("context", DOCKERFILE);
    let path = |name: &str| lap.work.join(name).display().to_string();
    let oci = |name: &str, more: &str| format!("type=oci,tar=false,dest={}{more}", path(name));
    let outputs = [
        oci("gzip", ",compression=gzip,compression-level=1"),
        oci("zstd", ",compression=zstd,compression-level=19,force-compression=true"),
        oci("plain", ",compression=uncompressed,rewrite-timestamp=true"),
        oci("docker", ",oci-mediatypes=false"),
        format!("type=tar,dest={}", path("files.tar")),
        format!("type=local,dest={}", path("files")),
        format!("type=docker,dest={}", path("docker.tar")),
        "type=image,name=named:2".to_owned(),
    ];
    let mut arguments = vec!["build", "-t", "x:1", "--build-arg", "SOURCE_DATE_EPOCH=1000000000"];
    arguments.extend(outputs.iter().flat_map(|output| ["-o", output]));
    arguments.push(&context);
    lap.ok(&arguments);
    for (name, kind) in [
        ("gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("plain", "application/vnd.oci.image.layer.v1.tar"),
        ("docker", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ] {
        let layout = lap.work.join(name);
        let manifest = blob(&layout, &top(&layout));
        assert_eq!(manifest["layers"][0]["mediaType"], kind);
        let digest = manifest["layers"][0]["digest"].as_str().unwrap();
        let bytes = fs::read(layout.join("blobs/sha256").join(&digest[7..])).unwrap();
        let magic: &[u8] = match name {
            "zstd" => &[0x28, 0xb5, 0x2f, 0xfd],
            "plain" => b"f",
            _ => &[0x1f, 0x8b],
        };
        assert!(bytes.starts_with(magic), "{name}");
    }
    assert!(lap.work.join("files/f").exists() && lap.work.join("docker.tar").exists());
    let listed = Command::new("tar").args(["-tf", &path("files.tar")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "f");
    assert!(lap.ok(["images"]).contains("named"));
    let levels = ["1", "9"].map(|level| {
        let name = format!("level-{level}");
        lap.ok(["build", "-o", &oci(&name, &format!(",compression-level={level}")), &context]);
        top(&lap.work.join(name))["digest"].clone()
    });
    assert_ne!(levels[0], levels[1]);
    let never = oci("never", ",rewrite-timestamp=false");
    lap.refused(
        ["build", "--build-arg", "SOURCE_DATE_EPOCH=1", "-o", &never, &context],
        2,
        &["in any case"],
    );
    lap.refused(
        ["build", "-o", "type=local,dest=x,compression=zstd", &context],
        2,
        &["compression"],
    );
}
