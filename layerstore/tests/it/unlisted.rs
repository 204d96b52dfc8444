//! No test file is forgotten.

use std::{fs, path::Path};

#[test]
fn every_file_is_a_module() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = fs::read_to_string(directory.join("main.rs")).expect("main.rs");
    for entry in fs::read_dir(&directory).expect("readable") {
        let name = entry.expect("readable").file_name().into_string().expect("plain");
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name}");
    }
}
