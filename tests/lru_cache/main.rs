//! The behaviour of `LruCache`: order, capacity, weights, expiry, reports, single-flight loading, user code of all kinds.

#![cfg(not(loom))]

mod building;
mod changes;
#[path = "../common/mod.rs"]
mod common;

mod expiry;
mod listener;
mod order;
mod recipes;
mod resizing;
mod shards;
mod single_flight;
mod statistics;
mod stress;
mod user_code;
mod weights;

use std::convert::Infallible;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::{Arc, Mutex as StdMutex};

use common::{Check, ready};
use futures::channel::oneshot;
use stanchion::{Cause, LruCache, LruCacheBuilder};

/// Keys and values of most tests.
type Cache = LruCache<u32, u32>;
type Builder = LruCacheBuilder<u32, u32>;

/// A report of the listener.
type Report = (u32, u32, Cause);

/// The reports of a listener, in order.
#[derive(Debug)]
struct Reports<T = Report>(Arc<StdMutex<Vec<T>>>);

impl<T> Clone for Reports<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Reports<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Reports<T> {
    fn new() -> Self {
        Self::default()
    }

    fn push(&self, report: T) {
        self.0.lock().unwrap().push(report);
    }

    /// The reports since the last call.
    fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl<K: Send + 'static, V: Send + 'static> Reports<(K, V, Cause)> {
    /// For [`LruCacheBuilder::on_evict`].
    fn listener(&self) -> impl Fn(K, V, Cause) + Send + Sync + 'static {
        let reports = self.clone();
        move |key, value, cause| reports.push((key, value, cause))
    }
}

/// A cache with the settings of `set`, and the reports of its listener.
fn reporting(capacity: usize, set: impl FnOnce(Builder) -> Builder) -> (Cache, Reports) {
    let reports = Reports::new();
    (set(Cache::builder(capacity)).on_evict(reports.listener()).build(), reports)
}

/// Inserts these, the value of `key` being `10 * key`.
fn fill(cache: &Cache, keys: impl IntoIterator<Item = u32>) {
    for key in keys {
        assert_eq!(cache.insert(key, 10 * key), None);
    }
    cache.check();
}

/// The keys from most to least recent.
fn keys<V: Clone, S: BuildHasher>(cache: &LruCache<u32, V, S>) -> Vec<u32> {
    cache.check();
    let keys: Vec<_> = cache.entries().into_iter().map(|(key, _)| key).collect();
    // Expired entries may still be counted.
    let len = cache.len();
    assert!(keys.len() <= len && cache.is_empty() == (len == 0));
    keys
}

/// Drops a result that a test does not need.
fn ignore<T>(_: T) {}

/// The output of a load that does not have to wait.
#[track_caller]
fn loaded<F: Future>(load: F) -> F::Output {
    ready(&mut pin!(load))
}

/// The value that a loader waits for, and how to give it.
fn gate<V>() -> (impl Future<Output = V>, oneshot::Sender<V>) {
    let (sender, receiver) = oneshot::channel();
    (async { receiver.await.expect("the test gives one") }, sender)
}

/// A way to load: the name, and how to do it for a key with this loader.
type Load = (&'static str, fn(&Cache, u32, &dyn Fn() -> u32) -> u32);

const LOADS: [Load; 4] = [
    ("get_or_insert_with", |cache, key, value| cache.get_or_insert_with(&key, value)),
    ("try_get_or_insert_with", |cache, key, value| {
        cache.try_get_or_insert_with(&key, || Ok::<_, Infallible>(value())).expect("it cannot fail")
    }),
    ("get_or_load", |cache, key, value| loaded(cache.get_or_load(&key, || async { value() }))),
    ("try_get_or_load", |cache, key, value| {
        loaded(cache.try_get_or_load(&key, || async { Ok::<_, Infallible>(value()) })).expect("it cannot fail")
    }),
];
