//! Random operations on a shard of the cache, compared with a model: a list of entries, the most recently used first.
//!
//! The operations are decoded from bytes: two choose the kind of shard, and then three make a step, of which the first
//! chooses the operation and the others its arguments. The shard is private to the crate, so its source is compiled into
//! this test. Hashes are the test's own: some are the same for different keys, some share a bucket, and a key may have
//! several.

#[allow(dead_code)]
#[path = "../../src/lru_cache/columns.rs"]
mod columns;
#[allow(dead_code)]
#[path = "../../src/lru_cache/shard.rs"]
mod source;

use std::collections::VecDeque;

use columns::{Asked, NEVER, Terms, Tick};
use source::{KEEP, Part, Removed, Shard};
use stanchion::{Cause, Stats};

/// The most entries: enough for the slots to grow, to be moved and to be given back.
const CROWD: u64 = if cfg!(fuzzing) { 300 } else { 1_500 };

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

/// Without a drop the shard would not pass on parts that are not reported.
impl Drop for Name {
    fn drop(&mut self) {}
}

/// The serial number of a name is that of the value it came with.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    key: u32,
    serial: u64,
    value: u64,
    weight: u64,
    expires_at: Tick,
    idle_expires_at: Tick,
}

/// The parts that must be removed: reports and others, by serial number and value.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    reports: Vec<(u64, u64, Cause)>,
    keys: Vec<u64>,
    values: Vec<u64>,
}

struct Test {
    shard: Shard<Name, u64>,
    model: VecDeque<Entry>,
    capacity: u64,
    asked: Asked,
    now: Tick,
    next: u64,
    stats: Stats,
    removed: Removed<Name, u64>,
    expected: Expected,
}

/// Runs the operations that `data` encodes.
///
/// # Panics
///
/// When the shard does anything else than the model.
pub(crate) fn run(data: &[u8]) {
    let [kind, capacity, steps @ ..] = data else { return };
    let capacity = capacity_of((*capacity).into());
    let asked = Asked { weight: kind & 1 != 0, expires_at: kind & 2 != 0, idle_expires_at: kind & 4 != 0 };
    let mut test = Test {
        shard: Shard::new(capacity as usize, asked),
        model: VecDeque::new(),
        capacity,
        asked,
        now: 0,
        next: 0,
        stats: Stats::default(),
        removed: Removed::new(),
        expected: Expected::default(),
    };
    for step in steps.chunks_exact(3) {
        test.step(step[0], step[1].into(), step[2].into());
        test.check();
    }
    while let Some(&Entry { key, hash, .. }) = test.model.front() {
        test.remove(key, hash);
    }
    test.check();
}

/// Mostly small, at times beyond what the operations can fill, or not a number of entries at all.
fn capacity_of(byte: u64) -> u64 {
    match byte {
        255 => usize::MAX as u64,
        128.. => byte * CROWD / 255,
        _ => byte % 16,
    }
}

/// Of the first 16 keys some have the same hash, and some share a bucket in a small table.
fn hash_of(key: u32, is_other: bool) -> u32 {
    let hash = match key {
        0..16 => 0x5000_0005 | (key % 5) << 20,
        _ => key.wrapping_mul(0x9E37_79B9),
    };
    hash ^ u32::from(is_other) << 24
}

impl Test {
    fn step(&mut self, op: u8, a: u64, b: u64) {
        let key = a as u32 % 16;
        let hash = hash_of(key, a >= 224);
        match op % 36 {
            0..=8 => {
                let found = self.find(key, hash);
                self.insert(found, key, hash, b);
            }
            9..=14 => self.get(key, hash),
            15..=16 => self.look(key, hash),
            17..=19 => self.remove(key, hash),
            20 => self.pop(),
            21..=22 => self.retain(|rank| (a | b << 8) >> (rank % 16) & 1 != 0),
            23 => self.retain(|rank| rank % (1 + b) == b),
            24 => self.visit(),
            25 if b < 64 => self.clear(),
            26..=27 => self.set_capacity(capacity_of(b)),
            28 => self.crowd(b * CROWD / 255),
            29..=30 => self.update(key, hash, b),
            _ => self.now += b % 4,
        }
    }

    /// Returns `None` if nothing expires.
    fn clock(&self) -> Option<Tick> {
        (self.asked.expires_at || self.asked.idle_expires_at).then_some(self.now)
    }

    /// The end of the idle time of an entry that is used now.
    fn idle_expires_at(&self) -> Option<Tick> {
        self.asked.idle_expires_at.then_some(self.now + 3)
    }

