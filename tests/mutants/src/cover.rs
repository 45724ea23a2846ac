//! The tests and models that cover each file, and so are run against its mutants.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The beginning of a file's path, the test targets (or `target::filter`), and the files of `tests/loom`.
#[rustfmt::skip]
const COVERS: &[(&str, &str, &str)] = &[
    ("src/sync.rs", "blocking mutex semaphore task_queue pool", "mutex semaphore task_queue pool observing"),
    ("src/panic.rs", "lib semaphore mutex priority_queue task_queue pool lru_cache", ""),
    ("src/arena", "lib semaphore priority_queue lru_cache model allocations::storm", "semaphore lru_cache observing"),
    ("src/wait_list.rs", "semaphore mutex model::semaphore priority_queue pool lru_cache", "semaphore mutex priority_queue observing"),
    ("src/blocking.rs", "blocking mutex", "semaphore mutex observing"),
    ("src/semaphore", "semaphore model::semaphore mutex blocking", "semaphore mutex observing"),
    ("src/mutex", "mutex model::mutex blocking", "mutex observing"),
    ("src/priority_queue", "lib priority_queue model::priority_queue model::order task_queue allocations::priority_queue", "priority_queue task_queue observing"),
    ("src/task_queue", "task_queue priority_queue", "task_queue observing"),
    ("src/pool", "pool model::pool allocations::pool", "pool observing"),
    ("src/lru_cache", "lib lru_cache model::lru_cache model::shard allocations::lru_cache", "lru_cache observing"),
];

/// The tests and the models that cover a file.
pub fn of(root: &Path, file: &str) -> Result<(Vec<String>, Vec<String>)> {
    let Some((_, tests, loom)) = COVERS.iter().find(|(path, ..)| file.starts_with(path)) else {
        bail!("{file} is in no row of tests/mutants/src/cover.rs");
    };
    let mut found = Vec::new();
    for name in loom.split_whitespace() {
        found.extend(models(&root.join("tests/loom"), name)?);
    }
    Ok((tests.split_whitespace().map(str::to_owned).collect(), found))
}

/// `target`, or `target::filter`.
pub fn split(test: &str) -> (&str, Option<&str>) {
    test.split_once("::").map_or((test, None), |(target, filter)| (target, Some(filter)))
}

/// The models of `NAME.rs`, and of the files in the folder `NAME`.
fn models(folder: &Path, name: &str) -> Result<Vec<String>> {
    let mut paths = vec![folder.join(name).with_extension("rs")];
    if let Ok(entries) = fs::read_dir(folder.join(name)) {
        paths.extend(entries.flatten().map(|entry| entry.path()));
    }
    let mut models = Vec::new();
    for path in paths.iter().filter(|path| path.exists()) {
        models.extend(names(&fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?));
    }
    if models.is_empty() { bail!("tests/loom/{name} lists no models") } else { Ok(models) }
}

/// The names in `models![2: name, ..]` or `tables![name, ..]`.
fn names(text: &str) -> Vec<String> {
    let list = text.split_once("models![").or_else(|| text.split_once("tables!["));
    let list = list.and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    let entries = list.lines().flat_map(|line| line.split("//").next().unwrap_or_default().split(','));
    let names = entries.map(|entry| entry.split_once(':').map_or(entry, |(_, name)| name).trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive;

    #[test]
    fn every_file_with_mutants_is_covered() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mutants = derive::all(&root).unwrap();
        assert!(mutants.len() > 100);
        for mutant in mutants {
            let (tests, _) = of(&root, &mutant.file).unwrap();
            assert!(!tests.is_empty(), "no test covers {}", mutant.file);
        }
    }

    #[test]
    fn models_are_read_from_their_list() {
        let text = "use x;\nmodels![\n    2: a_b,\n    // 3: no,\n    3: c, 2: d,\n];\nfn a_b() { [1]; }";
        assert_eq!(names(text), ["a_b", "c", "d"]);
        assert_eq!(names("fn f() {}"), [""; 0]);
    }

    #[test]
    fn a_test_is_a_target_or_a_filter_in_one() {
        assert_eq!(split("model::semaphore"), ("model", Some("semaphore")));
        assert_eq!(split("lib"), ("lib", None));
    }
}
