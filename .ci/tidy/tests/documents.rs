//! The documents that the code promises are there, and their links lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use lapstrake_tidy::{assert_none, root};

const DOCUMENTS: [&str; 10] = [
    "README.md",
    "docs/ARCHITECTURE.md",
    "docs/CHANGELOG.md",
    "docs/CONTRIBUTING.md",
    "docs/SECURITY.md",
    "docs/STYLE.md",
    "docs/apt-in-builds.md",
    "docs/cli.md",
    "docs/dependencies.md",
    "docs/benchmarks.md",
];

/// What later versions must still read (design: formats are versioned and written down).
const FORMATS: [&str; 2] = ["docs/formats/store.md", "docs/formats/cache-key.md"];

fn markdown(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("because docs/ is there") {
        let path = entry.expect("because docs/ can be read").path();
        if path.is_dir() {
            markdown(&path, files);
        } else if path.extension().is_some_and(|end| end == "md") {
            files.push(path);
        }
    }
}

#[test]
fn the_documents_are_there() {
    let missing: Vec<String> = DOCUMENTS
        .into_iter()
        .chain(FORMATS)
        .filter(|document| !root().join(document).is_file())
        .map(str::to_owned)
        .collect();
    assert_none("these documents are missing", &missing);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut files = vec![root().join("README.md")];
    markdown(&root().join("docs"), &mut files);
    let mut findings = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let outside = path.is_empty() || path.contains("://");
            if !outside && !file.parent().unwrap().join(path).exists() {
                let name = file.strip_prefix(root()).unwrap().display().to_string();
                findings.push(format!("{name}: {target}"));
            }
        }
    }
    assert_none("links that lead nowhere", &findings);
}
