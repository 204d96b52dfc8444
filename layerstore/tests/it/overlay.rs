//! Layers mounted over each other by the kernel, in a mount namespace of their own.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use lapstrake_fixtures::host::{Need, require};
use lapstrake_layerstore::{Store, layers::Layer};

/// A root that can be looked at and changed until it is dropped.
pub(crate) struct Mounted {
    child: Child,
    root: PathBuf,
}

impl Mounted {
    /// Mounts the layers, bottom first, and a new directory `upper` over them.
    ///
    /// `None` where this host mounts no overlays: the reason is printed.
    #[expect(clippy::print_stderr, reason = "a skipped test says so in the test's own output")]
    pub(crate) fn new(store: &Store, layers: &[Arc<Layer>], upper: &Path) -> Option<Mounted> {
        if !require(&[Need::Root]) {
            return None;
        }
        let mut trees: Vec<String> = Vec::new();
        for layer in store.layers().stack(layers).expect("a stack").iter().rev() {
            let tree = store.layers().tree(layer).expect("a tree").display().to_string();
            // What is hidden by itself need not be mounted, and cannot be.
            if !trees.contains(&tree) {
                trees.push(tree);
            }
        }
        let beside = upper.parent().expect("it lies in a directory");
        let at = |name: &str| beside.join(name);
        for directory in [upper, &at("scratch"), &at("merged"), &at("bottom")] {
            fs::create_dir_all(directory).expect("room");
        }
        trees.push(at("bottom").display().to_string());
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
            trees.join(":"),
            upper.display(),
            at("scratch").display()
        );
        let merged = at("merged").display().to_string();
        let script = format!(
            "mount -t overlay overlay -o '{options}' '{merged}' && echo mounted && read line"
        );
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        if line.trim() != "mounted" {
            child.wait().expect("it ended");
            assert!(!lapstrake_fixtures::host::is_strict(), "CI must mount overlays");
            eprintln!("skipped: this host mounts no overlay here");
            return None;
        }
        let root = PathBuf::from(format!("/proc/{}/root{merged}", child.id()));
        Some(Mounted { child, root })
    }

    /// Where the root is seen from here.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn at(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The namespace goes with its last process, the mount with its namespace.
        drop(self.child.stdin.take().map(|mut stdin| stdin.write_all(b"\n")));
        drop(self.child.wait());
    }
}
