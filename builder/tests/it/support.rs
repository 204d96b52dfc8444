//! A store, a context and a runner that only says that it was asked.

use lapstrake_builder::event::{Event, Observer};
use lapstrake_builder::exec::{BuildDeps, BuildOutcome, forecast};
use lapstrake_builder::options::ContextSource;
use lapstrake_builder::plan::BuildPlan;
use lapstrake_builder::remote::NoRemotes;
use lapstrake_builder::{BuildError, BuildOptions, build};
use lapstrake_layerstore::layers::OverlayXattr;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::source::NoImages;
use lapstrake_layerstore::store::{OpenOptions, OwnerMap, Store};
use lapstrake_runner::{Cancel, Exit, RunError, Runner, Spec, Stream};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory with a store and a context.
pub(crate) struct Bench {
    home: tempfile::TempDir,
    pub(crate) store: Arc<Store>,
}

/// What a build came to, with the titles of the steps that were executed.
pub(crate) struct Built {
    pub(crate) outcome: Result<BuildOutcome, BuildError>,
    pub(crate) executed: usize,
    /// How many diffIDs began before their layers were there, and were right.
    pub(crate) foreseen: usize,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("ctx")).unwrap();
        let options = OpenOptions {
            create: true,
            overlay_xattr: OverlayXattr::Trusted,
            owner_map: Some(OwnerMap::root()),
        };
        let store = Arc::new(Store::open(&home.path().join("store"), &options).unwrap());
        Self { home, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("ctx").join(name)
    }

    /// Write a context file that is old enough for its hash to be remembered.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    pub(crate) fn options(&self, dockerfile: &str) -> BuildOptions {
        let context = ContextSource::Directory(self.home.path().join("ctx"));
        let platform = "linux/amd64".parse::<Platform>().unwrap();
        BuildOptions {
            // Far ahead, so that no file of the test counts as just changed.
            now: 4_000_000_000,
            jobs: 4,
            ..BuildOptions::new(dockerfile, "Dockerfile", context, platform)
        }
    }

    pub(crate) fn build(&self, options: &BuildOptions) -> Built {
        let counts = Counts::default();
        let outcome = build(
            options,
            &BuildDeps {
                store: &self.store,
                runner: &Refusing,
                images: &NoImages,
                remotes: &NoRemotes,
                observer: &counts,
                cancel: &Cancel::new(),
            },
        );
        let executed = counts.executed.load(Ordering::Relaxed);
        Built { outcome, executed, foreseen: counts.foreseen.load(Ordering::Relaxed) }
    }

    /// Look ahead, with a runner and a source of images that do nothing.
    pub(crate) fn forecast(&self, options: &BuildOptions) -> Result<BuildPlan, BuildError> {
        let deps = BuildDeps {
            store: &self.store,
            runner: &Refusing,
            images: &NoImages,
            remotes: &NoRemotes,
            observer: &lapstrake_builder::event::Silent,
            cancel: &Cancel::new(),
        };
        forecast(options, &deps).map(|ahead| ahead.plan)
    }

    /// Build a Dockerfile and say how many steps were not in the cache.
    pub(crate) fn executed(&self, dockerfile: &str) -> usize {
        let built = self.build(&self.options(dockerfile));
        built.outcome.unwrap();
        built.executed
    }
}

#[derive(Default)]
struct Counts {
    executed: AtomicUsize,
    foreseen: AtomicUsize,
}

impl Observer for Counts {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::StepRunning { .. } => self.executed.fetch_add(1, Ordering::Relaxed),
            Event::Digested { foreseen: true, .. } => self.foreseen.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

/// These tests make layers from files alone, as machines do where no program can be run.
struct Refusing;

impl Runner for Refusing {
    fn run(
        &self,
        _spec: &Spec,
        _output: &mut dyn FnMut(Stream, &[u8]),
        _cancel: &Cancel,
    ) -> Result<Exit, RunError> {
        Ok(Exit::Code(99))
    }
}
