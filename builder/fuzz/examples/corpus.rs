//! The inputs that are kept, for libFuzzer and back: `corpus unpack|pack FILE DIRECTORY`.

use std::{fs, path::Path};

#[path = "../../tests/it/corpus.rs"]
mod corpus;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, file, directory] = arguments.as_slice() else {
        panic!("corpus unpack|pack FILE DIRECTORY")
    };
    match what.as_str() {
        "unpack" => unpack(file, Path::new(directory)),
        "pack" => pack(file, Path::new(directory)),
        other => panic!("unpack or pack, not {other}"),
    }
}

fn unpack(file: &str, directory: &Path) {
    let text = fs::read_to_string(file).expect("the file can be read");
    fs::create_dir_all(directory).expect("the directory can be made");
    for (at, input) in corpus::inputs(&text).iter().enumerate() {
        fs::write(directory.join(format!("kept-{at}")), input).expect("there is room");
    }
}

/// Sorted, so that the same inputs make the same file.
fn pack(file: &str, directory: &Path) {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    let mut lines: Vec<String> = entries
        .map(|entry| fs::read(entry.expect("an entry").path()).expect("an input can be read"))
        .map(|input| corpus::line(&input))
        .collect();
    lines.sort();
    lines.dedup();
    fs::write(file, lines.concat()).expect("there is room");
}
