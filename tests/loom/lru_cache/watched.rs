//! A cache whose statistics and loads are checked, and its callers.

use loom::thread::{self, JoinHandle};
use stanchion::{Cause, LruCache, LruCacheBuilder, blocking};
use std::future::{Future, pending};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;

use self::When::{Later, Never, Now};
use crate::support::{Data, Item, poll_noop};

pub(super) const A: u8 = 1;
pub(super) const B: u8 = 2;
pub(super) const C: u8 = 3;

/// The end of a load: in its first poll, in its second, or never.
#[derive(Clone, Copy)]
pub(super) enum When {
    Now,
    Later,
    Never,
}

impl When {
    pub(super) async fn come(self) {
        match self {
            Now => {}
            Later => {
                let mut yielded = false;
                std::future::poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            Never => pending().await,
        }
    }
}

/// Errors, of a type for each letter.
pub(super) struct Failed<const TYPE: char>(Item);

/// The numbers of an outcome.
pub(super) fn numbers<const TYPE: char>(outcome: &Outcome<TYPE>) -> Result<u8, u8> {
    outcome.as_ref().copied().map_err(|error| error.0.get())
}

pub(super) type Outcome<const TYPE: char> = Result<u8, Arc<Failed<TYPE>>>;
pub(super) type Load<R = u8> = Pin<Box<dyn Future<Output = R>>>;
/// The hasher has no seed: runs are alike.
pub(super) type Hasher = BuildHasherDefault<DefaultHasher>;
pub(super) type Cache = LruCache<u8, Arc<Item>, Hasher>;
pub(super) type Builder = LruCacheBuilder<u8, Arc<Item>, Hasher>;

/// A cache, and all that is needed to check its statistics in the end and that no key is loaded twice at a time.
pub(super) struct Watched {
    pub(super) cache: Cache,
    pub(super) seen: Seen,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) callers: AtomicUsize,
    pub(super) begun: AtomicUsize,
    pub(super) failed: AtomicUsize,
    pub(super) removed: AtomicUsize,
    pub(super) cleared: AtomicBool,
    /// Written when a load of a key begins and ends: loom fails a model in which two loads run at a time.
    pub(super) loading: [Data; 4],
    pub(super) may_overlap: AtomicBool,
}

pub(super) fn watched(capacity: usize) -> Arc<Watched> {
    around(LruCache::with_hasher(capacity, Hasher::default()))
}

pub(super) fn around(cache: Cache) -> Arc<Watched> {
    Arc::new(Watched { cache, seen: Seen::default() })
}

/// A load while it runs.
pub(super) struct Loading<'a>(&'a Seen, u8);

impl<'a> Loading<'a> {
    pub(super) fn begin(seen: &'a Seen, key: u8) -> Self {
        seen.begun.fetch_add(1, Relaxed);
        seen.touch(key);
        Self(seen, key)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.touch(self.1);
    }
}

impl Seen {
    pub(super) fn touch(&self, key: u8) {
        if !self.may_overlap.load(Relaxed) {
            self.loading[usize::from(key)].increment();
        }
    }

    pub(super) fn call(&self) {
        self.callers.fetch_add(1, Relaxed);
    }

    /// The result of a load that may fail.
    pub(super) fn end<const TYPE: char>(&self, end: Result<u8, u8>) -> Result<Arc<Item>, Failed<TYPE>> {
        end.map(|number| Arc::new(Item::new(number))).map_err(|number| {
            self.failed.fetch_add(1, Relaxed);
            Failed(Item::new(number))
        })
    }
}

impl Watched {
    /// An asynchronous caller whose load returns `number`.
    pub(super) fn load(self: &Arc<Self>, key: u8, when: When, number: u8) -> Load {
        self.load_with(key, move || async move {
            when.come().await;
            number
        })
    }

