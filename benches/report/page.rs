//! BENCHMARKS.md: the method, the rows that we lose, a table for each primitive, a chart, and bytes.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use crate::results::{Ratio, Results};
use crate::rows::{self, PRIMITIVES, Primitive, Row};
use crate::{FOLDER, OURS, machine};

/// Marks a peer that is faster, and a ratio that was above 1 in one round and below in another.
const LOSS: &str = "▼";
const UNSURE: &str = "≈";

/// The whole page.
pub fn page(results: &Results, bytes: &str, root: &Path) -> Result<String> {
    let rounds = rows::all().filter_map(|row| results.ours(&row.name())).map(|(_, rounds)| rounds).max();
    let mut page = method(rounds, &machine::versions(root, &results.crates())?);
    page += &losses(results);
    page += &format!("\n![Ratios to the nearest peer of each row]({FOLDER}/nearest.svg)\n");
    for primitive in &PRIMITIVES {
        page += &format!("\n## {}\n\n{}\n{}\n", primitive.name, table(primitive, results, rounds), primitive.note);
    }
    page += &format!(
        "\n## Bytes\n\n{bytes}\nOf an entry, those beside its key and value, once a cache has evicted as many as it holds.\n"
    );
    Ok(page)
}

fn method(rounds: Option<usize>, versions: &str) -> String {
    let (rounds, machine) = match rounds {
        None => ("no round yet".to_owned(), "none yet".to_owned()),
        Some(1) => ("a single round".to_owned(), machine::describe()),
        Some(rounds) => (format!("{rounds} paired rounds"), machine::describe()),
    };
    format!(
        "# Benchmarks

A ratio is the peer's time divided by ours: above 1, stanchion is faster; at {LOSS}, the peer is. The figures
are from {rounds}.

```sh
cargo run --release -p benches                          # measures the rows of this page and rewrites it: 10 minutes
cargo run --release -p benches -- --full --rounds 5     # all rows and peers; --quick hand-off: rows of that name
```

- Each work is written once, in [benches](benches), generic over the contender. In a round all contenders do it, one
  after the other, for a third of a second (with `--full`, half). A ratio compares times of one round.
- The tables have medians over the rounds; rows and ratios of fewer rounds say so. {UNSURE} marks a ratio that was above 1 in one
  round and below in another.
- A time is criterion's median for one operation. Where tasks or threads compete, it is the time until all are done,
  divided by the operations of all. *Held over a yield*: a task yields once while it holds its permit.
- Futures are polled by hand where no worker is named; for hand-offs and waits the waker counts references.
- All peers are set up to do as little as they can: no timeouts, no lifetimes. futures-intrusive is in its fair mode.
- All measured rows are in [rows.csv]({FOLDER}/rows.csv). Machine: {machine}. Versions: {versions}.
"
    )
}

/// Names the rows of the page in which a peer is faster.
fn losses(results: &Results) -> String {
    let mut text = "\n## Where a peer is faster\n\n".to_owned();
    for primitive in &PRIMITIVES {
        let lost: Vec<String> = primitive.rows.iter().filter_map(|row| loss(primitive, row, results)).collect();
        let lost = if lost.is_empty() { "no measured row".to_owned() } else { lost.join("; ") };
        writeln!(text, "- **{}**: {lost}", primitive.name).expect("a String accepts all text");
    }
    text
}

fn loss(primitive: &Primitive, row: &Row, results: &Results) -> Option<String> {
    let faster = primitive.peers.iter().filter_map(|peer| {
        let ratio = results.ratio(&row.name(), peer).filter(Ratio::is_loss)?;
        Some(format!("{peer} {:.2}", ratio.median))
    });
    let faster: Vec<String> = faster.collect();
    (!faster.is_empty()).then(|| format!("{} ({})", row.label, faster.join(", ")))
}

