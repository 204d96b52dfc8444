//! How long an empty run takes: `overhead LAYER COUNT [none]` runs `/bin/true` of the layer COUNT
//! times over fresh upper directories and prints the times in microseconds.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use lapstrake_runner::{Cancel, EnterOptions, Network, Root, Runner, Sandbox, Spec, enter, init};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    init();
    let started = Instant::now();
    enter(&EnterOptions::default())?;
    let entered = started.elapsed();
    let arguments: Vec<String> = std::env::args().collect();
    let [_, layer, count, rest @ ..] = arguments.as_slice() else {
        return Err("usage: overhead LAYER COUNT [none]".into());
    };
    let folder = std::env::temp_dir().join(format!("lapstrake-overhead-{}", std::process::id()));
    let sandbox = Sandbox::new();
    let mut times = Vec::new();
    for number in 0..count.parse::<u32>()? {
        let [upper, work] = ["upper", "work"].map(|name| folder.join(format!("{name}{number}")));
        std::fs::create_dir_all(&upper)?;
        std::fs::create_dir_all(&work)?;
        let root = Root::Overlay { lowers: vec![PathBuf::from(layer)], upper, work };
        let mut spec = Spec::new(root, vec![OsString::from("/bin/true")]);
        if rest.first().is_some_and(|word| word == "none") {
            spec.network = Network::None;
        }
        let begin = Instant::now();
        let exit = sandbox.run(&spec, &mut |_, _| {}, &Cancel::new())?;
        times.push(begin.elapsed().as_micros());
        if !exit.success() {
            return Err(format!("{exit:?}").into());
        }
    }
    std::fs::remove_dir_all(&folder)?;
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("enter {} best {} median {} p90 {}", entered.as_micros(), at(0), at(50), at(90));
    Ok(())
}
