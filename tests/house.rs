//! Source, tests and pages keep the rules of the house: which file uses which, the words, the length of files and names.

#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A line of code, with the module that it is in: comments are left out, and so are the crate's index and its guide.
fn code() -> Vec<(String, String)> {
    let src = Path::new(ROOT).join("src");
    let mut lines = Vec::new();
    for path in files(&src, &["rs"]) {
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

/// All files below a directory that have one of these extensions, except built ones.
fn files(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                found.extend(files(&path, extensions));
            }
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| *wanted == extension)) {
            found.push(path);
        }
    }
    found
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
fn guides_name_the_versions_that_their_examples_run_with() {
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
    assert_eq!(compared, 9);
}

// ---------------------------------------------------------------------------------------------------------------------
// Words and lengths, with exceptions that only become fewer
// ---------------------------------------------------------------------------------------------------------------------

/// Words and phrases for which the vocabulary has another: write "waiter", "user code", "defaults to".
const BANNED: &[&str] = &[
    "who",
    "whom",
    "whoever",
    "nobody",
    "somebody",
    "everybody",
    "anew",
    "shall",
    "for want of",
    "unless said otherwise",
    "foreign code",
    "hostile",
    "stranger",
    "strangers",
    "turned away",
    "comes to wait",
    "left behind",
    "aftermath",
    "bury",
    "buried",
    "game",
    "games",
    "proofs that bite",
    "learns of",
    "leaves its waker",
    "seat",
    "seats",
    "a life",
    "what has left",
    "what is urgent",
];

/// Files that still have to be rewritten in the vocabulary.
const UNREVISED: &[&str] = &[];

/// The most lines that a file of code may have.
const MAX_LINES: usize = 700;

/// Files that still have to be divided.
const TOO_LONG: &[&str] = &[];

/// The most characters that the name of a test may have.
const MAX_NAME: usize = 60;

/// Tests that still have to be renamed.
const LONG_NAMES: &[&str] = &[];

/// Fails if a file breaks a rule without being one of its exceptions, or if an exception has become needless.
///
/// An exception is a file, or a folder with its final slash.
fn check_rule(exceptions: &[&str], breaches: &BTreeMap<String, String>) {
    let covers =
        |exception: &str, path: &str| exception == path || exception.ends_with('/') && path.starts_with(exception);
    let is_excepted = |path: &str| exceptions.iter().any(|exception| covers(exception, path));
    let new: Vec<_> = breaches.iter().filter(|(path, _)| !is_excepted(path)).collect();
    assert!(new.is_empty(), "these files break the rule: {new:#?}");
    let is_needed = |exception: &str| breaches.keys().any(|path| covers(exception, path));
    let needless: Vec<_> = exceptions.iter().filter(|exception| !is_needed(exception)).collect();
    assert!(needless.is_empty(), "these keep the rule by now, so take them off its list: {needless:?}");
}

/// The text of each file below these folders that has one of these extensions, by its path from the root.
fn texts(folders: &[&str], extensions: &[&str]) -> BTreeMap<String, String> {
    let root = Path::new(ROOT);
    let files = folders.iter().flat_map(|folder| files(&root.join(folder), extensions));
    let text = |path: PathBuf| {
        let name = path.strip_prefix(root).unwrap().iter().map(|part| part.to_str().unwrap()).collect::<Vec<_>>();
        (name.join("/"), fs::read_to_string(&path).unwrap())
    };
    files.map(text).collect()
}

/// The banned words and phrases in a text, those that span lines or are parts of snake-case names included.
fn banned_in(text: &str) -> Vec<&'static str> {
    let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let text = format!(" {} ", words.join(" ").to_lowercase());
    BANNED.iter().copied().filter(|phrase| text.contains(&format!(" {phrase} "))).collect()
}

#[test]
fn banned_words_are_found_wherever_they_hide() {
    assert_eq!(
        banned_in("/// For those who wait, Whoever\n/// `wakes_nobody`: for\n/// want of it"),
        ["who", "whoever", "nobody", "for want of"]
    );
    assert_eq!(banned_in("The whole is shallow; gamers, wholes and a renewal"), [""; 0]);
}

#[test]
fn code_and_pages_use_the_vocabulary() {
    let mut all = texts(&["src", "tests", "benches", "examples", "fuzz"], &["rs", "md", "toml"]);
    for page in ["README.md", "CONTRIBUTING.md", "TESTING.md", "BENCHMARKS.md", "CHANGELOG.md", ".ci/run"] {
        all.insert(page.to_owned(), fs::read_to_string(Path::new(ROOT).join(page)).unwrap());
    }
    all.remove("tests/house.rs").expect("this file names the banned words");
    let breaches = all.into_iter().map(|(path, text)| (path, banned_in(&text)));
    let breaches = breaches.filter(|(_, words)| !words.is_empty());
    check_rule(UNREVISED, &breaches.map(|(path, words)| (path, format!("banned: {words:?}"))).collect());
}

#[test]
fn files_of_code_are_short() {
    let lengths =
        texts(&["src", "tests", "benches"], &["rs"]).into_iter().map(|(path, text)| (path, text.lines().count()));
    let breaches = lengths.filter(|(_, lines)| *lines > MAX_LINES);
    check_rule(TOO_LONG, &breaches.map(|(path, lines)| (path, format!("{lines} lines"))).collect());
}

#[test]
fn test_names_are_short() {
    let breaches = texts(&["tests"], &["rs"]).into_iter().filter_map(|(path, text)| {
        let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split(['(', '<']).next());
        let long: Vec<_> = names.filter(|name| name.len() > MAX_NAME).map(str::to_owned).collect();
        (!long.is_empty()).then(|| (path, format!("{long:?}")))
    });
    check_rule(LONG_NAMES, &breaches.collect());
}
