//! What some benches tell besides times: `figures.json` in the folder of a round, with names and values. A table for
//! each kind of work, with a row for each contender.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::results::json;
use crate::rounds::round_folders;
use crate::summary::{Natural, median};
use crate::table::nanoseconds;
use crate::workspace::OURS;

/// One contender's figures for one work in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// `primitive/kind/work`.
    pub group: String,
    pub contender: String,
    pub values: Vec<(String, f64)>,
}

/// Where they are, in the folder of a round.
pub fn file(round: &Path) -> PathBuf {
    round.join("figures.json")
}

/// All figures of all rounds, in no order.
pub fn read(criterion: &Path) -> Result<Vec<Figures>> {
    let files = round_folders(criterion)?.into_iter().map(|folder| file(&folder));
    files.filter(|file| file.exists()).map(|file| figures(&file)).collect()
}

fn figures(file: &Path) -> Result<Figures> {
    let saved = json(file)?;
    let read = || {
        let text = |field: &str| Some(saved[field].as_str()?.to_owned());
        let values =
            saved["figures"].as_array()?.iter().map(|value| Some((value[0].as_str()?.into(), value[1].as_f64()?)));
        Some(Figures { group: text("group")?, contender: text("contender")?, values: values.collect::<Option<_>>()? })
    };
    read().with_context(|| anyhow!("{} has no group, contender and figures", file.display()))
}

/// The values of one figure over the rounds.
type Values = Vec<f64>;
/// Ours come first.
type Contenders<'a> = BTreeMap<(bool, &'a str), BTreeMap<&'a str, Values>>;
type Works<'a> = BTreeMap<Natural, Contenders<'a>>;

/// The tables of a primitive, one for each kind; none if nothing was told of it.
pub fn tables(primitive: &str, figures: &[Figures]) -> String {
    let mut kinds = BTreeMap::<&str, (Vec<&str>, Works<'_>)>::new();
    for Figures { group, contender, values } in figures {
        let mut parts = group.splitn(3, '/');
        let (Some(name), Some(kind), Some(work)) = (parts.next(), parts.next(), parts.next()) else { continue };
        if name != primitive {
            continue;
        }
        let (columns, works) = kinds.entry(kind).or_default();
        let contenders = works.entry(Natural::new(work)).or_default();
        let row = contenders.entry((contender != OURS, contender)).or_default();
        for (figure, value) in values {
            if !columns.contains(&figure.as_str()) {
                columns.push(figure);
            }
            row.entry(figure).or_default().push(*value);
        }
    }
    kinds.iter().map(|(kind, (columns, works))| table(kind, columns, works)).collect()
}

fn table(kind: &str, columns: &[&str], works: &Works<'_>) -> String {
    let row = |name: &str, cells: Vec<String>| format!("| {name} | {} |\n", cells.join(" | "));
    let mut table = row(kind, columns.iter().map(|&column| column.to_owned()).collect());
    table += &row("---", columns.iter().map(|_| "--:".to_owned()).collect());
    for (work, contenders) in works {
        table += &row(&format!("**{}**", work.text), vec![String::new(); columns.len()]);
        for ((_, contender), figures) in contenders {
            let cells =
                columns.iter().map(|column| figures.get(column).map_or("–".to_owned(), |values| cell(values)));
            table += &row(contender, cells.collect());
        }
    }
    table + "\n"
}

/// The median over the rounds, and how far they ranged.
fn cell(values: &[f64]) -> String {
    let middle = spelled(median(values.iter().copied()).unwrap_or(f64::NAN));
    let min = spelled(values.iter().copied().fold(f64::INFINITY, f64::min));
    let max = spelled(values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    if min == max { middle } else { format!("{middle} ({min}–{max})") }
}

/// Counts as they are, all else with three digits that mean something.
fn spelled(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value < 9.995 {
        format!("{value:.2}")
    } else {
        nanoseconds(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn told(group: &str, contender: &str, values: &[(&str, f64)]) -> Figures {
        let values = values.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        Figures { group: group.into(), contender: contender.into(), values }
    }

    #[test]
    fn reads_what_the_rounds_saved() {
        let criterion = tempfile::tempdir().unwrap();
        assert_eq!(read(criterion.path()).unwrap(), []);
        let round = criterion.path().join("pool_spike_few/bb8/round1");
        fs::create_dir_all(&round).unwrap();
        fs::write(file(&round), r#"{ "group": "pool/spike/few", "contender": "bb8", "figures": [["ms", 1.5]] }"#)
            .unwrap();
        assert_eq!(read(criterion.path()).unwrap(), [told("pool/spike/few", "bb8", &[("ms", 1.5)])]);
        fs::write(file(&round), r#"{ "group": "pool/spike/few", "contender": "bb8", "figures": [["ms"]] }"#).unwrap();
        let error = format!("{:#}", read(criterion.path()).unwrap_err());
        assert!(error.contains("figures.json has no group, contender and figures"), "{error}");
    }

    #[test]
    fn a_table_for_each_kind() {
        let figures = [
            told("pool/spike/of 50", "bb8", &[("ms", 20.0), ("opened", 45.0)]),
            told("pool/spike/of 50", "bb8", &[("ms", 23.25), ("opened", 45.0)]),
            told("pool/spike/of 50", OURS, &[("ms", 19.5)]),
            told("pool/spike/of 5", OURS, &[("ms", 1.25)]),
            told("pool/wait/even", OURS, &[("longest", 123.4)]),
            told("mutex/wait/even", OURS, &[("longest", 1.0)]),
        ];
        let expected = "\
| spike | ms | opened |
| --- | --: | --: |
| **of 5** |  |  |
| stanchion | 1.25 | – |
| **of 50** |  |  |
| stanchion | 19.5 | – |
| bb8 | 21.6 (20–23.2) | 45 |

| wait | longest |
| --- | --: |
| **even** |  |
| stanchion | 123 |

";
        assert_eq!(tables("pool", &figures), expected);
        assert_eq!(tables("semaphore", &figures), "");
    }
}
