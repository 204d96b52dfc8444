//! Everything a person sees: data on standard output, words on standard error.

pub(crate) mod changes;
pub(crate) mod diagnostic;
pub(crate) mod difference;
pub(crate) mod explain;
pub(crate) mod format;
pub(crate) mod live;
pub(crate) mod platforms;
pub(crate) mod progress;
pub(crate) mod rawjson;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod timeline;
pub(crate) mod transfer;
