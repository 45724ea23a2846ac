//! How a cost grows with the number of waiters, of items, of entries, of tasks and of threads: for each of these
//! dimensions a table and a chart of what was measured, beside a model that explains it.
//!
//! A [`Series`] is a row of works that differ in one number, which is read from their names; so whoever adds a work to a
//! bench finds it here. [`model`] has the terms and fits them, [`chart`] draws, [`zipf`] knows how uneven shards are.

mod chart;
pub mod model;
mod zipf;

use std::fmt::Write;

use anyhow::Result;

use crate::machine::{Caches, mebibytes};
use crate::summary::{Peer, Primitive, Work};
use crate::table::{factor, grouped, nanoseconds};
use crate::workspace::OURS;
use model::{Fit, Model, Term};

/// What there are more and more of: a section of the page, and a chart, of that name.
pub struct Dimension {
    pub name: &'static str,
    /// What is counted, where it needs another name.
    counted: &'static str,
    series: &'static [Series],
    /// Whether the model tells what comes after the greatest number that was measured. Of threads it does not: what
    /// matters there is the number of cores.
    expect_beyond: bool,
}

/// Works of which each is `prefix`, a number, `suffix`; an `s` may follow.
struct Series {
    title: &'static str,
    primitive: &'static str,
    kind: &'static str,
    prefix: &'static str,
    suffix: &'static str,
    /// A work that is named otherwise, and its number.
    besides: Option<(f64, &'static str, &'static str)>,
    peer: &'static str,
    growth: Growth,
}

