//! The in-flight loads of a shard: one load for all callers of a key. Plain data; [`load`](super::load) has the
//! callers.
//!
//! The first caller to miss *leads*: it runs its loader. Those that come meanwhile *follow*: they wait for what the
//! leader publishes. A load is *registered* as long as its key finds it; then others join it, and what is loaded will
//! be stored. Inserting, removing or clearing the key takes the registration away: the load goes on for those that
//! asked before, and nothing stale is stored. Nothing that was loaded can be stored but through the registration of
//! this very load.
//!
//! | stage | its leader | its followers | comes next |
//! |---|---|---|---|
//! | loading | runs its loader | are queued | published, ended or leaderless |
//! | leaderless | has left; the first follower was granted the lead and has not run yet | are queued, but one | loading, when that one runs; published, ended |
//! | published | has left, or was superseded by an insert | are woken, and take the value | removed with the last member |
//! | ended | has left, or was superseded | are woken, and start over | removed with the last member |
//!
//! **Wakes.** A value wakes all followers, an error those that can take it. A leader that is dropped, or fails with an
//! error that some follower cannot take, grants the lead to the longest waiting of those that are left; if the load is
//! not registered any more it ends, and they all look again from the beginning. A follower that is dropped before it
//! takes up the lead passes it on. Leader and followers are members, and the last one to leave removes the load.

use std::any::{Any, TypeId};
use std::borrow::Borrow;
use std::mem::take;
use std::sync::Arc;
use std::task::{Poll, Waker};

use hashbrown::HashTable;

use super::deferred::Deferred;
use super::shard::{Part, Removed};
use crate::arena::{Arena, KEEP, Key, Surplus};
use crate::sync::ThreadId;
use crate::wait_list::{NeedsClone, Removed as RemovedWaiter, TaskWaker, WaitList, WakeBatch};

pub(super) struct Flights<K, V> {
    loads: Arena<Load<K, V>>,
    /// The registered ones.
    index: Index,
}

pub(super) struct Load<K, V> {
    /// As long as it is registered.
    key: Option<K>,
    hash: u32,
    stage: Stage<V>,
    /// The leader, if there is one, and the followers, served or not, that have not left.
    members: usize,
    /// Each with the type of the errors that it can take.
    followers: WaitList<TypeId, Grant>,
}

enum Stage<V> {
    /// With the thread that its leader blocks, if it does.
    Loading(Option<ThreadId>),
    Leaderless,
    Published(V),
    Ended,
}

/// The reason for which a follower is woken, unless the load was published or has ended.
pub(super) enum Grant {
    Lead,
    Error(AnyError),
}

pub(super) type AnyError = Arc<dyn Any + Send + Sync>;

/// The next step of a follower that was served.
pub(super) enum Outcome<V> {
    Value(V),
    Error(AnyError),
    Lead,
    StartOver,
}

/// The memory of many loads, of which the last was removed, and of their index; to be freed without the lock.
pub(super) type Memory<K, V> = Box<(Box<Surplus<Load<K, V>>>, Index)>;

/// The hashes of keys, and their loads.
type Index = HashTable<(u32, Key)>;

/// The parts of a served follower that are to be dropped without the lock.
pub(super) type Remains = RemovedWaiter<TypeId, Grant>;

impl<K, V> Flights<K, V> {
    pub(super) const fn new() -> Self {
        Self { loads: Arena::new(), index: HashTable::new() }
    }

    /// The registered load of a key.
    #[inline(always)]
    pub(super) fn find<Q>(&self, hash: u32, key: &Q) -> Option<Key>
    where
        Q: Eq + ?Sized,
        K: Borrow<Q>,
    {
        if self.index.is_empty() {
            return None;
        }
        let is_of_key = |&(held, load): &(u32, Key)| {
            held == hash && self.registration(load).1.is_some_and(|registered| registered.borrow() == key)
        };
        self.index.find(spread(hash), is_of_key).map(|&(_, load)| load)
    }

    /// The hash of a load's key, and the key as long as the load is registered.
    pub(super) fn registration(&self, load: Key) -> (u32, Option<&K>) {
        let load = self.loads.get(load).expect("a load stays until its last member leaves");
        (load.hash, load.key.as_ref())
    }

    /// Registers a load, which its leader begins.
    pub(super) fn begin(&mut self, hash: u32, key: K, thread: Option<ThreadId>) -> Key {
        let stage = Stage::Loading(thread);
        let load = self.loads.insert(Load { key: Some(key), hash, stage, members: 1, followers: WaitList::new() });
        self.index.insert_unique(spread(hash), (hash, load), |&(hash, _)| spread(hash));
        load
    }

