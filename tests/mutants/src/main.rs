//! The mutants: `cargo run --release -p mutants` breaks stanchion in one place after the other, runs models and tests
//! against each break, and writes into TESTING.md which of them noticed.
//!
//! A *mutant* is one thing weakened: a memory ordering, a second look, a wake, a drop that belongs after the lock. The
//! weaker orderings are [found](orderings) in the source; everything else stands in [lists], as text and what it
//! is replaced by. To build the crate anew for each of them would take days: all are compiled at once, each behind a
//! question ([`source::SWITCH`]) that the environment answers when a process starts. Those that overlap cannot stand in
//! one text; they go to different [layers](source::layers), and there are as many builds as layers.
//!
//! The way through the files: [`workspace`] asks cargo where things are; [`lists`] and [`orderings`] say what to break,
//! [`source`] does it, in a copy; [`builds`] builds the copy; [`trial`] runs one process, up to a limit of time; [`hunt`]
//! runs what may notice a mutant until something does; [`results`] remembers it; [`page`] writes it down.

mod builds;
mod hunt;
mod lists;
mod orderings;
mod page;
mod results;
mod source;
mod trial;
mod workspace;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use lists::Lists;
use results::{Fate, Results};
use source::Mutant;
use workspace::Workspace;

/// Where the lists are, seen from the root of the workspace.
const LISTS: &str = "tests/mutants/lists";

/// Break stanchion in one place after the other, and write into TESTING.md what noticed it.
#[derive(Parser)]
#[command(name = "mutants", version = None)]
struct Arguments {
    /// Only those of lists of these names, or whose place or description contains one of these.
    filters: Vec<String>,

    /// Run nothing: only see that each mutant can be made, and that TESTING.md tells how it ended.
    #[arg(long, conflicts_with_all = ["filters", "list", "fresh"])]
    check: bool,

    /// Run nothing: only show them.
    #[arg(long, conflicts_with = "fresh")]
    list: bool,

    /// Forget what earlier runs have found; otherwise only what has no result is run, or survived unexplained.
    #[arg(long)]
    fresh: bool,

    /// How many processes to run side by side; by default one for each processor.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let lists = Lists::read(&workspace.root.join(LISTS))?;
    let sources = source::read(&workspace.root)?;
    let mutants = source::mutants(&lists, &sources)?;

    let page_path = workspace.root.join("TESTING.md");
    let page = || fs::read_to_string(&page_path).with_context(|| format!("cannot read {}", page_path.display()));
    if arguments.check {
        page::check(&page()?, &lists, &mutants)?;
        println!("{} mutants: each can be made, and TESTING.md tells how each ended", mutants.len());
        return Ok(());
    }

    let filters = &arguments.filters;
    let is_meant = |mutant: &&Mutant| filters.is_empty() || filters.iter().any(|filter| mutant.matches(&lists, filter));
    let meant: Vec<&Mutant> = mutants.iter().filter(is_meant).collect();
    if meant.is_empty() {
        bail!("no mutant is called so; `--list` shows them");
    }
    if arguments.list {
        for mutant in meant {
            let explained = if mutant.survives.is_some() { " (survives)" } else { "" };
            println!("{}: {}: {}: {}{explained}", mutant.number, lists.name(mutant), mutant.place, mutant.what);
        }
        return Ok(());
    }

    // Read before the hunt: whatever is wrong with the page should be told now, not in an hour.
    let hints = page::hints(&page()?, &lists, &mutants)?;
    let mut results = Results::open(&workspace.work().join("results.json"), &sources)?;
    // Who survived without an explanation may be caught by now.
    let is_stale = |mutant: &&&Mutant| {
        arguments.fresh || mutant.survives.is_none() && results.get(mutant) == Some(&Fate::Survived)
    };
    let stale: Vec<&Mutant> = meant.iter().filter(is_stale).copied().collect();
    results.forget(&stale);
    hunt::run(&workspace, &lists, &sources, &meant, &hints, &mut results, arguments.jobs)?;

    let page = page::replace(&page()?, &page::generated(&lists, &mutants, &results))?;
    fs::write(&page_path, page).with_context(|| format!("cannot write {}", page_path.display()))?;
    println!("TESTING.md is up to date");
    hunt::verdict(&meant, &results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let parse = |arguments: &[&str]| Arguments::try_parse_from([&["mutants"], arguments].concat());
        assert!(parse(&["--check"]).unwrap().check);
        assert_eq!(parse(&["semaphore", "--jobs", "3"]).unwrap().jobs, Some(3));
        assert!(parse(&["--list", "semaphore"]).unwrap().list);
        assert!(parse(&["--fresh"]).unwrap().fresh);
        assert_eq!(parse(&["a", "b"]).unwrap().filters, ["a", "b"]);
        for wrong in [&["--check", "semaphore"][..], &["--check", "--fresh"], &["--list", "--fresh"], &["--jobs", "x"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_mutant_of_the_lists_can_be_made() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let lists = Lists::read(&root.join(LISTS)).unwrap();
        let mutants = source::mutants(&lists, &source::read(&root).unwrap()).unwrap();
        assert!(!mutants.is_empty());
    }
}
