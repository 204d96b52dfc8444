//! A shell on the terminal, in a directory as its root: `shell DIRECTORY`. Shows an interactive run.

use std::ffi::OsString;

use lapstrake_runner::{
    Cancel, EnterOptions, Output, Root, Runner, Sandbox, Spec, Stdin, enter, init,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    init();
    enter(&EnterOptions::default())?;
    let directory = std::env::args_os().nth(1).ok_or("usage: shell DIRECTORY")?;
    let root = Root::Directory { path: directory.into(), read_only: false };
    let mut spec = Spec::new(root, ["/bin/sh", "-i"].map(OsString::from).to_vec());
    spec.process.env = vec![("PATH".into(), "/bin".into())];
    spec.stdin = Stdin::Inherit;
    spec.output = Output::Inherit;
    let exit = Sandbox::new().run(&spec, &mut |_, _| {}, &Cancel::new())?;
    if exit.success() { Ok(()) } else { Err(format!("{exit:?}").into()) }
}
