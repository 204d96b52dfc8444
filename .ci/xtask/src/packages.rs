//! The Debian packages that tests and the demo use, and how they come.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use lapstrake_fixtures::host::{find_tool, is_root};
use lapstrake_fixtures::{Need, busybox};

use crate::shell;

/// Program, package, and what needs it.
const TOOLS: [(&str, &str, &str); 8] = [
    ("newuidmap", "uidmap", "rootless builds"),
    ("skopeo", "skopeo", "a stranger that judges our images"),
    ("mkfs.xfs", "xfsprogs", "a file system with reflinks for the store's tests"),
    ("mkfs.btrfs", "btrfs-progs", "another one, which counts in another way"),
    ("umoci", "umoci", "a stranger that unpacks our layers"),
    ("docker-registry", "docker-registry", "a registry to push to"),
    ("mmdebstrap", "mmdebstrap", "a Debian to import"),
    ("strace", "strace", "writes that fail on request"),
];

/// The packages whose programs are not on this machine.
fn missing() -> Vec<&'static str> {
    let tools = TOOLS.iter().filter(|(tool, ..)| find_tool(tool).is_none());
    let mut packages: Vec<&str> = tools.map(|(_, package, _)| *package).collect();
    if busybox::find().is_none() {
        packages.push("busybox-static");
    }
    packages
}

/// Installs what is missing as root; otherwise names what to install.
pub(crate) fn install() -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("these packages are missing: sudo apt-get install {}", packages.join(" "));
    }
    println!("installing {}", packages.join(" "));
    apt_install(&packages)
}

/// Tells an ordinary user what is missing, without stopping: the tests that need it are skipped.
pub(crate) fn report_missing() {
    for package in missing() {
        let why = TOOLS.iter().find(|(_, name, _)| *name == package);
        let why = why.map_or("programs inside test images", |(.., why)| why);
        println!("missing: {package} ({why}); tests that need it are skipped");
    }
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]);
        apt
    };
    // An old list names package versions that the mirror no longer has.
    shell::output(apt().arg("update"))?;
    shell::output(apt().args(["install", "--no-install-recommends"]).args(packages))?;
    Ok(())
}

/// A static busybox: the machine's own, else installed (root), else unpacked from its package.
pub(crate) fn busybox() -> Result<PathBuf> {
    if let Some(found) = busybox::find() {
        return Ok(found);
    }
    if is_root() {
        apt_install(&["busybox-static"])?;
        return match busybox::find() {
            Some(found) => Ok(found),
            None => bail!("busybox-static is installed, and no static busybox was found"),
        };
    }
    unpack_busybox()
}

/// What an ordinary user can do: fetch the package with apt's own settings, and unpack it.
fn unpack_busybox() -> Result<PathBuf> {
    let folder = shell::scratch("busybox")?;
    let unpacked = folder.join("root");
    let program = ["bin/busybox", "usr/bin/busybox"].map(|path| unpacked.join(path));
    let found = || program.iter().find(|path| busybox::is_static_elf(path)).cloned();
    if let Some(found) = found() {
        return Ok(found);
    }
    download(&folder)?;
    let deb = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let Some(deb) = deb else { bail!("apt-get download left no package in {}", folder.display()) };
    shell::run(Command::new("dpkg").arg("-x").arg(deb).arg(&unpacked))?;
    match found() {
        Some(found) => Ok(found),
        None => bail!("the package busybox-static holds no static busybox"),
    }
}

fn download(folder: &std::path::Path) -> Result<()> {
    let fetch = |options: &[String]| {
        let mut apt = Command::new("apt-get");
        apt.current_dir(folder).arg("-q").args(options).args(["download", "busybox-static"]);
        shell::output(&mut apt)
    };
    if fetch(&[]).is_ok() {
        return Ok(());
    }
    // The system's package lists are missing or old, and only root may renew them: use our own.
    let lists = folder.join("apt");
    std::fs::create_dir_all(lists.join("lists/partial"))?;
    std::fs::create_dir_all(lists.join("cache/archives/partial"))?;
    let options = [
        "-o".to_owned(),
        format!("Dir::State::Lists={}/lists", lists.display()),
        "-o".to_owned(),
        format!("Dir::Cache={}/cache", lists.display()),
    ];
    shell::output(Command::new("apt-get").arg("-q").args(&options).arg("update"))?;
    fetch(&options).map(drop)
}

/// Compares a need with this machine; the text says what to do about it.
pub(crate) fn lacks_for_rootless() -> Option<String> {
    use lapstrake_fixtures::host::missing;
    let uidmap = missing(Need::Tool("newuidmap")).is_some();
    let ids = missing(Need::SubordinateIds).is_some();
    if is_root() || !(uidmap || ids) {
        return None;
    }
    let user = std::env::var("USER").unwrap_or_else(|_| "$USER".to_owned());
    let install = if uidmap { "apt-get install uidmap && " } else { "" };
    Some(format!(
        "sudo sh -c '{install}usermod --add-subuids 300000-365535 --add-subgids 300000-365535 {user}'"
    ))
}