enum Growth {
    Sum(&'static [Term]),
    Threads(Serial),
}

/// The part of an operation that no two threads can be in.
#[derive(Clone, Copy)]
enum Serial {
    /// All of it.
    All,
    /// As much as all of the operation of that other series.
    Other(&'static str),
    /// What comes to the busiest of 16 shards, of what that other series takes with several threads.
    BusiestShard(&'static str),
}

/// The keys of the works whose shards are loaded unevenly, and how popular they are.
const ZIPF_KEYS: usize = 10_000;
const ZIPF_EXPONENT: f64 = 0.99;
const SHARDS: usize = 16;

/// How many cores others may have.
const CORES: [f64; 3] = [4.0, 8.0, 16.0];

const fn threads(
    title: &'static str,
    primitive: &'static str,
    prefix: &'static str,
    peer: &'static str,
    serial: Serial,
) -> Series {
    let growth = Growth::Threads(serial);
    Series { title, primitive, kind: "threads", prefix, suffix: " thread", besides: None, peer, growth }
}

const fn tasks(
    title: &'static str,
    primitive: &'static str,
    kind: &'static str,
    prefix: &'static str,
    peer: &'static str,
    terms: &'static [Term],
) -> Series {
    let growth = Growth::Sum(terms);
    Series { title, primitive, kind, prefix, suffix: " task", besides: None, peer, growth }
}

const ALONE_OR_NOT: &[Term] = &[Term::Always, Term::Company, Term::Shared];
const HANDED_IN: &[Term] = &[Term::Always, Term::Shared];

/// In the order of the page. The bytes are what one of them takes, in the structure and in the bench.
pub const DIMENSIONS: [Dimension; 5] = [
    Dimension {
        name: "waiters",
        counted: "waiters",
        series: &[
            Series {
                title: "semaphore, granted all at once",
                primitive: "semaphore",
                kind: "storm",
                prefix: "",
                suffix: " waiter",
                besides: None,
                peer: "tokio",
                growth: Growth::Sum(&[
                    Term::Always,
                    Term::Shared,
                    Term::BeyondL2(WAITER_BYTES),
                    Term::BeyondL3(WAITER_BYTES),
                ]),
            },
            Series {
                title: "pool, all give up",
                primitive: "pool",
                kind: "storm",
                prefix: "",
                suffix: " give up",
                besides: None,
                peer: "deadpool",
                growth: Growth::Sum(&[
                    Term::Always,
                    Term::Shared,
                    Term::BeyondL2(GETTER_BYTES),
                    Term::BeyondL3(GETTER_BYTES),
                ]),
            },
        ],
        expect_beyond: true,
    },
    Dimension {
        name: "depth",
        counted: "items",
        series: &[
            Series {
                title: "16 priorities",
                primitive: "priority_queue",
                kind: "push_pop",
                prefix: "16 priorities, depth ",
                suffix: "",
                besides: None,
                peer: "async-priority-channel",
                growth: Growth::Sum(&[Term::Always, Term::BeyondL2(ITEM_BYTES), Term::BeyondL3(ITEM_BYTES)]),
            },
            Series {
                title: "all distinct",
                primitive: "priority_queue",
                kind: "push_pop",
                prefix: "all distinct, depth ",
                suffix: "",
                besides: None,
                peer: "async-priority-channel",
                growth: Growth::Sum(&[
                    Term::Always,
                    Term::Levels,
                    Term::BeyondL2(DISTINCT_BYTES),
                    Term::BeyondL3(DISTINCT_BYTES),
                ]),
            },
        ],
        expect_beyond: true,
    },
    Dimension {
        name: "entries",
        counted: "entries",
        series: &[
            Series {
                title: "hit",
                primitive: "lru_cache",
                kind: "size",
                prefix: "hit, ",
                suffix: "",
                besides: None,
                peer: "lru + parking_lot",
                growth: Growth::Sum(&[Term::Always, Term::BeyondL2(ENTRY_BYTES), Term::BeyondL3(ENTRY_BYTES)]),
            },
            Series {
                title: "insert + evict",
                primitive: "lru_cache",
                kind: "size",
                prefix: "insert + evict, ",
                suffix: "",
                besides: None,
                peer: "lru + parking_lot",
                growth: Growth::Sum(&[Term::Always, Term::BeyondL2(ENTRY_BYTES), Term::BeyondL3(ENTRY_BYTES)]),
            },
        ],
        expect_beyond: true,
    },
    Dimension {
        name: "tasks",
        counted: "tasks",
        series: &[
            tasks(
                "mutex, current thread",
                "mutex",
                "runtime",
                "current thread, held across a yield, ",
                "tokio",
                ALONE_OR_NOT,
            ),
            tasks(
                "mutex, two workers",
                "mutex",
                "runtime",
                "two workers, held across a yield, ",
                "tokio",
                ALONE_OR_NOT,
            ),
            tasks(
                "semaphore, current thread",
                "semaphore",
                "runtime",
                "current thread, held across a yield, ",
                "tokio",
                ALONE_OR_NOT,
            ),
            tasks(
                "semaphore, two workers",
                "semaphore",
                "runtime",
                "two workers, held across a yield, ",
                "tokio",
                ALONE_OR_NOT,
            ),
            Series {
                besides: Some((1.0, "round_trip", "current thread, ready at once")),
                ..tasks(
                    "task queue, current thread",
                    "task_queue",
                    "burst",
                    "current thread, ready at once, ",
                    "tokio spawn",
                    HANDED_IN,
                )
            },
            Series {
                besides: Some((1.0, "round_trip", "two workers, ready at once")),
                ..tasks(
                    "task queue, two workers",
                    "task_queue",
                    "burst",
                    "two workers, ready at once, ",
                    "tokio spawn",
                    HANDED_IN,
                )
            },
        ],
        expect_beyond: true,
    },
    Dimension {
        name: "threads",
        counted: "threads",
        series: &[
            threads("semaphore, a permit for each", "semaphore", "as many permits, ", "tokio", Serial::All),
            threads(ONE_LOCK, "mutex", "one lock, ", "parking_lot", Serial::All),
            threads(
                "mutex, a microsecond apart",
                "mutex",
                "one lock, a microsecond apart, ",
                "parking_lot",
                Serial::Other(ONE_LOCK),
            ),
            threads("queue, push + pop", "priority_queue", "push + pop, ", "async-priority-channel", Serial::All),
            threads("pool, an object for each", "pool", "as many objects, ", "deadpool", Serial::All),
            threads(ONE_SHARD, "lru_cache", "zipf hits, 1 shard, ", "quick_cache", Serial::All),
            threads(
                "cache hits, 16 shards",
                "lru_cache",
                "zipf hits, 16 shards, ",
                "quick_cache",
                Serial::BusiestShard(ONE_SHARD),
            ),
        ],
        expect_beyond: false,
    },
];

const ONE_LOCK: &str = "mutex, one lock";
const ONE_SHARD: &str = "cache hits, 1 shard";

/// A waiter's slot, its future in a box, and the bench's pointer to that.
const WAITER_BYTES: f64 = 100.0;
const GETTER_BYTES: f64 = 200.0;
/// An item's slot.
const ITEM_BYTES: f64 = 56.0;
/// The same and the place of its priority in the index.
const DISTINCT_BYTES: f64 = 80.0;
/// With key and value, and the table's room to grow.
const ENTRY_BYTES: f64 = 43.0;

/// One of the series as it was measured.
#[derive(Debug)]
struct Curve {
    title: &'static str,
    peer: &'static str,
    points: Vec<Point>,
    fit: Option<Fit>,
}

#[derive(Debug)]
struct Point {
    n: f64,
    nanoseconds: f64,
    peer: Option<Peer>,
}

impl Curve {
    fn pairs(points: &[Point]) -> Vec<model::Point> {
        points.iter().map(|point| (point.n, point.nanoseconds)).collect()
    }

    /// What follows the greatest number that was measured.
    fn next(&self) -> Option<(f64, f64)> {
        let n = 10.0 * self.points.last()?.n;
        Some((n, self.fit.as_ref()?.model.at(n)))
    }
}

/// A dimension as it was measured.
pub struct Measured {
    dimension: &'static Dimension,
    curves: Vec<Curve>,
    caches: Caches,
    cores: f64,
}

/// All dimensions. Who shares a processor with others has a part of its last cache to himself, and nobody tells which:
/// it is taken to be the one that explains the points of all series best.
pub fn measure(primitives: &[Primitive], caches: Caches, cores: usize) -> Vec<Measured> {
    const PARTS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];

    let measured = |part| {
        let caches = Caches { l3: caches.l3 / part, ..caches };
        DIMENSIONS.iter().map(|dimension| dimension.measured(primitives, caches, cores)).collect::<Vec<_>>()
    };
    let errors = |measured: &[Measured]| -> f64 {
        let fits = measured.iter().flat_map(|measured| &measured.curves).filter_map(|curve| curve.fit.as_ref());
        fits.map(|fit| fit.typical * fit.typical).sum()
    };
    let candidates = PARTS.map(measured).into_iter();
    candidates.min_by(|a, b| errors(a).total_cmp(&errors(b))).expect("there are some")
}

impl Dimension {
    /// Series of which nothing was measured have no points.
    fn measured(&'static self, primitives: &[Primitive], caches: Caches, cores: usize) -> Measured {
        let cores = cores as f64;
        let curve = |series: &'static Series| {
            let points = series.points(primitives);
            let fit = self.fit(series, &points, primitives, caches, cores);
            Curve { title: series.title, peer: series.peer, points, fit }
        };
        Measured { dimension: self, curves: self.series.iter().map(curve).collect(), caches, cores }
    }

