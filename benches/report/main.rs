//! The report: `cargo run --release -p benches` measures stanchion beside its peers and writes what came out into
//! BENCHMARKS.md.
//!
//! One measurement of a few nanoseconds says little: the machine is busier in one minute than in the next. So the whole
//! `cargo bench` runs in *rounds*, each saved under a criterion baseline of its own, and only contenders of the same
//! round are compared. What is told of a work is the median of these ratios over the rounds, and how far apart they
//! were.
//!
//! The way through the files: [`workspace`] asks cargo where things are; [`rounds`] runs the benches; [`results`] reads
//! what criterion saved, and [`figures`] what benches tell besides; [`summary`] makes medians and ratios of it; [`table`],
//! [`chart`], [`machine`], [`sizes`] and [`memory`] write them down, and [`scaling`] shows and explains how they grow; [`page`]
//! puts all that between the markers of BENCHMARKS.md.

mod chart;
mod figures;
mod machine;
mod memory;
mod page;
mod results;
mod rounds;
mod scaling;
mod sizes;
mod summary;
mod table;
mod workspace;

use std::fmt::Write;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use figures::Figures;
use machine::Caches;
use scaling::DIMENSIONS;
use summary::Primitive;
use workspace::Workspace;

/// Where the charts go, seen from the root of the workspace, which is also where BENCHMARKS.md sees them from.
const CHARTS: &str = "benches/charts";

/// Sections of BENCHMARKS.md that are written here, besides one for each of the [`DIMENSIONS`].
const RESULTS: &str = "report";
const EXPECTED: &str = "expected";

/// Run the benches in rounds and write tables and charts into BENCHMARKS.md.
#[derive(Parser)]
#[command(name = "report", version = None)]
struct Arguments {
    /// How many times to run all the benches; contenders are compared within a round.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Only read the results of earlier rounds; measure nothing.
    #[arg(long, conflicts_with_all = ["rounds", "filter"])]
    no_run: bool,

    /// Measure only the works whose name matches this regular expression; the results of the others stay.
    filter: Option<String>,
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
    let workspace = Workspace::find()?;
    let page_path = workspace.root.join("BENCHMARKS.md");
    // Read before the rounds: whatever is wrong with the page should be told now, not in half an hour.
    let page = fs::read_to_string(&page_path).with_context(|| format!("cannot read {}", page_path.display()))?;
    for name in [RESULTS, EXPECTED].into_iter().chain(DIMENSIONS.iter().map(|dimension| dimension.name)) {
        page::replace(&page, name, "")?;
    }

    if !arguments.no_run {
        rounds::run(&workspace, arguments.rounds, arguments.filter.as_deref())?;
    }
    let primitives = summary::summarize(&results::read(&workspace.criterion)?);
    let figures = figures::read(&workspace.criterion)?;

    let caches = Caches::find();
    let scaling = scaling::measure(&primitives, caches, machine::cores());

    fs::create_dir_all(workspace.root.join(CHARTS)).with_context(|| format!("cannot make the folder {CHARTS}"))?;
    let peers = summary::all_peers(&primitives);
    let mut sections = vec![(RESULTS, generated(&workspace, &primitives, &figures, caches)?)];
    let mut charts = Vec::new();
    for primitive in &primitives {
        charts.push((chart_of(&primitive.name), chart::draw(primitive, &peers)));
    }
    for measured in &scaling {
        let path = chart_of(&format!("scaling_{}", measured.name()));
        sections.push((measured.name(), format!("![Measured points beside the model]({path})\n\n{}", measured.text())));
        sections.extend(measured.expectations().map(|text| (EXPECTED, text)));
        charts.push((path, measured.chart()));
    }
    for (path, chart) in charts {
        let path = workspace.root.join(path);
        fs::write(&path, chart.context("cannot draw a chart")?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let page = sections.iter().try_fold(page, |page, (name, text)| page::replace(&page, name, text))?;
    fs::write(&page_path, page).with_context(|| format!("cannot write {}", page_path.display()))?;
    println!("BENCHMARKS.md and {CHARTS}/ are up to date");
    Ok(())
}

fn chart_of(name: &str) -> String {
    format!("{CHARTS}/{name}.svg")
}

/// The results, primitive by primitive.
fn generated(workspace: &Workspace, primitives: &[Primitive], figures: &[Figures], caches: Caches) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "{}", machine::table(workspace, primitives, caches)?)?;
    for primitive in primitives {
        writeln!(text, "### {}\n", primitive.name)?;
        writeln!(text, "![How many times as fast as its peers, work by work]({})\n", chart_of(&primitive.name))?;
        writeln!(text, "{}", table::table(primitive))?;
        writeln!(text, "{}\n", table::losses(primitive))?;
        text += &figures::tables(&primitive.name, figures);
    }
    writeln!(text, "### Sizes in bytes\n\n{}", sizes::table())?;
    write!(text, "### Bytes per entry of a cache, beside key and value\n\n{}", memory::table())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let parse = |arguments: &[&str]| Arguments::try_parse_from([&["report"], arguments].concat());
        assert_eq!(parse(&[]).unwrap().rounds, 5);
        assert_eq!(parse(&["--rounds", "3", "hand-off"]).unwrap().filter.as_deref(), Some("hand-off"));
        assert!(parse(&["--no-run"]).unwrap().no_run);
        for wrong in [&["--rounds", "0"][..], &["--rounds", "many"], &["--no-run", "--rounds", "3"], &["--no-run", "x"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
