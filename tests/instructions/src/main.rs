//! Counts the instructions of the most used operations under callgrind, and fails if one takes more than its baseline.
//!
//! A count does not depend on what else the machine does, so speed that is lost shows on any machine. It depends on the
//! compiler: the baseline names the one that it was made with, and another one is refused. The profile is that of the
//! benches, so the counts explain their times.
//!
//! ```text
//! cargo run --profile bench -p instructions              # compares with tests/instructions/baseline.toml
//! cargo run --profile bench -p instructions -- --write   # writes it
//! ```

mod operations;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};

use operations::OPERATIONS;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.toml");

/// Above this share of the baseline, a count is a regression. An instruction more of a short operation is none.
const TOLERANCE: f64 = 0.03;

/// The difference of two runs leaves out what happens once.
const SHORT: u64 = 2_000;
const LONG: u64 = 12_000;

/// Count the instructions of stanchion's most used operations, and compare them with a baseline.
#[derive(Parser)]
#[command(name = "instructions", version = None)]
struct Arguments {
    /// Write the baseline instead of comparing with it.
    #[arg(long)]
    write: bool,

    /// Run one operation so many times; for callgrind.
    #[arg(long, num_args = 2, value_names = ["NAME", "TIMES"], hide = true)]
    repeat: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Baseline {
    rustc: String,
    instructions: BTreeMap<String, u64>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let [name, times] = &arguments.repeat[..] {
        let (_, operation) = OPERATIONS.iter().find(|(known, _)| known == name).context("no such operation")?;
        operation(times.parse()?);
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(cfg!(not(debug_assertions)), "build it with --profile bench: the baseline counts optimized code");
    let rustc = version("rustc", &["--version"])?;
    version("valgrind", &["--version"])?;
    if arguments.write {
        let text = toml::to_string(&Baseline { rustc, instructions: count_all()? })?;
        fs::write(BASELINE, format!("# Written by `cargo run --profile bench -p instructions -- --write`.\n{text}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let baseline: Baseline = toml::from_str(&fs::read_to_string(BASELINE)?)?;
    ensure!(baseline.rustc == rustc, "the baseline was made with {}, and this is {rustc}", baseline.rustc);
    Ok(if compare(&baseline.instructions, &count_all()?) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn version(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} is needed"))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Counts each operation, on as many threads as there are cores.
fn count_all() -> Result<BTreeMap<String, u64>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let count = |first| {
            let chosen = OPERATIONS.iter().skip(first).step_by(threads);
            chosen.map(|&(name, _)| Ok((name.to_owned(), count(name)?))).collect::<Result<Vec<_>>>()
        };
        let counting: Vec<_> = (0..threads).map(|first| scope.spawn(move || count(first))).collect();
        let counts: Result<Vec<_>> = counting.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        Ok(counts?.into_iter().flatten().collect())
    })
}

/// Returns the instructions of one operation.
fn count(name: &str) -> Result<u64> {
    let [short, long] = [SHORT, LONG].map(|times| total(name, times));
    let difference = long?.checked_sub(short?).context("more operations take more instructions")?;
    Ok((difference as f64 / (LONG - SHORT) as f64).round() as u64)
}

/// Returns the instructions of a process that runs an operation so many times.
fn total(name: &str, times: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--repeat", name, &times.to_string()])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{name} failed: {told}");
    }
    let collected = told.lines().find_map(|line| line.split_once("Collected : ")).context("callgrind tells a total")?;
    Ok(collected.1.trim().parse()?)
}

/// Prints a table. Returns `true` if no operation takes more than its baseline.
fn compare(baseline: &BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) -> bool {
    let mut is_good = true;
    for (name, &now) in counts {
        let Some(&before) = baseline.get(name) else {
            println!("{now:>6}  {name}: not in the baseline");
            is_good = false;
            continue;
        };
        let limit = before + (before as f64 * TOLERANCE).max(1.0) as u64;
        let verdict = if now > limit { ": REGRESSION" } else { "" };
        println!("{now:>6} {:+6.1} %  {name}{verdict}", (now as f64 / before as f64 - 1.0) * 100.0);
        is_good &= now <= limit;
    }
    for name in baseline.keys().filter(|name| !counts.contains_key(*name)) {
        println!("     -  {name}: in the baseline alone");
        is_good = false;
    }
    if !is_good {
        println!("If this is meant: cargo run --profile bench -p instructions -- --write, and say why in the commit.");
    }
    is_good
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn three_percent_or_one_instruction_are_tolerated() {
        let baseline = counts(&[("long", 300), ("short", 10)]);
        assert!(compare(&baseline, &counts(&[("long", 309), ("short", 11)])));
        assert!(!compare(&baseline, &counts(&[("long", 310), ("short", 10)])));
        assert!(!compare(&baseline, &counts(&[("long", 300), ("short", 12)])));
    }

    #[test]
    fn operations_and_baseline_are_the_same() {
        let baseline: Baseline = toml::from_str(&fs::read_to_string(BASELINE).unwrap()).unwrap();
        let names: Vec<_> = baseline.instructions.keys().map(String::as_str).collect();
        let mut operations: Vec<_> = OPERATIONS.iter().map(|(name, _)| *name).collect();
        operations.sort_unstable();
        assert_eq!(names, operations);
    }

    #[test]
    fn every_operation_runs() {
        OPERATIONS.iter().for_each(|(_, operation)| operation(3));
    }
}
