//! `kill -9` at random moments of build, pull, load, import, prune, rmi, save and repair, several
//! at once. `LAPSTRAKE_TEST_KILLS=500` is the long form.

use std::process::{Child, Stdio};
use std::time::Duration;

use super::{Job, Random, Scene, rounds};

const KILLS: usize = 12;
/// Commands at once.
const WORKERS: usize = 3;
/// Long enough for most commands to get to their end, so that every moment of them is met.
const LONGEST_MS: usize = 120;

#[test]
fn killed_at_any_moment_the_store_is_whole() {
    let scene = Scene::new("kill");
    let mut random = Random(11);
    let (mut killed, total) = (0, rounds("LAPSTRAKE_TEST_KILLS", KILLS));
    for round in 0..total {
        let before = scene.tags();
        let mut chosen = || &scene.jobs[random.next(scene.jobs.len())];
        let jobs: Vec<&Job> = (0..WORKERS).map(|_| chosen()).collect();
        let mut children: Vec<Child> = jobs.iter().map(|job| start(&scene, job)).collect();
        // Early moments more often: an idle machine is through with most commands in 20 ms.
        let longest = random.next(LONGEST_MS) + 1;
        std::thread::sleep(Duration::from_millis(random.next(longest) as u64));
        for child in &mut children {
            killed += usize::from(child.try_wait().expect("a process of ours").is_none());
            child.kill().expect("a process of ours");
        }
        let names: Vec<&str> = jobs.iter().map(|job| job.name).collect();
        let story = format!("round {round}, {}", names.join(" + "));
        for (child, job) in children.into_iter().zip(&jobs) {
            ended_well(child, job, &story);
        }
        scene.check(&before, &jobs, &story);
    }
    eprintln!("{killed} of {} processes were killed at work", total * WORKERS);
    assert!(killed > total / 2, "the commands end too early to be killed");
    for job in &scene.jobs {
        scene.run(job);
    }
    scene.run(scene.job("prune"));
    scene.lap.is_whole();
}

fn start(scene: &Scene, job: &Job) -> Child {
    let mut command = scene.command(job);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("lap can be started")
}

/// Killed, or done; an error only where another job may have taken what this one needs.
fn ended_well(child: Child, job: &Job, story: &str) {
    let output = child.wait_with_output().expect("a process of ours");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{story}: {errors}");
    let may_be_missing = job.name == "save" && errors.contains("there is no image");
    let fine = output.status.code().is_none_or(|code| code == 0) || may_be_missing;
    assert!(fine, "{story}: {}: {errors}", job.name);
}