    fn fit(
        &self,
        series: &Series,
        points: &[Point],
        primitives: &[Primitive],
        caches: Caches,
        cores: f64,
    ) -> Option<Fit> {
        let pairs = Curve::pairs(points);
        let other =
            |title| self.series.iter().find(|series| series.title == title).map(|other| other.points(primitives));
        let alone = |points: &[Point]| points.iter().find(|point| point.n == 1.0).map(|point| point.nanoseconds);
        match series.growth {
            Growth::Sum(terms) => Fit::sum(&pairs, terms, caches),
            Growth::Threads(serial) => {
                let serial = match serial {
                    Serial::All => alone(points)?,
                    Serial::Other(title) => alone(&other(title)?)?,
                    Serial::BusiestShard(title) => {
                        let shard = other(title)?;
                        let fit = Fit::threads(&Curve::pairs(&shard), alone(&shard)?, cores)?;
                        busiest_share() * fit.model.at(cores.max(2.0))
                    }
                };
                Fit::threads(&pairs, serial, cores)
            }
        }
    }
}

fn busiest_share() -> f64 {
    zipf::busiest_share(ZIPF_KEYS, ZIPF_EXPONENT, SHARDS)
}

impl Series {
    /// By their numbers.
    fn points(&self, primitives: &[Primitive]) -> Vec<Point> {
        let Some(primitive) = primitives.iter().find(|primitive| primitive.name == self.primitive) else {
            return Vec::new();
        };
        let place = primitive.peers.iter().position(|peer| peer == self.peer);
        let point = |n, work: &Work| Point {
            n,
            nanoseconds: work.nanoseconds,
            peer: place.and_then(|place| work.peers[place]),
        };
        let works = |kind| primitive.kinds.iter().filter(move |known| known.name == kind).flat_map(|kind| &kind.works);
        let mut points: Vec<_> =
            works(self.kind).filter_map(|work| Some(point(self.number(&work.name)?, work))).collect();
        if let Some((n, kind, name)) = self.besides {
            points.extend(works(kind).filter(|work| work.name == name).map(|work| point(n, work)));
        }
        points.sort_by(|a, b| a.n.total_cmp(&b.n));
        points
    }

