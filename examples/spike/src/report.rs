//! The report: what came of the runs, in tables with a row for each, or as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::load::{Load, Outcome, Tally};
use crate::parts::Parts;
use crate::service::{Class, Counts};

/// A run with some parts.
pub struct Run {
    pub name: String,
    pub parts: Parts,
    /// Of the load that the spike is compared with.
    pub unloaded: Outcome,
    /// Of the spike.
    pub outcome: Outcome,
    pub connections_opened: u64,
    pub counts: Counts,
    /// Of the cache, if there is one.
    pub hit_ratio: Option<f64>,
    pub queries: u64,
    pub queries_for_hottest: u64,
}

/// Latencies up to this are good enough for somebody who is waiting for a page.
const PROMPT_MICROSECONDS: u64 = 100_000;

impl Run {
    fn served_promptly(&self) -> u64 {
        self.outcome.total.latency.count_between(0, PROMPT_MICROSECONDS)
    }

    /// What came of a class without load and at the peak.
    fn of(&self, class: Class) -> (&Tally, &Tally) {
        (&self.unloaded.focus[class as usize], &self.outcome.focus[class as usize])
    }
}

/// How many times its unloaded p99 a class's p99 is at the peak.
fn growth(unloaded: &Tally, peak: &Tally) -> Option<f64> {
    let p99 = |tally: &Tally| tally.latency.value_at_quantile(0.99) as f64;
    (unloaded.served > 0 && peak.served > 0).then(|| p99(peak) / p99(unloaded))
}

/// The tables, in lines that end with a line feed.
pub fn tables(load: &Load, runs: &[Run]) -> String {
    [outcomes(runs), databases(runs), classes(load, runs), details(runs)].join("\n")
}

/// What came of the requests.
fn outcomes(runs: &[Run]) -> String {
    let offered = runs.iter().map(|run| run.outcome.total.offered).max().unwrap_or(0);
    let heading = [
        ("of", &*grouped(offered)),
        ("", "served"),
        ("within", "100 ms"),
        ("shed", "at once"),
        ("", "failed"),
        ("latency", "p50"),
        ("", "p99"),
        ("", "longest"),
    ];
    let row = |run: &Run| {
        let total = &run.outcome.total;
        let [p50, p99, longest] = latencies(&total.latency);
        let counts = [total.served, run.served_promptly(), total.shed, total.failed.total()].map(grouped);
        let [served, promptly, shed, failed] = counts;
        [run.name.clone(), served, promptly, shed, failed, p50, p99, longest]
    };
    table(heading, runs.iter().map(row))
}

/// What was asked of the database for that.
fn databases(runs: &[Run]) -> String {
    let heading = [
        ("", "the database"),
        ("from the", "cache"),
        ("queries", "made"),
        ("for the", "hottest"),
        ("connec-", "tions"),
        ("wait for", "one"),
        ("", "longest"),
        ("threads", "at once"),
    ];
    let row = |run: &Run| {
        let counts = &run.counts;
        [
            run.name.clone(),
            run.hit_ratio.map_or("-".into(), percent),
            grouped(run.queries),
            grouped(run.queries_for_hottest),
            grouped(run.connections_opened),
            duration(counts.mean_wait()),
            duration(counts.longest_wait),
            grouped(counts.most_serving.into()),
        ]
    };
    table(heading, runs.iter().map(row))
}

/// What each class felt.
fn classes(load: &Load, runs: &[Run]) -> String {
    let heading = [
        ("", "who asked"),
        ("", ""),
        ("unloaded", "p50"),
        ("", "p99"),
        ("at peak", "p50"),
        ("", "p99"),
        ("which", "grew to"),
        ("", "served"),
    ];
    let parts: u32 = load.mix.iter().sum();
    let rows = Class::ALL.into_iter().rev().flat_map(|class| {
        let share = 100.0 * f64::from(load.mix[class as usize]) / f64::from(parts);
        runs.iter().map(move |run| {
            let (unloaded, peak) = run.of(class);
            [
                format!("{} ({share:.0} %)", class.name()),
                run.name.clone(),
                quantile(0.5, &unloaded.latency),
                quantile(0.99, &unloaded.latency),
                quantile(0.5, &peak.latency),
                quantile(0.99, &peak.latency),
                growth(unloaded, peak).map_or("-".into(), |growth| format!("{growth:.1}x")),
                percent(peak.served as f64 / peak.offered.max(1) as f64),
            ]
        })
    });
    table(heading, rows)
}

/// How requests failed, and how long it took to be told anything at all.
fn details(runs: &[Run]) -> String {
    let heading = [
        ("", "the rest"),
        ("failed:", "unsent"),
        ("un-", "answered"),
        ("", "errors"),
        ("all an-", "swers: p50"),
        ("", "p99"),
        ("", "longest"),
        ("generator", "held up"),
    ];
    let row = |run: &Run| {
        let failed = &run.outcome.total.failed;
        let [p50, p99, longest] = latencies(&run.outcome.answers);
        let [unsent, unanswered, errors] = [failed.unsent, failed.unanswered, failed.errors].map(grouped);
        let held_up = duration(run.outcome.longest_pause);
        [run.name.clone(), unsent, unanswered, errors, p50, p99, longest, held_up]
    };
    table(heading, runs.iter().map(row))
}

