//! Plays sequences of operations on a shard and on a model that is obviously right, and compares them.
//!
//! A sequence is decoded from bytes, so that a fuzzer can write it: two say what the shard is like, and then three make a
//! step, of which the first says what to do and the others with what. They are read by hand because a build for fuzzing
//! has no development dependencies. The model is a list of entries, the most recently used first. Hashes are the game's
//! own: some are the same for different keys, some look the same to the table, and a key may have several.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::{Cause, Gone, KEEP, Piece, Shard, Stats, Terms};
use crate::arena::Key;

/// More than are kept in reserve, so that growing and giving back are part of the game.
const CROWD: u64 = 3 * KEEP as u64;

/// A key, and which of its equals it is.
#[derive(Clone, Debug)]
struct Name {
    key: u32,
    serial: u64,
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Name {}

/// A name's serial number is that of the value it came with.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: NonZeroU32,
    key: u32,
    serial: u64,
    value: u64,
    weight: u64,
    end: Option<u64>,
}

/// What is to leave the shard: reports and otherwise, by serial number and value.
#[derive(Debug, Default, PartialEq)]
struct Left {
    reports: Vec<(u64, u64, Cause)>,
    keys: Vec<u64>,
    values: Vec<u64>,
}

struct Game {
    shard: Shard<Name, u64>,
    model: VecDeque<Entry>,
    capacity: u64,
    weighs: bool,
    ends: bool,
    start: Instant,
    /// Seconds later.
    now: u64,
    next: u64,
    stats: Stats,
    gone: Gone<Name, u64>,
    left: Left,
}

/// Plays the sequence that `data` stands for.
///
/// # Panics
///
/// When the shard does anything else than the model.
pub fn run(data: &[u8]) {
    let [kind, capacity, steps @ ..] = data else { return };
    let capacity = capacity_of((*capacity).into());
    let mut game = Game {
        shard: Shard::new(capacity as usize),
        model: VecDeque::new(),
        capacity,
        weighs: kind & 1 != 0,
        ends: kind & 2 != 0,
        start: Instant::now(),
        now: 0,
        next: 0,
        stats: Stats::default(),
        gone: Gone::new(),
        left: Left::default(),
    };
    for step in steps.chunks_exact(3) {
        game.step(step[0], step[1].into(), step[2].into());
        game.check();
    }
}

/// Mostly small, at times beyond what a sequence can fill, or not a number of entries at all.
fn capacity_of(byte: u64) -> u64 {
    match byte {
        255 => usize::MAX as u64,
        128.. => byte * CROWD / 255,
        _ => byte % 16,
    }
}

/// Of the first 16 some are the same, and some differ in the middle only, where the table does not look.
fn hash_of(key: u32, other: bool) -> NonZeroU32 {
    let hash = match key {
        0..16 => 0x5000_0005 | (key % 5) << 20,
        _ => key.wrapping_mul(0x9E37_79B9),
    };
    NonZeroU32::new(hash ^ u32::from(other) << 24).unwrap_or(NonZeroU32::MIN)
}

impl Game {
    fn step(&mut self, what: u8, a: u64, b: u64) {
        let key = a as u32 % 16;
        let hash = hash_of(key, a >= 224);
        match what % 32 {
            0..=8 => self.insert(key, hash, b),
            9..=14 => self.get(key, hash),
            15..=16 => self.peek(key, hash),
            17..=19 => self.remove(key, hash),
            20 => self.pop(),
            21..=22 => self.retain(|at| (a | b << 8) >> (at % 16) & 1 != 0),
            23 => self.retain(|at| at % (1 + b) == b),
            24 => self.copy(),
            25 if b < 64 => self.clear(),
            26..=27 => self.set_capacity(capacity_of(b)),
            28 => self.crowd(b * CROWD / 255),
            _ => self.now += b % 4,
        }
    }

