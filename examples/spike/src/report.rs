//! The report: three sentences of result, a warning where the figures mean little, and tables; or JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::load::Load;
use crate::outcome::{Outcome, Tally};
use crate::request::{Class, Counts};

/// A service under its loads.
pub struct Run {
    pub name: String,
    /// The parts of the service.
    pub parts: Vec<&'static str>,
    /// The outcome of the load that the spike is compared with.
    pub unloaded: Outcome,
    /// The outcome of the spike.
    pub outcome: Outcome,
    pub connections_opened: u64,
    pub counts: Counts,
    /// The share of requests that the cache answered, if there is one that counts.
    pub hit_ratio: Option<f64>,
    pub queries: u64,
    pub queries_for_hottest: u64,
}

/// Latencies up to this are good enough for a user that waits for a page.
const PROMPT_MICROSECONDS: u64 = 100_000;
/// Without load 99 of 100 requests are answered in less, unless other programs need the cores.
const BUSY_MICROSECONDS: u64 = 20_000;
/// Without load the generator is never as late as this, unless other programs need the cores.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

impl Run {
    fn served_promptly(&self) -> u64 {
        self.outcome.total.latency.count_between(0, PROMPT_MICROSECONDS)
    }

    fn share_served(&self) -> f64 {
        self.outcome.total.share_served()
    }

    /// Returns the tallies of a class without load and at the peak.
    fn of(&self, class: Class) -> (&Tally, &Tally) {
        (&self.unloaded.focus[class as usize], &self.outcome.focus[class as usize])
    }
}

/// Returns a warning if other programs kept the cores busy.
fn warning(runs: &[Run]) -> Option<String> {
    let latency = runs.iter().map(|run| run.unloaded.total.latency.value_at_quantile(0.99)).max()?;
    let pause = runs.iter().map(|run| run.unloaded.longest_pause).max()?;
    (latency > BUSY_MICROSECONDS || pause > BUSY_PAUSE).then(|| {
        format!(
            "WARNING: the machine was too busy for figures that mean anything: without load the p99 latency was up to \
             {}, and the generator late by up to {}.",
            milliseconds(latency),
            duration(pause)
        )
    })
}

/// Returns the p99 at the peak as a multiple of that without load.
fn growth(unloaded: &Tally, peak: &Tally) -> Option<f64> {
    let p99 = |tally: &Tally| tally.latency.value_at_quantile(0.99) as f64;
    (unloaded.served > 0 && peak.served > 0).then(|| p99(peak) / p99(unloaded))
}

/// The whole report, in lines that end with a line feed.
pub fn text(load: &Load, runs: &[Run]) -> String {
    let warning = warning(runs).map_or(String::new(), |warning| warning + "\n");
    let width = runs.iter().map(|run| run.name.len()).max().unwrap_or(0);
    let parts = runs.iter().map(|run| match run.parts[..] {
        [] => format!("{:width$}  a thread, a connection and a query for each request\n", run.name),
        _ => format!("{:width$}  {}\n", run.name, run.parts.join(", ")),
    });
    let tables = [outcomes(runs), databases(runs), classes(load, runs), details(runs)];
    format!("{}{warning}\n{}\n{}", summary(load, runs), parts.collect::<String>(), tables.join("\n"))
}

/// Three sentences of result; of many runs, about the first and the last.
fn summary(load: &Load, runs: &[Run]) -> String {
    let shown: Vec<&Run> =
        if runs.len() > 3 { [&runs[0], &runs[runs.len() - 1]].into() } else { runs.iter().collect() };
    let each = |figure: &dyn Fn(&Run) -> String| {
        let figures: Vec<_> = shown.iter().map(|run| format!("{} ({})", figure(run), run.name)).collect();
        figures.join(", ")
    };
    let offered = grouped(runs.iter().map(|run| run.outcome.total.offered).max().unwrap_or(0));
    let rate = grouped(load.schedule.rates().1.into());
    let served = each(&|run| percent(run.share_served()));
    let p99 = each(&|run| quantile(0.99, &run.of(Class::Health).1.latency));
    let connections = each(&|run| grouped(run.connections_opened));
    let hottest = each(&|run| grouped(run.queries_for_hottest));
    format!(
        "Of {offered} requests, at up to {rate} a second, the service served {served}.\n\
         At the peak 99 of 100 health checks were answered within {p99}.\n\
         The connections to the database were {connections}; the queries for the hottest product {hottest}.\n"
    )
}

