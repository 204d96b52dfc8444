//! The commands, one file each: documented flags, and one `run` that calls the libraries.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod du;
pub(crate) mod explain;
pub(crate) mod fmt;
pub(crate) mod fsck;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod layers;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod serve;
pub(crate) mod tag;
pub(crate) mod version;