    fn number(&self, work: &str) -> Option<f64> {
        let rest = work.strip_prefix(self.prefix)?;
        let number = rest.strip_suffix('s').and_then(|rest| rest.strip_suffix(self.suffix));
        let number = number.or_else(|| rest.strip_suffix(self.suffix))?;
        number.chars().all(|character| character.is_ascii_digit() || character == ',').then_some(())?;
        number.replace(',', "").parse().ok()
    }
}

impl Measured {
    pub fn name(&self) -> &'static str {
        self.dimension.name
    }

    pub fn chart(&self) -> Result<String> {
        chart::draw(self.dimension, &self.curves)
    }

    /// The table, and the models below it.
    pub fn text(&self) -> String {
        let counted = self.dimension.counted;
        let mut text = format!(
            "| {counted} | {OURS}, ns | growth | model, ns | off by | peer, ns | growth | ratio |\n\
             | --: | --: | --: | --: | --: | --: | --: | --: |\n"
        );
        for curve in &self.curves {
            row(&mut text, [&format!("**{}**", curve.title), "", "", "", "", &format!("*{}*", curve.peer), "", ""]);
            let (mut before, mut peer_before) = (None, None);
            for point in &curve.points {
                let model = curve.fit.as_ref().map(|fit| fit.model.at(point.n));
                let ratio = point.peer.map(|peer| format!("{}×", factor(peer.ratio.median)));
                let peer = point.peer.map(|peer| peer.nanoseconds);
                row(
                    &mut text,
                    [
                        &grouped(point.n),
                        &nanoseconds(point.nanoseconds),
                        &growth(before, Some(point.nanoseconds)),
                        &cell(model.map(nanoseconds)),
                        &cell(model.map(|model| percent(model / point.nanoseconds - 1.0))),
                        &cell(peer.map(nanoseconds)),
                        &growth(peer_before, peer),
                        &cell(ratio),
                    ],
                );
                (before, peer_before) = (Some(point.nanoseconds), peer);
            }
            if let (true, Some((n, time))) = (self.dimension.expect_beyond, curve.next()) {
                let n = format!("*{}, expected*", grouped(n));
                row(&mut text, [&n, "", "", &format!("*{}*", nanoseconds(time)), "", "", "", ""]);
            }
        }
        text.push('\n');
        for Curve { title, fit, points, .. } in &self.curves {
            match fit {
                Some(Fit { model, typical, greatest }) => writeln!(
                    text,
                    "- {title}: *t*(*n*) = {model}; off by {:.0} % typically, by {:.0} % at most, at {} points",
                    100.0 * typical,
                    100.0 * greatest,
                    points.len()
                ),
                None => writeln!(text, "- {title}: too few points for a model"),
            }
            .expect("a string takes everything");
        }
        if self.meets_caches() {
            let [l2, l3] = [self.caches.l2, self.caches.l3].map(mebibytes);
            writeln!(text, "\nCaches of these models: {l2} of L2, {l3} of L3.").expect("a string takes everything");
        }
        text
    }

