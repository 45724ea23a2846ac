//! One process, up to a limit of time.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};

use crate::source::VARIABLES;

/// How a process went, and what it printed.
pub struct Trial {
    pub end: End,
    pub took: Duration,
    pub printed: String,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum End {
    Passed,
    Failed,
    /// Ended by a signal.
    Aborted,
    /// Was still running at the limit.
    Hung,
}

/// Runs `command` as mutant `number`. What it prints goes to the file `log`.
pub fn run(mut command: Command, number: usize, limit: Duration, log: &Path) -> Result<Trial> {
    for (bit, variable) in VARIABLES.iter().enumerate() {
        match number >> bit & 1 {
            1 => command.env(variable, ""),
            _ => command.env_remove(variable),
        };
    }
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    let printed = || Ok::<_, Error>(String::from_utf8_lossy(&fs::read(log)?).into_owned());
    let mut seen = 0;
    let end = loop {
        if let Some(status) = child.try_wait()? {
            break end(status);
        }
        let is_late = begun.elapsed() > limit;
        let size = fs::metadata(log)?.len();
        // The first test that fails is enough.
        let has_failed = size > seen && tests(&printed()?).any(|(_, passed)| !passed);
        if is_late || has_failed {
            child.kill()?;
            child.wait()?;
            break if has_failed { End::Failed } else { End::Hung };
        }
        seen = size;
        thread::sleep(Duration::from_millis(20));
    };
    Ok(Trial { end, took: begun.elapsed(), printed: printed()? })
}

fn end(status: ExitStatus) -> End {
    match (status.success(), status.code()) {
        (true, _) => End::Passed,
        (_, Some(_)) => End::Failed,
        (_, None) => End::Aborted,
    }
}

/// The tests that libtest says it has run, and whether they passed.
pub fn tests(printed: &str) -> impl Iterator<Item = (&str, bool)> {
    printed.lines().filter_map(|line| {
        let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
        // What goes on at its own pace may print into the line.
        let passed = outcome.starts_with("ok");
        (passed || outcome.starts_with("FAILED")).then_some((name, passed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtest_prints() {
        let printed =
            "\nrunning 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored\ntest result: FAILED. 1";
        assert_eq!(tests(printed).collect::<Vec<_>>(), [("a::b", true), ("c", false)]);
    }

    #[cfg(unix)]
    #[test]
    fn processes_end_in_four_ways() {
        let log = std::env::temp_dir().join(format!("stanchion-mutants-{}", std::process::id()));
        let end = |script: &str, limit| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run(command, 5, Duration::from_secs(limit), &log).unwrap()
        };
        let passed = end("echo $STANCHION_MUTANT_1-${STANCHION_MUTANT_2-unset}-${STANCHION_MUTANT_1-unset}", 60);
        assert_eq!((passed.end, passed.printed.as_str()), (End::Passed, "--unset\n"));
        assert_eq!(end("exit 3", 60).end, End::Failed);
        assert_eq!(end("kill -KILL $$", 60).end, End::Aborted);
        assert_eq!(end("exec sleep 600", 0).end, End::Hung);
        let failed = end("echo 'test a ... ok'; echo 'test b ... FAILED'; exec sleep 600", 60);
        assert_eq!((failed.end, failed.printed.as_str()), (End::Failed, "test a ... ok\ntest b ... FAILED\n"));
        fs::remove_file(log).unwrap();
    }
}
