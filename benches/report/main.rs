//! The report: `cargo run --release -p benches` measures stanchion beside its peers and writes BENCHMARKS.md.
//!
//! The benches run in *rounds*. Contenders are compared within a round, where they ran within the same seconds; the page
//! shows the median of these ratios over the rounds.
//!
//! [`rows`] says what is on the page and so what is measured by default, [`rounds`] runs the benches, [`results`] reads
//! what they saved, [`page`] and [`chart`] show it, with [`bytes`] and [`machine`].

mod bytes;
mod chart;
mod machine;
mod page;
mod results;
mod rounds;
mod rows;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use regex::Regex;

use results::Results;
use rounds::Plan;

/// The contender that the others are compared with.
const OURS: &str = "stanchion";

/// Where all rows and the chart go, from the folder of the page.
const FOLDER: &str = "benches/results";

/// Measure stanchion beside its peers in paired rounds, and write the medians into BENCHMARKS.md.
#[derive(Parser)]
#[command(name = "report", version = None)]
struct Arguments {
    /// The number of rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Measure all rows and contenders, at leisure, and not only those of the page
    #[arg(long)]
    full: bool,

    /// Measure all rows with NAME in their names, print them, and write no file
    #[arg(long, value_name = "NAME", conflicts_with_all = ["full", "no_run", "filter", "out"])]
    quick: Option<String>,

    /// Measure nothing: write the page from earlier rounds
    #[arg(long, conflicts_with_all = ["rounds", "full", "filter"])]
    no_run: bool,

    /// The page; the folder of the other results is beside it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Measure only rows with names that match this regular expression; the results of the others stay
    filter: Option<Regex>,
}

fn main() -> ExitCode {
    match report(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn report(arguments: &Arguments) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("benches is a folder of the workspace")?;
    let program = env::current_exe().context("this program has no path")?;
    let target = program.ancestors().nth(2).context("cargo builds programs into a folder of the target folder")?;

    if let Some(name) = &arguments.quick {
        let criterion = target.join("criterion-quick");
        let chosen = Regex::new(&regex::escape(name))?;
        let plan = Plan { rounds: arguments.rounds, chosen: &chosen, is_short: true, is_partial: false };
        rounds::run(root, &criterion, &plan)?;
        print!("{}", Results::read(&criterion)?.csv());
        return Ok(());
    }

    let criterion = target.join("criterion-rounds");
    if !arguments.no_run {
        let chosen = rows_to_measure(arguments)?;
        let is_partial = arguments.filter.is_some();
        let plan = Plan { rounds: arguments.rounds, chosen: &chosen, is_short: !arguments.full, is_partial };
        rounds::run(root, &criterion, &plan)?;
    }
    let results = Results::read(&criterion)?;
    let page = arguments.out.clone().unwrap_or_else(|| root.join("BENCHMARKS.md"));
    let folder = page.parent().context("the page is in a folder")?.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let write = |path: &Path, text| fs::write(path, text).with_context(|| format!("cannot write {}", path.display()));
    write(&folder.join("rows.csv"), results.csv())?;
    write(&folder.join("nearest.svg"), chart::draw(&results)?)?;
    write(&page, page::page(&results, &bytes::tables(1_000_000), root)?)?;
    println!("{} and {} are up to date", page.display(), folder.display());
    Ok(())
}

/// A regular expression for names of rows, `group/contender`.
fn rows_to_measure(arguments: &Arguments) -> Result<Regex> {
    let filter = arguments.filter.as_ref();
    if arguments.full {
        return Ok(filter.cloned().unwrap_or(Regex::new("")?));
    }
    let on_page = rows::all().filter(|row| filter.is_none_or(|filter| filter.is_match(&row.group())));
    let patterns: Vec<String> = on_page.map(|row| row.pattern()).collect();
    if patterns.is_empty() {
        bail!("no row of the page matches; with --full, rows beside the page are measured too");
    }
    Regex::new(&format!("^({})$", patterns.join("|"))).context("the names of the rows make no regular expression")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["report"], arguments].concat())
    }

    #[test]
    fn flags() {
        assert_eq!(parse(&[]).unwrap().rounds, 3);
        assert_eq!(parse(&["--quick", "hand-off"]).unwrap().quick.as_deref(), Some("hand-off"));
        for wrong in [&["--rounds", "0"][..], &["--no-run", "x"], &["--quick", "x", "--full"], &["("]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rows_are_chosen_by_page_and_filter() {
        let chosen = |arguments| rows_to_measure(&parse(arguments).unwrap()).unwrap();
        let (page, one) = (chosen(&[]), chosen(&["^mutex/free/lock$"]));
        for (name, on_page, is_one) in [
            ("mutex/free/lock/tokio", true, true),
            ("mutex/free/try_lock/tokio", true, false),
            ("mutex/free/lock_owned/tokio", false, false),
            ("mutex/free/lock/a peer beside the page", false, false),
        ] {
            assert_eq!((page.is_match(name), one.is_match(name)), (on_page, is_one), "{name}");
            assert!(chosen(&["--full"]).is_match(name));
        }
        assert!(rows_to_measure(&parse(&["no such row"]).unwrap()).is_err());
    }
}
