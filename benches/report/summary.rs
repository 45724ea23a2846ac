//! From measurements to what is told of them: for each work our median time, and for each peer its median time and how
//! it compares with ours. A ratio is taken within a round, where both ran within the same seconds; the median is taken
//! over these ratios.

use std::collections::{BTreeMap, BTreeSet};

use crate::results::Measurement;
use crate::workspace::OURS;

/// Everything measured of one primitive: a table and a chart.
#[derive(Debug, PartialEq)]
pub struct Primitive {
    pub name: String,
    /// The contenders besides us, in alphabetical order.
    pub peers: Vec<String>,
    pub kinds: Vec<Kind>,
    pub rounds: usize,
}

/// Works of the same kind.
#[derive(Debug, PartialEq)]
pub struct Kind {
    pub name: String,
    pub works: Vec<Work>,
}

#[derive(Debug, PartialEq)]
pub struct Work {
    pub name: String,
    pub nanoseconds: f64,
    /// As many as the primitive has peers; `None` for one that cannot do this work.
    pub peers: Vec<Option<Peer>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peer {
    pub nanoseconds: f64,
    pub ratio: Ratio,
}

/// The peer's time divided by ours: above 1, we are faster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Ratio {
    /// Whether we are slower, as far as the two decimals go that are shown.
    pub fn is_loss(self) -> bool {
        self.median < 0.995
    }
}

/// The times of one contender by round.
type Times = BTreeMap<u32, f64>;
type Contenders<'a> = BTreeMap<&'a str, Times>;
type Kinds<'a> = BTreeMap<&'a str, BTreeMap<Natural, Contenders<'a>>>;

/// Everything in order: primitives and kinds by name, works as people count.
pub fn summarize(measurements: &[Measurement]) -> Vec<Primitive> {
    let mut primitives = BTreeMap::<&str, Kinds<'_>>::new();
    for measurement in measurements {
        let mut parts = measurement.group.splitn(3, '/');
        let mut part = || parts.next().unwrap_or("");
        let (primitive, kind, work) = (part(), part(), Natural::new(part()));
        let contenders = primitives.entry(primitive).or_default().entry(kind).or_default().entry(work).or_default();
        let times = contenders.entry(&measurement.contender).or_default();
        times.insert(measurement.round, measurement.nanoseconds);
    }
    let primitives = primitives.into_iter().map(|(name, kinds)| primitive(name, &kinds));
    primitives.filter(|primitive| !primitive.kinds.is_empty()).collect()
}

fn primitive(name: &str, kinds: &Kinds<'_>) -> Primitive {
    let contenders = || kinds.values().flat_map(BTreeMap::values).flatten();
    let peers: BTreeSet<&str> = contenders().map(|(&name, _)| name).filter(|&name| name != OURS).collect();
    let kinds = kinds.iter().map(|(&name, works)| Kind {
        name: name.to_owned(),
        works: works.iter().filter_map(|(name, contenders)| work(&name.text, contenders, &peers)).collect(),
    });
    Primitive {
        name: name.to_owned(),
        kinds: kinds.filter(|kind| !kind.works.is_empty()).collect(),
        rounds: contenders().map(|(_, times)| times.len()).max().unwrap_or(0),
        peers: peers.into_iter().map(str::to_owned).collect(),
    }
}

/// `None` if we did not take part.
fn work(name: &str, contenders: &Contenders<'_>, peers: &BTreeSet<&str>) -> Option<Work> {
    let ours = contenders.get(OURS)?;
    let peer = |name: &&str| {
        let theirs = contenders.get(name)?;
        let ratios = theirs.iter().filter_map(|(round, time)| Some(time / ours.get(round)?)).collect::<Vec<_>>();
        Some(Peer {
            nanoseconds: median(theirs.values().copied())?,
            ratio: Ratio {
                median: median(ratios.iter().copied())?,
                min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
                max: ratios.iter().copied().fold(0.0, f64::max),
            },
        })
    };
    Some(Work {
        name: name.to_owned(),
        nanoseconds: median(ours.values().copied())?,
        peers: peers.iter().map(peer).collect(),
    })
}

/// Everybody besides us, in alphabetical order.
pub fn all_peers(primitives: &[Primitive]) -> Vec<&str> {
    let peers: BTreeSet<&str> = primitives.iter().flat_map(|primitive| &primitive.peers).map(String::as_str).collect();
    peers.into_iter().collect()
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some((values[values.len() / 2 - 1] + upper) / 2.0) }
}

/// A name that sorts as people count: `2 tasks`, `16 tasks`, `1,000 tasks`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Natural {
    key: String,
    pub text: String,
}

