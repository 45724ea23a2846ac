//! One process with one mutant, up to a limit of time.

use std::io::{BufRead, BufReader, pipe};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::switch::BITS;

/// Bytes of address space for each process, in KiB: a loop without an end may allocate.
const MEMORY: &str = "8388608";

pub struct Trial {
    pub end: End,
    pub took: Duration,
    pub printed: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Passed,
    Failed,
    Hung,
}

/// Runs `command`, with this mutant chosen, until it ends or a test has failed.
///
/// coreutils' `timeout` is around it, which ends everything that the process has started: at the limit, or when
/// util-linux' `setpriv` tells it that this thread is gone.
pub fn run(command: &Command, number: usize, limit: Duration) -> Result<Trial> {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v $0; exec setpriv --pdeathsig TERM timeout --kill-after=1 \"$@\"", MEMORY]);
    limited.arg(format!("{}", limit.as_secs())).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    for (bit, variable) in BITS.iter().enumerate() {
        match number >> bit & 1 {
            1 => limited.env(variable, ""),
            _ => limited.env_remove(variable),
        };
    }
    let (reader, writer) = pipe()?;
    limited.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let begun = Instant::now();
    let mut child = limited.spawn().context("cannot start sh")?;
    drop(limited); // With its end of the pipe.

    let mut printed = String::new();
    let mut has_failed = false;
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        has_failed = failed(&line).next().is_some();
        printed += &line;
        printed.push('\n');
        if has_failed {
            // The first is enough. `timeout` passes it on.
            Command::new("kill").arg(child.id().to_string()).status().context("cannot start kill")?;
            break;
        }
    }
    let status = child.wait()?;
    let took = begun.elapsed();
    let end = match status.success() {
        true => End::Passed,
        false if !has_failed && took >= limit => End::Hung,
        false => End::Failed,
    };
    Ok(Trial { end, took, printed })
}

/// The tests that libtest says have failed.
pub fn failed(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().filter_map(|line| {
        let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
        outcome.starts_with("FAILED").then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_tests_are_named() {
        let printed =
            "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored\ntest result: FAILED. 1";
        assert_eq!(failed(printed).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_process_passes_fails_or_hangs() {
        let end = |script: &str, limit| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).env("OTHER", "3");
            run(&command, 5, Duration::from_secs(limit)).unwrap()
        };
        let passed = end("echo $OTHER-$STANCHION_MUTANT_2-${STANCHION_MUTANT_1-unset}", 60);
        assert_eq!((passed.end, &passed.printed[..]), (End::Passed, "3--unset\n"));
        assert_eq!(end("exit 3", 60).end, End::Failed);
        assert_eq!(end("kill -KILL $$", 60).end, End::Failed);
        assert_eq!(end("sleep 600 & sleep 600", 1).end, End::Hung);
        let failed = end("echo 'test a ... ok'; echo 'test b ... FAILED'; sleep 600", 60);
        assert_eq!((failed.end, &failed.printed[..]), (End::Failed, "test a ... ok\ntest b ... FAILED\n"));
    }
}