    fn weight(&self) -> u128 {
        self.model.iter().map(|entry| u128::from(entry.weight)).sum()
    }

    fn is_expired(&self, entry: &Entry) -> bool {
        entry.expires_at.min(entry.idle_expires_at) <= self.now
    }

    fn report(&mut self, entry: Entry, otherwise: Cause) {
        let cause = if self.is_expired(&entry) { Cause::Expired } else { otherwise };
        match cause {
            Cause::Capacity => self.stats.evictions += 1,
            Cause::Expired => self.stats.expirations += 1,
            Cause::Removed => {}
        }
        self.expected.reports.push((entry.serial, entry.value, cause));
    }

    /// The position in the model, and the index in the shard. An expired entry is removed.
    fn find(&mut self, key: u32, hash: u32) -> Option<(usize, u32)> {
        let found = self.shard.find(hash, &Name { key, serial: u64::MAX });
        let found = self.shard.live(found, self.clock(), &mut self.removed);
        let mut at = self.model.iter().position(|entry| (entry.hash, entry.key) == (hash, key));
        if let Some(entry) = at.map(|at| self.model[at]).filter(|entry| self.is_expired(entry)) {
            self.model.remove(at.take()?);
            self.report(entry, Cause::Capacity);
        }
        assert_eq!(found.is_some(), at.is_some(), "key {key} is found or not");
        at.zip(found)
    }

    fn weight_of(&self, byte: u64) -> u64 {
        match byte {
            _ if !self.asked.weight => 1,
            255 => u64::MAX,
            224.. => CROWD / 2,
            _ => byte % 6,
        }
    }

    fn insert(&mut self, found: Option<(usize, u32)>, key: u32, hash: u32, byte: u64) {
        let weight = self.weight_of(byte);
        let serial = self.next;
        self.next += 1;
        let expires_at =
            Some(self.now + byte / 16 % 4).filter(|_| self.asked.expires_at && byte < 240).unwrap_or(NEVER);
        let idle_expires_at = self.idle_expires_at().unwrap_or(NEVER);
        let old = found.and_then(|(at, _)| self.model.remove(at));
        let mut entry = Entry { hash, key, serial, value: serial, weight, expires_at, idle_expires_at };
        if self.capacity == 0 || weight > self.capacity || self.is_expired(&entry) {
            self.expected.keys.push(serial);
            self.expected.values.push(serial);
            self.expected.keys.extend(old.map(|old| old.serial));
        } else {
            self.evict(u128::from(self.capacity - weight));
            if let Some(old) = old {
                self.expected.keys.push(serial);
                entry.serial = old.serial;
            }
            self.stats.insertions += u64::from(old.is_none());
            self.model.push_front(entry);
        }
        let terms = Terms { weight, expires_at, idle_expires_at, now: self.clock() };
        let found = found.map(|(_, found)| found);
        let back = self.shard.insert(found, hash, (Name { key, serial }, serial), terms, &mut self.removed);
        assert_eq!(back, old.map(|old| old.value), "the old value is returned");
    }

    fn evict(&mut self, room: u128) {
        while self.weight() > room {
            let oldest = self.model.pop_back().expect("an empty shard weighs nothing");
            self.report(oldest, Cause::Capacity);
        }
    }

    /// Moves an entry to the front of the model, as a use does.
    fn use_entry(&mut self, at: usize) {
        let mut entry = self.model.remove(at).expect("it was found");
        entry.idle_expires_at = self.idle_expires_at().unwrap_or(NEVER);
        self.model.push_front(entry);
    }

    fn get(&mut self, key: u32, hash: u32) {
        if let Some((at, found)) = self.find(key, hash) {
            self.use_entry(at);
            assert_eq!(self.shard.get(found, self.idle_expires_at()), self.model[0].value);
        }
    }

    fn look(&mut self, key: u32, hash: u32) {
        if let Some((at, found)) = self.find(key, hash) {
            let (name, &value) = self.shard.entry(found);
            assert_eq!((name.key, name.serial, value), (key, self.model[at].serial, self.model[at].value));
        }
    }

    fn update(&mut self, key: u32, hash: u32, byte: u64) {
        let Some((at, found)) = self.find(key, hash) else { return };
        let value = self.next;
        self.next += 1;
        let weight = self.weight_of(byte);
        *self.shard.value_mut(found) = value;
        self.shard.touch(found, self.idle_expires_at());
        self.use_entry(at);
        self.model[0].value = value;
        if !self.asked.weight {
            return;
        }
        self.shard.set_newest_weight(weight, self.clock(), &mut self.removed);
        if weight > self.capacity {
            let entry = self.model.pop_front().expect("it was just used");
            self.report(entry, Cause::Capacity);
        } else {
            self.model[0].weight = 0;
            self.evict(u128::from(self.capacity - weight));
            self.model[0].weight = weight;
        }
    }

