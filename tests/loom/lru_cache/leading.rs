//! Leaders that are dropped or panic, racing callers that join and changes of the key.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};
use std::task::Poll;

use super::watched::When::{Later, Never, Now};
use super::watched::{A, Watched, begun, cancel, finish, join, remove_and_load, spawn, watched};
use crate::support::poll_noop;

/// A caller that joins while the leader is dropped loads in its place. Guards `abandon` and `leave` in the drop of a
/// `Leader`.
pub(super) fn leader_dropped_racing_joiner() {
    let watched = watched(2);
    let leader = cancel(begun(watched.load(A, Never, 1)));
    let joiner = finish(watched.load(A, Now, 2));
    leader.join().unwrap();
    assert_eq!(joiner.join().unwrap(), 2);
    assert_eq!(watched.peek(A), Some(2));
    watched.assert_ended(2..=2);
}

/// The same while the key is invalidated: the caller that joins is served either way. Guards `invalidate`, and `end` in
/// `abandon`.
fn leader_dropped_racing_joiner_and(invalidate: fn(&Watched)) {
    let watched = watched(2);
    let leader = cancel(begun(watched.load(A, Never, 1)));
    let joiner = finish(watched.load(A, Now, 2));
    let other = spawn(&watched, move |watched| invalidate(watched));
    join([leader, other]);
    assert_eq!(joiner.join().unwrap(), 2);
    assert_ne!(watched.peek(A), Some(1));
    watched.assert_ended(2..=2);
}

pub(super) fn leader_dropped_racing_joiner_and_remove() {
    leader_dropped_racing_joiner_and(|watched| assert_ne!(watched.remove(A), Some(1)));
}

pub(super) fn leader_dropped_racing_joiner_and_clear() {
    leader_dropped_racing_joiner_and(Watched::clear);
}

/// The same with an insertion: its value is stored in the end, and goes to the caller that joins if that has not loaded.
/// Guards `is_awaited` and `end` in `supersede`.
pub(super) fn leader_dropped_racing_joiner_and_insert() {
    let watched = watched(2);
    let leader = cancel(begun(watched.load(A, Never, 1)));
    let joiner = finish(watched.load(A, Now, 2));
    let inserter = spawn(&watched, |watched| watched.insert(A, 9));
    leader.join().unwrap();
    let (replaced, got) = (inserter.join().unwrap(), joiner.join().unwrap());
    assert!(got == 2 || replaced.is_none() && got == 9);
    assert_eq!(watched.peek(A), Some(9));
    watched.assert_ended(1..=2);
}

/// A load that began before the key was removed does not serve later callers, even if another leader takes it over. Guards
/// `invalidate`, and `leave` in `poll`.
pub(super) fn leader_dropped_racing_remove_and_newcomer() {
    let watched = watched(2);
    let leader = begun(watched.load(A, Never, 1));
    let follower = begun(watched.load(A, Now, 2));
    let leader = cancel(leader);
    let follower = finish(follower);
    let newcomer = spawn(&watched, remove_and_load);
    join([leader, newcomer]);
    assert!([2, 3].contains(&follower.join().unwrap()));
    watched.assert_ended(2..=3);
}

/// Returns `None` if a load panics.
fn survived<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// A load that panics is abandoned, as one that is dropped. Guards the drop of a `Leader`.
pub(super) fn panicking_leader_racing_joiner() {
    let watched = watched(2);
    let panicking = spawn(&watched, |watched| {
        // Without the hook, which would report each of thousands.
        survived(|| watched.block_with(A, || resume_unwind(Box::new("as the model says"))))
    });
    let joiner = finish(watched.load(A, Now, 2));
    assert_ne!(panicking.join().unwrap(), Some(1));
    assert_eq!(joiner.join().unwrap(), 2);
    watched.assert_ended(1..=2);
}

/// A loader that loads its own key panics, and a follower takes over. Guards `leading_thread`.
pub(super) fn own_key_racing_joiner() {
    let watched = watched(2);
    let nesting = spawn(&watched, nest);
    let joiner = finish(watched.load(A, Now, 2));
    assert!([None, Some(2)].contains(&nesting.join().unwrap()));
    assert_eq!(joiner.join().unwrap(), 2);
    watched.assert_ended(1..=2);
}

/// The same if it takes the lead over. Guards the thread that `poll` notes for the new leader.
pub(super) fn own_key_racing_leader_dropped() {
    let watched = watched(2);
    let leader = cancel(begun(watched.load(A, Never, 1)));
    let nesting = spawn(&watched, nest);
    leader.join().unwrap();
    assert_eq!(nesting.join().unwrap(), None);
    watched.assert_ended(2..=2);
}

/// Loads a key within its own loader, if it leads.
fn nest(watched: &Arc<Watched>) -> Option<u8> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !panic.to_string().contains("its own key") {
                report(panic);
            }
        }));
    });
    let inner = || watched.cache.get_or_insert_with(&A, || unreachable!("it is in flight")).get();
    survived(|| watched.block_with(A, inner))
}

/// A task on the thread of a leader that blocks it follows as any other. Guards that `join_load` compares threads only for
/// callers that block.
pub(super) fn task_of_the_leader_racing_visitor() {
    let watched = watched(2);
    let leader = spawn(&watched, |watched| {
        let mut follower = watched.load(A, Now, 2);
        let led = watched.block_with(A, || {
            assert!(poll_noop(&mut follower).is_pending());
            1
        });
        assert_eq!(poll_noop(&mut follower), Poll::Ready(led));
        led
    });
    let visitor = spawn(&watched, |watched| poll_noop(&mut watched.load(A, Now, 3)));
    let (led, visited) = (leader.join().unwrap(), visitor.join().unwrap());
    assert!([Poll::Pending, Poll::Ready(led)].contains(&visited));
    watched.assert_ended(1..=1);
}

/// The load is removed with its last member; a caller that joins meanwhile has this load, or another one. Guards
/// `unregister` in `abandon`, and the count of members.
pub(super) fn last_member_dropped_racing_joiner() {
    let watched = watched(2);
    let leader = cancel(begun(watched.load(A, Never, 1)));
    let visitor = spawn(&watched, |watched| poll_noop(&mut watched.load(A, Later, 2)).is_ready());
    let joiner = finish(watched.load(A, Now, 3));
    leader.join().unwrap();
    visitor.join().unwrap();
    assert_eq!(joiner.join().unwrap(), 3);
    assert_eq!(watched.peek(A), Some(3));
    watched.assert_ended(2..=3);
}
