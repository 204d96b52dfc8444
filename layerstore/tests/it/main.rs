//! The store as its users see it: through its public face, on a disk, with strangers for judges.

mod broken;
mod concurrency;
mod fsck;
mod full;
mod golden;
mod hostile;
mod invariants;
mod kill;
mod listing;
mod overlay;
mod promises;
mod properties;
mod prune;
mod reachable;
mod reflinks;
mod strangers;
mod support;
mod transfer;
mod unlisted;