/// Under a heading of two lines, as wide as need be. Numbers stand at the right.
fn table(heading: [(&str, &str); 8], rows: impl Iterator<Item = [String; 8]>) -> String {
    let mut lines = [heading.map(|(upper, _)| upper.to_owned()), heading.map(|(_, lower)| lower.to_owned())].to_vec();
    lines.extend(rows);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let is_name = |column: usize| column == 0 || heading[column] == ("", "");
    let mut table = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if is_name(column) { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
        if number == 1 {
            table.push_str(&"-".repeat(widths.iter().sum::<usize>() + 2 * 7));
            table.push('\n');
        }
    }
    table
}

/// The numbers of the table, and the load they belong to.
pub fn json(load: &Load, runs: &[Run]) -> Value {
    let latency = |histogram: &Histogram<u64>| {
        let at = |quantile| (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e3);
        json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0) })
    };
    let tally = |tally: &Tally| {
        json!({
            "offered": tally.offered,
            "served": tally.served,
            "shed": tally.shed,
            "failed": tally.failed.total(),
            "served_latency_ms": latency(&tally.latency),
        })
    };
    let class = |run: &Run, class: Class| {
        let (unloaded, peak) = run.of(class);
        json!({
            "class": class.name(),
            "unloaded": tally(unloaded),
            "peak": tally(peak),
            "p99_grew_to": growth(unloaded, peak),
        })
    };
    let run = |run: &Run| {
        let outcome = &run.outcome;
        json!({
            "name": run.name,
            "parts": run.parts.names(),
            "offered": outcome.total.offered,
            "served": outcome.total.served,
            "served_within_100_ms": run.served_promptly(),
            "shed": outcome.total.shed,
            "failed": outcome.total.failed.total(),
            "failed_because": {
                "no_connection_free": outcome.total.failed.unsent,
                "no_answer": outcome.total.failed.unanswered,
                "error": outcome.total.failed.errors,
            },
            "served_latency_ms": latency(&outcome.total.latency),
            "answer_latency_ms": latency(&outcome.answers),
            "database_connections_opened": run.connections_opened,
            "database_connection_wait_ms": {
                "mean": run.counts.mean_wait().as_secs_f64() * 1e3,
                "max": run.counts.longest_wait.as_secs_f64() * 1e3,
            },
            "threads_at_once": run.counts.most_serving,
            "cache_hit_ratio": run.hit_ratio,
            "database_queries": run.queries,
            "database_queries_for_hottest_product": run.queries_for_hottest,
            "generator_longest_pause_ms": outcome.longest_pause.as_secs_f64() * 1e3,
            "classes": Class::ALL.map(|of| class(run, of)),
        })
    };
    let (from, to) = load.schedule.rates();
    json!({
        "load": {
            "from_rate": from,
            "to_rate": to,
            "seconds": load.schedule.duration().as_secs_f64(),
            "connections": load.connections,
            "pipeline": load.pipeline,
            "mix": Class::ALL.map(|class| json!({ "class": class.name(), "parts": load.mix[class as usize] })),
        },
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn latencies(histogram: &Histogram<u64>) -> [String; 3] {
    [0.5, 0.99, 1.0].map(|at| quantile(at, histogram))
}

fn quantile(quantile: f64, histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() { "-".into() } else { milliseconds(histogram.value_at_quantile(quantile)) }
}

pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn duration(duration: Duration) -> String {
    milliseconds(duration.as_micros() as u64)
}

fn milliseconds(microseconds: u64) -> String {
    let milliseconds = microseconds as f64 / 1e3;
    let decimals = if milliseconds < 10.0 {
        2
    } else if milliseconds < 100.0 {
        1
    } else {
        0
    };
    format!("{milliseconds:.decimals$} ms")
}

/// Runs that never were.
#[cfg(test)]
pub mod example {
    use super::*;
    use crate::load::Schedule;

    /// Every tenth request is shed. Health checks take one unit of time, paying customers two, and free ones four.
    fn outcome(load: &Load, unit: u32) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::new(load.schedule.duration(), load.focus.clone())?;
        for number in 0..load.schedule.total() {
            let due = load.schedule.due(number);
            let class = Class::ALL[number as usize % 3];
            outcome.offer(class, due);
            let status = if number % 10 == 0 { 503 } else { 200 };
            outcome.answer(class, due, due + Duration::from_millis((unit << (2 - class as u32)).into()), status);
        }
        Ok(outcome)
    }

    /// A slow one without parts, and a fast one with all of them.
    pub fn runs() -> anyhow::Result<(Load, Vec<Run>)> {
        let schedule = Schedule::new(100, 1_000, Duration::from_secs(2));
        let load = Load {
            schedule,
            mix: Load::SPIKE,
            focus: schedule.peak(),
            connections: 4,
            pipeline: 2,
            patience: Duration::from_secs(1),
            drain: Duration::from_secs(1),
        };
        let run = |parts: Parts, unit| {
            let longest_wait = Duration::from_millis(7);
            let counts =
                Counts { connections: 4, waited: Duration::from_millis(10), longest_wait, ..Counts::default() };
            anyhow::Ok(Run {
                name: parts.to_string(),
                parts,
                unloaded: outcome(&load, 1)?,
                outcome: outcome(&load, unit)?,
                connections_opened: 4,
                counts: Counts { most_serving: 3, ..counts },
                hit_ratio: (parts == Parts::ALL).then_some(0.75),
                queries: 1_234_567,
                queries_for_hottest: 12_345,
            })
        };
        let runs = vec![run(Parts::NONE, 300)?, run(Parts::ALL, 2)?];
        Ok((load, runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells of the row that begins with `name`.
    fn row(table: &str, name: &str) -> Vec<String> {
        let cells = table.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        cells.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn each_run_has_a_row_in_each_table() -> anyhow::Result<()> {
        let (load, runs) = example::runs()?;
        let outcome = outcomes(&runs);
        assert_eq!(row(&outcome, "full")[3..], ["0", "4.00 ms", "8.00 ms", "8.00 ms"]);
        assert_eq!(row(&outcome, "bare")[4..], ["600 ms", "1200 ms", "1200 ms"]);
        let offered = runs[0].outcome.total.offered;
        assert_eq!(row(&outcome, &grouped(offered))[..3], ["served", "100 ms", "at once"]);

        let asked = ["75.0 %", "1,234,567", "12,345", "4", "2.50 ms", "7.00 ms", "3"];
        assert_eq!(row(&databases(&runs), "full"), asked);
        assert_eq!(row(&databases(&runs), "bare")[0], "-");
        assert_eq!(row(&details(&runs), "bare")[..5], ["0", "0", "0", "600 ms", "1200 ms"]);
        assert!(tables(&load, &runs).lines().all(|line| line.len() <= 80));
        Ok(())
    }

    #[test]
    fn each_class_has_a_row_for_each_run() -> anyhow::Result<()> {
        let (load, mut runs) = example::runs()?;
        let table = classes(&load, &runs);
        let names = ["health (1 %)", "paying (9 %)", "free (90 %)"];
        let rows: Vec<_> = table.lines().skip(3).collect();
        let expected = names.into_iter().flat_map(|class| ["bare", "full"].map(|run| (class, run)));
        assert!(rows.iter().zip(expected).all(|(row, (class, run))| row.starts_with(class) && row.contains(run)));
        assert_eq!(rows.len(), 6);
        assert_eq!(row(rows[5], "free (90 %)")[..6], ["full", "4.00 ms", "4.00 ms", "8.00 ms", "8.00 ms", "2.0x"]);

        runs[0].unloaded = Outcome::new(load.schedule.duration(), load.focus.clone())?;
        assert_eq!(row(&classes(&load, &runs), "health (1 %)")[..3], ["bare", "-", "-"]);
        assert_eq!(row(&classes(&load, &runs), "health (1 %)")[5], "-");
        Ok(())
    }

    #[test]
    fn the_widest_names_fit_a_table() -> anyhow::Result<()> {
        let (load, mut runs) = example::runs()?;
        runs[0].name = "semaphore, queue, mutex".into();
        let lines = tables(&load, &runs);
        assert!(lines.lines().all(|line| line.len() <= 100), "{lines}");
        Ok(())
    }

    #[test]
    fn the_json_has_the_same_numbers() -> anyhow::Result<()> {
        let (load, runs) = example::runs()?;
        let json = json(&load, &runs);
        assert_eq!(json["load"]["to_rate"], 1_000);
        assert_eq!(json["load"]["mix"][2], json!({ "class": "health", "parts": 1 }));
        assert_eq!((&json["runs"][0]["name"], &json["runs"][0]["parts"]), (&json!("bare"), &json!([])));
        let parts = ["semaphore", "queue", "pool", "mutex", "cache"];
        assert_eq!((&json["runs"][1]["name"], &json["runs"][1]["parts"]), (&json!("full"), &json!(parts)));
        assert_eq!(json["runs"][1]["threads_at_once"], 3);
        assert_eq!(json["runs"][0]["offered"], load.schedule.total());
        assert_eq!(json["runs"][1]["database_queries"], 1_234_567);
        assert_eq!(json["runs"][1]["database_queries_for_hottest_product"], 12_345);
        assert_eq!([0, 1].map(|run| json["runs"][run]["cache_hit_ratio"].as_f64()), [None, Some(0.75)]);
        assert_eq!(json["runs"][1]["database_connections_opened"], 4);
        assert_eq!(json["runs"][1]["database_connection_wait_ms"], json!({ "mean": 2.5, "max": 7.0 }));
        let health = &json["runs"][1]["classes"][2];
        assert_eq!(health["class"], "health");
        assert_eq!(health["p99_grew_to"], 2.0);
        let ends = |phase: &str| health[phase]["served"].as_u64() < health[phase]["offered"].as_u64();
        assert!(ends("unloaded") && ends("peak"), "{health}");
        Ok(())
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([1_234, 12_345, 1_234_567].map(milliseconds), ["1.23 ms", "12.3 ms", "1235 ms"]);
    }
}