    fn remove(&mut self, key: u32, hash: u32) {
        if let Some((at, found)) = self.find(key, hash) {
            let entry = self.model.remove(at).expect("it was found");
            let (name, value) = self.shard.remove(found, &mut self.removed);
            assert_eq!((name.key, name.serial, value), (key, entry.serial, entry.value));
        }
    }

    fn pop(&mut self) {
        let popped = self.shard.pop(self.clock(), &mut self.removed).map(|(name, value)| (name.serial, value));
        let expected = loop {
            match self.model.pop_back() {
                Some(entry) if self.is_expired(&entry) => self.report(entry, Cause::Capacity),
                live => break live,
            }
        };
        assert_eq!(popped, expected.map(|entry| (entry.serial, entry.value)), "the least recently used is popped");
    }

    /// Keeps the entries whose rank among the live ones meets the condition.
    fn retain(&mut self, condition: impl Fn(u64) -> bool) {
        let (mut visited, mut ranks) = (Vec::new(), 0..);
        let mut keep = |name: &Name, &value: &u64| {
            visited.push((name.serial, value));
            condition(ranks.next().expect("ranks have no end"))
        };
        self.shard.retain(&mut keep, self.clock(), &mut self.removed);
        let (mut expected, mut ranks) = (Vec::new(), 0..);
        for entry in std::mem::take(&mut self.model) {
            if self.is_expired(&entry) {
                self.report(entry, Cause::Removed);
                continue;
            }
            expected.push((entry.serial, entry.value));
            if condition(ranks.next().expect("ranks have no end")) {
                self.model.push_back(entry);
            } else {
                self.report(entry, Cause::Removed);
            }
        }
        assert_eq!(visited, expected, "live entries are visited in their order");
    }

    fn visit(&self) {
        let mut seen = Vec::new();
        self.shard.for_each(self.clock(), |name, &value| seen.push((name.serial, value)));
        let live = self.model.iter().filter(|entry| !self.is_expired(entry));
        assert!(live.map(|entry| (entry.serial, entry.value)).eq(seen), "live entries are visited in their order");
    }

    fn clear(&mut self) {
        let cleared = self.shard.clear(self.clock()).map(|(name, value, cause)| (name.serial, value, cause));
        let mut cleared: Vec<_> = cleared.collect();
        for entry in std::mem::take(&mut self.model) {
            self.report(entry, Cause::Removed);
        }
        let mut expected = std::mem::take(&mut self.expected.reports);
        cleared.sort_unstable_by_key(|&(serial, ..)| serial);
        expected.sort_unstable_by_key(|&(serial, ..)| serial);
        assert_eq!(cleared, expected, "everything is cleared");
        assert_eq!(self.shard.memory(), (0, 0), "a cleared shard takes no memory");
    }

    fn set_capacity(&mut self, capacity: u64) {
        let is_lowered = capacity < self.capacity;
        self.shard.set_capacity(capacity as usize, self.clock(), &mut self.removed);
        self.capacity = capacity;
        self.evict(capacity.into());
        while capacity == 0 && !self.model.is_empty() {
            let oldest = self.model.pop_back().expect("it is not empty");
            self.report(oldest, Cause::Capacity);
        }
        if is_lowered {
            let ((slots, buckets), len) = (self.shard.memory(), self.model.len());
            assert!(slots <= KEEP.max(4 * len), "{slots} slots for {len} entries");
            assert!(buckets <= 4 * slots.next_power_of_two(), "{buckets} buckets for {slots} slots");
        }
    }

    /// Inserts new entries, as long as there are fewer than `CROWD`.
    fn crowd(&mut self, count: u64) {
        for _ in 0..count {
            if self.model.len() as u64 >= CROWD {
                break;
            }
            let key = 16 + self.next as u32;
            self.insert(None, key, hash_of(key, false), 1);
            self.account();
        }
    }

    /// Asserts that the expected parts were removed.
    fn account(&mut self) {
        let removed = std::mem::replace(&mut self.removed, Removed::new());
        let expected = std::mem::take(&mut self.expected);
        let mut got = Expected::default();
        for part in removed {
            match part {
                Part::Entry(name, value, Some(cause)) => got.reports.push((name.serial, value, cause)),
                Part::Entry(name, value, None) => {
                    got.keys.push(name.serial);
                    got.values.push(value);
                }
                Part::Key(name) => got.keys.push(name.serial),
                Part::Value(value) => got.values.push(value),
                // The shard was empty then; the same call may have filled it again.
                Part::Memory(_) => {}
            }
        }
        assert_eq!(got, expected, "removed parts");
    }

