//! Creations: granted, driven, pending, failing.

use super::*;

/// A getter that was granted a creation and was not polled since is granted an object as well. Guards the second key of
/// such a getter in `grant_creations`, and the loop in `collect`.
pub(super) fn granted_creation_racing_return() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    let [only] = begun(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(first));
    let returner = thread::spawn(|| drop(second));
    let getter = thread::spawn(|| drop(finish(only).unwrap()));
    join([discarder, returner, getter]);
    let [idle, ..] = counts(&pool);
    assert!(idle == 1 || idle == 2);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// Such a getter is dropped: its slot is free and the object idle.
pub(super) fn granted_creation_dropped_racing_return() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    let [only] = begun(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(first));
    let returner = thread::spawn(|| drop(second));
    let canceller = thread::spawn(|| drop(only));
    join([discarder, returner, canceller]);
    assert_idle(&pool, 1);
}

/// Two are granted creations, and only then an object is returned: it is granted to the one that has waited longer.
/// Guards the order of `grant_creations`.
pub(super) fn granted_creators_keep_their_order() {
    let pool = creating(3, &[(Now, Well), (Now, Well), (Now, Well), (Gated, Well), (Gated, Well)]);
    let [one, other, object] = lent(&pool);
    let [first, mut second] = begun(&pool);
    OwnedObject::discard(one);
    OwnedObject::discard(other);
    let returner = thread::spawn(|| drop(object));
    let getter = thread::spawn(|| finish(first).unwrap());
    let other = thread::spawn(move || {
        assert!(poll_noop(&mut second).is_pending());
        second
    });
    returner.join().unwrap();
    let (object, second) = (getter.join().unwrap(), other.join().unwrap());
    assert_eq!(object.number, 2);
    drop((object, second));
    pool.close();
    assert_drained(&pool);
}

/// It takes the object and keeps it: the slot that it was granted goes to the next getter. Guards `give_back_unbegun`.
pub(super) fn unused_slot_goes_to_the_next() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    let [one, other] = begun(&pool);
    OwnedObject::discard(first);
    drop(second);
    let getters = [one, other].map(|get| thread::spawn(|| finish(get).unwrap()));
    let objects = join(getters);
    assert_eq!(objects.each_ref().map(|object| object.number), [1, 2]);
    assert_eq!(counts(&pool), [0, 2, 0, 0]);
    drop(objects);
    assert_idle(&pool, 2);
}

/// One creates, the other waits for the same object. Guards the counts in `claim` and in `created`.
pub(super) fn two_getters_racing_for_the_last_slot() {
    let pool = creating(1, &[(Later, Well)]);
    join([0, 1].map(|_| spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)))));
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// Two may create at a time (under loom); the third waits, though there is room, until one creation has ended. No object
/// is returned meanwhile. Guards the limit in `may_create`, and `settle` in `created`.
pub(super) fn growth_limit_gives_way() {
    let pool = creating(3, &[(Later, Well), (Later, Well), (Later, Well)]);
    let getters = [0, 1, 2].map(|_| {
        spawn(&pool, |pool| {
            let [get] = begun(pool);
            assert!(pool.status().creating <= 2);
            finish(get).unwrap()
        })
    });
    let objects = join(getters);
    assert_eq!(counts(&pool), [0, 3, 0, 0]);
    drop(objects);
    assert_idle(&pool, 3);
}

/// A creation ends, or its getter is served by a return: then it stays pending, and closing the pool drops it. Guards
/// `Turn::leave` in `serve`.
pub(super) fn creation_ending_racing_return() {
    let pool = creating(2, &[(Now, Well), (Later, Well)]);
    let [object] = lent(&pool);
    let creator = spawn(&pool, |pool| use_one(pool).unwrap());
    let returner = thread::spawn(|| drop(object));
    returner.join().unwrap();
    let served = creator.join().unwrap();
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert_eq!([in_use, waiting], [0, 0]);
    // Both are idle; or the creator took the one that was returned, when its creation had not begun, or left it behind.
    assert!(idle + creating == 2 || [idle, creating, served] == [1, 0, 0]);
    assert_eq!(pool.manager().alive(), idle);
    pool.close();
    assert_drained(&pool);
    assert_eq!(pool.manager().alive(), 0);
}

/// The same, and the end of the creation wakes its getter, if it has one.
pub(super) fn gated_creation_ending_racing_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    let [get] = begun(&pool);
    let creator = thread::spawn(|| drop(finish(get).unwrap()));
    let returner = thread::spawn(|| drop(object));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    join([creator, returner, opener]);
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert_eq!([idle + creating, in_use, waiting], [2, 0, 0]);
    pool.close();
    assert_drained(&pool);
}

/// A creator is dropped while it is granted an object: that, or the creation, goes to the next getter. Guards `deliver`
/// and `leave` in `Turn::leave`.
pub(super) fn creator_dropped_racing_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    let [creator, waiting] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let canceller = thread::spawn(|| drop(creator));
    let getter = thread::spawn(|| assert_eq!(finish(waiting).unwrap().number, 0));
    join([returner, canceller, getter]);
    assert_eq!(counts(&pool), [1, 0, 1, 0], "the creation is pending");
    pool.close();
    assert_drained(&pool);
}