    fn instant(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    /// `None` if nothing ends.
    fn clock(&self) -> Option<Instant> {
        self.ends.then(|| self.instant(self.now))
    }

    fn weight(&self) -> u128 {
        if !self.weighs {
            return self.model.len() as u128;
        }
        self.model.iter().map(|entry| u128::from(entry.weight)).sum()
    }

    fn is_over(&self, entry: &Entry) -> bool {
        entry.end.is_some_and(|end| end <= self.now)
    }

    /// Leaves without being asked to.
    fn report(&mut self, entry: Entry) {
        let cause = if self.is_over(&entry) { Cause::Expired } else { Cause::Capacity };
        match cause {
            Cause::Capacity => self.stats.evictions += 1,
            Cause::Expired => self.stats.expirations += 1,
        }
        self.left.reports.push((entry.serial, entry.value, cause));
    }

    /// Where it is in the model and in the shard. One that is over leaves.
    fn find(&mut self, key: u32, hash: NonZeroU32) -> Option<(usize, Key)> {
        let name = Name { key, serial: u64::MAX };
        let found = self.shard.find(hash, &name);
        let found = self.shard.live(found, self.clock(), &mut self.gone);
        let mut at = self.model.iter().position(|entry| (entry.hash, entry.key) == (hash, key));
        if let Some(entry) = at.map(|at| self.model[at]).filter(|entry| self.is_over(entry)) {
            self.model.remove(at.take()?);
            self.report(entry);
        }
        assert_eq!(found.is_some(), at.is_some(), "whether key {key} is there");
        at.zip(found)
    }

    fn insert(&mut self, key: u32, hash: NonZeroU32, terms: u64) {
        let found = self.find(key, hash);
        self.insert_in(found, key, hash, terms);
    }

    fn insert_in(&mut self, found: Option<(usize, Key)>, key: u32, hash: NonZeroU32, terms: u64) {
        let weight = match terms {
            _ if !self.weighs => 1,
            255 => u64::MAX,
            224.. => CROWD / 2,
            _ => terms % 6,
        };
        let serial = self.next;
        self.next += 1;
        let end = Some(self.now + terms / 16 % 4).filter(|_| self.ends && terms < 240);
        let old = found.and_then(|(at, _)| self.model.remove(at));
        let mut entry = Entry { hash, key, serial, value: serial, weight, end };
        if self.capacity == 0 || weight > self.capacity {
            self.left.keys.push(serial);
            self.left.values.push(serial);
            self.left.keys.extend(old.map(|old| old.serial));
        } else {
            self.evict(u128::from(self.capacity - weight));
            if let Some(old) = old {
                self.left.keys.push(serial);
                entry.serial = old.serial;
            }
            self.stats.insertions += u64::from(old.is_none());
            self.model.push_front(entry);
        }
        let (weight, now) = (self.weighs.then_some(weight), self.clock());
        let terms = Terms { weight, now, end: end.map(|end| self.instant(end)) };
        let found = found.map(|(_, found)| found);
        let back = self.shard.insert(found, hash, (Name { key, serial }, serial), terms, &mut self.gone);
        assert_eq!(back, old.map(|old| old.value), "what was there before");
    }

    fn evict(&mut self, room: u128) {
        while self.weight() > room {
            let oldest = self.model.pop_back().expect("what weighs is there");
            self.report(oldest);
        }
    }

    fn get(&mut self, key: u32, hash: NonZeroU32) {
        if let Some((at, found)) = self.find(key, hash) {
            let entry = self.model.remove(at).expect("it is there");
            assert_eq!(self.shard.get(found), entry.value);
            self.model.push_front(entry);
        }
    }

    fn peek(&mut self, key: u32, hash: NonZeroU32) {
        if let Some((at, found)) = self.find(key, hash) {
            assert_eq!(*self.shard.peek(found), self.model[at].value);
        }
    }

    fn remove(&mut self, key: u32, hash: NonZeroU32) {
        if let Some((at, found)) = self.find(key, hash) {
            let entry = self.model.remove(at).expect("it is there");
            let (name, value) = self.shard.remove(found);
            assert_eq!((name.key, name.serial, value), (key, entry.serial, entry.value));
        }
    }

    fn pop(&mut self) {
        let popped = self.shard.pop(self.clock(), &mut self.gone).map(|(name, value)| (name.serial, value));
        let expected = loop {
            match self.model.pop_back() {
                Some(entry) if self.is_over(&entry) => self.report(entry),
                live => break live,
            }
        };
        assert_eq!(popped, expected.map(|entry| (entry.serial, entry.value)), "the least recently used");
    }

    /// Keeps those whose place among the living is one that stays.
    fn retain(&mut self, stays: impl Fn(u64) -> bool) {
        let (mut asked, mut answers) = (Vec::new(), 0..);
        let keep = |name: &Name, &value: &u64| {
            asked.push((name.serial, value));
            stays(answers.next().expect("it has no end"))
        };
        self.shard.retain(keep, self.clock(), &mut self.gone);
        let (mut expected, mut answers) = (Vec::new(), 0..);
        for entry in std::mem::take(&mut self.model) {
            if self.is_over(&entry) {
                self.report(entry);
                continue;
            }
            expected.push((entry.serial, entry.value));
            if stays(answers.next().expect("it has no end")) {
                self.model.push_back(entry);
            } else {
                self.left.keys.push(entry.serial);
                self.left.values.push(entry.value);
            }
        }
        assert_eq!(asked, expected, "who is asked about");
    }

    fn copy(&mut self) {
        let mut copies = (Vec::new(), Vec::new());
        self.shard.copies(&mut copies, self.clock(), &mut self.gone);
        let (over, live): (VecDeque<_>, _) = self.model.iter().partition(|entry| self.is_over(entry));
        self.model = live;
        over.into_iter().for_each(|entry| self.report(entry));
        let copies = copies
            .0
            .into_iter()
            .zip(copies.1)
            .map(|(mut name, mut value)| (name.0.take().expect("a copy").serial, value.0.take().expect("a copy")));
        assert!(copies.eq(self.model.iter().map(|entry| (entry.serial, entry.value))), "other copies than entries");
    }

    fn clear(&mut self) {
        let mut cleared: Vec<_> = self.shard.clear().map(|(name, value)| (name.serial, value)).collect();
        cleared.sort_unstable();
        let mut expected: Vec<_> = self.model.drain(..).map(|entry| (entry.serial, entry.value)).collect();
        expected.sort_unstable();
        assert_eq!(cleared, expected, "what was cleared");
        assert_eq!(self.shard.table.capacity(), 0, "a clear table takes no memory");
    }

    fn set_capacity(&mut self, capacity: u64) {
        self.shard.set_capacity(capacity as usize, self.clock(), &mut self.gone);
        self.capacity = capacity;
        self.evict(capacity.into());
        while capacity == 0 && !self.model.is_empty() {
            let oldest = self.model.pop_back().expect("somebody is left");
            self.report(oldest);
        }
    }

    /// So many new ones, as long as there is no crowd.
    fn crowd(&mut self, count: u64) {
        for _ in 0..count {
            if self.model.len() as u64 >= CROWD {
                break;
            }
            let key = 16 + self.next as u32;
            self.insert_in(None, key, hash_of(key, false), 1);
            self.account();
        }
    }

    /// What has left is what was to leave.
    fn account(&mut self) {
        let gone = std::mem::replace(&mut self.gone, Gone::new());
        let left = std::mem::take(&mut self.left);
        assert_eq!(gone.is_empty(), left == Left::default(), "whether something has left");
        let (mut reports, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for piece in gone {
            match piece {
                Piece::Entry(name, value, Some(cause)) => reports.push((name.serial, value, cause)),
                Piece::Entry(name, value, None) => {
                    keys.push(name.serial);
                    values.push(value);
                }
                Piece::Key(name) => keys.push(name.serial),
                Piece::Value(value) => values.push(value),
            }
        }
        assert_eq!(Left { reports, keys, values }, left, "what has left");
    }

    fn check(&mut self) {
        self.shard.validate();
        self.account();
        let entries = self.shard.entries.iter(&self.shard.order).map(|(name, value)| (name.key, name.serial, *value));
        let expected = self.model.iter().map(|entry| (entry.key, entry.serial, entry.value));
        assert!(entries.eq(expected), "other entries, or in another order");
        assert_eq!(self.shard.len(), self.model.len());
        assert_eq!(u128::from(self.shard.weight()), self.weight());
        assert_eq!(self.shard.stats, self.stats);
        let (room, len) = (self.shard.table.num_buckets(), self.model.len());
        assert!(room <= 2 * KEEP || len > room / 8, "a table of {room} for {len}");
        let room = self.shard.weights.capacity().max(self.shard.ends.capacity());
        let slots = self.shard.entries.slots();
        assert!(room <= KEEP || room <= 4 * slots, "columns of {room} for {slots} slots");
        assert!(self.weighs || self.shard.weights.capacity() == 0, "nobody weighs");
        assert!(self.ends || self.shard.ends.capacity() == 0, "nothing ends");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard with entries that weigh and end, and their keys, the least recently used first.
    fn crowd(entries: u32) -> (Shard<u32, u32>, Instant) {
        let now = Instant::now();
        let mut shard = Shard::new(usize::MAX);
        for key in 0..entries {
            let (weight, end) = (u64::from(key % 7), now + Duration::from_secs((key % 5).into()));
            let terms = Terms { weight: Some(weight), now: Some(now), end: Some(end) };
            let mut gone = Gone::new();
            assert_eq!(shard.insert(None, hash_of(key, false), (key, !key), terms, &mut gone), None);
            gone.into_iter().for_each(drop);
        }
        (shard, now)
    }

    fn keys(shard: &Shard<u32, u32>) -> Vec<u32> {
        shard.entries.iter(&shard.order).map(|&(key, _)| key).collect()
    }

    #[test]
    fn those_who_stay_of_a_crowd_are_who_they_were_in_fewer_slots() {
        const CROWD: u32 = 4 * KEEP as u32;
        let left = CROWD / 8;
        type Way = fn(&mut Shard<u32, u32>, u32, &mut Gone<u32, u32>);
        let ways: [Way; 3] = [
            |shard, oldest, gone| shard.retain(|&key, _| key >= oldest, None, gone),
            |shard, oldest, gone| while shard.pop(None, gone).is_some_and(|(key, _)| key + 1 < oldest) {},
            |shard, oldest, _| {
                (0..oldest).for_each(|key| _ = shard.remove(shard.find(hash_of(key, false), &key).unwrap()));
            },
        ];
        for way in ways {
            let (mut shard, now) = crowd(CROWD);
            assert_eq!(shard.entries.slots(), CROWD as usize);
            way(&mut shard, CROWD - left, &mut Gone::new());
            shard.validate();
            assert_eq!(shard.entries.slots(), left as usize, "the newest had the last slots");
            assert_eq!(keys(&shard), (CROWD - left..CROWD).rev().collect::<Vec<_>>());
            for key in CROWD - left..CROWD {
                let found = shard.find(hash_of(key, false), &key).expect("it has stayed");
                assert_eq!((shard.get(found), shard.weight_of(found)), (!key, u64::from(key % 7)));
                assert!(
                    !shard
                        .is_over(found, Some(now + Duration::from_secs(u64::from(key % 5)) - Duration::from_nanos(1)))
                );
                assert!(shard.is_over(found, Some(now + Duration::from_secs((key % 5).into()))));
            }
            assert_eq!(shard.stats.insertions, CROWD.into(), "nobody came anew");
        }
        // And where the capacity takes the room.
        let (mut shard, _) = crowd(CROWD);
        let mut gone = Gone::new();
        shard.set_capacity(100, None, &mut gone);
        shard.validate();
        assert_eq!(shard.entries.slots(), shard.len());
        assert_eq!(keys(&shard), (CROWD - shard.len() as u32..CROWD).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_shard_that_has_no_slot_left_sends_the_least_recently_used_away() {
        const ALL: u32 = crate::arena::LIMIT as u32;
        let (mut shard, now) = crowd(ALL);
        assert!(shard.entries.is_full() && shard.stats.evictions == 0);
        let terms = Terms { weight: Some(0), now: Some(now), end: None };
        let mut gone = Gone::new();
        shard.insert(None, hash_of(ALL, false), (ALL, 0), terms, &mut gone);
        shard.validate();
        assert_eq!((shard.len(), shard.stats.expirations + shard.stats.evictions), (ALL as usize, 1));
        assert_eq!(keys(&shard), (1..=ALL).rev().collect::<Vec<_>>());
        assert!(matches!(gone.into_iter().next(), Some(Piece::Entry(0, _, Some(_)))));
    }

    #[test]
    fn sequences() {
        use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

        for seed in 0..100 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut data = vec![0; rng.random_range(0..1_500)];
            rng.fill_bytes(&mut data);
            eprintln!("seed {seed}"); // shown if it fails
            run(&data);
        }
    }
}
