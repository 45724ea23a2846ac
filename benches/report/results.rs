//! Reads what criterion saved: for every work, contender and round a folder with `benchmark.json`, which says what was
//! measured, and `estimates.json`, which says how long it took.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::figures;
use crate::rounds::{round_folders, round_of};

/// One contender's time for one work in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The criterion group: `primitive/kind/work`.
    pub group: String,
    pub contender: String,
    pub round: u32,
    /// The median, per operation.
    pub nanoseconds: f64,
}

/// All measurements of all rounds, in no order.
pub fn read(criterion: &Path) -> Result<Vec<Measurement>> {
    let rounds = round_folders(criterion)?;
    if rounds.is_empty() {
        bail!("no results under {}: run `cargo run --release -p benches` first", criterion.display());
    }
    let measured = rounds.iter().filter(|folder| !figures::file(folder).exists());
    measured.map(|folder| measurement(folder)).collect()
}

fn measurement(folder: &Path) -> Result<Measurement> {
    let (benchmark_path, estimates_path) = (folder.join("benchmark.json"), folder.join("estimates.json"));
    let (benchmark, estimates) = (json(&benchmark_path)?, json(&estimates_path)?);

    let text = |field: &str| {
        let text = benchmark[field].as_str().map(str::to_owned);
        text.ok_or_else(|| anyhow!("{} has no `{field}`", benchmark_path.display()))
    };
    let median = estimates["median"]["point_estimate"].as_f64().filter(|&median| median > 0.0);
    let median = median.ok_or_else(|| anyhow!("{} has no median", estimates_path.display()))?;
    // An iteration may be many operations; then the bench says how many.
    let operations = benchmark["throughput"]["Elements"].as_f64().unwrap_or(1.0);
    Ok(Measurement {
        group: text("group_id")?,
        contender: text("function_id")?,
        round: round_of(folder).context("not the folder of a round")?,
        nanoseconds: median / operations,
    })
}

pub fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON that a bench wrote", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn save(criterion: &TempDir, folder: &str, benchmark: &str, estimates: &str) {
        let folder = criterion.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("benchmark.json"), benchmark).unwrap();
        fs::write(folder.join("estimates.json"), estimates).unwrap();
    }

    const BENCHMARK: &str = r#"{ "group_id": "mutex/free/lock", "function_id": "tokio", "throughput": null }"#;
    const ESTIMATES: &str = r#"{ "median": { "point_estimate": 32.5 }, "mean": { "point_estimate": 99.0 } }"#;

    #[test]
    fn reads_the_rounds_and_nothing_else() {
        let criterion = tempfile::tempdir().unwrap();
        save(&criterion, "mutex_free_lock/tokio/round2", BENCHMARK, ESTIMATES);
        save(&criterion, "mutex_free_lock/tokio/new", "", "");
        let figures = criterion.path().join("pool_spike_s/tokio/round2");
        fs::create_dir_all(&figures).unwrap();
        fs::write(figures::file(&figures), "").unwrap();
        let storm = r#"{ "group_id": "s/storm/w", "function_id": "mea", "throughput": { "Elements": 1000 } }"#;
        save(&criterion, "s_storm_w/mea/round1", storm, r#"{ "median": { "point_estimate": 150000.0 } }"#);

        let mut measurements = read(criterion.path()).unwrap();
        measurements.sort_by_key(|measurement| measurement.round);
        let expected = [("s/storm/w", "mea", 1, 150.0), ("mutex/free/lock", "tokio", 2, 32.5)];
        let expected = expected.map(|(group, contender, round, nanoseconds)| Measurement {
            group: group.into(),
            contender: contender.into(),
            round,
            nanoseconds,
        });
        assert_eq!(measurements, expected);
    }

    #[test]
    fn nothing_there_says_what_to_run() {
        let criterion = tempfile::tempdir().unwrap();
        for folder in [criterion.path().to_owned(), criterion.path().join("criterion")] {
            let error = read(&folder).unwrap_err().to_string();
            assert!(error.starts_with("no results under "), "{error}");
            assert!(error.ends_with(": run `cargo run --release -p benches` first"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_path() {
        let cases = [
            (BENCHMARK, "{ oh", "estimates.json is not JSON that a bench wrote"),
            (BENCHMARK, "{}", "estimates.json has no median"),
            (BENCHMARK, r#"{ "median": { "point_estimate": 0.0 } }"#, "estimates.json has no median"),
            (r#"{ "group_id": "a" }"#, ESTIMATES, "benchmark.json has no `function_id`"),
        ];
        for (benchmark, estimates, expected) in cases {
            let criterion = tempfile::tempdir().unwrap();
            save(&criterion, "group/tokio/round1", benchmark, estimates);
            let error = format!("{:#}", read(criterion.path()).unwrap_err());
            assert!(error.contains("round1") && error.contains(expected), "{error}");
        }

        let criterion = tempfile::tempdir().unwrap();
        fs::create_dir_all(criterion.path().join("group/tokio/round1")).unwrap();
        let error = format!("{:#}", read(criterion.path()).unwrap_err());
        assert!(error.contains("cannot read ") && error.contains("benchmark.json"), "{error}");
    }
}
