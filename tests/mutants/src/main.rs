//! Mutation tests: `cargo run -p mutants` changes one thing of stanchion after the other and reports each
//! change that no test and no model notices.
//!
//! [`derive`](mod@derive) finds the changes in the syntax tree. [`switch`] writes all of them into one text, each behind
//! a question that the environment answers, so that one build has all mutants. [`builds`] copies the workspace to
//! `target/mutants`, and builds that. [`cover`] says which tests and models are for which file. [`hunt`] runs those that
//! reach a mutant, the ones likely to notice soon first, in processes with a limit of time ([`trial`]), until one fails.
//! [`equivalent`] knows the mutants that change nothing, [`log`] the fates so far, and [`page`] writes the table in
//! TESTING.md.

mod builds;
mod cover;
mod derive;
mod equivalent;
mod hunt;
mod log;
mod page;
mod switch;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;

use derive::Mutant;
use equivalent::Equivalents;
use hunt::{By, Fate, Hunt};
use log::{Kind, Log};
use page::Counts;

const PAGE: &str = "TESTING.md";

/// Change one thing of stanchion after the other, and report each change that no test and no model notices.
#[derive(Parser)]
#[command(name = "mutants", version = None)]
struct Arguments {
    /// Only the files that are named so or are in this folder, such as `src/semaphore`. May be repeated.
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<String>,

    /// Only lines that differ from this revision, in commits or in the working tree.
    #[arg(long, value_name = "REV")]
    since: Option<String>,

    /// Only so many, chosen at random.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,

    /// Chooses another sample.
    #[arg(long, value_name = "S", default_value_t = 0, requires = "sample")]
    seed: u64,

    /// Not those that were caught when they were last run, nor those that are explained.
    #[arg(long)]
    again: bool,

    /// Run nothing, only show them.
    #[arg(long)]
    list: bool,

    /// Write the rows of the files into TESTING.md.
    #[arg(long, conflicts_with_all = ["since", "sample", "list"])]
    write: bool,

    /// Leave out the models that take longer than so many seconds without a mutant.
    #[arg(long, value_name = "SECONDS")]
    longest: Option<u64>,

    /// How many mutants to try side by side; by default one for each processor.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns true if every mutant is caught or explained.
fn run(arguments: &Arguments) -> Result<bool> {
    let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?;
    let all = derive::all(&root)?;
    let equivalents = Equivalents::read(&root)?;
    for entry in equivalents.stale(&all) {
        println!("stale in {}: {}: {}", equivalent::FILE, entry.function, entry.mutant);
    }
    let target = fs::canonicalize(env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from))?;
    let mut log = Log::read(&target, &all);
    let mut tally = Tally::new(&equivalents);
    let mut mutants = chosen(arguments, &root, &all)?;
    ensure!(!mutants.is_empty(), "there are no such mutants");
    mutants.retain(|mutant| !arguments.again || !tally.settles(mutant, log.fate(mutant)));
    if arguments.list {
        mutants.iter().for_each(|mutant| println!("{}", shown(mutant)));
        println!("{} mutants", mutants.len());
        return Ok(true);
    }
    ensure!(mutants.len() < switch::RECORD, "too many mutants for one build: name files");

    let begun = Instant::now();
    let jobs = arguments.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    let longest = arguments.longest.map_or(Duration::MAX, Duration::from_secs);
    Hunt::new(&root, &target, &mutants, jobs, longest)?.run(&mutants, |mutant, fate| {
        tally.count(mutant, Kind::from(&fate));
        match (&fate, equivalents.reason(mutant)) {
            (Fate::Survived { is_reached: true }, None) => println!("survives: {}", shown(mutant)),
            (Fate::Survived { is_reached: false }, None) => println!("survives, not reached: {}", shown(mutant)),
            (Fate::Caught { how, .. }, Some(_)) => println!("not equivalent ({how}): {}", shown(mutant)),
            _ => {}
        }
        log.add(mutant, &shown(mutant), &fate)
    })?;
    let survive = tally.sum(|counts| counts.survive);
    println!("{} in {} s", tally.summary(), begun.elapsed().as_secs());
    if arguments.write {
        let page = fs::read_to_string(root.join(PAGE))?;
        fs::write(root.join(PAGE), page::updated(&page, tally.counts, |file| root.join(file).exists())?)?;
    }
    Ok(survive == 0)
}

/// The fates of the mutants, counted.
struct Tally<'e> {
    equivalents: &'e Equivalents,
    /// By file.
    counts: BTreeMap<String, Counts>,
    invalid: usize,
}

impl<'e> Tally<'e> {
    fn new(equivalents: &'e Equivalents) -> Self {
        Self { equivalents, counts: BTreeMap::new(), invalid: 0 }
    }

