//! `lap save`, `load`, `import`: archives in and out.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use lapstrake_fixtures::{Need, require};
use serde_json::Value;

use crate::support::{Lap, RUN};

fn built(purpose: &str) -> Lap {
    let lap = Lap::new(purpose);
    lap.build("app:1", "FROM scratch\nCOPY a /d/\nENV A=1\n", &[("a", "1")]);
    lap
}

#[test]
fn saved_images_come_back_the_same() {
    let lap = built("save");
    let id = lap.ok(["images", "-q"]);
    for (form, compression) in [
        ("oci", "gzip"),
        ("oci", "zstd"),
        ("oci", "uncompressed"),
        ("docker", "gzip"),
        ("oci-dir", "gzip"),
    ] {
        let name = format!("{form}-{compression}");
        lap.ok(["save", "--format", form, "--compression", compression, "-o", &name, "app:1"]);
        let other = Lap::new("load");
        let loaded = other.ok(["load", "-i", &lap.work.join(&name).display().to_string()]);
        assert_eq!(loaded, format!("loaded app:1 ({})\n", id.trim_end()), "{name}");
        assert_eq!(other.ok(["images", "-q"]), id);
        other.is_whole();
    }
}

#[test]
fn archives_flow_through_pipes() {
    let lap = built("pipe-out");
    let forms: [&[&str]; 3] =
        [&[], &["--format", "docker"], &["--compression", "zstd", "--format", "oci"]];
    for form in forms {
        let other = Lap::new("pipe-in");
        let save = [&["save"], form, &["app:1"]].concat();
        let mut save = lap.command(save).stdout(Stdio::piped()).spawn().unwrap();
        let load = other.command(["load"]).stdin(save.stdout.take().unwrap()).output().unwrap();
        assert!(save.wait().unwrap().success() && load.status.success(), "{form:?}");
        assert_eq!(other.ok(["images", "-q"]), lap.ok(["images", "-q"]), "{form:?}");
    }
}

#[test]
fn several_images_go_through_one_pipe() {
    let (lap, other) = (built("several-out"), Lap::new("several-in"));
    lap.build("app:2", "FROM scratch\nCOPY a /d/\nCOPY b /\n", &[("a", "1"), ("b", "2")]);
    for form in ["oci", "docker"] {
        let mut save = lap.command(["save", "--format", form, "app:1", "app:2"]);
        let mut save = save.stdout(Stdio::piped()).spawn().unwrap();
        let load = other.command(["load"]).stdin(save.stdout.take().unwrap()).output().unwrap();
        assert!(save.wait().unwrap().success() && load.status.success(), "{form}");
        let said = String::from_utf8_lossy(&load.stdout).into_owned();
        assert!(said.contains("app:1") && said.contains("app:2"), "{form}: {said}");
        assert_eq!(other.ok(["images", "-q"]), lap.ok(["images", "-q"]), "{form}");
        other.ok(["rmi", "app:1", "app:2"]);
    }
    other.is_whole();
    lap.refused(["save", "app:1", "none:1"], 3, &["there is no image `none:1`"]);
    let output = lap.run(["save", "--format", "oci-dir", "app:1"]);
    assert_eq!(output.code, Some(2), "{}", output.stderr);
}

#[test]
fn a_root_file_system_goes_out_and_comes_back() {
    let lap = built("rootfs");
    lap.ok(["save", "--format", "rootfs", "-o", "root.tar", "app:1"]);
    let listed = Command::new("tar").args(["tf", "root.tar"]).current_dir(lap.work.path()).output();
    let listed = String::from_utf8_lossy(&listed.unwrap().stdout).into_owned();
    assert!(listed.contains("d/a"), "{listed}");
    lap.ok(["import", "root.tar", "back:1"]);
    assert_eq!(lap.run(["diff", "app:1", "back:1"]).code, Some(0));
    let mut save = lap.command(["save", "--format", "rootfs", "app:1"]);
    let mut save = save.stdout(Stdio::piped()).spawn().unwrap();
    let mut import = lap.command(["import", "-", "piped:1"]);
    assert!(import.stdin(save.stdout.take().unwrap()).status().unwrap().success());
    assert!(save.wait().unwrap().success());
    assert_eq!(lap.run(["diff", "app:1", "piped:1"]).code, Some(0));
    lap.refused(["save", "--format", "rootfs", "app:1", "back:1"], 2, &["of one image"]);
    lap.is_whole();
}

#[test]
fn strangers_read_our_archives() {
    if !require(&[Need::Tool("skopeo")]) {
        return;
    }
    let lap = built("strangers");
    lap.ok(["save", "-o", "oci.tar", "app:1"]);
    lap.ok(["save", "--format", "docker", "-o", "docker.tar", "app:1"]);
    for archive in ["oci-archive:oci.tar", "docker-archive:docker.tar"] {
        let inspected = Command::new("skopeo")
            .args(["inspect", archive])
            .current_dir(lap.work.path())
            .output()
            .unwrap();
        assert!(
            inspected.status.success(),
            "{archive}: {}",
            String::from_utf8_lossy(&inspected.stderr)
        );
        let facts: Value = serde_json::from_slice(&inspected.stdout).unwrap();
        assert!(facts["Env"].as_array().is_some_and(|env| env.contains(&"A=1".into())), "{facts}");
    }
}

