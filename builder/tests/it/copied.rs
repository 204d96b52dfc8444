//! The hard cases about files and about what an image says of itself, one test for each numbered statement:
//! images are built here, without a program, and their files and configs are looked at.

use crate::support::Bench;
use lapstrake_builder::ignore::Ignore;
use lapstrake_layerstore::oci::ImageConfig;
use lapstrake_layerstore::toc::Kind;
use lapstrake_layerstore::view::View;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

/// A context with files, links, modes and accounts.
fn bench() -> Bench {
    let bench = Bench::new();
    for (name, text) in [
        ("a.txt", "one"),
        ("b.txt", "two22"),
        ("d/x.txt", "x"),
        ("d/.dot", "dot"),
        ("d/sub/y.md", "y"),
        ("etc/passwd", "app:x:7:8::/:/bin/sh\n"),
        ("etc/group", "staff:x:9:\n"),
    ] {
        bench.write(name, text);
    }
    symlink("a.txt", bench.path("link")).unwrap();
    symlink("x.txt", bench.path("d/inner")).unwrap();
    fs::set_permissions(bench.path("a.txt"), Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(bench.path("d"), Permissions::from_mode(0o700)).unwrap();
    bench
}

/// The files of the image: path, kind and size, mode, owner.
fn files(instructions: &str) -> Vec<String> {
    let bench = bench();
    let outcome = bench.build(&bench.options(&format!("FROM scratch\n{instructions}\n"))).outcome;
    let outcome = outcome.unwrap_or_else(|error| panic!("{instructions}: {error:?}"));
    let view = View::new(bench.store.image_layers(&outcome.image).unwrap()).unwrap();
    let shown = view.iter().filter(|found| !found.entry.path.is_root()).map(|found| {
        let entry = found.entry;
        let kind = match entry.kind {
            Kind::Dir => "/".to_owned(),
            Kind::Symlink => format!("@{}", String::from_utf8_lossy(&entry.link)),
            _ => format!(":{}", entry.size),
        };
        format!("{}{kind} {:o} {}:{}", entry.path, entry.mode, entry.uid, entry.gid)
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    shown
}

fn names(instructions: &str) -> Vec<String> {
    files(instructions).iter().map(|shown| shown.split(' ').next().unwrap().to_owned()).collect()
}

fn refused(instructions: &str) -> String {
    let bench = bench();
    let built = bench.build(&bench.options(&format!("FROM scratch\n{instructions}\n"))).outcome;
    let Err(error) = built else { panic!("{instructions}: it is not refused") };
    let mut error: &dyn std::error::Error = &error;
    let mut text = error.to_string();
    while let Some(source) = error.source() {
        text = format!("{text}: {source}");
        error = source;
    }
    text
}

fn config(instructions: &str) -> ImageConfig {
    let bench = bench();
    bench.build(&bench.options(&format!("FROM scratch\n{instructions}\n"))).outcome.unwrap().config
}

fn history(instructions: &str) -> Vec<String> {
    let entries = config(instructions).history;
    let shown = |text: String, empty| if empty { format!("({text})") } else { text };
    entries.into_iter().map(|entry| shown(entry.created_by, entry.empty_layer)).collect()
}

#[test]
fn s34_owners() {
    for (owner, expected) in
        [("5", "5:5"), ("5:6", "5:6"), ("root", "0:0"), ("app", "7:8"), ("app:staff", "7:9")]
    {
        let all = files(&format!("COPY etc /etc/\nCOPY --chown={owner} b.txt /"));
        assert_eq!(all[0], format!("b.txt:5 644 {expected}"), "{owner}");
    }
    // A name that nobody has is refused here, as the reference's documents say.
    assert!(refused("COPY --chown=nobody a.txt /").contains("nobody"));
}

#[test]
fn s35_owners_without_chown() {
    let all = files("COPY --chown=3:4 b.txt /x\nUSER 5\nCOPY b.txt /y\nCOPY <<z /\nz\n");
    assert_eq!(all, ["x:5 644 3:4", "y:5 644 0:0", "z:0 644 0:0"]);
    let staged = "COPY --chown=3:4 b.txt /x\nFROM scratch\nCOPY --from=0 /x /";
    assert_eq!(files(staged), ["x:5 644 3:4"]);
}

#[test]
fn s36_destinations() {
    let work = "WORKDIR /w\n";
    for (dest, expected) in
        [(".", "w/b.txt:5"), ("./", "w/b.txt:5"), ("n", "w/n:5"), ("/n/.", "n/b.txt:5")]
    {
        let all = names(&format!("{work}COPY b.txt {dest}"));
        assert!(all.contains(&expected.to_owned()), "{dest}: {all:?}");
    }
    assert!(names("COPY b.txt /../../n/").contains(&"n/b.txt:5".to_owned()));
    assert!(names("WORKDIR /w\nCOPY [\"b.txt\", \"\"]").contains(&"w/b.txt:5".to_owned()));
}

#[test]
fn s37_where_files_go() {
    assert_eq!(names("COPY b.txt /p/q/n"), ["p/", "p/q/", "p/q/n:5"]);
    assert_eq!(names("COPY d/sub /n/\nCOPY b.txt /n"), ["n/", "n/b.txt:5", "n/y.md:1"]);
    assert_eq!(names("COPY link /n/"), ["n/", "n/link:3"]);
    assert_eq!(names("COPY b.txt /n\nCOPY a.txt /n"), ["n:3"]);
    assert_eq!(names("COPY d/sub /n\nCOPY d/sub /n/m"), ["n/", "n/m/", "n/m/y.md:1", "n/y.md:1"]);
    assert!(refused("COPY b.txt /n\nCOPY d /n").contains("directory"));
    assert!(
        refused("COPY d /n/\nCOPY b.txt /n/sub/\nCOPY b.txt /m/sub\nCOPY d /m/sub")
            .contains("directory")
    );
}

#[test]
fn s38_several_sources_onto_one_name() {
    assert_eq!(files("COPY a.txt b.txt /n"), ["n:5 644 0:0"]);
}

#[test]
fn s39_directories_that_are_made() {
    assert_eq!(files("COPY --chown=5:6 b.txt /p/n"), ["p/ 755 5:6", "p/n:5 644 5:6"]);
    assert_eq!(files("COPY --chmod=640 b.txt /p/n")[0], "p/ 640 0:0");
    assert_eq!(files("COPY --chmod=u+x b.txt /p/n"), ["p/ 755 0:0", "p/n:5 744 0:0"]);
    assert_eq!(files("COPY d /n/")[0], "n/ 755 0:0");
}

#[test]
fn s40_links_stand_alone() {
    let linked = "COPY --link a.txt /p/\nCOPY --link b.txt /p/";
    assert_eq!(names(linked), ["p/", "p/a.txt:3", "p/b.txt:5"]);
    assert!(!refused("COPY etc /etc/\nCOPY --link --chown=app b.txt /").is_empty());
    // With --chmod it is an ordinary copy.
    let ordinary = "COPY etc /etc/\nCOPY --link --chmod=600 --chown=app b.txt /";
    assert_eq!(files(ordinary)[0], "b.txt:5 600 7:8");
}

#[test]
fn s41_modes() {
    assert_eq!(files("COPY a.txt /"), ["a.txt:3 4750 0:0"]);
    let all = files("COPY --chmod=g=r,g+X,o= d /n/");
    assert!(all.contains(&"n/sub/ 750 0:0".to_owned()), "{all:?}");
    assert!(all.contains(&"n/x.txt:1 640 0:0".to_owned()), "{all:?}");
    assert!(all.contains(&"n/inner@x.txt 777 0:0".to_owned()), "{all:?}");
    assert!(!refused("COPY --chmod=10000 a.txt /").is_empty());
}

#[test]
fn s42_hard_links_of_one_copy() {
    let bench = bench();
    fs::hard_link(bench.path("d/x.txt"), bench.path("d/z.txt")).unwrap();
    let outcome = bench.build(&bench.options("FROM scratch\nCOPY d /n/\n")).outcome.unwrap();
    let layers = bench.store.image_layers(&outcome.image).unwrap();
    let toc = layers[0].toc().unwrap();
    let linked = toc.entries().iter().filter(|entry| entry.kind == Kind::Hardlink).count();
    assert_eq!(linked, 1);
}

#[test]
fn s43_links_of_sources() {
    assert_eq!(names("COPY link /n"), ["n:3"]);
    assert_eq!(
        names("COPY d /n/"),
        ["n/", "n/.dot:3", "n/inner@x.txt", "n/sub/", "n/sub/y.md:1", "n/x.txt:1"]
    );
    assert_eq!(names("COPY l* /"), ["link:3"]);
}

#[test]
fn s44_wildcards() {
    assert_eq!(names("COPY *.txt /n/"), ["n/", "n/a.txt:3", "n/b.txt:5"]);
    assert_eq!(names("COPY d/* /n/"), ["n/", "n/.dot:3", "n/inner:1", "n/x.txt:1", "n/y.md:1"]);
    assert_eq!(names("COPY no* /n/\nCOPY [ab].txt /m/").len(), 3);
    assert!(refused("COPY nope /").contains("\"/nope\": not found"));
    assert!(refused("COPY [ /").contains("syntax error in pattern"));
}

#[test]
fn s45_sources_stay_inside() {
    for source in ["../b.txt", "/b.txt", "d/../../b.txt", "b.txt/"] {
        assert_eq!(names(&format!("COPY {source} /n")), ["n:5"], "{source}");
    }
}

#[test]
fn s46_excludes() {
    let all = names("COPY --exclude=*.txt --exclude=sub d /n/");
    assert_eq!(all, ["n/", "n/.dot:3", "n/inner@x.txt"]);
    // What is itself a source is never excluded.
    assert_eq!(names("COPY --exclude=*.txt *.txt /n/").len(), 3);
}

#[test]
fn s47_parents() {
    assert_eq!(
        names("COPY --parents d/sub/y.md /n/"),
        ["n/", "n/d/", "n/d/sub/", "n/d/sub/y.md:1"]
    );
    assert_eq!(names("COPY --parents d/./sub/*.md /n/"), ["n/", "n/sub/", "n/sub/y.md:1"]);
    assert_eq!(names("COPY --parents **/*.md /n/").last().unwrap(), "n/d/sub/y.md:1");
    assert!(refused("COPY --parents d/nope /n/").contains("not found"));
    // What is excluded is there all the same.
    let excluded = "COPY --parents --exclude=d/x.txt d/x.txt d/sub/y.md /n/";
    assert_eq!(names(excluded), ["n/", "n/d/", "n/d/sub/", "n/d/sub/y.md:1"]);
    // A directory on the way gets the mode of its source; its owner is its own.
    let onto = "COPY --chown=5:6 --chmod=711 d /n/d\nCOPY --parents d/x.txt /n/";
    assert!(files(onto).contains(&"n/d/ 700 5:6".to_owned()));
}

#[test]
fn s48_ignored_files_are_not_there() {
    let bench = bench();
    bench.write(".dockerignore", "*.txt\n!b.txt\n");
    let build = |text: &str| bench.build(&bench.options(text)).outcome;
    assert!(build("FROM scratch\nCOPY a.txt /\n").is_err());
    assert!(build("FROM scratch\nCOPY b.txt /\n").is_ok());
}

#[test]
fn s51_archives() {
    let bench = bench();
    let context = bench.path("");
    for arguments in [["-czf", "packed", "d"], ["-cf", "plain.txt", "b.txt"]] {
        let done = std::process::Command::new("tar").current_dir(&context).args(arguments).status();
        assert!(done.expect("there is tar").success());
    }
    bench.write("not.tar.gz", "text");
    let names = |line: &str| {
        let built = bench.build(&bench.options(&format!("FROM scratch\n{line}\n"))).outcome;
        let layers = bench.store.image_layers(&built.expect(line).image).unwrap();
        let view = View::new(layers).unwrap();
        let paths = view.iter().map(|found| found.entry.path.to_string());
        paths.filter(|path| path != "." && !path.is_empty()).collect::<Vec<_>>().join(" ")
    };
    // What a file is shows in its bytes, not in its name, and the destination is a directory.
    assert_eq!(names("ADD packed /n"), "n n/d n/d/.dot n/d/inner n/d/sub n/d/sub/y.md n/d/x.txt");
    assert_eq!(names("ADD plain.txt /n"), "n n/b.txt");
    assert_eq!(names("ADD not.tar.gz /n"), "n");
    assert_eq!(names("COPY packed /n"), "n");
    assert_eq!(names("ADD --unpack=false packed /n"), "n");
}

#[test]
fn s53_heredocs() {
    assert_eq!(files("COPY <<E /p/n\nab\nE"), ["p/ 755 0:0", "p/n:3 644 0:0"]);
    assert_eq!(names("COPY <<a <<\"b\" /p/\n1\na\n22\nb"), ["p/", "p/a:2", "p/b:3"]);
    assert_eq!(names("COPY <<-E /n\n\t\tx\n\tE"), ["n:2"]);
    assert_eq!(names("ARG V=long\nCOPY <<E <<'F' /\n$V\nE\n$V\nF"), ["E:5", "F:3"]);
    // The file is made in an empty tree, which has no directories.
    assert_eq!(names("COPY <</a/../n /p/\nab\n/a/../n"), ["p/", "p/n:3"]);
    for word in ["a/b", "..", "/"] {
        assert!(!refused(&format!("COPY <<{word} /p/\nab\n{word}")).is_empty(), "{word}");
    }
}

#[test]
fn s55_working_directories() {
    let all = files("COPY etc /etc/\nUSER app\nWORKDIR /p/q");
    assert_eq!(all[3..], ["p/ 755 7:8", "p/q/ 755 7:8"]);
    assert_eq!(files("USER 5\nWORKDIR /p"), ["p/ 755 5:5"]);
    assert_eq!(files("WORKDIR /p/../q//r/."), ["q/ 755 0:0", "q/r/ 755 0:0"]);
    assert_eq!(files("USER nobody\nWORKDIR /p"), ["p/ 755 0:0"]);
    assert_eq!(config("WORKDIR /p\nWORKDIR q/").config.working_dir, "/p/q");
    assert_eq!(history("WORKDIR /"), ["(WORKDIR /)"]);
}

#[test]
fn s56_users_are_stored_as_written() {
    assert_eq!(config("ARG U=who\nUSER $U:0").config.user, "who:0");
}

#[test]
fn s57_variables_and_labels() {
    let made = config("ENV A=1 B=2\nENV C=3 A=4\nLABEL a=\"x \\\n y\" a=z\nMAINTAINER me");
    assert_eq!(made.config.env[1..], ["A=4", "B=2", "C=3"]);
    assert_eq!(made.config.labels.get("a").map(String::as_str), Some("z"));
    assert_eq!(made.author, "me");
    assert_eq!(config("LABEL a=\"x \\\n y\"").config.labels.get("a").unwrap(), "x  y");
}

#[test]
fn s58_ports() {
    assert_eq!(
        history("EXPOSE 80/TCP 53/udp 9/sctp 127.0.0.1:8080:70 1000-1002"),
        ["(EXPOSE [1000/tcp 1001/tcp 1002/tcp 70/tcp 53/udp 80/tcp 9/sctp])"]
    );
    for wrong in ["70000", "80/icmp", "x"] {
        assert!(!refused(&format!("EXPOSE {wrong}")).is_empty(), "{wrong}");
    }
}

#[test]
fn s59_volumes() {
    let made = config("VOLUME /v w\nVOLUME [\"x y\"]\nCOPY b.txt /v/");
    assert_eq!(
        made.config.volumes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["/v", "w", "x y"]
    );
    assert_eq!(names("VOLUME /v\nCOPY b.txt /v/"), ["v/", "v/b.txt:5"]);
    assert!(!refused("VOLUME [\"\"]").is_empty());
}

#[test]
fn s60_entrypoints_and_commands() {
    let shown = |text: &str| {
        let made = config(text).config;
        (made.entrypoint.join(" "), made.cmd.join(" "), made.args_escaped)
    };
    assert_eq!(shown("CMD [\"c\"]\nENTRYPOINT [\"e\"]"), ("e".into(), "c".into(), true));
    // An inherited command goes, also that of a stage of this file.
    let child = "CMD [\"c\"]\nFROM scratch AS x\nCMD [\"c\"]\nFROM x\nENTRYPOINT [\"e\"]";
    assert_eq!(shown(child), ("e".into(), String::new(), true));
    assert_eq!(shown("ENTRYPOINT [\"e\"]\nCMD [\"c\"]"), ("e".into(), "c".into(), true));
}

#[test]
fn s61_health_checks() {
    let check = |text: &str| config(text).config.healthcheck.unwrap();
    assert_eq!(check("HEALTHCHECK NONE").test, ["NONE"]);
    let replaced = check("HEALTHCHECK --interval=1m CMD a\nHEALTHCHECK --retries=0 CMD [\"b\"]");
    assert_eq!((replaced.test, replaced.interval), (vec!["CMD".to_owned(), "b".to_owned()], 0));
    assert!(!refused("HEALTHCHECK --interval=10us CMD a").is_empty());
    assert!(!refused("HEALTHCHECK --retries=-1 CMD a").is_empty());
}

#[test]
fn s62_signals() {
    assert_eq!(config("STOPSIGNAL SIGQUIT").config.stop_signal, "SIGQUIT");
    assert_eq!(config("STOPSIGNAL 9").config.stop_signal, "9");
    assert!(!refused("STOPSIGNAL SIGNOPE").is_empty());
    assert_eq!(config("SHELL [\"b\", \"-c\"]").config.shell, ["b", "-c"]);
}

#[test]
fn s77_which_ignore_file() {
    let bench = bench();
    bench.write(".dockerignore", "a.txt\nDockerfile\n");
    let mut options = bench.options("FROM scratch\nCOPY a.txt /\n");
    assert!(bench.build(&options).outcome.is_err());
    options.ignore_file = Some(("Dockerfile.dockerignore".to_owned(), b"b.txt\n".to_vec()));
    assert!(bench.build(&options).outcome.is_ok());
    options.dockerfile = b"FROM scratch\nCOPY b.txt /\n".to_vec();
    assert!(bench.build(&options).outcome.is_err());
}

fn ignores(file: &str, path: &str) -> bool {
    Ignore::parse(file.as_bytes()).expect(file).is_excluded(path)
}

#[test]
fn s78_lines_of_ignore_files() {
    for (file, path, expected) in [
        ("\u{feff}a", "a", true),
        ("# a\n a ", "a", true),
        (" # a", "# a", true),
        ("./b/../a/", "a", true),
        ("/a", "a", true),
        ("a\n! a", "a", false),
    ] {
        assert_eq!(ignores(file, path), expected, "{file}");
    }
    assert!(
        Ignore::parse(b"!").unwrap_err().to_string().contains("illegal exclusion pattern: \"!\"")
    );
    assert!(Ignore::parse(b"[").is_err());
}

#[test]
fn s79_matching() {
    for (file, path, expected) in [
        ("a\n!a\na", "a", true),
        ("a", "a/b/c", true),
        ("foo", "a/foo", false),
        ("*/foo", "a/foo", true),
        ("*/foo", "a/b/foo", false),
        ("**/foo", "foo", true),
        ("**/foo", "a/b/foo", true),
        ("foo/**", "foo", false),
        ("foo/**", "foo/a", true),
        ("*", "a/b", true),
        ("a?c", "a/c", false),
        ("a**/*.txt", "ab/c/d.txt", true),
        ("[^a]b", "cb", true),
        ("[^a]b", "ab", false),
        ("\\*", "*", true),
        ("A", "a", false),
        ("*", ".dot", true),
        ("a/*\n!a/b", "a/b", false),
        ("a\n!a/b/c", "a/b/c", false),
        ("a\n!a/b/c", "a/b/d", true),
    ] {
        assert_eq!(ignores(file, path), expected, "{file:?} {path}");
    }
}

/// The plain matching that the reference calls buggy forgets the parents' results.
#[test]
fn s80_parents_count() {
    assert!(ignores("a\n!a/b\na/b/c", "a/b/c"));
    assert!(!ignores("a\n!a/b\na/b/c", "a/b/d"));
    assert!(ignores("a/b\n!a\na/b", "a/b/c"));
}

#[test]
fn s87_the_config() {
    let made = config("COPY b.txt /\nLABEL z=1");
    let json: serde_json::Value = serde_json::from_slice(&made.to_json()).unwrap();
    let names: Vec<&String> = json.as_object().unwrap().keys().collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    assert_eq!(json["rootfs"]["type"], "layers");
    assert_eq!(json["created"], json["history"][1]["created"]);
    for gone in ["container", "parent", "docker_version"] {
        assert!(json.get(gone).is_none(), "{gone}");
    }
}

#[test]
fn s88_created_by() {
    assert_eq!(
        history(
            "ARG a=1 b\nCOPY --chown=1 --chmod=644 --link a.txt b.txt /p/\nADD b.txt q\nWORKDIR r\nENV k=v k2=v2\n\
             LABEL l=m\nCMD [\"a\", \"b\"]\nENTRYPOINT c d\nEXPOSE 443 80\nVOLUME /data\nUSER x\nSTOPSIGNAL 9\n\
             SHELL [\"/bin/bash\", \"-c\"]\nHEALTHCHECK --interval=30s CMD e\nMAINTAINER f"
        ),
        [
            "(ARG a=1 b)",
            "COPY --chown=1 --chmod=644 a.txt b.txt /p/ # buildkit",
            "ADD b.txt q # buildkit",
            "WORKDIR /r",
            "(ENV k=v k2=v2)",
            "(LABEL l=m)",
            "(CMD [\"a\" \"b\"])",
            "(ENTRYPOINT [\"/bin/sh\" \"-c\" \"c d\"])",
            "(EXPOSE [443/tcp 80/tcp])",
            "(VOLUME [/data])",
            "(USER x)",
            "(STOPSIGNAL 9)",
            "(SHELL [/bin/bash -c])",
            "(HEALTHCHECK {Test:[CMD-SHELL e] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0})",
            "(MAINTAINER f)"
        ]
    );
    assert!(config("USER x").history.iter().all(|entry| entry.comment == "buildkit.dockerfile.v0"));
}

#[test]
fn s89_entries_and_layers() {
    let made = config("COPY b.txt /\nCOPY b.txt /\nWORKDIR /\nWORKDIR /w\nUSER x");
    let layers = made.history.iter().filter(|entry| !entry.empty_layer).count();
    assert_eq!((layers, made.rootfs.diff_ids.len()), (3, 3));
}
