//! Real overlays: a script runs on top of layers, and what it changed becomes a layer.

use std::{fs, path::Path, process::Command, sync::Arc};

use crate::{
    layers::{
        Layer, UpperOptions,
        tests::{Fixture, fixture, is_root, path},
    },
    toc::Kind,
    view::View,
};

/// Runs `script` in the root that `layers` make and returns the layer that it made.
///
/// `None` where this host cannot mount overlays.
fn run(fixture: &Fixture, view: &View, script: &str) -> Option<Arc<Layer>> {
    if !is_root() {
        println!("skipped: mounting an overlay needs root");
        return None;
    }
    let mut trees: Vec<String> = Vec::new();
    for layer in fixture.layers.stack(view.layers()).unwrap().iter().rev() {
        let tree = fixture.layers.tree(layer).unwrap().display().to_string();
        // What is hidden by itself need not be mounted, and cannot be.
        if !trees.contains(&tree) {
            trees.push(tree);
        }
    }
    let work = tempfile::tempdir_in(fixture.root.path()).unwrap();
    let at = |name: &str| {
        let path = work.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let (upper, scratch, merged, empty) = (at("upper"), at("scratch"), at("merged"), at("empty"));
    let lower = trees.join(":") + if trees.is_empty() { "" } else { ":" };
    let options = format!(
        "lowerdir={lower}{},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
        empty.display(),
        upper.display(),
        scratch.display()
    );
    let shell = format!(
        "mount -t overlay overlay -o '{options}' '{0}' || exit 99; cd '{0}' && set -e; {script}",
        merged.display()
    );
    let status = Command::new("unshare").args(["-m", "sh", "-c", &shell]).status().unwrap();
    if status.code() == Some(99) {
        println!("skipped: this host mounts no overlay here");
        return None;
    }
    assert!(status.success(), "{script}");
    let options = UpperOptions { stubs: vec![path("proc"), path("etc/stub")] };
    Some(fixture.layers.create_from_upper(&upper, view, &options).unwrap())
}

/// What the layer has, in short: `+dir/ +file -gone file>link`.
fn listing(layer: &Layer) -> String {
    let entry = |entry: &crate::toc::Entry| match entry.kind {
        Kind::Dir => format!("{}/", entry.path),
        Kind::Whiteout => format!("-{}", entry.path),
        Kind::Hardlink => format!("{}={}", entry.path, String::from_utf8_lossy(&entry.link)),
        Kind::Symlink => format!("{}>{}", entry.path, String::from_utf8_lossy(&entry.link)),
        Kind::File => entry.path.to_string(),
        kind => format!("{}:{kind:?}", entry.path),
    };
    layer.toc().unwrap().iter().map(entry).collect::<Vec<_>>().join(" ")
}

const BASE: &str = "mkdir -p w/d/s etc && echo 1 >w/f && echo 2 >w/d/a && echo 3 >w/d/s/b \
                    && ln -s f w/l && ln w/f w/h && ln -s w wl && mkfifo w/p";

/// Runs `steps` one after the other on a base and lists the layer of the last one.
fn check(steps: &[&str], expected: &str) {
    let fixture = fixture();
    let Some(base) = run(&fixture, &View::default(), BASE) else { return };
    assert_eq!(listing(&base), "etc/ w/ w/d/ w/d/a w/d/s/ w/d/s/b w/f w/h=w/f w/l>f w/p:Fifo wl>w");
    let mut view = View::new(vec![base]).unwrap();
    let mut last = String::new();
    for step in steps {
        let layer = run(&fixture, &view, step).unwrap();
        last = listing(&layer);
        check_tree_is_its_toc(&fixture, &layer);
        view = view.push(layer).unwrap();
        check_overlay_shows_the_view(&fixture, &view);
    }
    assert_eq!(last, expected, "{steps:?}");
}

/// A RUN layer's tree has exactly the names of its TOC (and no overlay attributes).
fn check_tree_is_its_toc(fixture: &Fixture, layer: &Arc<Layer>) {
    let tree = fixture.layers.tree(layer).unwrap();
    let found = find(&tree, &["-printf", "%P %y %Ts\\n"]);
    let names: Vec<&str> = found.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let expected: Vec<String> =
        layer.toc().unwrap().iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(names, expected);
}

/// Sorted output of `find` without the root itself.
fn find(tree: &Path, print: &[&str]) -> String {
    let output =
        Command::new("find").arg(tree).args(["-mindepth", "1"]).args(print).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_by_key(|line| line.split(' ').next().unwrap().as_bytes());
    lines.join("\n")
}

/// What overlayfs shows of the layers' trees is what the view says.
pub(crate) fn check_overlay_shows_the_view(fixture: &Fixture, view: &View) {
    let print = "%P %y %m %U:%G %s %T@ %l\\n";
    let script =
        format!("find . -mindepth 1 -printf '{print}' > '{}/shown'", fixture.root.path().display());
    run(fixture, view, &script).unwrap();
    let shown = fs::read_to_string(fixture.root.path().join("shown")).unwrap();
    let mut shown: Vec<&str> = shown.lines().collect();
    shown.sort_by_key(|line| line.split(' ').next().unwrap().as_bytes());
    let expected: Vec<String> = view
        .iter()
        .map(|found| {
            let entry = &found.entry;
            let kind = match entry.kind {
                Kind::Dir => 'd',
                Kind::File => 'f',
                Kind::Symlink => 'l',
                Kind::Fifo => 'p',
                _ => '?',
            };
            let size =
                if entry.kind == Kind::Symlink { entry.link.len() as u64 } else { entry.size };
            let link = String::from_utf8_lossy(&entry.link).into_owned();
            let (path, mode, uid, gid) = (&entry.path, entry.mode, entry.uid, entry.gid);
            format!("{path} {kind} {mode:o} {uid}:{gid} {size} {} {link}", entry.mtime)
        })
        .collect();
    // Directories have sizes of their own, and every time is a whole second.
    let cleaned = |line: &&str| {
        let words: Vec<&str> = line.splitn(7, ' ').collect();
        let (seconds, fraction) = words[5].split_once('.').unwrap();
        assert_eq!(fraction.trim_matches('0'), "", "{line}");
        let size = if words[1] == "d" { "0" } else { words[4] };
        let head = words[..4].join(" ");
        format!("{head} {size} {seconds} {}", words[6])
    };
    let shown: Vec<String> = shown.iter().map(cleaned).collect();
    assert_eq!(shown, expected);
}

#[test]
fn nothing_changed() {
    check(&["true"], "");
    check(&["chmod 0644 w/d/a; chown 0:0 w/f; : >> w/d/s/b"], "");
    check(&["echo x > w/d/x; rm w/d/x; mkdir w/d/y; rmdir w/d/y"], "");
    check(&["mkdir proc; : > etc/stub"], "");
}

#[test]
fn changes_bring_their_parents() {
    check(&["echo 2 > w/d/a"], "w/ w/d/ w/d/a");
    check(&["chmod 0600 w/d/a"], "w/ w/d/ w/d/a");
    check(&["touch -d @1000000000 w/d/s/b"], "w/ w/d/ w/d/s/ w/d/s/b");
    check(&["chmod 0700 w/d"], "w/ w/d/");
    check(&["echo more >> wl/d/a"], "w/ w/d/ w/d/a");
    check(&["chown -h 5:6 w/l"], "w/ w/l>f");
}

#[test]
fn hard_links() {
    check(&["chmod 0600 w/f"], "w/ w/f");
    check(&["ln w/d/a z"], "z");
    check(
        &["echo x > n1; ln n1 n0; ln n1 w/n2; ln -s n1 s1; ln s1 s2"],
        "n0 n1=n0 s1>n1 s2=s1 w/ w/n2=n0",
    );
    check(&["rm w/f", "cat w/h > out"], "out");
}

#[test]
fn deletions() {
    check(&["rm w/d/a"], "w/ w/d/ -w/d/a");
    check(&["rm -r w/d"], "w/ -w/d");
    check(&["rm -r w etc wl"], "-etc -w -wl");
    check(&["rm w/p w/l"], "w/ -w/l -w/p");
    check(
        &["rm -r w/d && mkdir -p w/d/n && echo n > w/d/n/x"],
        "w/ w/d/ -w/d/a w/d/n/ w/d/n/x -w/d/s",
    );
    check(&["rm -r w/d && mkdir w/d"], "w/ w/d/ -w/d/a -w/d/s");
    check(&["rm -r w/d && mkdir -p w/d/s"], "w/ w/d/ -w/d/a w/d/s/ -w/d/s/b");
    check(&["echo t > t", "rm t"], "-t");
}

#[test]
fn one_kind_becomes_another() {
    check(&["rm w/f && mkdir w/f && echo x > w/f/x"], "w/ w/f/ w/f/x");
    check(&["rm -r w/d && echo x > w/d"], "w/ w/d");
    check(&["rm -r w/d && ln -s /etc w/d"], "w/ w/d>/etc");
    check(&["rm wl && mkdir wl && echo x > wl/x"], "wl/ wl/x");
    check(&["rm -r w/d && echo x > w/d", "rm w/d && mkdir w/d && echo y > w/d/y"], "w/ w/d/ w/d/y");
    check(&["mv w/d w/e"], "w/ -w/d w/e/ w/e/a w/e/s/ w/e/s/b");
}

#[test]
fn odd_names_and_attributes() {
    check(
        &[
            "echo x > \"$(printf 'a\\nb')\"; rm \"$(printf 'a\\nb')\"; echo y > 'sp ace'; rm 'sp ace'",
        ],
        "",
    );
    let fixture = fixture();
    let script = "echo x > f; chmod 4755 f; setfattr -n user.a -v b f 2>/dev/null || true";
    let Some(layer) = run(&fixture, &View::default(), script) else { return };
    assert_eq!(*layer.toc().unwrap().entries()[0].xattrs, []);
    assert_eq!(layer.toc().unwrap().entries()[0].mode, 0o4755);
    let whiteout = run_error(&fixture, "echo x > .wh.name");
    assert!(whiteout.contains(".wh."), "{whiteout}");
}

fn run_error(fixture: &Fixture, script: &str) -> String {
    let upper = tempfile::tempdir_in(fixture.root.path()).unwrap();
    let status = Command::new("sh").arg("-c").arg(script).current_dir(upper.path()).status();
    assert!(status.unwrap().success());
    let error =
        fixture.layers.create_from_upper(upper.path(), &View::default(), &UpperOptions::default());
    error.unwrap_err().to_string()
}