#[test]
fn a_root_file_system_becomes_an_image() {
    let lap = Lap::new("import");
    lap.work.write("root/etc/name", "me\n");
    let tar = Command::new("tar")
        .args(["--owner=0", "--group=0", "-C", "root", "-czf", "root.tar.gz", "."])
        .current_dir(lap.work.path())
        .status();
    assert!(tar.unwrap().success());
    let changes =
        ["--change", "CMD [\"/bin/x\"]", "--change", "ENV A=\"b c\"", "--change", "USER 5"];
    let mut arguments = vec!["import"];
    arguments.extend(changes);
    arguments.extend(["root.tar.gz", "made:1"]);
    lap.ok(&arguments);
    let inspected: Value = serde_json::from_str(&lap.ok(["inspect", "made:1"])).unwrap();
    let config = &inspected[0]["Config"];
    assert_eq!(
        (&config["Cmd"], &config["User"]),
        (&serde_json::json!(["/bin/x"]), &Value::from("5"))
    );
    assert!(config["Env"].as_array().is_some_and(|env| env.contains(&"A=b c".into())));
    let mut command = lap.command(["import", "-", "piped:1"]);
    let piped = command.stdin(File::open(lap.work.join("root.tar.gz")).unwrap()).output().unwrap();
    assert!(piped.status.success());
    assert_eq!(lap.run(["diff", "made:1", "piped:1"]).code, Some(0));
    lap.refused(
        ["import", "--change", "RUN x", "root.tar.gz", "bad:1"],
        2,
        &["`RUN` does not configure"],
    );
    assert!(fs::metadata(lap.work.join("root.tar.gz")).is_ok());
    lap.is_whole();
}

/// How many layers that came as blobs have trees.
fn trees_of_blobs(lap: &Lap) -> usize {
    let layers = fs::read_dir(lap.root().join("layers")).expect("a store");
    let layers = layers.map(|layer| layer.expect("readable").path());
    let came = |layer: &std::path::PathBuf| {
        let meta = fs::read_to_string(layer.join("meta.json")).expect("it says what it is");
        serde_json::from_str::<Value>(&meta).expect("JSON")["origin"] == "blob"
    };
    layers.filter(came).filter(|layer| layer.join("tree").is_dir()).count()
}

/// As root and as an ordinary user: owners of a layer that comes as a blob are what a step sees.
#[test]
fn a_base_has_trees_where_a_step_runs_over_it() {
    if !require(&RUN) {
        return;
    }
    let source = Lap::with_busybox("base-out");
    let dockerfile = "FROM busybox\nCOPY --chown=7:8 --chmod=4755 a /deep/er/a\nCOPY a /a/b/c\n";
    source.build("base:1", dockerfile, &[("a", "1")]);
    let (layout, archive) = (source.work.join("layout"), source.work.join("archive"));
    for (form, at) in [("oci-dir", &layout), ("oci", &archive)] {
        source.ok(["save", "--format", form, "-o", &at.display().to_string(), "base:1"]);
    }
    let context = format!("base=oci-layout://{}:1", layout.display());
    let runs = "FROM base\nRUN busybox stat -c '%u:%g %a' /deep/er/a > /seen && busybox chown 9:9 /a/b/c\n";
    let copies = "FROM scratch\nCOPY --from=base /deep/er/a /a\n";
    for (dockerfile, trees) in [(copies, 0), (runs, 4)] {
        let lap = Lap::new("base-in");
        let at = lap.context("context", dockerfile);
        lap.ok(["build", "-t", "of:layout", "--build-context", &context, &at]);
        assert_eq!(trees_of_blobs(&lap), trees, "{dockerfile}");
        lap.is_whole();
        if trees > 0 {
            assert_eq!(lap.ok(["run", "--rm", "of:layout", "cat", "/seen"]), "7:8 4755\n");
            let owners =
                ["run", "--rm", "of:layout", "busybox", "stat", "-c", "%u:%g", "/a/b/c", "/bin"];
            assert_eq!(lap.ok(owners), "9:9\n0:0\n");
        }
    }
    let lap = Lap::new("base-loaded");
    lap.ok(["load", "-i", &archive.display().to_string()]);
    assert_eq!(trees_of_blobs(&lap), 0, "nobody ran over it yet");
    lap.build("of:loaded", &runs.replace("base", "base:1"), &[]);
    assert_eq!(trees_of_blobs(&lap), 4);
    assert_eq!(lap.ok(["run", "--rm", "of:loaded", "cat", "/seen"]), "7:8 4755\n");
    lap.is_whole();
}

/// In the layer the file has the name that comes last; outside it stands where the first name is.
#[test]
fn a_file_of_several_names_stays_one_file() {
    let lap = Lap::new("names");
    lap.work.write("files/z", "one file\n");
    let files = lap.work.join("files");
    fs::hard_link(files.join("z"), files.join("a")).unwrap();
    fs::hard_link(files.join("z"), files.join("m")).unwrap();
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar").args(arguments).current_dir(&files).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    tar(&["-cf", "../in.tar", "z", "a", "m"]);
    lap.ok(["import", "in.tar", "names:1"]);
    let context = lap.context("context", "FROM names:1\nCOPY Dockerfile /\n");
    lap.ok(["build", "-t", "names:2", "-o", "type=tar,dest=out.tar", "-o", "out", &context]);
    let listed = tar(&["-tvf", "../out.tar"]);
    let links = listed.lines().filter(|line| line.ends_with(" link to a")).count();
    assert_eq!(links, 2, "{listed}");
    let inode = |name: &str| fs::metadata(lap.work.join("out").join(name)).unwrap().ino();
    assert_eq!((inode("a"), inode("a")), (inode("m"), inode("z")));
    assert_ne!(inode("a"), inode("Dockerfile"));
    lap.ok(["save", "--format", "rootfs", "-o", "root.tar", "names:2"]);
    lap.ok(["import", "root.tar", "back:1"]);
    assert_eq!(lap.run(["diff", "names:2", "back:1"]).code, Some(0));
}
