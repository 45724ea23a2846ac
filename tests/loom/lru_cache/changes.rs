//! Changes in place and conditional removals.

use stanchion::LruCache;

use super::watched::{A, B, C, Hasher, filled, join, spawn};
use crate::support::observe;

/// One comes after the other: the condition is asked about the old number or the new one.
pub(super) fn update_racing_remove_if() {
    let watched = filled(LruCache::with_hasher(2, Hasher::default()), A..=A);
    let updater = spawn(&watched, |watched| watched.add(A, 4));
    let remover = spawn(&watched, |watched| watched.remove_if(A, 1));
    let (updated, removed) = (updater.join().unwrap(), remover.join().unwrap());
    let is_first = observe("update comes first", updated.is_some());
    let expected = if is_first { (Some(1), None, Some(5)) } else { (None, Some(1), None) };
    assert_eq!((updated, removed, watched.peek(A)), expected);
    watched.assert_ended(0..=0);
}

/// No change is lost.
pub(super) fn update_racing_update() {
    let watched = filled(LruCache::with_hasher(2, Hasher::default()), A..=A);
    let mut found = join([2, 4].map(|more| spawn(&watched, move |watched| watched.add(A, more).unwrap())));
    found.sort_unstable();
    assert!(observe("the smaller is added first", found == [1, 3]) || found == [1, 5]);
    assert_eq!(watched.peek(A), Some(7));
    watched.assert_ended(0..=0);
}

/// A change is a use: the other entry is evicted unless the insertion came first.
pub(super) fn update_racing_eviction() {
    let watched = filled(LruCache::with_hasher(2, Hasher::default()), A..=B);
    let updater = spawn(&watched, |watched| watched.add(A, 4));
    let inserter = spawn(&watched, |watched| assert_eq!(watched.insert(C, 3), None));
    inserter.join().unwrap();
    let is_first = observe("update comes first", updater.join().unwrap().is_some());
    assert_eq!([A, B].map(|key| watched.peek(key).is_some()), [is_first, !is_first]);
    watched.assert_ended(0..=0);
}

/// Of two callers that have found a bad value one loads another value, and neither removes that.
pub(super) fn bad_value_is_replaced_once() {
    let watched = filled(LruCache::with_hasher(2, Hasher::default()), A..=A);
    let [one, other] = join([2, 3].map(|number| {
        spawn(&watched, move |watched| {
            watched.remove_if(A, 1);
            watched.block(A, number)
        })
    }));
    assert!(one == other && (observe("the first caller loads", one == 2) || one == 3));
    watched.assert_ended(1..=1);
}
