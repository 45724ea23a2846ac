//! Random operations on an arena, compared with a model: a `VecDeque` for each list, a `Vec` of the values that are in no
//! list, and keys of values that were removed.
//!
//! The operations are decoded from bytes, three for each: the first chooses it, the others its arguments. The arena is
//! private to the crate, so its source is compiled into this test.

#[allow(dead_code)]
#[path = "../../src/arena.rs"]
mod source;

use std::collections::VecDeque;

use source::{Arena, KEEP, Key, List};

const LISTS: usize = 3;

/// More than an empty arena keeps, so that memory is taken and given back.
const CROWD: usize = 3 * KEEP;

/// The keys of removed values that are kept. Few, so that their slots are likely to be occupied again.
const STALE: usize = 16;

type Live = (Key, u64);

struct Test {
    arena: Arena<u64>,
    lists: [List; LISTS],
    model: [VecDeque<Live>; LISTS],
    /// In the arena and in no list.
    loose: Vec<Live>,
    stale: VecDeque<Key>,
    next: u64,
    /// The most values that were in the arena at once.
    peak: usize,
}

/// Runs the operations that `data` encodes.
///
/// # Panics
///
/// When the arena does anything else than the model.
pub(crate) fn run(data: &[u8]) {
    let mut test = Test {
        arena: Arena::new(),
        lists: [List::new(); LISTS],
        model: Default::default(),
        loose: Vec::new(),
        stale: VecDeque::new(),
        next: 0,
        peak: 0,
    };
    for step in data.chunks_exact(3) {
        test.step(step[0], step[1].into(), step[2].into());
        test.peak = test.peak.max(test.living());
        test.check();
    }
    test.clear();
}

