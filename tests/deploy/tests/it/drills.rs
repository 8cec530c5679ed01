//! `make drill` names tests: a name that no test has would be a loss that nobody practises.

use std::path::{Path, PathBuf};

use deployment::{root, text};

/// The directory of a package.
fn package(name: &str) -> PathBuf {
    let places = ["services", "crates", "tests"].map(|place| root().join(place).join(name));
    let found = places.into_iter().find(|place| place.is_dir());
    found.unwrap_or_else(|| panic!("no package {name}"))
}

/// Every source below a directory, as one text.
fn sources(dir: &Path) -> String {
    let entries =
        std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path),
            false => std::fs::read_to_string(path).unwrap(),
        }
    };
    entries.map(read).collect()
}

#[test]
fn every_drill_is_a_test_of_the_binary_that_it_names() {
    let script = text("tests/drill.sh");
    let (_, table) = script.split_once("<<'TABLE'\n").unwrap();
    let (table, _) = table.split_once("\nTABLE\n").unwrap();
    let mut count = 0;
    for line in table.lines() {
        let cells: Vec<&str> = line.split('|').collect();
        let [_store, name, binary, test, _lost, _named, _repaired] = cells[..] else {
            panic!("not seven columns: {line}");
        };
        let sources = sources(&package(name).join("tests").join(binary));
        let is_there = sources.contains(&format!("fn {test}("));
        assert!(is_there, "{name} has no test {test} in tests/{binary}");
        count += 1;
    }
    assert!(count > 10, "{count} drills");
}
