//! Writes `fixtures/layer/hostile` as a corpus for the target `tar`: `seeds <directory>`.

use std::{fs, path::Path};

use lapstrake_fixtures::{case::cases, raw_tar};

fn main() {
    let directory = std::env::args().nth(1).expect("a directory to write into");
    fs::create_dir_all(&directory).expect("the directory can be made");
    for case in cases("layer/hostile") {
        for (at, archive) in raw_tar::parse(&case.text("archive.txt")).iter().enumerate() {
            let path = Path::new(&directory).join(format!("{}-{at}", case.name));
            fs::write(path, archive).expect("there is room");
        }
    }
}