/// A creation is pending, or will be soon: a new getter takes it up, and is woken when it ends. Guards `take_pending` in
/// `claim`, `settle` in `Turn::leave`, and the poll of a creation that was granted.
pub(super) fn creator_dropped_racing_newcomer() {
    let pool = creating(1, &[(Gated, Well)]);
    let [creator] = begun(&pool);
    let canceller = thread::spawn(|| drop(creator));
    let newcomer = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    join([canceller, newcomer, opener]);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// A creator that is served by a return leaves its creation to the next getter. Guards `Turn::leave` in `serve`, and that
/// `Creating` is served first in `grant_object`.
pub(super) fn served_creator_leaves_its_creation() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    let [creator, waiting] = begun(&pool);
    let returner = spawn(&pool, |pool| {
        drop(object);
        pool.manager().gate.open();
    });
    let getters = [creator, waiting].map(|get| thread::spawn(|| finish(get).unwrap()));
    let objects = join(getters);
    returner.join().unwrap();
    assert_eq!(counts(&pool), [0, 2, 0, 0]);
    assert_eq!(pool.manager().creates.begun(), 2);
    drop(objects);
    assert_idle(&pool, 2);
}

/// The error is reported by one of the two, and the other gets the slot. Guards `failed` and `settle` in `not_created`.
pub(super) fn failing_creation_racing_getter() {
    let pool = creating(1, &[(Later, Badly)]);
    let outcomes = join([0, 1].map(|_| spawn(&pool, use_one)));
    let failed = outcomes.iter().filter(|outcome| **outcome == Err(GetError::Create(Failed))).count();
    assert!(failed == 1 && outcomes.contains(&Ok(1)));
    assert_idle(&pool, 1);
}

/// A creation fails while its getter is granted an object, which serves it or goes to the next. Guards `is_granted` in
/// `not_created`.
pub(super) fn failing_creation_racing_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Badly), (Now, Well)]);
    let [object] = lent(&pool);
    let [creator] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = thread::spawn(|| match finish(creator) {
        Ok(object) => assert_eq!(object.number, 0),
        Err(error) => assert_eq!(error, GetError::Create(Failed)),
    });
    join([returner, opener, getter]);
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert_eq!([idle, in_use, waiting], [1, 0, 0]);
    assert!(creating <= 1, "pending, if anything");
    pool.close();
    assert_drained(&pool);
}

/// Returns `true` if it got an object, `false` after the panic of the script.
pub(super) fn survives(get: impl FnOnce() -> Result<usize, GetError<Failed>>) -> bool {
    catch_unwind(AssertUnwindSafe(get)).is_ok_and(|outcome| outcome.is_ok())
}

/// A creation panics, and the other getter gets the slot. Guards `failed` in `end`, and `settle` after it.
pub(super) fn panicking_creation_racing_getter() {
    let pool = creating(1, &[(Later, Panic)]);
    let outcomes = join([0, 1].map(|_| spawn(&pool, |pool| survives(|| use_one(pool)))));
    assert!(outcomes == [false, true] || outcomes == [true, false]);
    assert_idle(&pool, 1);
}

/// A creation panics while its getter is granted an object, which must go to the next getter. Guards the drop of `Turn`.
pub(super) fn panicking_creation_racing_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Panic)]);
    let [object] = lent(&pool);
    let [creator, waiting] = begun(&pool);
    pool.manager().gate.open();
    let returner = thread::spawn(|| drop(object));
    let creator = thread::spawn(|| {
        let mut creator = creator;
        let panicked = catch_unwind(AssertUnwindSafe(|| poll_noop(&mut creator).map_ok(drop).is_pending())).is_err();
        (creator, panicked)
    });
    let getter = thread::spawn(|| survives(|| finish(waiting).map(|object| object.number)));
    returner.join().unwrap();
    // The creator is kept until here, and has nothing.
    let (_creator, panicked) = creator.join().unwrap();
    assert!(getter.join().unwrap() || !panicked, "it may have adopted the creation that panics");
    let [idle, in_use, _, waiting] = counts(&pool);
    assert!(idle >= 1 && [in_use, waiting] == [0, 0]);
    pool.close();
    assert_drained(&pool);
}

/// A pending creation fails: the getter that takes it up does not report that, but begins another one. Guards
/// `is_retried`.
pub(super) fn pending_failure_is_begun_afresh() {
    let pool = creating(1, &[(Gated, Badly)]);
    let [creator] = begun(&pool);
    let canceller = spawn(&pool, |pool| {
        drop(creator);
        pool.manager().gate.open();
    });
    let newcomer = spawn(&pool, |pool| {
        let had_failed = pool.manager().gate.is_open();
        let outcome = use_one(pool);
        assert!(outcome == Ok(1) || !had_failed && outcome == Err(GetError::Create(Failed)));
        outcome.is_ok()
    });
    canceller.join().unwrap();
    let created = newcomer.join().unwrap();
    assert_idle(&pool, usize::from(created));
}
