//! What no store may be hurt by: ^C and `kill -9` at any moment, a full disk, a write that fails.
//!
//! Each test runs whole commands on a store that other commands use, spoils them, and asks: is the
//! store whole ([`Scene::check`]), does every name say what it said before or what the command
//! would have made it say, and does the same command work afterwards?

mod full;
mod interrupt;
mod kill;
mod scene;
mod write;

use scene::{Job, Scene};

/// A small generator, so that a failing seed can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let below = u64::try_from(below).expect("because usize has at most 64 bits");
        usize::try_from((self.0 >> 33) % below).expect("because it is below a usize")
    }
}

/// How often the slow tests do what they do, where the few times of every run are not enough.
fn rounds(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