/// Rows that we lose to any peer come first; those without results are named below.
fn table(primitive: &Primitive, results: &Results, rounds: Option<usize>) -> String {
    let mut table = format!("| | {OURS}, ns | {} |\n", primitive.peers.join(" | "));
    table += &format!("| --- | --: |{}\n", " --: |".repeat(primitive.peers.len()));
    let measured = |row: &&&Row| results.ours(&row.name()).is_some();
    let (mut shown, missing): (Vec<&Row>, Vec<&Row>) = primitive.rows.iter().partition(|row| measured(&row));
    shown.sort_by_key(|row| loss(primitive, row, results).is_none());
    for row in shown {
        let (ours, measured) = results.ours(&row.name()).expect("rows without results are not shown");
        let ratios = primitive.peers.iter().map(|peer| cell(results.ratio(&row.name(), peer), measured));
        let ratios: Vec<String> = ratios.collect();
        let name = format!("{}{}", row.label, fewer(measured, rounds.unwrap_or(0)));
        writeln!(table, "| {name} | {} | {} |", number(ours), ratios.join(" | ")).expect("a String accepts all text");
    }
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.iter().map(|row| row.label).collect();
        write!(table, "\nNot measured: {}.\n", missing.join("; ")).expect("a String accepts all text");
    }
    table
}

fn fewer(measured: usize, rounds: usize) -> String {
    match measured {
        _ if measured >= rounds => String::new(),
        1 => " (1 round)".to_owned(),
        _ => format!(" ({measured} rounds)"),
    }
}

/// A ratio, and how far it can be trusted. `rounds` are those of the row.
fn cell(ratio: Option<Ratio>, rounds: usize) -> String {
    let Some(ratio) = ratio else { return "–".to_owned() };
    let loss = if ratio.is_loss() { format!("{LOSS} ") } else { String::new() };
    let unsure = if ratio.min < 1.0 && ratio.max > 1.0 { format!(" {UNSURE}") } else { String::new() };
    let median = if ratio.median < 99.95 { format!("{:.2}", ratio.median) } else { number(ratio.median) };
    format!("{loss}{median}{unsure}{}", fewer(ratio.rounds, rounds))
}

/// Three significant digits or more, thousands apart.
fn number(value: f64) -> String {
    if value < 99.95 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: usize = 150;

    #[test]
    fn a_page_of_losses_is_one_page() {
        let mut results = Results::default();
        for primitive in &PRIMITIVES {
            for row in primitive.rows {
                results.add(&row.name(), OURS, 1, 1_234.5);
                primitive.peers.iter().for_each(|peer| results.add(&row.name(), peer, 1, 1_000.0));
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let page = page(&results, &crate::bytes::tables(1_000), root).unwrap();
        assert!(page.lines().count() <= LINES, "{}", page.lines().count());
        assert!(page.contains("The figures\nare from a single round.") && !page.contains("Not measured"), "{page}");
        for row in rows::all() {
            assert!(page.contains(&format!("\n| {} | 1,234 | {LOSS} 0.81 |", row.label)), "{}", row.label);
        }
    }

    #[test]
    fn rows_that_are_lost_come_first() {
        let mut results = Results::default();
        for round in 1..=2 {
            results.add("task_queue/round_trip/two workers, yields once", OURS, round, 10.0);
            results.add("task_queue/round_trip/two workers, yields once", "tokio spawn", round, 9.0);
        }
        results.add("task_queue/round_trip/current thread, ready at once", OURS, 1, 10.0);
        results.add("task_queue/round_trip/current thread, ready at once", "tokio spawn", 1, 20.0);
        let primitive = PRIMITIVES.iter().find(|primitive| primitive.name == "task_queue").unwrap();
        let expected = "\
| | stanchion, ns | tokio spawn |
| --- | --: | --: |
| 2 workers, one task that yields, and its handle | 10.0 | ▼ 0.90 |
| 1 worker, one task and its handle (1 round) | 10.0 | 2.00 |

Not measured: 1 worker, 1,000 tasks; for each; 2 workers, 1,000 tasks that yield; for each.
";
        assert_eq!(table(primitive, &results, Some(2)), expected);
        let lost = "- **task_queue**: 2 workers, one task that yields, and its handle (tokio spawn 0.90)\n";
        assert!(losses(&results).contains(lost) && losses(&results).contains("- **pool**: no measured row\n"));
    }

    #[test]
    fn cells_say_how_far_they_can_be_trusted() {
        let ratio = |median, min, max| Some(Ratio { median, min, max, rounds: 3 });
        assert_eq!(cell(ratio(1.984, 1.9, 2.05), 3), "1.98");
        assert_eq!(cell(ratio(0.92, 0.9, 1.1), 3), "▼ 0.92 ≈");
        assert_eq!(cell(ratio(2.0, 2.0, 2.0), 5), "2.00 (3 rounds)");
        assert_eq!(cell(None, 3), "–");
    }

    #[test]
    fn numbers() {
        assert_eq!([1.5, 99.96, 12_345.6].map(number), ["1.5", "100", "12,346"]);
    }
}
