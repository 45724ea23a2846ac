//! What the rounds saved, and the medians of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::{OURS, rounds};

/// The times of one contender by round.
type Times = BTreeMap<u32, f64>;

/// By row and contender; nanoseconds for each operation, or a figure, of which less is better too.
#[derive(Default)]
pub struct Results(BTreeMap<String, BTreeMap<String, Times>>);

/// How a peer compares with us, in rounds in which both were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The peer's value divided by ours: above 1, we are faster.
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub rounds: usize,
}

impl Ratio {
    /// Whether we are slower, as far as the two decimals go that are shown.
    pub fn is_loss(&self) -> bool {
        self.median < 0.995
    }
}

impl Results {
    /// Reads all rounds.
    pub fn read(criterion: &Path) -> Result<Self> {
        let mut results = Self::default();
        for (round, folder) in rounds::folders(criterion)? {
            results.read_round(round, &folder).with_context(|| format!("{} is incomplete", folder.display()))?;
        }
        Ok(results)
    }

    fn read_round(&mut self, round: u32, folder: &Path) -> Result<()> {
        let (saved, group, contender) = saved(folder)?;
        if let Some(figures) = saved["figures"].as_array() {
            for figure in figures {
                let name = figure[0].as_str().context("a figure has a name")?;
                let value = figure[1].as_f64().context("a figure has a value")?;
                self.add(&format!("{group}: {name}"), &contender, round, value);
            }
            return Ok(());
        }
        let estimates = json(&folder.join("estimates.json"))?;
        let median = estimates["median"]["point_estimate"].as_f64().context("there is no median")?;
        // An iteration may be many operations; then the bench says how many.
        let operations = saved["throughput"]["Elements"].as_f64().unwrap_or(1.0);
        self.add(&group, &contender, round, median / operations);
        Ok(())
    }

    pub fn add(&mut self, row: &str, contender: &str, round: u32, value: f64) {
        let contenders = self.0.entry(row.to_owned()).or_default();
        contenders.entry(contender.to_owned()).or_default().insert(round, value);
    }

    /// Our value for a row, and in how many rounds it was measured.
    pub fn ours(&self, row: &str) -> Option<(f64, usize)> {
        let times = self.0.get(row)?.get(OURS)?;
        Some((median(times.values().copied())?, times.len()))
    }

    pub fn ratio(&self, row: &str, peer: &str) -> Option<Ratio> {
        let contenders = self.0.get(row)?;
        let ours = contenders.get(OURS)?;
        let ratio = |(round, time): (&u32, &f64)| Some(time / ours.get(round)?).filter(|ratio| ratio.is_finite());
        let ratios: Vec<f64> = contenders.get(peer)?.iter().filter_map(ratio).collect();
        Some(Ratio {
            median: median(ratios.iter().copied())?,
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: ratios.len(),
        })
    }

    /// The crates of all contenders: a contender is named by its crate, or by that and a part of it, as `tokio mpsc`.
    pub fn crates(&self) -> BTreeSet<&str> {
        let contenders = self.0.values().flat_map(BTreeMap::keys);
        contenders.flat_map(|name| name.split(" + ")).filter_map(|name| name.split(' ').next()).collect()
    }

    /// A line for each row and contender.
    pub fn csv(&self) -> String {
        let mut csv = "row,contender,rounds,value,ratio,lowest ratio,highest ratio\n".to_owned();
        for (row, contenders) in &self.0 {
            for (contender, times) in contenders {
                let value = median(times.values().copied()).unwrap_or(f64::NAN);
                write!(csv, "\"{row}\",\"{contender}\",{},{value:.2}", times.len()).expect("a String accepts all text");
                match self.ratio(row, contender) {
                    Some(Ratio { median, min, max, .. }) => writeln!(csv, ",{median:.3},{min:.3},{max:.3}"),
                    None => writeln!(csv, ",,,"),
                }
                .expect("a String accepts all text");
            }
        }
        csv
    }
}

/// The name that a filter selects by: `group/contender`.
pub fn name_of(folder: &Path) -> Result<String> {
    saved(folder).map(|(_, group, contender)| format!("{group}/{contender}"))
}

/// What a bench said of a measurement, its group and its contender. Criterion writes `benchmark.json`, and
/// `common/figures.rs` writes `figures.json`.
fn saved(folder: &Path) -> Result<(Value, String, String)> {
    let figures = folder.join("figures.json");
    let path = if figures.exists() { figures } else { folder.join("benchmark.json") };
    let saved = json(&path)?;
    let text = |field: &str| saved[field].as_str().map(str::to_owned).ok_or_else(|| anyhow!("there is no `{field}`"));
    let (group, contender) = (text("group_id")?, text("function_id")?);
    Ok((saved, group, contender))
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// The middle value, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[values.len() / 2 - 1] + upper) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_paired_by_round() {
        // The machine was half as fast in round 2, and round 4 never ended. Unpaired, the medians would say 30 / 20.
        let mut results = Results::default();
        for (round, time) in [(1, 10.0), (2, 20.0), (3, 20.0)] {
            results.add("mutex/free/lock", OURS, round, time);
        }
        for (round, time) in [(1, 30.0), (2, 60.0), (3, 20.0), (4, 20.0)] {
            results.add("mutex/free/lock", "tokio", round, time);
        }
        assert_eq!(results.ours("mutex/free/lock"), Some((20.0, 3)));
        let ratio = Ratio { median: 3.0, min: 1.0, max: 3.0, rounds: 3 };
        assert_eq!(results.ratio("mutex/free/lock", "tokio"), Some(ratio));
        assert_eq!(results.ratio("mutex/free/lock", "mea"), None);
        let csv = "row,contender,rounds,value,ratio,lowest ratio,highest ratio\n\
            \"mutex/free/lock\",\"stanchion\",3,20.00,1.000,1.000,1.000\n\
            \"mutex/free/lock\",\"tokio\",4,25.00,3.000,1.000,3.000\n";
        assert_eq!(results.csv(), csv);
        assert_eq!(results.crates().into_iter().collect::<Vec<_>>(), [OURS, "tokio"]);
    }

    #[test]
    fn times_and_figures_are_read() {
        let criterion = tempfile::tempdir().unwrap();
        let save = |folder: &str, files: &[(&str, &str)]| {
            let folder = criterion.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        };
        let storm = r#"{ "group_id": "s/storm", "function_id": "stanchion", "throughput": { "Elements": 1000 } }"#;
        let estimates = r#"{ "median": { "point_estimate": 150000.0 } }"#;
        save("s_storm/stanchion/round1", &[("benchmark.json", storm), ("estimates.json", estimates)]);
        save("s_storm/stanchion/new", &[]);
        let spike = r#"{ "group_id": "pool/spike", "function_id": "stanchion", "figures": [["ms", 1.5]] }"#;
        save("pool_spike/stanchion/round2", &[("figures.json", spike)]);
        let results = Results::read(criterion.path()).unwrap();
        assert_eq!((results.ours("s/storm"), results.ours("pool/spike: ms")), (Some((150.0, 1)), Some((1.5, 1))));

        save("pool_spike/stanchion/round3", &[("figures.json", "{}")]);
        let error = format!("{:#}", Results::read(criterion.path()).err().unwrap());
        assert!(error.contains("round3 is incomplete") && error.contains("no `group_id`"), "{error}");
    }
}