fn outcomes(runs: &[Run]) -> String {
    let heading = [
        ("", "run"),
        ("", "served"),
        ("served in", "100 ms"),
        ("shed", "(503)"),
        ("", "failed"),
        ("median", "latency"),
        ("p99", "latency"),
        ("longest", "latency"),
    ];
    let row = |run: &Run| {
        let total = &run.outcome.total;
        let [p50, p99, longest] = latencies(&total.latency);
        let counts = [total.served, run.served_promptly(), total.shed, total.failed.total()].map(grouped);
        let [served, promptly, shed, failed] = counts;
        [run.name.clone(), served, promptly, shed, failed, p50, p99, longest]
    };
    table("Requests, and the latency of those that were served", heading, runs.iter().map(row))
}

fn databases(runs: &[Run]) -> String {
    let heading = [
        ("", "run"),
        ("cache", "hits"),
        ("", "queries"),
        ("for hottest", "product"),
        ("connections", "opened"),
        ("mean wait", "for one"),
        ("longest", "wait"),
        ("threads", "at a time"),
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
    table("The database: queries, connections, and the threads that use them", heading, runs.iter().map(row))
}

fn classes(load: &Load, runs: &[Run]) -> String {
    let heading = [
        ("", "class"),
        ("", "run"),
        ("median,", "unloaded"),
        ("p99,", "unloaded"),
        ("median,", "peak"),
        ("p99,", "peak"),
        ("p99, peak /", "unloaded"),
        ("served", "at peak"),
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
                percent(peak.share_served()),
            ]
        })
    });
    table("Latency of each class, without load and at the peak", heading, rows)
}

fn details(runs: &[Run]) -> String {
    let heading = [
        ("", "run"),
        ("failed:", "not sent"),
        ("failed:", "no answer"),
        ("failed:", "error"),
        ("any answer,", "median"),
        ("any answer,", "p99"),
        ("any answer,", "longest"),
        ("generator", "late by"),
    ];
    let row = |run: &Run| {
        let failed = &run.outcome.total.failed;
        let [p50, p99, longest] = latencies(&run.outcome.answers);
        let [unsent, unanswered, errors] = [failed.unsent, failed.unanswered, failed.errors].map(grouped);
        [run.name.clone(), unsent, unanswered, errors, p50, p99, longest, duration(run.outcome.longest_pause)]
    };
    table("Failures, and the latency of all answers, refusals included", heading, runs.iter().map(row))
}

/// A table with a title and a heading of two lines, as wide as its cells need. Numbers are aligned to the right.
fn table(title: &str, heading: [(&str, &str); 8], rows: impl Iterator<Item = [String; 8]>) -> String {
    let mut lines = [heading.map(|(upper, _)| upper.to_owned()), heading.map(|(_, lower)| lower.to_owned())].to_vec();
    lines.extend(rows);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let is_name = |column: usize| ["run", "class"].contains(&heading[column].1);
    let mut table = format!("{title}\n\n");
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

/// The figures of the tables, and the load.
pub fn json(load: &Load, runs: &[Run]) -> Value {
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
        "warning": warning(runs),
        "runs": runs.iter().map(json_of_run).collect::<Vec<_>>(),
    })
}

fn json_of_run(run: &Run) -> Value {
    let Run { outcome, counts, .. } = run;
    let Tally { offered, served, shed, failed, latency } = &outcome.total;
    json!({
        "name": run.name,
        "parts": run.parts,
        "offered": offered,
        "served": served,
        "served_within_100_ms": run.served_promptly(),
        "shed": shed,
        "failed": failed.total(),
        "failed_because": {
            "no_connection_free": failed.unsent,
            "no_answer": failed.unanswered,
            "error": failed.errors,
        },
        "served_latency_ms": json_of_latency(latency),
        "answer_latency_ms": json_of_latency(&outcome.answers),
        "database_connections_opened": run.connections_opened,
        "database_connection_wait_ms": {
            "mean": counts.mean_wait().as_secs_f64() * 1e3,
            "max": counts.longest_wait.as_secs_f64() * 1e3,
        },
        "threads_at_once": counts.most_serving,
        "cache_hit_ratio": run.hit_ratio,
        "database_queries": run.queries,
        "database_queries_for_hottest_product": run.queries_for_hottest,
        "generator_longest_pause_ms": outcome.longest_pause.as_secs_f64() * 1e3,
        "classes": Class::ALL.map(|class| {
            let (unloaded, peak) = run.of(class);
            json!({
                "class": class.name(),
                "unloaded": json_of_tally(unloaded),
                "peak": json_of_tally(peak),
                "p99_grew_to": growth(unloaded, peak),
            })
        }),
    })
}

fn json_of_tally(tally: &Tally) -> Value {
    json!({
        "offered": tally.offered,
        "served": tally.served,
        "shed": tally.shed,
        "failed": tally.failed.total(),
        "served_latency_ms": json_of_latency(&tally.latency),
    })
}

