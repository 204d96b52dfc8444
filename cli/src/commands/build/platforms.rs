//! One Dockerfile for each platform: all of them at once, over one store.
//!
//! ```text
//! platforms, by name ▶ a build each, under way together ▶ outcomes in the same order ▶ [verify: all again]
//! ```
//! *Invariant:* neither the order in which platforms are named nor the one in which they are done shows
//! in the image.

use super::args::Args;
use super::report::Reporter;
use super::surroundings::World;
use super::{locate, verify};
use crate::error::{CommandError, Kind};
use lapstrake_builder::error::BuildError;
use lapstrake_builder::exec::{BuildDeps, BuildOutcome};
use lapstrake_builder::{BuildOptions, build_together};
use lapstrake_layerstore::oci::Platform;

/// The platforms to build for, each once and by name; this machine's when none is named.
pub(super) fn wanted(given: &[String]) -> Result<Vec<Platform>, CommandError> {
    let mut all: Vec<Platform> = Vec::new();
    for text in given {
        let platform = match text.as_str() {
            "local" => Platform::host(),
            text => text.parse().map_err(|error| CommandError::chain(Kind::Usage, &error))?,
        };
        if !all.iter().any(|known| known.matches(&platform)) {
            all.push(platform);
        }
    }
    if all.is_empty() {
        all.push(Platform::host());
    }
    all.sort_by_cached_key(Platform::to_string);
    Ok(all)
}

/// Builds for all platforms; with `--verify` all of them a second time.
pub(super) fn build(
    args: &Args,
    options: &BuildOptions,
    platforms: &[Platform],
    (reporter, world): (&Reporter, &World<'_>),
) -> Result<Vec<BuildOutcome>, CommandError> {
    let each: Vec<BuildOptions> = platforms
        .iter()
        .map(|platform| BuildOptions { platform: platform.clone(), ..options.clone() })
        .collect();
    let outcomes = all_at_once(&each, reporter, world);
    if let Some(format) = args.explain {
        reporter.explain(format, options.now)?;
    }
    let outcomes = outcomes?;
    reporter.warnings(&outcomes[0]);
    if args.verify {
        reporter.say("verify", "building again without the cache");
        let again = |options: &BuildOptions| BuildOptions {
            no_cache: true,
            rehearsal: true,
            ..options.clone()
        };
        let second = all_at_once(&each.iter().map(again).collect::<Vec<_>>(), reporter, world)?;
        for (options, (first, second)) in each.iter().zip(outcomes.iter().zip(&second)) {
            let same = verify::compare(world.store(), options, first, second);
            let same = same.map_err(|error| of_platform(error, &[options], each.len()))?;
            let of =
                |text| if each.len() > 1 { format!("{}: {text}", options.platform) } else { text };
            reporter.say("verify", &of(same));
        }
    }
    Ok(outcomes)
}

fn all_at_once(
    each: &[BuildOptions],
    reporter: &Reporter,
    world: &World<'_>,
) -> Result<Vec<BuildOutcome>, CommandError> {
    let several = each.len() > 1;
    let observers: Vec<_> = each
        .iter()
        .enumerate()
        .map(|(place, options)| reporter.of(place, several.then(|| options.platform.to_string())))
        .collect();
    let with_deps = |(options, observer)| -> (BuildOptions, BuildDeps<'_>) {
        (BuildOptions::clone(options), world.deps(observer))
    };
    let builds: Vec<_> = each
        .iter()
        .zip(observers.iter().map(|observer| observer as &dyn lapstrake_builder::event::Observer))
        .map(with_deps)
        .collect();
    build_together(&builds).map_err(|failed| world.error(|| told(failed, each)))
}

/// All that failed as one error; what failed for several platforms in the same way is told once.
fn told(failed: Vec<(usize, BuildError)>, each: &[BuildOptions]) -> CommandError {
    let mut told: Vec<(CommandError, Vec<&BuildOptions>)> = Vec::new();
    for (place, error) in failed {
        let error = locate::explain(error, &each[place]);
        match told.iter_mut().find(|(known, _)| known.render() == error.render()) {
            Some((_, platforms)) => platforms.push(&each[place]),
            None => told.push((error, vec![&each[place]])),
        }
    }
    told.into_iter()
        .map(|(error, platforms)| of_platform(error, &platforms, each.len()))
        .reduce(|all, one| all.and(&one))
        .expect("because a build that fails says why")
}

/// The error with the platforms that it is about, unless it is about all.
fn of_platform(error: CommandError, platforms: &[&BuildOptions], of: usize) -> CommandError {
    if platforms.len() == of {
        return error;
    }
    let names: Vec<String> = platforms.iter().map(|it| it.platform.to_string()).collect();
    error.cause(format!("in the build for {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_sorted_and_each_is_there_once() {
        let names = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
            wanted(&given).map(|all| all.iter().map(Platform::to_string).collect::<Vec<_>>())
        };
        let sorted = ["linux/amd64", "linux/arm/v7", "linux/arm64"];
        assert_eq!(
            names(&["linux/arm64", "linux/arm/v7", "amd64", "linux/arm64"]).unwrap(),
            sorted
        );
        assert_eq!(names(&[]).unwrap(), names(&["local"]).unwrap());
        assert!(names(&["linux/what?"]).is_err());
    }

    #[test]
    fn what_failed_for_all_is_told_once() {
        let of = |text: &str| BuildOptions {
            platform: text.parse().unwrap(),
            ..BuildOptions::of("FROM scratch\n")
        };
        let each = ["linux/amd64", "linux/arm64", "linux/s390x"].map(of);
        let missing = || BuildError::SourceNotFound { path: "/x".to_owned() };
        let all = told((0..3).map(|place| (place, missing())).collect(), &each).render();
        assert!(all.matches("not found").count() == 1 && !all.contains("linux/"), "{all}");
        let cancelled = BuildError::BadPattern { pattern: "[".to_owned() };
        let some = told(vec![(0, missing()), (1, cancelled), (2, missing())], &each).render();
        for text in ["in the build for linux/amd64, linux/s390x", "in the build for linux/arm64"] {
            assert!(some.contains(text), "{some}");
        }
    }
}
