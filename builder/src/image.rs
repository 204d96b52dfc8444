//! The image config that a stage's plan and its layers make together.

use crate::plan::{HistoryDraft, StagePlan};
use lapstrake_layerstore::digest::DiffId;
use lapstrake_layerstore::oci::{History, ImageConfig, Platform, RootFs, time};

/// What every history entry says made it.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// What entries say that stand for layers of which nothing else is known.
const REPAIR_COMMENT: &str = "buildkit.exporter.image.v0";

/// The config of a stage. `layer_times` has one time for each layer that the plan makes, in order;
/// `diff_ids` has the base's layers first.
pub fn config(
    plan: &StagePlan,
    layer_times: &[i64],
    diff_ids: Vec<DiffId>,
    platform: &Platform,
    labels: &[(String, String)],
) -> ImageConfig {
    let history = history(plan, layer_times, diff_ids.len());
    let mut image = ImageConfig {
        author: plan.author().to_owned(),
        config: plan.config().clone(),
        created: history.last().and_then(|h| h.created.clone()),
        history,
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    };
    image.set_platform(platform);
    for (name, value) in labels {
        image.config.labels.insert(name.clone(), value.clone());
    }
    image
}

/// Entries of layers get the time of their layer; the others that of the next layer, or of the last.
fn history(plan: &StagePlan, layer_times: &[i64], layers: usize) -> Vec<History> {
    let mut times = layer_times.iter().copied();
    let mut own: Vec<(&HistoryDraft, Option<i64>)> = plan
        .history()
        .iter()
        .map(|draft| (draft, if draft.makes_layer { times.next() } else { None }))
        .collect();
    let mut next = None;
    for (_, time) in own.iter_mut().rev() {
        match time {
            Some(_) => next = *time,
            None => *time = next,
        }
    }
    let mut all = plan.base_history().to_vec();
    // A base that is a named context has a layer and no history: one entry for each layer is the rule.
    let base_layers = layers.saturating_sub(layer_times.len());
    let missing = base_layers.saturating_sub(all.iter().filter(|h| !h.empty_layer).count());
    all.extend((0..missing).map(|_| History {
        created: own.first().and_then(|(_, t)| *t).map(|t| time::format(t, 0)),
        comment: REPAIR_COMMENT.to_owned(),
        ..History::default()
    }));
    let mut last = all.last().and_then(|h| h.created.clone());
    for (draft, time) in own {
        let created = time.map(|t| time::format(t, 0)).or_else(|| last.clone());
        last.clone_from(&created);
        all.push(History {
            created,
            created_by: draft.created_by.to_string(),
            comment: HISTORY_COMMENT.to_owned(),
            empty_layer: !draft.makes_layer,
            ..History::default()
        });
    }
    all
}