    /// Whether any of the models knows of caches.
    fn meets_caches(&self) -> bool {
        let beyond = |term: &Term| matches!(term, Term::BeyondL2(_) | Term::BeyondL3(_));
        self.dimension
            .series
            .iter()
            .any(|series| matches!(series.growth, Growth::Sum(terms) if terms.iter().any(beyond)))
    }

    /// What to expect where there are more cores than here; `None` where the dimension is not that of threads.
    pub fn expectations(&self) -> Option<String> {
        if self.dimension.expect_beyond {
            return None;
        }
        let threads = self.curves.iter().filter_map(|curve| match curve.fit.as_ref()?.model {
            Model::Threads(threads) => Some((curve.title, threads)),
            Model::Sum { .. } => None,
        });
        let more: Vec<f64> = CORES.into_iter().filter(|&cores| cores > self.cores).collect();
        let mut text = format!("| expected, ns, with a thread on each of | 1 core | {} |", spelled(self.cores));
        for &cores in &more {
            write!(text, " *{}* |", spelled(cores)).expect("a string takes everything");
        }
        text += &format!(" bound there by the |\n| --- |{} --- |\n", " --: |".repeat(more.len() + 2));
        let last = more.last().copied().unwrap_or(self.cores);
        for (title, threads) in threads {
            let [alone, here] = [threads.alone, threads.on(self.cores)].map(nanoseconds);
            let more: String = more.iter().map(|&cores| format!(" *{}* |", nanoseconds(threads.on(cores)))).collect();
            writeln!(text, "| {title} | {alone} | {here} |{more} {} |", threads.bound_on(last))
                .expect("a string takes everything");
        }
        let share = 100.0 * busiest_share();
        let (keys, exponent) = (grouped(ZIPF_KEYS as f64), ZIPF_EXPONENT);
        writeln!(
            text,
            "\nThe busiest of {SHARDS} shards gets {share:.1} % of the requests (Zipf, {exponent}, {keys} keys, each in any of \
             the shards by chance), against {:.1} % if all were alike: so {SHARDS} shards can do as much as {:.1} locks.",
            100.0 / SHARDS as f64,
            100.0 / share
        )
        .expect("a string takes everything");
        Some(text)
    }
}

fn spelled(cores: f64) -> String {
    if cores == 1.0 { "1 core".into() } else { format!("{cores} cores") }
}

fn row(text: &mut String, cells: [&str; 8]) {
    writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes everything");
}

/// With its sign, but no other than `+` before a 0.
fn percent(share: f64) -> String {
    format!("{:+.0} %", (100.0 * share).round() + 0.0)
}

fn cell(value: Option<String>) -> String {
    value.unwrap_or_else(|| "–".into())
}

