use super::*;

fn excluded(file: &str, path: &str) -> bool {
    Ignore::parse(file.as_bytes()).expect(file).is_excluded(path)
}