    fn count(&mut self, mutant: &Mutant, kind: Kind) {
        let counts = self.counts.entry(mutant.file.clone()).or_default();
        match kind {
            Kind::Caught(By::Test) => counts.tests += 1,
            Kind::Caught(By::Model) => counts.models += 1,
            Kind::Survived if self.equivalents.reason(mutant).is_some() => counts.equivalent += 1,
            Kind::Survived => counts.survive += 1,
            Kind::Invalid => self.invalid += 1,
        }
    }

    /// Counts a mutant that need not be run again.
    fn settles(&mut self, mutant: &Mutant, fate: Option<Kind>) -> bool {
        let is_explained = self.equivalents.reason(mutant).is_some();
        match fate {
            Some(Kind::Caught(_)) if is_explained => println!("not equivalent: {}", shown(mutant)),
            Some(Kind::Caught(_)) => {}
            Some(Kind::Survived) if is_explained => {}
            _ => return false,
        }
        fate.into_iter().for_each(|kind| self.count(mutant, kind));
        true
    }

    fn sum(&self, count: impl Fn(&Counts) -> usize) -> usize {
        self.counts.values().map(count).sum()
    }

    fn summary(&self) -> String {
        format!(
            "{} mutants: {} caught by tests, {} by models, {} equivalent, {} survive; {} more do not compile",
            self.sum(Counts::total),
            self.sum(|counts| counts.tests),
            self.sum(|counts| counts.models),
            self.sum(|counts| counts.equivalent),
            self.sum(|counts| counts.survive),
            self.invalid,
        )
    }
}

fn shown(mutant: &Mutant) -> String {
    format!("{}:{}: {}: {}", mutant.file, mutant.line, mutant.function, mutant.text)
}

/// Selects the mutants that the arguments ask for.
fn chosen<'m>(arguments: &Arguments, root: &Path, all: &'m [Mutant]) -> Result<Vec<&'m Mutant>> {
    let mut mutants: Vec<&Mutant> = all.iter().collect();
    let files = &arguments.files;
    mutants.retain(|mutant| files.is_empty() || files.iter().any(|file| mutant.file.starts_with(&file[..])));
    if let Some(revision) = &arguments.since {
        let diff = builds::git(root, &["diff", "--unified=0", "--no-renames", "--no-ext-diff", revision, "--", "src"])?;
        let (changed, untracked) = (changed_lines(&diff), untracked(root)?);
        mutants.retain(|mutant| {
            let lines = changed.get(&mutant.file);
            untracked.contains(&mutant.file) || lines.is_some_and(|all| all.iter().any(|it| it.contains(&mutant.line)))
        });
    }
    if let Some(size) = arguments.sample {
        mutants.sort_by_cached_key(|mutant| {
            let mut hasher = DefaultHasher::new();
            (arguments.seed, &mutant.function, &mutant.text).hash(&mut hasher);
            hasher.finish()
        });
        mutants.truncate(size);
    }
    Ok(mutants)
}

/// The lines of each file that a diff without context adds or changes.
fn changed_lines(diff: &str) -> BTreeMap<String, Vec<Range<usize>>> {
    let mut changed = BTreeMap::<String, Vec<Range<usize>>>::new();
    let mut file = "";
    for line in diff.lines() {
        if let Some(name) = line.strip_prefix("+++ b/") {
            file = name;
        }
        let hunk = line.strip_prefix("@@ ").and_then(|hunk| hunk.split(' ').nth(1)?.strip_prefix('+'));
        if let Some((first, length)) = hunk.map(|hunk| hunk.split_once(',').unwrap_or((hunk, "1"))) {
            let [first, length] = [first, length].map(|number| number.parse::<usize>().unwrap_or(0));
            changed.entry(file.to_owned()).or_default().push(first..first + length);
        }
    }
    changed
}

fn untracked(root: &Path) -> Result<BTreeSet<String>> {
    let files = builds::git(root, &["ls-files", "--others", "--exclude-standard", "--", "src"])?;
    Ok(files.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let parse = |arguments: &[&str]| Arguments::try_parse_from([&["mutants"], arguments].concat());
        let parsed = parse(&["--file", "a", "--file", "b", "--sample", "3", "--seed", "4", "--jobs", "1"]).unwrap();
        assert_eq!(
            (&parsed.files[..], parsed.sample, parsed.seed),
            (&["a".to_owned(), "b".to_owned()][..], Some(3), 4)
        );
        assert!(parse(&["--since", "main", "--list"]).unwrap().list);
        for wrong in [&["--seed", "1"][..], &["--write", "--sample", "3"], &["--write", "--since", "HEAD"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn changed_lines_are_read_from_a_diff() {
        let diff = "--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1,2 +3,4 @@ fn f()\n+x\n@@ -9 +12 @@\n--- a/src/b.rs\n+++ b/src/b.rs\n\
            @@ -5,2 +4,0 @@\n@@ -9 +9 @@\n";
        let expected = [("src/a.rs".to_owned(), vec![3..7, 12..13]), ("src/b.rs".to_owned(), vec![4..4, 9..10])];
        assert_eq!(changed_lines(diff), expected.into());
    }
}
