//! Ratios as a Markdown table: a row for each work, a column for each peer, and after it the works in which a peer was
//! faster, by name.

use std::fmt::Write;

use crate::summary::{Kind, Peer, Primitive, Work};
use crate::workspace::OURS;

/// Marks a cell in which the peer is faster.
const LOSS: &str = "▼";

pub fn table(primitive: &Primitive) -> String {
    let peers = &primitive.peers;
    let mut table = row("work", format!("{OURS}, ns"), peers.iter().map(|peer| format!("{peer}, ns · ratio")));
    table += &row("---", "--:".into(), peers.iter().map(|_| "--:".into()));
    for kind in &primitive.kinds {
        table += &row(&format!("**{}**", kind.name), String::new(), peers.iter().map(|_| String::new()));
        for work in &kind.works {
            table += &row(&work.name, nanoseconds(work.nanoseconds), work.peers.iter().map(|peer| cell(*peer)));
        }
    }
    table
}

fn row(name: &str, ours: String, peers: impl Iterator<Item = String>) -> String {
    let cells = peers.fold(String::new(), |cells, peer| format!("{cells} {peer} |"));
    format!("| {name} | {ours} |{cells}\n")
}

/// Two decimals; or three, where two would say little.
pub fn factor(ratio: f64) -> String {
    let decimals = if ratio < 0.1 { 3 } else { 2 };
    format!("{ratio:.decimals$}")
}

/// `33.1 · **1.98×** (1.92–2.05)`: the peer's time, the ratio, and how far it ranged over the rounds.
fn cell(peer: Option<Peer>) -> String {
    let Some(Peer { nanoseconds: time, ratio }) = peer else { return "–".into() };
    let mark = if ratio.is_loss() { format!("{LOSS} ") } else { String::new() };
    let mut cell = format!("{} · **{mark}{}×**", nanoseconds(time), factor(ratio.median));
    let (min, max) = (factor(ratio.min), factor(ratio.max));
    if min != max {
        write!(cell, " ({min}–{max})").expect("a string takes everything");
    }
    cell
}

/// Three digits that mean something, thousands apart.
pub fn nanoseconds(time: f64) -> String {
    if time < 99.95 {
        return format!("{time:.1}");
    }
    grouped(time)
}

/// A whole number, thousands apart.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The works in which somebody is faster, with everybody who is.
pub fn losses(primitive: &Primitive) -> String {
    // With the kind: works of different kinds may have one name.
    let works = || primitive.kinds.iter().flat_map(|kind| kind.works.iter().map(move |work| (kind, work)));
    let lost: Vec<String> = works().filter_map(|(kind, work)| loss(kind, work, &primitive.peers)).collect();
    let (lost_count, count) = (lost.len(), works().count());
    if lost.is_empty() {
        return format!("No peer is faster in any of the {count} works.");
    }
    format!("A peer is faster in {lost_count} of {count} works:\n\n{}", lost.join("\n"))
}

fn loss(kind: &Kind, work: &Work, names: &[String]) -> Option<String> {
    let faster = names.iter().zip(&work.peers).filter_map(|(name, peer)| {
        let ratio = peer.as_ref()?.ratio;
        ratio.is_loss().then(|| format!("{name} {}×", factor(ratio.median)))
    });
    let faster: Vec<String> = faster.collect();
    if faster.is_empty() { None } else { Some(format!("- {}/{}: {}", kind.name, work.name, faster.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{Ratio, examples};

    #[test]
    fn a_whole_table() {
        let expected = "\
| work | stanchion, ns | mea, ns · ratio | tokio, ns · ratio |
| --- | --: | --: | --: |
| **free** |  |  |  |
| lock | 10.0 | 9.0 · **▼ 0.90×** | 25.0 · **2.50×** |
| **queue** |  |  |  |
| hand-off | 12,346 | – | 24,691 · **2.00×** |
";
        assert_eq!(table(&examples::mutex()), expected);
    }

    #[test]
    fn losses_are_named() {
        let mut mutex = examples::mutex();
        assert_eq!(losses(&mutex), "A peer is faster in 1 of 2 works:\n\n- free/lock: mea 0.90×");
        mutex.kinds.remove(0);
        assert_eq!(losses(&mutex), "No peer is faster in any of the 1 works.");
    }

    #[test]
    fn a_cell_shows_the_spread_if_there_is_one() {
        let peer = |median, min, max| Some(Peer { nanoseconds: 33.06, ratio: Ratio { median, min, max } });
        assert_eq!(cell(peer(1.984, 1.9, 2.05)), "33.1 · **1.98×** (1.90–2.05)");
        assert_eq!(cell(peer(1.984, 1.981, 1.984)), "33.1 · **1.98×**");
        assert_eq!(cell(peer(0.92, 0.9, 1.1)), "33.1 · **▼ 0.92×** (0.90–1.10)");
        assert_eq!(cell(None), "–");
    }

    #[test]
    fn times() {
        let times = [0.04, 9.96, 99.94, 99.96, 999.6, 12_345.6, 1_234_567.0];
        assert_eq!(times.map(nanoseconds), ["0.0", "10.0", "99.9", "100", "1,000", "12,346", "1,234,567"]);
    }
}