    fn check(&mut self) {
        self.shard.validate();
        self.account();
        let mut entries = Vec::new();
        self.shard.for_each(None, |name, &value| entries.push((name.key, name.serial, value)));
        let expected = self.model.iter().map(|entry| (entry.key, entry.serial, entry.value));
        assert!(expected.eq(entries), "the same entries in the same order");
        assert_eq!(self.shard.len(), self.model.len());
        assert_eq!(u128::from(self.shard.weight()), self.weight());
        assert_eq!(self.shard.stats, self.stats);
    }
}

#[cfg(test)]
mod tests {
    use super::source::LIMIT;
    use super::*;

    /// A shard with entries that weigh and expire.
    fn filled(entries: u32) -> Shard<u32, u32> {
        let asked = Asked { weight: true, expires_at: true, idle_expires_at: true };
        let mut shard = Shard::new(usize::MAX, asked);
        for key in 0..entries {
            let (weight, expires_at) = (u64::from(key % 7), 10 + u64::from(key % 5));
            let terms = Terms { weight, expires_at, idle_expires_at: NEVER, now: Some(0) };
            let mut removed = Removed::new();
            assert_eq!(shard.insert(None, hash_of(key, false), (key, !key), terms, &mut removed), None);
            assert!(removed.is_empty());
        }
        shard
    }

    #[test]
    fn retain_keeps_the_same_entries_in_less_memory() {
        let mut shard = filled(4_000);
        let before = shard.memory();
        let mut removed = Removed::new();
        shard.retain(&mut |&key, _| key % 10 == 3, None, &mut removed);
        shard.validate();
        let after = shard.memory();
        assert!(after.0 <= before.0 / 4 && after.1 <= before.1 / 4, "{before:?} and {after:?}");
        for key in (3..4_000).step_by(10) {
            let found = shard.find(hash_of(key, false), &key).expect("it was kept");
            assert_eq!(shard.entry(found), (&key, &!key));
            let expires_at = 10 + u64::from(key % 5);
            assert!(!shard.is_expired(found, Some(expires_at - 1)) && shard.is_expired(found, Some(expires_at)));
        }
        assert_eq!((shard.len(), shard.weight()), (400, (3..4_000_u64).step_by(10).map(|key| key % 7).sum()));
        let order: Vec<_> =
            removed.into_iter().map(|part| if let Part::Entry(key, ..) = part { key } else { 0 }).collect();
        assert!(order.into_iter().eq((0..4_000).rev().filter(|key| key % 10 != 3)), "removed in the order of use");
    }

    #[test]
    fn a_shard_without_a_free_slot_evicts_the_least_recently_used() {
        let mut shard = filled(LIMIT as u32);
        let key = LIMIT as u32;
        let terms = Terms { weight: 0, now: Some(0), ..Terms::PLAIN };
        let mut removed = Removed::new();
        shard.insert(None, hash_of(key, false), (key, 0), terms, &mut removed);
        shard.validate();
        assert_eq!((shard.len(), shard.stats.evictions), (LIMIT, 1));
        assert!(matches!(removed.into_iter().next(), Some(Part::Entry(0, _, Some(Cause::Capacity)))));
        let mut oldest = None;
        shard.for_each(None, |&key, _| oldest = Some(key));
        assert_eq!(oldest, Some(1));
    }

    /// The bytes that an entry takes beside key and value.
    fn overhead(asked: Asked) -> usize {
        let mut shard = Shard::<u64, u64>::new(LIMIT, asked);
        for key in 0..LIMIT as u64 {
            let hash = hash_of(key as u32, false);
            shard.insert(None, hash, (key, key), Terms::PLAIN, &mut Removed::new());
        }
        shard.bytes() / shard.len() - size_of::<(u64, u64)>()
    }

    #[test]
    fn an_entry_takes_as_many_bytes_as_the_documentation_says() {
        for bits in 0..8 {
            let [weight, expires_at, idle_expires_at] = [1, 2, 4].map(|bit| bits & bit > 0);
            let columns = [weight, expires_at, idle_expires_at].into_iter().filter(|&asked| asked).count();
            let overhead = overhead(Asked { weight, expires_at, idle_expires_at });
            // 16 for links and hash, 8 to 16 in the table.
            assert!((24..=32).contains(&(overhead - 8 * columns)), "{overhead} with {columns} columns");
        }
    }
}
