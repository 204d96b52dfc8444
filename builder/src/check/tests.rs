use super::*;
use crate::options::{ContextSource, NetworkMode};
use lapstrake_layerstore::oci::Platform;

fn options(text: &str) -> BuildOptions {
    BuildOptions {
        dockerfile: text.into(),
        dockerfile_name: "Dockerfile".into(),
        context: ContextSource::Empty,
        ignore_file: Some((
            ".dockerignore".into(),
            b"secret\nnode_modules\nsrc\n!src/kept".to_vec(),
        )),
        named_contexts: BTreeMap::new(),
        build_args: vec![("GIVEN".into(), "1".into())],
        labels: Vec::new(),
        target: None,
        platform: Platform::new("linux", "amd64", ""),
        build_platform: Platform::new("linux", "amd64", ""),
        no_cache: false,
        no_cache_filter: Vec::new(),
        pull: false,
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
        network: NetworkMode::Default,
        allow_host_network: false,
        allow_insecure: false,
        extra_hosts: Vec::new(),
        ulimits: Vec::new(),
        shm_size_bytes: 0,
        resolv_conf: Vec::new(),
        epoch: None,
        now: 0,
        jobs: 1,
        compression: None,
    }
}

fn found(text: &str) -> String {
    let report = check(&options(text)).expect("no target is asked for");
    let line = |found: &Diagnostic| report.file.line_col(found.span.start).line;
    let all: Vec<String> =
        report.diagnostics.iter().map(|found| format!("{} {}", line(found), found.code)).collect();
    all.join(", ")
}

#[test]
fn undefined_variables() {
    for (text, expected) in [
        ("FROM scratch\nCOPY $x /", "2 UndefinedVar"),
        ("FROM scratch\nCOPY <<E /a\n$x\nE", "2 UndefinedVar"),
        ("FROM scratch\nLABEL a=${x#y}", "2 UndefinedVar"),
        ("ARG x=1\nFROM scratch\nWORKDIR /$x", "3 UndefinedVar"),
        ("FROM scratch AS a\nENV x=1\nFROM a\nCOPY $x /", ""),
        ("FROM scratch AS a\nARG x\nFROM a\nCOPY a$x /", ""),
        ("FROM scratch\nARG GIVEN\nCOPY $GIVEN /", ""),
        ("FROM scratch\nENV a=1 b=$a", "2 UndefinedVar"),
        ("FROM scratch\nENV a=${x:-1} b=${y+z} PATH=$PATH:/x", ""),
        ("FROM scratch\nCMD [\"$x\"]", ""),
        // The image may set it.
        ("FROM a:1\nWORKDIR /$x", ""),
        ("FROM a:1 AS b\nFROM b\nWORKDIR /$x", ""),
        // This stage is not built.
        ("FROM scratch\nCOPY $x /\nFROM scratch", ""),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
    let report = check(&options("FROM scratch\nENV VERSION=1\nCOPY $VERSON /")).expect("fine");
    assert_eq!(
        report.diagnostics[0].message,
        "Usage of undefined variable '$VERSON' (did you mean $VERSION?)"
    );
}

#[test]
fn ignored_sources() {
    for (text, expected) in [
        ("FROM scratch\nCOPY secret /", "2 CopyIgnoredFile"),
        ("FROM scratch\nADD ./node_modules/a /", "2 CopyIgnoredFile"),
        ("FROM scratch\nARG d=secret\nCOPY $d/x /", "3 CopyIgnoredFile"),
        ("FROM scratch\nCOPY src /", ""),
        ("FROM scratch\nCOPY secre* /", ""),
        ("FROM scratch AS a\nFROM scratch\nCOPY --from=a /secret /", ""),
        ("FROM a:1\nCOPY ${d}secret /", ""),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn our_own_rules() {
    let update = "RUN apt-get update && rm -r /var/lib/apt/lists/*";
    let token = "ghp_0123456789abcdefghijABCDEFGHIJ456789";
    for (text, expected) in [
        (&*format!("FROM a:1\n{update}\nRUN apt-get install -y x"), "3 AptGetWithoutUpdate"),
        ("FROM a:1\nRUN apt-get install -y x", ""),
        ("FROM a:1\nRUN echo apt-get update\nRUN apt-get install x", ""),
        ("FROM a:1\nRUN apt-get update && apt-get clean", "2 AptListsNotRemoved"),
        ("FROM a:1\nRUN --mount=type=cache,target=/var/lib/apt apt-get update", ""),
        ("FROM a:1\nRUN apt-get update && ./cleanup", ""),
        ("FROM a:1 AS b\nRUN apt-get update\nFROM scratch\nCOPY --from=b /x /", ""),
        ("FROM a", "1 UnpinnedBase"),
        ("FROM h:5000/a", "1 UnpinnedBase"),
        ("ARG T=latest\nFROM a:$T", "2 UnpinnedBase"),
        ("FROM a:1 AS b\nFROM b", ""),
        ("FROM scratch\nADD a.json src/ /d/", "2 AddWhereCopyServes"),
        ("FROM scratch\nADD a.tar.gz /", ""),
        ("FROM scratch\nADD rootfs /", ""),
        ("FROM a:1\nCOPY . .\nRUN npm ci", "2 CopyBeforeInstall"),
        ("FROM a:1\nCOPY p.json .\nRUN npm ci\nCOPY . .\nRUN npm ci", ""),
        (&*format!("FROM a:1\nRUN curl -u {token} x"), "2 SecretInHistory"),
        ("FROM a:1\nRUN curl -u ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx x", ""),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
    assert!(!found("FROM scratch\nADD https://x/y.json /").contains("AddWhere"));
    let shell = "FROM a:1\nENTRYPOINT x\nCMD [\"y\"]";
    assert!(found(shell).ends_with("3 ShellFormEntrypointWithCmd"), "{}", found(shell));
    assert!(!found("FROM a:1\nENTRYPOINT x \"$@\"\nCMD [\"y\"]").contains("ShellForm"));
    assert_eq!(found("# check=skip=UnpinnedBase\nFROM a"), "");
}

#[test]
fn everything_at_once() {
    let text = "FROM scratch AS a\nRUNN x\nCOPY --form=b x /\nCOPY x\nEXPOSE x\nCOPY --chmod=9 a /";
    // A file that cannot be read in full is planned as far as it can be.
    assert_eq!(found(text), "2 D005, 3 D006, 4 D008, 5 D008, 6 D008");
    assert_eq!(found("FROM a:1\nEXPOSE $p\nEXPOSE y"), "3 D008");
    assert_eq!(found("FROM $x"), "1 D015, 1 InvalidDefaultArgInFrom, 1 UndefinedArgInFrom");
    assert_eq!(found(""), "1 D001");
    let mut missing = options("FROM scratch AS build");
    missing.target = Some("bild".into());
    assert!(check(&missing).is_err());
}
