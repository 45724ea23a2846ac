//! Runs `cargo bench` round after round. Criterion saves each under a baseline of its own, `round1`, `round2`, ..,
//! where [`results`](crate::results) finds it.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::{BENCHES, Workspace, cargo};

/// Criterion's name for what it saves of this round.
pub fn baseline(round: u32) -> String {
    format!("round{round}")
}

/// Builds once, then measures `rounds` times.
pub fn run(workspace: &Workspace, rounds: u32, filter: Option<&str>) -> Result<()> {
    if workspace.benches.is_empty() {
        bail!("the package {BENCHES} has no benches");
    }
    build(workspace)?;
    if filter.is_none() {
        // The new rounds may be fewer than those of last time; old ones must not be mixed in.
        forget_rounds(&workspace.criterion)?;
    }
    for round in 1..=rounds {
        let progress = Progress::new(format!("round {round} of {rounds}"));
        let mut bench = bench(workspace);
        // The benches let another contender begin each time.
        bench.env("STANCHION_ROUND", (round - 1).to_string());
        bench.args(["--quiet", "--", "--save-baseline", &baseline(round)]).args(filter);
        let measured = measure(bench, &progress)?;
        if let (0, Some(filter)) = (measured, filter) {
            bail!("no work has a name that matches `{filter}`");
        }
        progress.done(measured);
    }
    Ok(())
}

/// A step of its own, which shows cargo's output: building takes minutes, and its errors belong to nobody else.
fn build(workspace: &Workspace) -> Result<()> {
    let status = bench(workspace).arg("--no-run").status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the benches do not build ({status})");
    }
    Ok(())
}

/// `cargo bench` with all bench targets by name, since the test harnesses of other targets do not know criterion's flags.
fn bench(workspace: &Workspace) -> Command {
    let mut command = cargo();
    command.current_dir(&workspace.root).env("CRITERION_HOME", &workspace.criterion).args(["bench", "-p", BENCHES]);
    for bench in &workspace.benches {
        command.args(["--bench", bench]);
    }
    command
}

/// Runs to the end and counts the measurements that the benches print.
fn measure(mut bench: Command, progress: &Progress) -> Result<usize> {
    const LAST_LINES: usize = 20;

    let mut child = bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = BufReader::new(child.stdout.take().context("cargo has no standard output")?);
    let stderr = BufReader::new(child.stderr.take().context("cargo has no standard error")?);
    // On a thread of its own, or a full pipe would stop the benches.
    let complaints = thread::spawn(move || {
        let mut last = VecDeque::new();
        for line in stderr.lines().map_while(Result::ok) {
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
        last.make_contiguous().join("\n")
    });

    let mut measured = 0;
    for line in stdout.lines() {
        let line = line.context("cannot read what cargo prints")?;
        if line.contains(" time: ") || line.contains(" figures: ") {
            measured += 1;
            progress.show(measured);
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    let complaints = complaints.join().unwrap_or_default();
    if !status.success() {
        bail!("`cargo bench` failed ({status}); its last words:\n{complaints}");
    }
    Ok(measured)
}

/// Removes what earlier rounds saved, and nothing else.
fn forget_rounds(criterion: &Path) -> Result<()> {
    for round in round_folders(criterion)? {
        fs::remove_dir_all(&round).with_context(|| format!("cannot remove {}", round.display()))?;
    }
    Ok(())
}

/// Every `group/contender/roundK`; none if criterion has not saved anything yet.
pub fn round_folders(criterion: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![criterion.to_owned()];
    for _ in ["group", "contender", "round"] {
        let mut inner = Vec::new();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
            for entry in entries {
                inner.push(entry.with_context(|| format!("cannot read {}", folder.display()))?.path());
            }
        }
        folders = inner;
    }
    folders.retain(|folder| round_of(folder).is_some());
    Ok(folders)
}

/// The number of the round, if the folder is named like one.
pub fn round_of(folder: &Path) -> Option<u32> {
    folder.file_name()?.to_str()?.strip_prefix("round")?.parse().ok()
}

/// One line per round: on a terminal it counts while the round runs, elsewhere it appears at its end.
struct Progress {
    label: String,
    start: Instant,
    live: bool,
}

impl Progress {
    fn new(label: String) -> Self {
        Self { label, start: Instant::now(), live: std::io::stderr().is_terminal() }
    }

    fn show(&self, measured: usize) {
        if self.live {
            eprint!("\r{}", self.line(measured));
            std::io::stderr().flush().ok();
        }
    }

    fn done(&self, measured: usize) {
        eprintln!("{}{}", if self.live { "\r" } else { "" }, self.line(measured));
    }

    fn line(&self, measured: usize) -> String {
        format!("{}: {measured} measurements in {}", self.label, spelled(self.start.elapsed()))
    }
}

fn spelled(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds:02} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rounds_are_forgotten() {
        let criterion = tempfile::tempdir().unwrap();
        let folder = |name: &str| criterion.path().join("group/tokio").join(name);
        for name in ["round1", "round12", "base", "new", "roundabout"] {
            fs::create_dir_all(folder(name)).unwrap();
        }
        forget_rounds(criterion.path()).unwrap();
        assert!(!folder("round1").exists() && !folder("round12").exists());
        assert!(folder("base").exists() && folder("new").exists() && folder("roundabout").exists());
        forget_rounds(&criterion.path().join("not there")).unwrap();
    }

    #[test]
    fn a_failing_round_shows_what_was_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo a: time: [1 ns]; echo 'a peer panicked' >&2; exit 3"]);
        let error = measure(command, &Progress::new("round".into())).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("a peer panicked"), "{error}");
    }

    #[test]
    fn measurements_are_counted() {
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'one\\n   time:   [1 ns 2 ns 3 ns]\\ntwo   time:   [4 ns]\\nchange: [0 %%]\\n   figures: 1 of it\\n'"]);
        assert_eq!(measure(command, &Progress::new("round".into())).unwrap(), 3);
    }

    #[test]
    fn times_are_spelled() {
        assert_eq!(spelled(Duration::from_secs(59)), "59 s");
        assert_eq!(spelled(Duration::from_secs(245)), "4 min 05 s");
    }
}