fn growth(before: Option<f64>, now: Option<f64>) -> String {
    before.zip(now).map_or(String::new(), |(before, now)| format!("{:.2}×", now / before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{examples::measurement, summarize};
    use std::collections::HashSet;

    const CACHES: Caches = Caches { l2: 1024.0 * 1024.0, l3: 32.0 * 1024.0 * 1024.0 };

    fn dimension(name: &str) -> &'static Dimension {
        DIMENSIONS.iter().find(|dimension| dimension.name == name).expect("there is one of that name")
    }

    /// A storm that takes 50 ns for each waiter and 500 ns for all, and a peer that takes twice as long.
    fn storms() -> Vec<Primitive> {
        let storm = |(count, time)| {
            let group = format!("semaphore/storm/{count} waiters");
            [measurement(&group, OURS, 1, time), measurement(&group, "tokio", 1, 2.0 * time)]
        };
        summarize(&[("10", 100.0), ("100", 55.0), ("1,000", 50.5)].map(storm).concat())
    }

    /// A cache of one shard that two threads make slower, in as many shards faster.
    fn threads() -> Vec<Primitive> {
        let points = [("1 thread", 20.0, 22.0), ("2 threads", 60.0, 14.0), ("4 threads", 60.0, 14.0)];
        let hits = |(count, one, many)| {
            [("1 shard", one), ("16 shards", many)].map(|(shards, time)| {
                measurement(&format!("lru_cache/threads/zipf hits, {shards}, {count}"), OURS, 1, time)
            })
        };
        summarize(&points.map(hits).concat())
    }

    #[test]
    fn a_work_is_known_by_its_number() {
        let waiters = &dimension("waiters").series[0];
        assert_eq!(waiters.number("10 waiters"), Some(10.0));
        assert_eq!(waiters.number("1,000,000 waiters"), Some(1e6));
        assert_eq!(waiters.number("1 waiter"), Some(1.0));
        assert_eq!(waiters.number("all waiters"), None);
        assert_eq!(waiters.number("waiters"), None);
        let depth = &dimension("depth").series[0];
        assert_eq!(depth.number("16 priorities, depth 0"), Some(0.0));
        assert_eq!(depth.number("all distinct, depth 0"), None);
        // No work belongs to two series, though one prefix begins with another.
        let mutex: Vec<_> = dimension("threads").series.iter().filter(|series| series.primitive == "mutex").collect();
        let names = ["one lock, 2 threads", "one lock, a microsecond apart, 2 threads"];
        let numbers = names.map(|name| mutex.iter().map(|series| series.number(name)).collect::<Vec<_>>());
        assert_eq!(numbers, [[Some(2.0), None], [None, Some(2.0)]]);
    }

    #[test]
    fn a_work_of_another_name_is_a_point_too() {
        let group = |name: &str| measurement(&format!("task_queue/{name}"), OURS, 1, 100.0);
        let names = ["burst/two workers, ready at once, 16 tasks", "round_trip/two workers, ready at once"];
        let primitives = summarize(&names.map(group));
        let series = dimension("tasks").series.iter().find(|series| series.title == "task queue, two workers");
        let points = series.expect("there is one").points(&primitives);
        assert_eq!(Curve::pairs(&points), [(1.0, 100.0), (16.0, 100.0)]);
    }

    #[test]
    fn series_are_told_apart_by_their_titles() {
        for dimension in &DIMENSIONS {
            let titles: HashSet<_> = dimension.series.iter().map(|series| series.title).collect();
            assert_eq!(titles.len(), dimension.series.len(), "{}", dimension.name);
            for series in dimension.series {
                if let Growth::Threads(Serial::Other(other) | Serial::BusiestShard(other)) = series.growth {
                    assert!(titles.contains(other) && other != series.title, "{other}");
                }
            }
        }
    }

    #[test]
    fn a_whole_dimension() {
        let measured = dimension("waiters").measured(&storms(), CACHES, 2);
        let expected = "\
| waiters | stanchion, ns | growth | model, ns | off by | peer, ns | growth | ratio |
| --: | --: | --: | --: | --: | --: | --: | --: |
| **semaphore, granted all at once** |  |  |  |  | *tokio* |  |  |
| 10 | 100 |  | 100 | +0 % | 200 |  | 2.00× |
| 100 | 55.0 | 0.55× | 55.0 | +0 % | 110 | 0.55× | 2.00× |
| 1,000 | 50.5 | 0.92× | 50.5 | +0 % | 101 | 0.92× | 2.00× |
| *10,000, expected* |  |  | *50.0* |  |  |  |  |
| **pool, all give up** |  |  |  |  | *deadpool* |  |  |

- semaphore, granted all at once: *t*(*n*) = 50.0 + 500 / n; off by 0 % typically, by 0 % at most, at 3 points
- pool, all give up: too few points for a model

Caches of these models: 1 MiB of L2, 32 MiB of L3.
";
        assert_eq!(measured.text(), expected);
        assert_eq!(measured.expectations(), None);
    }

    #[test]
    fn the_part_of_the_last_cache_is_found() {
        let hit = |(count, n): (&str, f64)| {
            let beyond = |size: f64| f64::max(0.0, 1.0 - size / (ENTRY_BYTES * n));
            let time = 20.0 + 60.0 * beyond(CACHES.l2) + 300.0 * beyond(CACHES.l3 / 4.0);
            measurement(&format!("lru_cache/size/hit, {count}"), OURS, 1, time)
        };
        let counts = [("1,000", 1e3), ("10,000", 1e4), ("100,000", 1e5), ("1,000,000", 1e6), ("10,000,000", 1e7)];
        let measured = measure(&summarize(&counts.map(hit)), CACHES, 2);
        let entries = measured.iter().find(|measured| measured.name() == "entries").expect("they are measured");
        let text = entries.text();
        assert!(text.contains("- hit: *t*(*n*) = 20.0 + 60.0 · L2(n) + 300 · L3(n); off by 0 % typically"), "{text}");
        assert!(text.ends_with("\nCaches of these models: 1 MiB of L2, 8 MiB of L3.\n"), "{text}");
        // Nothing measured, nothing known.
        assert!(measure(&[], CACHES, 2).iter().all(|measured| measured.caches == CACHES));
    }

    #[test]
    fn more_cores() {
        let measured = dimension("threads").measured(&threads(), CACHES, 2);
        let text = measured.expectations().expect("they are threads");
        // The busiest of 16 shards gets a sixth or so of what one shard has to do, 60 ns.
        let share = busiest_share();
        let shards = |cores| nanoseconds(f64::max(22.0 / cores, 60.0 * share) + 14.0 - f64::max(11.0, 60.0 * share));
        let expected = format!(
            "\
| expected, ns, with a thread on each of | 1 core | 2 cores | *4 cores* | *8 cores* | *16 cores* | bound there by the |
| --- | --: | --: | --: | --: | --: | --- |
| cache hits, 1 shard | 20.0 | 60.0 | *60.0* | *60.0* | *60.0* | hand-over |
| cache hits, 16 shards | 22.0 | 14.0 | *{}* | *{}* | *{}* | serial part |
",
            shards(4.0),
            shards(8.0),
            shards(16.0)
        );
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains("The busiest of 16 shards gets 1"), "{text}");
        // Somebody who has 8 cores expects something of 16 alone.
        let text = dimension("threads").measured(&threads(), CACHES, 8).expectations().expect("they are threads");
        assert!(
            text.starts_with("| expected, ns, with a thread on each of | 1 core | 8 cores | *16 cores* | bound"),
            "{text}"
        );
    }

    #[test]
    fn nothing_measured_is_said() {
        for dimension in &DIMENSIONS {
            let text = dimension.measured(&[], CACHES, 2).text();
            assert_eq!(text.matches("too few points for a model").count(), dimension.series.len(), "{text}");
        }
    }
}
