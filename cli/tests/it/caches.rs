//! `--cache-to` and `--cache-from`: what one store made, another one has.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::fs;
use std::path::{Path, PathBuf};

use lapstrake_fixtures::require;

use crate::support::{Lap, RUN};

/// What only its first execution makes, with files of every kind and times that no other build has.
const DOCKERFILE: &str = "\
FROM busybox AS build
COPY src /src
RUN head -c 16 /dev/urandom | od > /made && chmod 4711 /made && ln -s made /link && mkfifo /fifo
FROM busybox
WORKDIR /work
COPY --from=build /made /link /
RUN cat /made > copy && ln copy hard && rm /bin/vi; date +%s%N > when
";
const STEPS: &str = "5 of 5 steps cached";

/// A machine with a base image, a context, and a cache beside it.
struct Machine {
    lap: Lap,
    context: String,
    base: String,
    number: usize,
}

impl Machine {
    fn new(purpose: &str) -> Self {
        let lap = Lap::with_busybox(purpose);
        let context = lap.context("context", DOCKERFILE);
        lap.work.write("context/src/a", "a");
        let base = lap.work.join("base.tar").display().to_string();
        lap.ok(["save", "-o", &base, "busybox"]);
        Self { lap, context, base, number: 0 }
    }

    fn cache(&self) -> PathBuf {
        self.lap.work.join("cache")
    }

    /// A store that has nothing but the base image.
    fn begin_anew(&mut self) {
        self.number += 1;
        let aside = self.lap.work.join(format!("store-{}", self.number));
        fs::rename(self.lap.root(), aside).unwrap();
        self.lap.ok(["load", "-i", &self.base]);
    }

    /// Builds; what was said and the image's id.
    fn build(&self, more: &[&str]) -> (String, String) {
        let id = self.lap.work.join("id");
        let mut arguments = vec!["build", "-t", "app", "--iidfile", id.to_str().unwrap()];
        arguments.extend(more);
        arguments.push(&self.context);
        let said = self.lap.run(&arguments);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        self.lap.is_whole();
        (said.stderr, fs::read_to_string(id).unwrap())
    }

    fn from(&self) -> String {
        format!("type=local,src={}", self.cache().display())
    }

    fn to(&self, more: &str) -> String {
        format!("type=local,dest={}{more}", self.cache().display())
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

#[test]
fn another_store_has_what_one_made() {
    if !require(&RUN) {
        return;
    }
    let mut machine = Machine::new("cache-max");
    let (_, first) = machine.build(&["--cache-to", &machine.to(",mode=max")]);
    let made = files(&machine.cache());
    machine.begin_anew();
    let plan =
        machine.lap.ok(["build", "--plan", "--cache-from", &machine.from(), &machine.context]);
    assert!(plan.contains("it is in the cache") && !plan.contains("executed"), "{plan}");
    let (said, second) = machine.build(&["--cache-from", &machine.from()]);
    assert!(said.contains(STEPS), "{said}");
    assert_eq!(first, second, "the same image, history and all");
    // From then on the store itself has it, and writing the same again changes nothing.
    let (said, _) = machine.build(&["--cache-to", &machine.to(",mode=max")]);
    assert!(said.contains(STEPS), "{said}");
    assert_eq!(files(&machine.cache()), made);
    assert_eq!(machine.lap.ok(["run", "--rm", "app", "busybox", "cmp", "/made", "/work/hard"]), "");
    // Something else is built, of what is the same is taken.
    machine.begin_anew();
    machine.lap.work.write("context/src/a", "b");
    let (said, third) = machine.build(&["--cache-from", &machine.from()]);
    assert!(said.contains("1 of 5 steps cached"), "WORKDIR alone:\n{said}");
    assert_ne!(second, third);
}

#[test]
fn the_smaller_mode_has_the_steps_of_the_image() {
    if !require(&RUN) {
        return;
    }
    let machine = Machine::new("cache-min");
    machine.build(&["--cache-to", &machine.to("")]);
    assert_eq!(files(&machine.cache().join("keys")).len(), 3);
    machine.build(&["--cache-to", &machine.to(",mode=max,compression=gzip")]);
    assert_eq!(files(&machine.cache().join("keys")).len(), 5);
}

#[test]
fn faults_are_warnings_and_the_image_is_right() {
    if !require(&RUN) {
        return;
    }
    let mut machine = Machine::new("cache-faults");
    machine.build(&["--cache-to", &machine.to(",mode=max")]);
    let right = |machine: &Machine, said: &str, cached: &str| {
        assert!(said.contains("warning: ") && said.contains(cached), "{said}");
        assert_eq!(
            machine.lap.ok(["run", "--rm", "app", "busybox", "cmp", "/made", "/work/copy"]),
            ""
        );
    };
    // Every blob cut in the middle.
    for blob in files(&machine.cache().join("blobs")) {
        let bytes = fs::read(&blob).unwrap();
        fs::write(&blob, &bytes[..bytes.len() / 2]).unwrap();
    }
    machine.begin_anew();
    let (said, _) = machine.build(&["--cache-from", &machine.from()]);
    right(&machine, &said, "0 of 5 steps cached");
    // A build that made it all anew mends the blobs that are cut.
    machine.build(&["--cache-to", &machine.to(",mode=max")]);
    machine.begin_anew();
    assert!(machine.build(&["--cache-from", &machine.from()]).0.contains(STEPS));
    // Every record of keys overwritten.
    for record in files(&machine.cache().join("keys")) {
        fs::write(&record, "lapstrake-shared-step 1 nothing\n{}").unwrap();
    }
    machine.begin_anew();
    let (said, _) = machine.build(&["--cache-from", &machine.from()]);
    right(&machine, &said, "0 of 5 steps cached");
    assert!(said.contains("is damaged"), "{said}");
    // Nothing there at all, and nowhere to write.
    fs::remove_dir_all(machine.cache()).unwrap();
    machine.lap.work.write("cache", "a file");
    let (said, _) =
        machine.build(&["--cache-from", &machine.from(), "--cache-to", &machine.to("")]);
    right(&machine, &said, STEPS);
    assert!(said.contains("--cache-from: there is no cache in"), "{said}");
    assert!(said.contains("--cache-to: cannot make"), "{said}");
    let bad = ["build", "--cache-from", "type=registry,ref=x", &machine.context];
    machine.lap.refused(bad, 2, &["type=local"]);
}
