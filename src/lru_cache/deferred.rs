//! What a call puts off until it has unlocked.

use super::flight::Memory;
use super::shard::{Part, Removed};
use super::{Locked, Settings};
use crate::arena::Key;
use crate::panic::Panics;
use crate::wait_list::WakeBatch;

/// Reports, drops and wakes, which are user code and must not run under the lock.
pub(super) struct Deferred<K, V> {
    pub(super) removed: Removed<K, V>,
    /// `None` in most calls: no load was in flight.
    pub(super) of_load: Option<OfLoad<K, V>>,
    /// Panics of wakers are for the caller to hear of. By default they are not: it has something in hand.
    pub(super) is_loud: bool,
}

/// The deferred work of a load.
pub(super) struct OfLoad<K, V> {
    load: Key,
    /// The first of its followers' wakers.
    pub(super) batch: WakeBatch,
    /// If it was the last of many.
    pub(super) memory: Option<Memory<K, V>>,
}

impl<K, V> Deferred<K, V> {
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self { removed: Removed::new(), of_load: None, is_loud: false }
    }

    /// What is put off for this load, the only one that the call is about.
    pub(super) fn of_load(&mut self, load: Key) -> &mut OfLoad<K, V> {
        self.of_load.get_or_insert_with(|| OfLoad { load, batch: WakeBatch::default(), memory: None })
    }

    /// Reports and drops what was removed from this shard, each part for itself: a panic of one keeps the others
    /// neither from being reported nor from panicking, too. Wakes in the end.
    #[inline(never)]
    pub(super) fn run(self, settings: &Settings<K, V>, shard: &Locked<K, V>, panics: &mut Panics) {
        for part in self.removed {
            release(part, settings, panics);
        }
        if let Some(OfLoad { load, mut batch, memory }) = self.of_load {
            drop(memory);
            let mut of_wakers = Panics::default();
            of_wakers.catch(|| batch.wake(|batch| shard.lock().flights.take_wakers(load, batch)));
            if self.is_loud {
                panics.catch(|| of_wakers.resume());
            } else {
                of_wakers.discard();
            }
        }
    }
}

/// Reports or drops a part of an entry.
pub(super) fn release<K, V>(part: Part<K, V>, settings: &Settings<K, V>, panics: &mut Panics) {
    match (part, &settings.listener) {
        (Part::Entry(key, value, Some(cause)), Some(report)) => {
            panics.catch(|| report(key, value, cause));
        }
        (Part::Entry(key, value, _), _) => {
            panics.catch(|| drop(key));
            panics.catch(|| drop(value));
        }
        (Part::Key(key), _) => {
            panics.catch(|| drop(key));
        }
        (Part::Value(value), _) => {
            panics.catch(|| drop(value));
        }
        (Part::Memory(memory), _) => drop(memory),
    }
}
