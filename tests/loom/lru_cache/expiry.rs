//! Expiry racing hits, insertions, removals and loads.

use loom::sync::atomic::AtomicU64;
use loom::thread;
use stanchion::{Cause, LruCache};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::watched::When::Now;
use super::watched::{A, Builder, Hasher, Watched, finish, join, listening, spawn};
use crate::support::observe;

/// The clock of a cache, in seconds. Loom watches it.
type Seconds = Arc<AtomicU64>;

/// A cache with these limits and one entry, its clock, and the number of expired entries reported.
fn timed(set: fn(Builder) -> Builder) -> (Arc<Watched>, Seconds, Arc<AtomicUsize>) {
    let (start, seconds) = (Instant::now(), Seconds::new(AtomicU64::new(0)));
    let source = seconds.clone();
    let clock = move || start + Duration::from_secs(source.load(Relaxed));
    let builder = LruCache::<u8, _>::builder(2).hasher(Hasher::default()).clock(clock);
    let (watched, reports) = listening(set(builder), Cause::Expired);
    (watched, seconds, reports)
}

/// A cache with a time to live of a second.
fn expiring() -> (Arc<Watched>, Seconds, Arc<AtomicUsize>) {
    timed(|builder| builder.time_to_live(Duration::from_secs(1)))
}

/// A cache with a time to idle of two seconds, whose entry is a second old.
fn idling() -> (Arc<Watched>, Seconds, Arc<AtomicUsize>) {
    let (watched, seconds, reports) = timed(|builder| builder.time_to_idle(Duration::from_secs(2)));
    seconds.store(1, Relaxed);
    (watched, seconds, reports)
}

#[track_caller]
fn assert_expired_once(watched: &Watched, reports: &AtomicUsize) {
    assert_eq!((watched.cache.stats().expirations, reports.load(Relaxed)), (1, 1));
}

/// The first lookup after the expiry reports it, and no later one hits. Guards `is_expired` and `expire` in `get_at`.
pub(super) fn expiry_racing_get() {
    let (watched, seconds, reports) = expiring();
    let timer = spawn(&watched, move |watched| {
        seconds.store(1, Relaxed);
        assert_eq!(watched.get(A), None);
    });
    let getter = spawn(&watched, |watched| {
        let [first, second] = [(); 2].map(|()| watched.get(A));
        assert!([first, None].contains(&second) && [None, Some(1)].contains(&first));
        observe("get comes before the expiry", first.is_some());
    });
    join([timer, getter]);
    assert_expired_once(&watched, &reports);
    watched.assert_ended(0..=0);
}

/// The value that replaces an expired one has not expired. Guards the end that is stored with an entry.
pub(super) fn expiry_racing_insert() {
    let (watched, seconds, reports) = expiring();
    seconds.store(1, Relaxed);
    let inserter = spawn(&watched, |watched| assert_eq!(watched.insert(A, 9), None));
    let getter = spawn(&watched, |watched| {
        let [first, second] = [(); 2].map(|()| watched.get(A));
        assert!([first, Some(9)].contains(&second) && [None, Some(9)].contains(&first));
    });
    join([inserter, getter]);
    assert_eq!(watched.peek(A), Some(9));
    assert_expired_once(&watched, &reports);
    watched.assert_ended(0..=0);
}

/// The first lookup reports the expired entry, and the other one misses. Guards `live` in `remove_entry`.
pub(super) fn expiry_racing_remove() {
    let (watched, seconds, reports) = expiring();
    seconds.store(1, Relaxed);
    let remover = spawn(&watched, |watched| assert_eq!(watched.remove(A), None));
    let other = spawn(&watched, |watched| {
        assert_eq!(watched.peek(A), None);
        assert!(watched.cache.entries().is_empty());
    });
    join([remover, other]);
    assert_expired_once(&watched, &reports);
    watched.assert_ended(0..=0);
}

/// An expired entry is a miss, and one load replaces it. Guards `live` in `look_up`.
pub(super) fn expired_entry_is_loaded_once() {
    let (watched, seconds, reports) = expiring();
    seconds.store(1, Relaxed);
    let [one, other] = join([2, 3].map(|number| finish(watched.load(A, Now, number))));
    assert!(one == other && one != 1);
    assert_expired_once(&watched, &reports);
    watched.assert_ended(1..=1);
}

/// The clock is read before the lock: an entry may have been stored at a later time.
pub(super) fn late_clock_racing_insert() {
    let (watched, seconds, reports) = expiring();
    let inserter = spawn(&watched, move |watched| {
        seconds.store(9, Relaxed);
        watched.insert(A, 9);
    });
    let getter = spawn(&watched, |watched| {
        let [first, second] = [(); 2].map(|()| watched.get(A));
        assert!(first != Some(9) || second == Some(9));
    });
    join([inserter, getter]);
    assert_eq!(watched.peek(A), Some(9));
    assert_expired_once(&watched, &reports);
    watched.assert_ended(0..=0);
}

/// A use before the end of the idle time prolongs it, and a later one misses.
fn idle_end_racing(call: &'static str, is_used: fn(&Watched) -> bool) {
    let (watched, seconds, reports) = idling();
    let timer = thread::spawn(move || seconds.store(2, Relaxed));
    let user = spawn(&watched, move |watched| is_used(watched));
    timer.join().unwrap();
    let is_used = observe(call, user.join().unwrap());
    assert_eq!(watched.peek(A).is_some(), is_used);
    assert_eq!(reports.load(Relaxed), usize::from(!is_used));
    watched.assert_ended(0..=0);
}

pub(super) fn idle_end_racing_get() {
    idle_end_racing("get", |watched| watched.get(A).is_some());
}

pub(super) fn idle_end_racing_update() {
    idle_end_racing("update", |watched| watched.add(A, 1).is_some());
}

/// A load hits before the end of the idle time, and replaces the expired entry after it. Guards `is_expired` in
/// `first_look`, and `live` in `look_up`.
pub(super) fn idle_end_racing_load() {
    let (watched, seconds, reports) = idling();
    let timer = thread::spawn(move || seconds.store(2, Relaxed));
    let loader = spawn(&watched, |watched| watched.block(A, 2));
    timer.join().unwrap();
    let got = loader.join().unwrap();
    let is_hit = observe("the load hits", got == 1);
    assert_eq!(watched.peek(A), Some(got));
    let loads = usize::from(!is_hit);
    assert_eq!(reports.load(Relaxed), loads);
    watched.assert_ended(loads..=loads);
}

/// A removal on a condition finds the entry before the end of the idle time, and nothing after it. Guards `is_expired` in
/// `remove_if`.
pub(super) fn idle_end_racing_remove_if() {
    let (watched, seconds, reports) = idling();
    let timer = thread::spawn(move || seconds.store(2, Relaxed));
    let remover = spawn(&watched, |watched| watched.remove_if(A, 1));
    timer.join().unwrap();
    let is_removed = observe("remove_if finds the entry", remover.join().unwrap() == Some(1));
    assert_eq!((watched.peek(A), reports.load(Relaxed)), (None, usize::from(!is_removed)));
    watched.assert_ended(0..=0);
}