fn json_of_latency(histogram: &Histogram<u64>) -> Value {
    let at = |quantile| (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e3);
    json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0) })
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

/// Runs that were made up.
#[cfg(test)]
pub mod example {
    use super::*;
    use crate::parts::Parts;
    use crate::schedule::Schedule;

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
                parts: parts.names(),
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
        let (_, runs) = example::runs()?;
        let outcome = outcomes(&runs);
        assert_eq!(row(&outcome, "with ")[3..], ["0", "4.00 ms", "8.00 ms", "8.00 ms"]);
        assert_eq!(row(&outcome, "without")[4..], ["600 ms", "1200 ms", "1200 ms"]);
        assert_eq!(row(&outcome, "run")[..3], ["served", "100 ms", "(503)"]);

        let asked = ["75.0 %", "1,234,567", "12,345", "4", "2.50 ms", "7.00 ms", "3"];
        assert_eq!(row(&databases(&runs), "with "), asked);
        assert_eq!(row(&databases(&runs), "without")[0], "-");
        assert_eq!(row(&details(&runs), "without")[..5], ["0", "0", "0", "600 ms", "1200 ms"]);
        Ok(())
    }

    #[test]
    fn each_class_has_a_row_for_each_run() -> anyhow::Result<()> {
        let (load, mut runs) = example::runs()?;
        let table = classes(&load, &runs);
        let names = ["health (1 %)", "paying (9 %)", "free (90 %)"];
        let rows: Vec<_> = table.lines().skip(5).collect();
        let expected = names.into_iter().flat_map(|class| ["without", "with"].map(|run| (class, run)));
        assert!(rows.iter().zip(expected).all(|(row, (class, run))| row.starts_with(class) && row.contains(run)));
        assert_eq!(rows.len(), 6);
        assert_eq!(row(rows[5], "free (90 %)")[..6], ["with", "4.00 ms", "4.00 ms", "8.00 ms", "8.00 ms", "2.0x"]);

        runs[0].unloaded = Outcome::new(load.schedule.duration(), load.focus.clone())?;
        assert_eq!(row(&classes(&load, &runs), "health (1 %)")[..3], ["without", "-", "-"]);
        assert_eq!(row(&classes(&load, &runs), "health (1 %)")[5], "-");
        Ok(())
    }

    #[test]
    fn the_widest_names_fit_a_table() -> anyhow::Result<()> {
        let (load, mut runs) = example::runs()?;
        runs[0].name = "semaphore, queue, mutex".into();
        let tables = [outcomes(&runs), databases(&runs), classes(&load, &runs), details(&runs)].concat();
        assert!(tables.lines().all(|line| line.len() <= 105), "{tables}");
        Ok(())
    }

    #[test]
    fn the_report_begins_with_three_sentences() -> anyhow::Result<()> {
        let (load, mut runs) = example::runs()?;
        let report = text(&load, &runs);
        let expected = "\
Of 883 requests, at up to 1,000 a second, the service served 89.9 % (without), 89.9 % (with).
At the peak 99 of 100 health checks were answered within 300 ms (without), 2.00 ms (with).
The connections to the database were 4 (without), 4 (with); the queries for the hottest product 12,345 (without), 12,345 (with).
";
        assert!(report.starts_with(expected), "{report}");
        assert!(!report.contains("WARNING"));

        runs[1].unloaded.longest_pause = Duration::from_secs(1);
        let busy = text(&load, &runs);
        let warning = busy.lines().nth(3).unwrap_or_default();
        assert!(
            warning.starts_with("WARNING: the machine was too busy") && warning.ends_with("late by up to 1000 ms."),
            "{busy}"
        );
        Ok(())
    }

    #[test]
    fn the_json_has_the_same_numbers() -> anyhow::Result<()> {
        let (load, runs) = example::runs()?;
        let json = json(&load, &runs);
        assert_eq!(json["load"]["to_rate"], 1_000);
        assert_eq!(json["load"]["mix"][2], json!({ "class": "health", "parts": 1 }));
        assert_eq!((&json["runs"][0]["name"], &json["runs"][0]["parts"]), (&json!("without"), &json!([])));
        let parts = ["semaphore", "queue", "pool", "mutex", "cache"];
        assert_eq!((&json["runs"][1]["name"], &json["runs"][1]["parts"]), (&json!("with"), &json!(parts)));
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
    fn numbers_are_grouped_and_rounded() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([1_234, 12_345, 1_234_567].map(milliseconds), ["1.23 ms", "12.3 ms", "1235 ms"]);
    }
}