    pub(super) fn follow(&mut self, load: Key, errors: TypeId, waker: Waker) -> Key {
        let load = self.get(load);
        // First, since it panics at the limit of waiters.
        let follower = load.followers.enqueue(errors, waker);
        load.members += 1;
        follower
    }

    /// The thread that the leader blocks, if it does.
    pub(super) fn leading_thread(&mut self, load: Key) -> Option<ThreadId> {
        match self.get(load).stage {
            Stage::Loading(thread) => thread,
            Stage::Leaderless | Stage::Published(_) | Stage::Ended => None,
        }
    }

    /// Returns true if a follower would take a value.
    pub(super) fn is_awaited(&mut self, load: Key) -> bool {
        let load = self.get(load);
        match load.stage {
            Stage::Loading(_) => !load.followers.is_empty(),
            Stage::Leaderless => true,
            Stage::Published(_) | Stage::Ended => false,
        }
    }

    /// Asks whether a follower is served. One that is granted the lead goes on with the load; any other leaves.
    pub(super) fn poll(
        &mut self,
        load: Key,
        follower: Key,
        waker: &mut TaskWaker<'_>,
        thread: Option<ThreadId>,
        deferred: &mut Deferred<K, V>,
    ) -> Result<Poll<(Outcome<V>, Remains)>, NeedsClone>
    where
        V: Clone,
    {
        let Load { stage, followers, .. } = self.get(load);
        let has_error = matches!(followers.granted(follower), Some(Grant::Error(_)));
        // User code: nothing has changed yet if it panics.
        let value = match stage {
            Stage::Published(value) if !has_error => Some(value.clone()),
            _ => None,
        };
        let Poll::Ready(mut remains) = followers.poll(follower, waker)? else { return Ok(Poll::Pending) };
        let outcome = match (remains.grant.take(), value) {
            (Some(Grant::Error(error)), _) => Outcome::Error(error),
            (Some(Grant::Lead), _) if matches!(stage, Stage::Leaderless) => {
                *stage = Stage::Loading(thread);
                return Ok(Poll::Ready((Outcome::Lead, remains)));
            }
            (_, Some(value)) => Outcome::Value(value),
            (_, None) => Outcome::StartOver,
        };
        self.leave(load, deferred);
        Ok(Poll::Ready((outcome, remains)))
    }

    /// Takes the registration of a load, to store what was loaded: `None` if it may be stale.
    ///
    /// The key does not find the load any more.
    pub(super) fn unregister(&mut self, load: Key) -> Option<K> {
        let Load { key, hash, .. } = self.get(load);
        let (key, hash) = (key.take()?, *hash);
        let indexed = self.index.find_entry(spread(hash), |&(_, held)| held == load);
        indexed.expect("a registered load is in the index").remove();
        Some(key)
    }

    /// Unregisters a load that has begun: its value may be stale, and will not be stored. A leaderless load has not
    /// begun and stays registered.
    pub(super) fn invalidate(&mut self, load: Key) -> Option<K> {
        match self.get(load).stage {
            Stage::Loading(_) => self.unregister(load),
            Stage::Leaderless | Stage::Published(_) | Stage::Ended => None,
        }
    }

    /// [Invalidates](Self::invalidate) all.
    pub(super) fn invalidate_all(&mut self, removed: &mut Removed<K, V>) {
        let Self { loads, index } = self;
        index.retain(|&mut (_, load)| {
            let load = loads.get_mut(load).expect("the index has loads that are there");
            let is_loading = matches!(load.stage, Stage::Loading(_));
            if let Some(key) = load.key.take_if(|_| is_loading) {
                removed.push(Part::Key(key));
            }
            !is_loading
        });
    }

    /// Publishes a value that was inserted: it goes to the followers, and what is loaded is not stored.
    #[cold]
    pub(super) fn supersede(&mut self, load: Key, value: Option<V>, deferred: &mut Deferred<K, V>) {
        if let Some(key) = self.unregister(load) {
            deferred.removed.push(Part::Key(key));
        }
        self.end(load, value, deferred);
    }

