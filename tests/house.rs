//! The table of files in CONTRIBUTING.md is what the source does: who uses whom, and who alone may name what.

#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A line of code, with the module that it is in: comments are left out, and so are the crate's index and its guide.
fn code() -> Vec<(String, String)> {
    let src = Path::new(ROOT).join("src");
    let mut lines = Vec::new();
    for path in rust_files(&src) {
        let module = path.strip_prefix(&src).unwrap().iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "guide"].contains(&module) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        lines.extend(code.map(|line| (module.to_owned(), line.to_owned())));
    }
    assert!(lines.len() > 1000, "where is the source?");
    lines
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The rows `| what | it is | uses |` of the one table of files.
fn house() -> Vec<(String, Vec<String>)> {
    let guide = fs::read_to_string(Path::new(ROOT).join("CONTRIBUTING.md")).unwrap();
    let rows = guide.lines().skip_while(|line| !line.starts_with("| file |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            (names(cells[1]).remove(0), names(cells[3]))
        })
        .collect()
}

#[test]
fn every_file_uses_what_the_table_says_and_nothing_else() {
    let house = house();
    let files: BTreeSet<&str> = house.iter().map(|(file, _)| file.as_str()).collect();
    let said: BTreeSet<(String, String)> =
        house.iter().flat_map(|(file, uses)| uses.iter().map(|used| (file.clone(), used.clone()))).collect();

    let mut is = BTreeSet::new();
    for (module, line) in code() {
        assert!(files.contains(module.as_str()), "{module} is not in the table of CONTRIBUTING.md");
        assert!(!line.contains("crate::{"), "one `use` for each file, please: {line}");
        for used in line.split("crate::").skip(1) {
            let end = used.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(used.len());
            if used[..end] != module {
                is.insert((module.clone(), used[..end].to_owned()));
            }
        }
    }
    let wrong: Vec<_> = is.symmetric_difference(&said).collect();
    assert!(wrong.is_empty(), "in the source or in the table of CONTRIBUTING.md, but not in both: {wrong:?}");
}

#[test]
fn arrows_run_one_way() {
    // A row uses rows above it, so there is no circle.
    let mut above = Vec::new();
    for (file, uses) in house() {
        for used in uses {
            assert!(above.contains(&used), "{file} uses {used}, which is not above it");
        }
        above.push(file);
    }
}

#[test]
fn sync_is_the_only_door_to_locks_atomics_and_cells() {
    let behind = ["parking_lot", "loom::", "atomic::", "std::cell", "std::sync::Mutex", "thread::current"];
    let mut door = false;
    for (module, line) in code() {
        let named = behind.iter().any(|name| line.contains(name));
        door |= named && module == "sync";
        assert!(!named || module == "sync", "{module} goes round `sync`: {line}");
    }
    assert!(door, "not even `sync` names any of {behind:?}");
}

#[test]
fn unsafe_code_is_in_the_mutex_alone() {
    let allowed: BTreeSet<_> =
        code().into_iter().filter(|(_, line)| line.contains("(unsafe_code)")).map(|(module, _)| module).collect();
    assert_eq!(allowed, BTreeSet::from(["mutex".to_owned()]));
}

#[test]
fn the_guides_compare_with_the_versions_that_their_examples_are_run_with() {
    let lock = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).unwrap();
    let mut compared = 0;
    for page in fs::read_dir(Path::new(ROOT).join("src/guide")).unwrap() {
        let text = fs::read_to_string(page.unwrap().path()).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        for at in words.windows(4).filter(|words| words[..2] == ["Compared", "with"]) {
            let locked = format!("name = \"{}\"\nversion = \"{}.", at[2], at[3].trim_end_matches('.'));
            assert!(lock.contains(&locked), "{} {} is not what Cargo.lock has", at[2], at[3]);
            compared += 1;
        }
    }
    assert_eq!(compared, 7);
}
