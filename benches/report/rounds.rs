//! Runs the benches round after round. Criterion saves each under a baseline of its own, `round1`, `round2`, and so on,
//! where [`results`] finds it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::results;

/// Which rows to measure, and how.
pub struct Plan<'a> {
    pub rounds: u32,
    /// Names of rows with their contenders, `group/contender`.
    pub chosen: &'a Regex,
    /// Half a second for each contender, instead of as long as the benches want.
    pub is_short: bool,
    /// Earlier results of rows that are not chosen stay.
    pub is_partial: bool,
}

/// Builds once, then measures round after round.
pub fn run(root: &Path, criterion: &Path, plan: &Plan<'_>) -> Result<()> {
    let Plan { rounds, chosen, is_short, is_partial } = *plan;
    // A step of its own, which shows cargo's output: building takes minutes.
    if !bench(root, criterion).arg("--no-run").status().context("cannot start cargo")?.success() {
        bail!("the benches do not build");
    }
    fs::create_dir_all(criterion).with_context(|| format!("cannot create {}", criterion.display()))?;
    forget(criterion, if is_partial { Some(chosen) } else { None })?;
    for round in 1..=rounds {
        let start = Instant::now();
        let mut bench = bench(root, criterion);
        // Another contender begins in each round.
        bench.env("STANCHION_ROUND", (round - 1).to_string());
        bench.args(["--quiet", "--", &format!("--save-baseline=round{round}")]);
        if is_short {
            bench.args(["--warm-up-time=0.1", "--measurement-time=0.35"]);
        }
        let measured = measure(bench.arg(chosen.as_str()), &criterion.join("log.txt"))?;
        if measured == 0 {
            bail!("no row has such a name");
        }
        eprintln!("round {round} of {rounds}: {measured} measurements in {} s", start.elapsed().as_secs());
    }
    Ok(())
}

fn bench(root: &Path, criterion: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).env("CRITERION_HOME", criterion).args(["bench", "-p", "benches", "--bench", "*"]);
    command
}

/// Runs to the end and counts the measurements that the benches print; their progress and their errors go to `log`.
fn measure(bench: &mut Command, log: &Path) -> Result<usize> {
    let errors = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = bench.stdout(Stdio::piped()).stderr(errors).spawn().context("cannot start cargo")?;
    let stdout = BufReader::new(child.stdout.take().context("cargo has a standard output")?);
    let mut measured = 0;
    for line in stdout.lines() {
        let line = line.context("cannot read what cargo prints")?;
        measured += usize::from(line.contains(" time: ") || line.contains(" figures: "));
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("`cargo bench` failed ({status}): see {}", log.display());
    }
    Ok(measured)
}

/// Removes earlier rounds of these rows, or of all, so that no row mixes two runs.
fn forget(criterion: &Path, rows: Option<&Regex>) -> Result<()> {
    for (_, folder) in folders(criterion)? {
        let stays = match (rows, results::name_of(&folder)) {
            (Some(rows), Ok(name)) => !rows.is_match(&name),
            _ => false, // Without a name it is incomplete, as after Ctrl-C.
        };
        if !stays {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    Ok(())
}

/// Every `group/contender/roundK`, with K; none if nothing has been saved.
pub fn folders(criterion: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let mut folders = vec![criterion.to_owned()];
    for _ in ["group", "contender", "round"] {
        let mut inner = Vec::new();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
            inner.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
        folders = inner;
    }
    let round = |folder: &PathBuf| folder.file_name()?.to_str()?.strip_prefix("round")?.parse().ok();
    Ok(folders.into_iter().filter_map(|folder| Some((round(&folder)?, folder))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_chosen_rows_are_removed() {
        let criterion = tempfile::tempdir().unwrap();
        let save = |name: &str, round: &str| {
            let folder = criterion.path().join(format!("mutex_free_{name}/tokio/{round}"));
            fs::create_dir_all(&folder).unwrap();
            let json = format!(r#"{{ "group_id": "mutex/free/{name}", "function_id": "tokio" }}"#);
            fs::write(folder.join("benchmark.json"), json).unwrap();
            folder
        };
        let (chosen, other, base) = (save("lock", "round12"), save("try_lock", "round1"), save("lock", "base"));
        let broken = criterion.path().join("a/b/round2");
        fs::create_dir_all(&broken).unwrap();
        forget(criterion.path(), Some(&Regex::new("^mutex/free/lock/tokio$").unwrap())).unwrap();
        assert!(!chosen.exists() && !broken.exists() && other.exists() && base.exists());
        assert_eq!(folders(criterion.path()).unwrap(), [(1, other)]);
        forget(criterion.path(), None).unwrap();
        assert!(folders(criterion.path()).unwrap().is_empty() && base.exists());
        assert_eq!(folders(&criterion.path().join("absent")).unwrap(), []);
    }

    #[test]
    fn measurements_are_counted_and_failures_reported() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let shell = |script: &str| measure(Command::new("sh").args(["-c", script]), log.path());
        assert_eq!(shell("printf 'a time: [1 ns]\\nchange: [0 %%]\\nb figures: 1 of it\\n'").unwrap(), 2);
        assert!(shell("echo a peer panicked >&2; exit 3").unwrap_err().to_string().contains("exit status: 3"));
        assert_eq!(fs::read_to_string(&log).unwrap(), "a peer panicked\n");
    }
}
