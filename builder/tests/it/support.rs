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
use std::sync::{Arc, Mutex};

/// A directory with a store and a context.
pub(crate) struct Bench {
    home: tempfile::TempDir,
    pub(crate) store: Arc<Store>,
}

/// What a build came to, with the titles of the steps that were executed.
pub(crate) struct Built {
    pub(crate) outcome: Result<BuildOutcome, BuildError>,
    pub(crate) executed: usize,
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
        let executed = Count(Mutex::new(0));
        let outcome = build(
            options,
            &BuildDeps {
                store: &self.store,
                runner: &Refusing,
                images: &NoImages,
                remotes: &NoRemotes,
                observer: &executed,
                cancel: &Cancel::new(),
            },
        );
        let executed = *executed.0.lock().unwrap();
        Built { outcome, executed }
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

struct Count(Mutex<usize>);

impl Observer for Count {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::StepRunning { .. }) {
            *self.0.lock().unwrap() += 1;
        }
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
