//! The store as its users see it: through its public face, on a disk, with strangers for judges.

mod broken;
mod concurrency;
mod fsck;
mod full;
mod hostile;
mod kill;
mod listing;
mod prune;
mod strangers;
mod support;
mod transfer;
mod unlisted;
