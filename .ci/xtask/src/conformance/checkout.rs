//! The cases as git means them, whatever became of them on their way here.
//!
//! What a build context holds is in the images, and the recorded images were made of a proper
//! checkout. A copy of it may be read-only (0644 has become 0444), and may have lost its symbolic
//! links (git writes a link's target into a plain file where links are switched off).

use std::fs::{self, DirEntry};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell;

/// No target in the cases is longer.
const TARGET_BYTES_MAX: u64 = 100;

/// Copies the folder under the target folder and repairs the copy.
pub(super) fn repaired_copy(folder: &Path) -> Result<PathBuf> {
    let copy = shell::scratch("conformance")?.join("cases-copy");
    if copy.exists() {
        fs::remove_dir_all(&copy).with_context(|| format!("remove {}", copy.display()))?;
    }
    shell::run(Command::new("cp").args(["-a", "--no-preserve=ownership"]).arg(folder).arg(&copy))?;
    shell::run(Command::new("chmod").args(["-R", "u+w"]).arg(&copy))?;
    let mut files = Vec::new();
    let mut links = false;
    for case in fs::read_dir(copy.join("cases"))? {
        let context = case?.path().join("ctx");
        if context.is_dir() {
            list(&context, &mut files, &mut links)?;
        }
    }
    if !links {
        for file in files {
            restore_link(&file)?;
        }
    }
    Ok(copy)
}

/// Collects the small files, and notices whether there is any link.
fn list(folder: &Path, files: &mut Vec<PathBuf>, links: &mut bool) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry: DirEntry = entry?;
        let meta = entry.metadata()?;
        *links |= meta.is_symlink();
        if meta.is_dir() {
            list(&entry.path(), files, links)?;
        } else if meta.is_file() && meta.len() <= TARGET_BYTES_MAX {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Makes a link of a file that holds nothing but a target; texts end with a line feed.
fn restore_link(file: &Path) -> Result<()> {
    let bytes = fs::read(file)?;
    let Some(target) = target(&bytes) else { return Ok(()) };
    fs::remove_file(file)?;
    symlink(target, file).with_context(|| format!("link {}", file.display()))
}

fn target(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let path = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    path.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn only_a_bare_path_is_a_target() {
        assert_eq!(target(b"../a.txt"), Some("../a.txt"));
        assert_eq!(target(b"text\n"), None);
        assert_eq!(target(b""), None);
        assert_eq!(target(b"\0\xff"), None);
    }
}