    pub(super) fn load_with<F: Future<Output = u8> + 'static>(
        self: &Arc<Self>,
        key: u8,
        load: impl FnOnce() -> F + 'static,
    ) -> Load {
        let watched = self.clone();
        Box::pin(async move {
            watched.seen.call();
            let load = || {
                let loading = Loading::begin(&watched.seen, key);
                let future = load();
                async move {
                    let _loading = loading;
                    Arc::new(Item::new(future.await))
                }
            };
            watched.cache.get_or_load(&key, load).await.get()
        })
    }

    /// An asynchronous caller whose load may fail.
    pub(super) fn try_load<const TYPE: char>(
        self: &Arc<Self>,
        key: u8,
        when: When,
        end: Result<u8, u8>,
    ) -> Load<Outcome<TYPE>> {
        let watched = self.clone();
        Box::pin(async move {
            watched.seen.call();
            let load = || {
                let loading = Loading::begin(&watched.seen, key);
                let seen = &watched.seen;
                async move {
                    let _loading = loading;
                    when.come().await;
                    seen.end::<TYPE>(end)
                }
            };
            watched.cache.try_get_or_load(&key, load).await.map(|value| value.get())
        })
    }

    /// A caller that blocks its thread.
    pub(super) fn block(&self, key: u8, number: u8) -> u8 {
        self.block_with(key, || number)
    }

    pub(super) fn block_with(&self, key: u8, load: impl FnOnce() -> u8) -> u8 {
        self.seen.call();
        let load = || {
            let _loading = Loading::begin(&self.seen, key);
            Arc::new(Item::new(load()))
        };
        self.cache.get_or_insert_with(&key, load).get()
    }

    pub(super) fn try_block<const TYPE: char>(&self, key: u8, end: Result<u8, u8>) -> Outcome<TYPE> {
        self.seen.call();
        let load = || {
            let _loading = Loading::begin(&self.seen, key);
            self.seen.end(end)
        };
        self.cache.try_get_or_insert_with(&key, load).map(|value| value.get())
    }

    pub(super) fn get(&self, key: u8) -> Option<u8> {
        self.seen.call();
        self.cache.get(&key).map(|value| value.get())
    }

    pub(super) fn peek(&self, key: u8) -> Option<u8> {
        self.cache.peek(&key).map(|value| value.get())
    }

    pub(super) fn insert(&self, key: u8, number: u8) -> Option<u8> {
        self.cache.insert(key, Arc::new(Item::new(number))).map(|old| old.get())
    }

    pub(super) fn remove(&self, key: u8) -> Option<u8> {
        self.seen.may_overlap.store(true, Relaxed);
        let removed = self.cache.remove(&key)?;
        self.seen.removed.fetch_add(1, Relaxed);
        Some(removed.get())
    }

    pub(super) fn clear(&self) {
        self.seen.may_overlap.store(true, Relaxed);
        self.seen.cleared.store(true, Relaxed);
        self.cache.clear();
    }

    /// Removes all entries, and returns true if there were any.
    pub(super) fn retain_nothing(&self) -> bool {
        self.seen.may_overlap.store(true, Relaxed);
        self.seen.cleared.store(true, Relaxed);
        let mut is_called = false;
        self.cache.retain(|_, _| {
            is_called = true;
            false
        });
        is_called
    }

    /// Removes the key if it has this number.
    pub(super) fn remove_if(&self, key: u8, number: u8) -> Option<u8> {
        let removed = self.cache.remove_if(&key, |_, value| value.get() == number)?;
        self.seen.removed.fetch_add(1, Relaxed);
        Some(removed.get())
    }

    /// Adds to the number, and returns the former one.
    pub(super) fn add(&self, key: u8, more: u8) -> Option<u8> {
        self.seen.call();
        self.cache.update(&key, |value| {
            let number = value.get();
            *value = Arc::new(Item::new(number + more));
            number
        })
    }

    /// The number of loads that have begun.
    pub(super) fn begun(&self) -> usize {
        self.seen.begun.load(Relaxed)
    }

    /// Checks the statistics after all calls, and the number of loads.
    #[track_caller]
    pub(super) fn assert_ended(&self, loads: RangeInclusive<usize>) {
        let Self { cache, seen } = self;
        cache.validate();
        assert_eq!(cache.flights(), 0);
        assert!(cache.len() <= cache.capacity());
        let count = |of: &AtomicUsize| of.load(Relaxed) as u64;
        let stats = cache.stats();
        assert_eq!(stats.hits + stats.misses, count(&seen.callers));
        assert_eq!([stats.loads, stats.load_failures], [&seen.begun, &seen.failed].map(count));
        assert!(loads.contains(&self.begun()), "{} loads", self.begun());
        let left = stats.evictions + stats.expirations + count(&seen.removed);
        assert!(stats.insertions == cache.len() as u64 + left || seen.cleared.load(Relaxed));
    }
}

pub(super) fn spawn<R: 'static>(
    watched: &Arc<Watched>,
    body: impl FnOnce(&Arc<Watched>) -> R + 'static,
) -> JoinHandle<R> {
    let watched = watched.clone();
    thread::spawn(move || body(&watched))
}

/// Polls once, which begins the load or makes it follow another one.
pub(super) fn begun<R>(mut load: Load<R>) -> Load<R> {
    assert!(poll_noop(&mut load).is_pending());
    load
}

/// Waits for the load in a thread.
pub(super) fn finish<R: 'static>(load: Load<R>) -> JoinHandle<R> {
    thread::spawn(|| blocking::wait(load))
}

/// Drops the load in a thread.
pub(super) fn cancel<R: 'static>(load: Load<R>) -> JoinHandle<()> {
    thread::spawn(|| drop(load))
}

pub(super) fn join<R, const N: usize>(threads: [JoinHandle<R>; N]) -> [R; N] {
    threads.map(|thread| thread.join().unwrap())
}

/// The followers of a load whose leader was dropped: the first was granted the lead and has not run yet. They load 2, 3, …
pub(super) fn leaderless<const N: usize>(watched: &Arc<Watched>) -> [Load; N] {
    let leader = begun(watched.load(A, Never, 1));
    let mut number = 1;
    let followers = std::array::from_fn(|_| {
        number += 1;
        begun(watched.load(A, Now, number))
    });
    drop(leader);
    followers
}

/// Removes the key and loads 3, or gets the value of a load that began after the removal.
pub(super) fn remove_and_load(watched: &Arc<Watched>) {
    let before = watched.begun();
    watched.remove(A);
    let number = blocking::wait(watched.load(A, Now, 3));
    assert!(usize::from(number) > before, "stale");
}

pub(super) fn filled(cache: Cache, keys: RangeInclusive<u8>) -> Arc<Watched> {
    let watched = around(cache);
    keys.for_each(|key| assert_eq!(watched.insert(key, key), None));
    watched
}

/// A cache with one entry, whose listener uses the cache, and the number of its reports.
pub(super) fn listening(builder: Builder, cause: Cause) -> (Arc<Watched>, Arc<AtomicUsize>) {
    let (whole, reports) = (Arc::new(OnceLock::<Weak<Watched>>::new()), Arc::new(AtomicUsize::new(0)));
    let listener = {
        let (whole, reports) = (whole.clone(), reports.clone());
        move |key, value: Arc<Item>, told| {
            assert_eq!(told, cause);
            let watched = whole.get().and_then(Weak::upgrade).expect("the cache is in use");
            assert_ne!(watched.peek(key), Some(value.get()));
            reports.fetch_add(1, Relaxed);
        }
    };
    let watched = filled(builder.on_evict(listener).build(), A..=A);
    assert!(whole.set(Arc::downgrade(&watched)).is_ok());
    (watched, reports)
}