impl Natural {
    pub fn new(text: &str) -> Self {
        let mut key = String::new();
        let mut number = String::new();
        // The sentinel ends a number that stands last.
        for character in text.chars().chain(['\0']) {
            match character {
                '0'..='9' => number.push(character),
                ',' if !number.is_empty() => (),
                _ => {
                    if !number.is_empty() {
                        key.push_str(&format!("{number:0>20}"));
                        number.clear();
                    }
                    key.push(character);
                }
            }
        }
        Self { key, text: text.to_owned() }
    }
}

/// What the tests of tables and charts draw.
#[cfg(test)]
pub mod examples {
    use super::*;

    pub fn measurement(group: &str, contender: &str, round: u32, nanoseconds: f64) -> Measurement {
        Measurement { group: group.to_owned(), contender: contender.to_owned(), round, nanoseconds }
    }

    /// One round of a mutex that wins, loses, and is measured without one of its peers.
    pub fn mutex() -> Primitive {
        let mut primitives = summarize(&[
            measurement("mutex/free/lock", OURS, 1, 10.0),
            measurement("mutex/free/lock", "tokio", 1, 25.0),
            measurement("mutex/free/lock", "mea", 1, 9.0),
            measurement("mutex/queue/hand-off", OURS, 1, 12_345.6),
            measurement("mutex/queue/hand-off", "tokio", 1, 24_691.2),
        ]);
        primitives.remove(0)
    }
}

#[cfg(test)]
mod tests {
    use super::examples::measurement;
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0].into_iter()), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 8.0].into_iter()), Some(3.0));
    }

    #[test]
    fn ratios_are_paired_by_round() {
        // The machine was half as fast in round 2, and round 4 never ended. Unpaired, the medians would say 30 / 20.
        let primitives = summarize(&[
            measurement("mutex/free/lock", OURS, 1, 10.0),
            measurement("mutex/free/lock", OURS, 2, 20.0),
            measurement("mutex/free/lock", OURS, 3, 20.0),
            measurement("mutex/free/lock", "tokio", 1, 30.0),
            measurement("mutex/free/lock", "tokio", 2, 60.0),
            measurement("mutex/free/lock", "tokio", 3, 20.0),
            measurement("mutex/free/lock", "tokio", 4, 20.0),
        ]);
        let [primitive] = &primitives[..] else { panic!("{primitives:?}") };
        assert_eq!((primitive.name.as_str(), primitive.rounds), ("mutex", 4));
        let work = &primitive.kinds[0].works[0];
        assert_eq!((work.name.as_str(), work.nanoseconds), ("lock", 20.0));
        let ratio = Ratio { median: 3.0, min: 1.0, max: 3.0 };
        assert_eq!(work.peers, [Some(Peer { nanoseconds: 25.0, ratio })]);
    }

    #[test]
    fn works_without_us_are_left_out_and_peers_without_a_work_leave_a_gap() {
        let primitives = summarize(&[
            measurement("a/free/x", OURS, 1, 1.0),
            measurement("a/free/x", "tokio", 1, 1.0),
            measurement("a/free/y", OURS, 1, 1.0),
            measurement("a/free/y", "mea", 2, 1.0),
            measurement("a/queue/z", "mea", 1, 1.0),
            measurement("b/queue/z", "mea", 1, 1.0),
        ]);
        let [primitive] = &primitives[..] else { panic!("{primitives:?}") };
        assert_eq!(primitive.peers, ["mea", "tokio"]);
        let [kind] = &primitive.kinds[..] else { panic!("{primitive:?}") };
        let there = kind.works.iter().map(|work| (&*work.name, work.peers[0].is_some(), work.peers[1].is_some()));
        // mea did y, but never in a round in which we did.
        assert_eq!(there.collect::<Vec<_>>(), [("x", false, true), ("y", false, false)]);
    }

    #[test]
    fn numbers_sort_by_value() {
        let mut names = ["1,000 tasks", "2 tasks", "b", "10,000 tasks", "16 tasks", "a, 3", "a, 20"].map(Natural::new);
        names.sort();
        let names = names.map(|name| name.text);
        assert_eq!(names, ["2 tasks", "16 tasks", "1,000 tasks", "10,000 tasks", "a, 3", "a, 20", "b"]);
    }

    #[test]
    fn a_loss_is_what_shows_as_one() {
        let is_loss = |median| Ratio { median, min: median, max: median }.is_loss();
        assert!(is_loss(0.99) && is_loss(0.994));
        assert!(!is_loss(0.996) && !is_loss(1.0) && !is_loss(2.0));
    }
}
