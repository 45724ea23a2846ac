//! Plays sequences of operations on an arena and on a model that is obviously right, and compares them.
//!
//! A sequence is decoded from bytes, so that a fuzzer can write it: three to a step, of which the first says what to do
//! and the others with what. They are read by hand because a build for fuzzing has no development dependencies. The
//! model is a `VecDeque` per list, a `Vec` per ring, what is in neither, and the keys that have died.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use super::{Arena, KEEP, Key, List};

const LISTS: usize = 3;
const RINGS: usize = 2;

/// More than are kept in reserve, so that growing and giving back are part of the game.
const CROWD: usize = 3 * KEEP;

/// Dead keys that are remembered. Few, so that the next victim is likely to meet a slot that lives again.
const DEAD: usize = 16;

type Live = (Key, u64);

struct Game {
    arena: Arena<u64>,
    lists: [List; LISTS],
    model: [VecDeque<Live>; LISTS],
    /// Each from some place round to before it.
    rings: [Vec<Live>; RINGS],
    /// In no list or ring, and still in the arena.
    loose: Vec<Live>,
    dead: VecDeque<Key>,
    next: u64,
}

/// Plays the sequence that `data` stands for.
///
/// # Panics
///
/// When the arena does anything else than the model.
pub fn run(data: &[u8]) {
    let mut game = Game {
        arena: Arena::new(),
        lists: [List::new(); LISTS],
        model: Default::default(),
        rings: Default::default(),
        loose: Vec::new(),
        dead: VecDeque::new(),
        next: 0,
    };
    // Begin a few insertions before the stamps wrap.
    let first = u32::MAX - data.first().map_or(0, |&byte| byte.into());
    game.arena.last_stamp = NonZeroU32::new(first).expect("a stamp near the end");
    for step in data.chunks_exact(3) {
        game.step(step[0], step[1].into(), step[2].into());
        game.check();
    }
    game.settle();
    game.clear();
}

