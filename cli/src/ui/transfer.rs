//! Blobs on their way from or to a registry: a line for each that has arrived, and on a terminal a bar for
//! each that is under way.

use crate::ui::format;
use crate::ui::table::one_line;
use crate::ui::terminal::{self, note};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lapstrake_layerstore::Digest;
use lapstrake_registry::{Event, Outcome, Part, Progress};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a blob in transit is drawn.
const TEMPLATE: &str =
    "{spinner} {prefix} {bar:24} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";

/// Smaller blobs are through before anybody could see them move.
const BAR_BYTES_MIN: u64 = 100_000;

/// Shows transfers.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    bars: Option<MultiProgress>,
    under_way: Mutex<HashMap<Digest, Blob>>,
    /// Whether to take the live part off the terminal at the end: it is ours alone.
    owns_terminal: bool,
}

#[derive(Debug)]
struct Blob {
    part: Part,
    size: u64,
    bar: Option<ProgressBar>,
}

impl Transfers {
    /// Lines, and bars as well if standard error is a terminal.
    pub(crate) fn new() -> Self {
        if !terminal::is_terminal() {
            return Self::default();
        }
        let bars = MultiProgress::new();
        terminal::set_live(Some(bars.clone()));
        Self { bars: Some(bars), under_way: Mutex::default(), owns_terminal: true }
    }

    /// Bars among those of a build.
    pub(crate) fn among(bars: &MultiProgress) -> Self {
        let (bars, under_way) = (Some(bars.clone()), Mutex::default());
        Self { bars, under_way, owns_terminal: false }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Digest, Blob>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bar(&self, digest: &Digest, part: Part, size: u64) -> Option<ProgressBar> {
        let bars = self.bars.as_ref().filter(|_| size >= BAR_BYTES_MIN)?;
        let style = ProgressStyle::with_template(TEMPLATE).ok()?.progress_chars("━╾╌");
        let bar = bars.add(ProgressBar::new(size)).with_style(style);
        bar.set_prefix(format!("{} {part}", format::short_id(&digest.to_string())));
        Some(bar)
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        for (_, blob) in self.under_way().drain() {
            blob.bar.inspect(ProgressBar::finish_and_clear);
        }
        if self.owns_terminal {
            terminal::set_live(None);
        }
    }
}

impl Progress for Transfers {
    fn event(&self, event: Event) {
        match event {
            Event::Started { digest, part, size } => {
                let bar = self.bar(&digest, part, size);
                self.under_way().insert(digest, Blob { part, size, bar });
            }
            Event::Bytes { digest, done } => {
                if let Some(Blob { bar: Some(bar), .. }) = self.under_way().get(&digest) {
                    bar.set_position(done);
                }
            }
            Event::Done { digest, outcome } => {
                let blob = self.under_way().remove(&digest);
                let (part, size) = blob.as_ref().map_or((Part::Layer, 0), |b| (b.part, b.size));
                blob.and_then(|blob| blob.bar).inspect(ProgressBar::finish_and_clear);
                note(&format!(
                    "{}: {part} {}",
                    format::short_id(&digest.to_string()),
                    how(&outcome, size)
                ));
            }
            Event::Waiting { reason, wait } => {
                let (reason, wait) = (one_line(&reason), format::duration(wait));
                note(&format!("warning: {reason}; trying again in {wait}"));
            }
            _ => {}
        }
    }
}

/// What became of a blob, in words.
fn how(outcome: &Outcome, size: u64) -> String {
    match outcome {
        Outcome::Present => "already there".to_owned(),
        Outcome::Downloaded => format!("downloaded, {}", format::bytes(size)),
        Outcome::Uploaded => format!("uploaded, {}", format::bytes(size)),
        Outcome::Mounted { from } => format!("taken from {}", one_line(from)),
    }
}
