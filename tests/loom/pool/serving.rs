//! Which getter an object goes to.

use super::*;

/// Two threads use one object by turns. What was done to it before its return is seen by the next user, and by `recycle`.
pub(super) fn object_changes_hands() {
    let pool = creating(1, &[]);
    join([0, 1].map(|_| spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)))));
    assert_idle(&pool, 1);
}

/// The lost wake-up. Guards the second look at the idle objects in `Getter::begin`, after the waker was cloned, and
/// `is_awaited` in `keep_or_discard`.
pub(super) fn getter_racing_return() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    let returner = thread::spawn(|| drop(object));
    join([getter, returner]);
    assert_idle(&pool, 1);
}

/// Each of two returns serves one of two getters, which keep what they get. Guards `grant_object` in `keep_or_discard`.
pub(super) fn two_returns_two_getters() {
    let pool = fixed(2);
    let objects: [_; 2] = lent(&pool);
    let getters = [0, 1].map(|_| spawn(&pool, |pool| get(pool).unwrap()));
    let returner = thread::spawn(|| drop(objects));
    let objects = join(getters);
    returner.join().unwrap();
    assert_eq!(objects.iter().map(|object| object.number).sum::<usize>(), 1);
    assert_eq!(counts(&pool), [0, 2, 0, 0]);
    drop(objects);
    assert_idle(&pool, 2);
}

/// The same with the returns on two threads.
pub(super) fn two_returners_two_getters() {
    let pool = fixed(2);
    let objects: [_; 2] = lent(&pool);
    let [first] = begun(&pool);
    let getters = [thread::spawn(|| finish(first).unwrap()), spawn(&pool, |pool| get(pool).unwrap())];
    let returners = objects.map(|object| thread::spawn(|| drop(object)));
    let objects = join(getters);
    join(returners);
    assert_eq!(counts(&pool), [0, 2, 0, 0]);
    drop(objects);
    assert_idle(&pool, 2);
}

/// The first getter is dropped while it is granted the object, with another queued. Guards `deliver` of a granted object
/// in `Turn::leave`: without it the object is lost and the second is never woken.
pub(super) fn granted_getter_dropped_racing_return() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let [first, second] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let canceller = thread::spawn(|| drop(first));
    let getter = thread::spawn(|| assert_eq!(finish(second).unwrap().number, 0));
    join([returner, canceller, getter]);
    assert_idle(&pool, 1);
}

/// The same without another getter: the object is idle then.
pub(super) fn last_getter_dropped_racing_return() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let [mut only] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let canceller = thread::spawn(move || drop(poll_noop(&mut only)));
    join([returner, canceller]);
    assert_idle(&pool, 1);
}

/// A returned object that a getter waits for is not there for `try_get`. Guards the grant under the lock in
/// `keep_or_discard`.
pub(super) fn try_get_never_barges() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let [first] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let getter = thread::spawn(|| finish(first).unwrap());
    let barger = spawn(&pool, |pool| {
        assert!(pool.try_get().is_none());
        assert!(poll_noop(&mut pool.get()).is_pending());
    });
    join([returner, barger]);
    drop(getter.join().unwrap());
    assert_idle(&pool, 1);
}

pub(super) fn leaving_racing_getter(alive: usize, leave: fn(OwnedObject<Maker>)) {
    let pool = creating(alive, &[]);
    pool.resize(1);
    let [object] = lent(&pool);
    let leaver = thread::spawn(move || leave(object));
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(1)));
    join([leaver, getter]);
    assert_idle(&pool, 1);
}

/// A waiting getter creates the successor of a discarded object, once that was dropped. Guards `settle` in
/// `change_and_catch`, and that `drop_and_free` frees the slot last.
pub(super) fn discard_racing_getter() {
    leaving_racing_getter(1, OwnedObject::discard);
}

/// The same with an object that lives on. Guards the change in `detach`.
pub(super) fn detach_racing_getter() {
    leaving_racing_getter(2, |object| drop(OwnedObject::detach(object)));
}

/// The first getter is dropped while it is granted the slot. Guards `Grant::Creation` in `Turn::leave`, and `settle`
/// after it.
pub(super) fn discard_racing_getter_dropped() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let [first, second] = begun(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(object));
    let canceller = thread::spawn(|| drop(first));
    let getter = thread::spawn(|| assert_eq!(finish(second).unwrap().number, 1));
    join([discarder, canceller, getter]);
    assert_idle(&pool, 1);
}