impl Game {
    fn step(&mut self, what: u8, a: usize, b: usize) {
        let list = a % LISTS;
        match what % 29 {
            0..=4 => self.push(list),
            5..=6 => self.pop(list),
            7..=8 => self.link(list, b),
            9..=12 => {
                if let Some((at, key, _)) = self.pick(a, b) {
                    self.remove(at, key);
                }
            }
            13..=14 => self.touch(a, b),
            15..=16 => self.disturb_the_dead(b),
            17 => self.append(list, (list + 1 + b % (LISTS - 1)) % LISTS),
            18 => (0..2 * b).for_each(|_| self.push(list)),
            19 => self.insert(),
            20..=22 => self.unlink(a, b),
            23..=25 => self.join(a, b),
            26..=27 => self.part(a, b),
            _ => self.leave_but_every(list, 1 + b % 64),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Live> {
        self.model.iter().flatten().chain(self.rings.iter().flatten()).chain(&self.loose)
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
            self.arena.link_front(&mut self.lists[list], live.0);
            self.model[list].push_front(live);
        }
    }

    /// Puts one into a ring.
    fn join(&mut self, a: usize, b: usize) {
        let Some(live) = self.catch(b) else { return };
        let ring = &mut self.rings[a % RINGS];
        let place = b % ring.len().max(1);
        self.arena.join(ring.get(place).map(|before| before.0), live.0);
        ring.insert(ring.len().min(place + 1), live);
    }

    fn part(&mut self, a: usize, b: usize) {
        let ring = &mut self.rings[a % RINGS];
        if !ring.is_empty() {
            let live = ring.remove(b % ring.len());
            self.arena.part(live.0);
            self.loose.push(live);
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
        self.dead.push_back(key);
        if self.dead.len() > DEAD {
            self.dead.pop_front();
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

    fn disturb_the_dead(&mut self, which: usize) {
        if let Some(&key) = self.dead.get(which % self.dead.len().max(1)) {
            assert_eq!(self.arena.get(key), None, "a dead key answers");
            assert_eq!(self.arena.get_mut(key), None, "a dead key answers");
            assert_eq!(self.arena.remove(key, |_| unreachable!("a dead key has no list")), None);
        }
    }

    fn append(&mut self, to: usize, from: usize) {
        let mut list = self.lists[from];
        self.arena.append(&mut self.lists[to], &mut list);
        self.lists[from] = list;
        let moved = std::mem::take(&mut self.model[from]);
        self.model[to].extend(moved);
    }

    /// Everybody in `list` leaves, but for one in so many.
    fn leave_but_every(&mut self, list: usize, stays: usize) {
        let keys: Vec<_> = self.model[list].iter().map(|live| live.0).collect();
        for (_, key) in keys.into_iter().enumerate().filter(|(index, _)| index % stays != stays - 1) {
            self.remove(Some(list), key);
        }
    }

    fn check(&self) {
        let rings: Vec<_> = self.rings.iter().filter_map(|ring| Some(ring.first()?.0)).collect();
        self.arena.validate_with_rings(&self.lists.each_ref(), &rings);
        for (list, model) in self.lists.iter().zip(&self.model) {
            assert_eq!(list.len(), model.len());
            assert_eq!(list.is_empty(), model.is_empty());
            assert!(self.arena.iter(list).eq(model.iter().map(|live| &live.1)), "a list is not what it should be");
            assert_eq!(self.arena.front(list), model.front().map(|live| live.0), "a list begins elsewhere");
            assert_eq!(self.arena.back(list), model.back().map(|live| live.0), "a list ends elsewhere");
        }
        for ring in &self.rings {
            for (at, live) in ring.iter().enumerate() {
                let next = ring[(at + 1) % ring.len()];
                assert_eq!(self.arena.after(live.0), next.0, "a ring goes elsewhere");
                assert_eq!(self.arena.before(next.0), live.0, "a ring comes from elsewhere");
            }
        }
        for &(key, value) in self.all() {
            assert_eq!(self.arena.get(key), Some(&value));
        }
        let (slots, capacity) = (self.arena.slots.len(), self.arena.slots.capacity());
        assert_eq!(slots, self.living() + self.arena.vacant.len(), "a slot is neither taken nor vacant");
        assert_eq!(self.arena.len(), self.living(), "values are lost, or kept");
        let last = self.all().map(|live| live.0.index() as usize + 1).max();
        assert_eq!(slots, last.unwrap_or(0), "slots beyond the last one taken");
        assert!(capacity <= KEEP || capacity < 4 * slots, "{capacity} slots are kept for {slots}");
    }

    /// Those who live are replaced, the oldest first: before long memory must have come down to what they need.
    fn settle(&mut self) {
        for ring in 0..RINGS {
            (0..self.rings[ring].len()).for_each(|at| self.part(ring, at));
        }
        while let Some(&(key, _)) = self.loose.first() {
            self.remove(None, key);
        }
        for list in 1..LISTS {
            self.append(0, list);
        }
        let (living, slots) = (self.living(), self.arena.slots.len());
        let mut patience = 16 * slots;
        while self.arena.slots.len() > 2 * living {
            assert!(patience > 0, "{} of once {slots} slots are kept for {living}", self.arena.slots.len());
            patience -= 1;
            self.remove(Some(0), self.model[0][0].0);
            self.push(0);
        }
        self.check();
    }

    fn clear(&mut self) {
        while let Some(&(key, _)) = self.model[0].front() {
            self.remove(Some(0), key);
        }
        self.check();
        assert!(self.arena.slots.is_empty());
    }
}

/// Plays a game of the fuzzer's from fixed seeds; `STANCHION_SEEDS` says how many.
#[cfg(test)]
pub(crate) fn play(game: fn(&[u8])) {
    use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

    let seeds = std::env::var("STANCHION_SEEDS").map_or(100, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 0..seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut data = vec![0; rng.random_range(0..1_500)];
        rng.fill_bytes(&mut data);
        eprintln!("seed {seed}"); // shown if it fails
        game(&data);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sequences() {
        super::play(super::run);
    }
}