    /// Publishes a value, or ends the load without one, if neither was done before: serves its followers.
    pub(super) fn end(&mut self, at: Key, value: Option<V>, deferred: &mut Deferred<K, V>) {
        let load = self.get(at);
        if matches!(load.stage, Stage::Loading(_) | Stage::Leaderless) {
            load.stage = value.map_or(Stage::Ended, Stage::Published);
            let has_followers = !load.followers.is_empty();
            load.followers.close();
            if has_followers {
                load.followers.take_wakers(&mut deferred.of_load(at).batch);
            }
        }
    }

    /// Gives an error to the followers that can take it, and [abandons](Self::abandon) the load.
    pub(super) fn fail<E: Send + Sync + 'static>(&mut self, load: Key, error: &Arc<E>, deferred: &mut Deferred<K, V>) {
        let grant = |errors: &TypeId| (*errors == TypeId::of::<E>()).then(|| Grant::Error(error.clone()));
        self.get(load).followers.grant_each(grant, &mut deferred.of_load(load).batch);
        self.abandon(load, deferred);
    }

    /// The load has no leader any more: grants the lead to the longest waiting follower. Without followers, or if
    /// nothing would be stored, the load ends.
    pub(super) fn abandon(&mut self, at: Key, deferred: &mut Deferred<K, V>) {
        let load = self.get(at);
        if load.key.is_some() && !load.followers.is_empty() {
            load.stage = Stage::Leaderless;
            load.followers.grant_front(Grant::Lead, &mut deferred.of_load(at).batch);
        } else {
            self.end(at, None, deferred);
            if let Some(key) = self.unregister(at) {
                deferred.removed.push(Part::Key(key));
            }
        }
    }

    /// A follower is dropped. If it had been granted the lead, that is passed on. What is left of it is to be dropped
    /// without the lock.
    pub(super) fn cancel(&mut self, load: Key, follower: Key, deferred: &mut Deferred<K, V>) -> Option<Remains> {
        let cancelled = self.get(load).followers.remove(follower);
        if cancelled.as_ref().is_some_and(|cancelled| matches!(cancelled.grant, Some(Grant::Lead))) {
            self.abandon(load, deferred);
        }
        self.leave(load, deferred);
        cancelled
    }

    /// A member leaves, the last one with what is left.
    pub(super) fn leave(&mut self, at: Key, deferred: &mut Deferred<K, V>) {
        let load = self.get(at);
        load.members -= 1;
        if load.members == 0 {
            let load = self.loads.remove(at, |_| None).expect("a load stays until its last member leaves");
            if let Stage::Published(value) = load.stage {
                deferred.removed.push(Part::Value(value));
            }
            if let Some(loads) = self.loads.take_surplus() {
                // No load is left, so none is registered.
                deferred.of_load(at).memory = Some(Box::new((loads, take(&mut self.index))));
            }
        }
    }

    /// Moves wakers that are to be woken into `batch`, if the load is still there.
    pub(super) fn take_wakers(&mut self, load: Key, batch: &mut WakeBatch) {
        if let Some(load) = self.loads.get_mut(load) {
            load.followers.take_wakers(batch);
        }
    }

    /// Returns the number of loads, registered or not.
    pub(super) fn len(&self) -> usize {
        self.loads.len()
    }

    fn get(&mut self, load: Key) -> &mut Load<K, V> {
        self.loads.get_mut(load).expect("a load stays until its last member leaves")
    }

    /// Checks every invariant.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    pub(super) fn validate(&self) {
        assert!(self.loads.len() > 0 || self.index.capacity() <= 4 * KEEP, "memory is given back");
        for &(hash, load) in &self.index {
            let load = self.loads.get(load).expect("the index has loads that are there");
            assert!(load.hash == hash && load.key.is_some(), "the index has registered loads");
        }
        self.loads.validate(&[]);
        let mut registered = 0;
        for load in self.loads.values() {
            load.followers.validate();
            let has_ended = matches!(load.stage, Stage::Published(_) | Stage::Ended);
            let has_leader = load.members > load.followers.len();
            assert!(has_leader || !matches!(load.stage, Stage::Loading(_)), "a load that runs has a leader");
            assert!(load.members > 0, "a load without members is removed");
            assert!(!has_ended || load.followers.is_empty(), "a load that has ended has served its followers");
            assert!(!has_ended || load.key.is_none(), "a load that has ended is not registered");
            assert!(load.key.is_some() || !matches!(load.stage, Stage::Leaderless), "what is granted will be stored");
            registered += usize::from(load.key.is_some());
        }
        assert_eq!(self.index.len(), registered, "the index has all registered loads");
    }
}

/// A hash as a table wants it: it finds the place by the low bits and tells neighbours apart by the highest.
#[inline(always)]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}
