//! Black-box tests: the binary as a user calls it.

mod bad_input;
mod build;
mod caches;
mod check;
mod explain;
mod failed;
mod faults;
mod fmt;
mod help;
mod hostile_files;
mod look;
mod plan;
mod platforms;
mod random;
mod real_input;
mod reflinks;
mod remote;
mod registry;
mod run;
mod sharing;
mod storage;
mod support;
mod transfer;
mod traps;
mod verify;