impl Test {
    fn step(&mut self, what: u8, a: usize, b: usize) {
        let list = a % LISTS;
        match what % 24 {
            0..=4 => self.push(list),
            5..=6 => self.pop(list),
            7..=8 => self.link(list, b),
            9..=12 => {
                if let Some((at, key, _)) = self.pick(a, b) {
                    self.remove(at, key);
                }
            }
            13..=14 => self.touch(a, b),
            15..=16 => self.use_a_stale_key(b),
            17 => self.append(list, (list + 1 + b % (LISTS - 1)) % LISTS),
            18 => (0..2 * b).for_each(|_| self.push(list)),
            19 => self.insert(),
            20..=22 => self.unlink(a, b),
            _ => self.remove_all_but_every(list, 1 + b % 64),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Live> {
        self.model.iter().flatten().chain(&self.loose)
    }

    fn living(&self) -> usize {
        self.all().count()
    }

    /// Some living value, and the list that it is in.
    fn pick(&self, a: usize, b: usize) -> Option<(Option<usize>, Key, u64)> {
        let at = Some(a % (LISTS + 1)).filter(|&list| list < LISTS);
        let (key, value) = match at {
            Some(list) => *self.model[list].get(b % self.model[list].len().max(1))?,
            None => *self.loose.get(b % self.loose.len().max(1))?,
        };
        Some((at, key, value))
    }

    fn push(&mut self, list: usize) {
        if self.living() < CROWD {
            let key = self.arena.push_back(&mut self.lists[list], self.next);
            self.model[list].push_back((key, self.next));
            self.next += 1;
        }
    }

    fn pop(&mut self, list: usize) {
        let popped = self.arena.pop_front(&mut self.lists[list]).map(|(key, value)| (key, *value));
        assert_eq!(popped, self.model[list].pop_front(), "the head of list {list}");
        self.loose.extend(popped);
    }

    fn insert(&mut self) {
        if self.living() < CROWD {
            self.loose.push((self.arena.insert(self.next), self.next));
            self.next += 1;
        }
    }

    fn link(&mut self, list: usize, which: usize) {
        let Some(live) = self.catch(which) else { return };
        if which % 2 == 0 {
            self.arena.link_back(&mut self.lists[list], live.0);
            self.model[list].push_back(live);
        } else {
            let place = which % (self.model[list].len() + 1);
            let before = place.checked_sub(1).map(|before| self.model[list][before].0);
            self.arena.link_after(&mut self.lists[list], before, live.0);
            self.model[list].insert(place, live);
        }
    }

    /// One that is loose, to be put into a list.
    fn catch(&mut self, which: usize) -> Option<Live> {
        (!self.loose.is_empty()).then(|| self.loose.swap_remove(which % self.loose.len()))
    }

    fn unlink(&mut self, a: usize, b: usize) {
        let Some((Some(list), key, value)) = self.pick(a, b) else { return };
        self.arena.unlink(&mut self.lists[list], key);
        self.model[list].retain(|live| live.0 != key);
        self.loose.push((key, value));
    }

    fn remove(&mut self, at: Option<usize>, key: Key) {
        let value = match at {
            Some(list) => {
                let position = self.model[list].iter().position(|live| live.0 == key).expect("it is in this list");
                self.model[list].remove(position).expect("it is in this list").1
            }
            None => {
                let position = self.loose.iter().position(|live| live.0 == key).expect("it is loose");
                self.loose.swap_remove(position).1
            }
        };
        let lists = &mut self.lists;
        let removed = self.arena.remove(key, |&asked| {
            assert_eq!(asked, value, "asked for the list of another value");
            at.map(|list| &mut lists[list])
        });
        assert_eq!(removed, Some(value), "the value of {key:?}");
        self.stale.push_back(key);
        if self.stale.len() > STALE {
            self.stale.pop_front();
        }
    }

    /// Changes a value in place.
    fn touch(&mut self, a: usize, b: usize) {
        let Some((at, key, value)) = self.pick(a, b) else { return };
        assert_eq!(self.arena.get(key), Some(&value));
        *self.arena.get_mut(key).expect("it lives") = self.next;
        let live = match at {
            Some(list) => self.model[list].iter_mut().find(|live| live.0 == key),
            None => self.loose.iter_mut().find(|live| live.0 == key),
        };
        live.expect("it lives").1 = self.next;
        self.next += 1;
    }

    fn use_a_stale_key(&mut self, which: usize) {
        if let Some(&key) = self.stale.get(which % self.stale.len().max(1)) {
            assert_eq!(self.arena.get(key), None, "a stale key finds nothing");
            assert_eq!(self.arena.get_mut(key), None, "a stale key finds nothing");
            assert_eq!(self.arena.remove(key, |_| unreachable!("a stale key has no list")), None);
        }
    }

    fn append(&mut self, to: usize, from: usize) {
        let mut list = self.lists[from];
        self.arena.append(&mut self.lists[to], &mut list);
        self.lists[from] = list;
        let moved = std::mem::take(&mut self.model[from]);
        self.model[to].extend(moved);
    }

    /// Removes the values of `list`, except one in `kept`.
    fn remove_all_but_every(&mut self, list: usize, kept: usize) {
        let keys: Vec<_> = self.model[list].iter().map(|live| live.0).collect();
        for (_, key) in keys.into_iter().enumerate().filter(|(index, _)| index % kept != kept - 1) {
            self.remove(Some(list), key);
        }
    }

    fn check(&self) {
        self.arena.validate(&self.lists.each_ref());
        for (list, model) in self.lists.iter().zip(&self.model) {
            assert_eq!(list.len(), model.len());
            assert_eq!(list.is_empty(), model.is_empty());
            assert!(self.arena.iter(list).eq(model.iter().map(|live| &live.1)), "a list is not what it should be");
            assert_eq!(self.arena.front(list), model.front().map(|live| live.0), "a list begins elsewhere");
            assert_eq!(self.arena.back(list), model.back().map(|live| live.0), "a list ends elsewhere");
        }
        for &(key, value) in self.all() {
            assert_eq!(self.arena.get(key), Some(&value));
        }
        assert_eq!(self.arena.len(), self.living(), "the number of values");
        let reuses = self.all().all(|live| (live.0.index() as usize) < self.peak);
        assert!(reuses, "a vacant slot is reused before a new one is made");
    }

    /// Removes everything, and takes the memory out if there was more than an empty arena keeps.
    fn clear(&mut self) {
        while let Some(&(key, _)) = self.loose.first() {
            self.remove(None, key);
        }
        for list in 0..LISTS {
            self.remove_all_but_every(list, usize::MAX);
        }
        self.check();
        assert_eq!(self.arena.take_surplus().is_some(), self.peak > KEEP);
        assert!(self.arena.take_surplus().is_none(), "it is taken once");
        self.arena.validate(&self.lists.each_ref());
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn an_arena_beyond_its_limit_panics_and_has_not_changed() {
        const LIMIT: usize = 5_000; // in tests
        let mut arena = Arena::new();
        let keys: Vec<Key> = (0..LIMIT).map(|value| arena.insert(value)).collect();
        assert!(catch_unwind(AssertUnwindSafe(|| arena.insert(LIMIT))).is_err());
        assert_eq!(arena.len(), LIMIT);
        arena.remove(keys[7], |_| None);
        assert_eq!(arena.insert(7).index(), 7);
    }

    #[test]
    fn an_arena_keeps_no_more_slots_than_it_may() {
        for (slots, is_surplus) in [(KEEP, false), (KEEP + 1, true)] {
            let mut arena = Arena::new();
            let keys: Vec<Key> = (0..slots).map(|value| arena.insert(value)).collect();
            for key in keys {
                arena.remove(key, |_| None);
            }
            assert_eq!(arena.take_surplus().is_some(), is_surplus, "{slots} slots");
        }
    }
}
