//! Recyclings, with getters that are dropped, and maintenance beside them.

use super::*;

/// An object proves dead, and its getter takes the returned one, or creates. Guards the second look at the idle objects
/// in `claim`, and the slot of the dead object in `advance`.
pub(super) fn failing_recycle_racing_return() {
    let pool = recycling(2, &[(Now, Well), (Now, Well), (Later, Well)], &[(Later, Badly)]);
    let [dead, object] = lent(&pool);
    drop(dead);
    let getter = spawn(&pool, |pool| drop(get(pool).unwrap()));
    let returner = thread::spawn(|| drop(object));
    join([getter, returner]);
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert_eq!([in_use, waiting], [0, 0]);
    assert!(idle + creating == 2 || idle == 1);
    assert_eq!(pool.manager().alive(), idle);
    pool.close();
    assert_drained(&pool);
}

/// A recycling outlives its getter, and the next one takes it up; it ends at any time. Guards `leave` in `Turn::leave`,
/// and `take_pending` in `claim`.
pub(super) fn recycling_getter_dropped_racing_getter() {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let [recycler] = begun(&pool);
    let canceller = thread::spawn(|| drop(recycler));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    join([canceller, opener, getter]);
    observe("the next getter waits, too", pool.stats().waits == 2);
    assert_idle(&pool, 1);
    assert_eq!((pool.manager().creates.begun(), pool.manager().alive()), (1, 1), "nothing healthy was destroyed");
}

/// The recycling of a dropped getter is granted to the next that waits. Guards the grant in `leave`.
pub(super) fn recycling_getter_dropped_with_another_waiting() {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let [recycler, next] = begun(&pool);
    let canceller = thread::spawn(|| drop(recycler));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = spawn(&pool, |pool| {
        observe("the recycling is granted before a poll", pool.status().waiting == 0);
        assert_eq!(finish(next).unwrap().number, 0);
    });
    join([canceller, opener, getter]);
    assert_idle(&pool, 1);
}

/// While another object is returned: the waiting getter is served by that, or by the recycling. Guards the order of the
/// queues in `leave`, and `deliver` of what the getter did not need.
pub(super) fn recycling_getter_dropped_racing_return() {
    let pool = recycling(2, &[], &[(Gated, Well)]);
    let [object, other] = lent(&pool);
    drop(object);
    let [recycler, next] = begun(&pool);
    pool.manager().gate.open();
    let canceller = thread::spawn(|| drop(recycler));
    let returner = thread::spawn(|| drop(other));
    let getter = thread::spawn(|| finish(next).unwrap().number);
    join([canceller, returner]);
    observe("the returned object serves", getter.join().unwrap() == 1);
    let [idle, in_use, ..] = counts(&pool);
    assert_eq!((idle + in_use, pool.manager().alive()), (2, 2), "nothing healthy was destroyed");
}

/// Its recycling is discarded, whether it becomes pending before the change, or would after it.
pub(super) fn recycling_getter_dropped_racing(change: fn(&Pool<Maker>)) {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let [recycler] = begun(&pool);
    let canceller = spawn(&pool, |pool| {
        drop(recycler);
        observe("the object is dropped with its getter", pool.status().in_use == 0);
    });
    let changer = spawn(&pool, move |pool| change(pool));
    join([canceller, changer]);
    assert_idle(&pool, 0);
    assert_eq!(pool.manager().alive(), 0);
}

/// A getter is dropped in mid-recycling while the pool is closed. Guards `keeps` in `leave`.
pub(super) fn recycling_getter_dropped_racing_close() {
    recycling_getter_dropped_racing(Pool::close);
}

/// The same while the pool is cleared. Guards the generation of a recycling.
pub(super) fn recycling_getter_dropped_racing_clear() {
    recycling_getter_dropped_racing(Pool::clear);
}

/// The same while the pool shrinks. Guards the size in `keeps`, and the recyclings in `shrink_by`.
pub(super) fn recycling_getter_dropped_racing_resize() {
    recycling_getter_dropped_racing(|pool| pool.resize(0));
}

/// `clear` discards an object that is recycled: at the end of that, if its getter drives it.
pub(super) fn recycling_getter_racing_clear() {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let [recycler] = begun(&pool);
    let clearer = spawn(&pool, |pool| pool.clear());
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = thread::spawn(|| finish(recycler).unwrap().number);
    join([clearer, opener]);
    let number = getter.join().unwrap();
    observe("the object was cleared", number == 1);
    assert!(pool.manager().alive() <= 1);
}

/// A pending recycling and a free slot: whichever is ready first serves the getter, and the other is not lost.
pub(super) fn pending_recycling_racing_resize() {
    let pool = recycling(2, &[], &[(Gated, Well)]);
    pool.resize(1);
    let [object] = lent(&pool);
    drop(object);
    drop(begun::<_, 1>(&pool)); // It hangs from now on.
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(1)));
    let resizer = spawn(&pool, |pool| pool.resize(2));
    join([getter, resizer]);
    observe("the getter waits, too", pool.stats().waits == 2);
    assert_eq!(counts(&pool), [1, 1, 0, 0]);
    pool.close();
    assert_drained(&pool);
}

/// The same with a pending creation that hangs, and the slot of a discarded object. Guards `Adopting` in `grant_creations`.
pub(super) fn pending_creation_racing_discard() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    drop(begun::<_, 1>(&pool)); // It hangs from now on.
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(2)));
    let discarder = thread::spawn(|| OwnedObject::discard(object));
    join([getter, discarder]);
    observe("the getter waits, too", pool.stats().waits == 2);
    assert_eq!(counts(&pool), [1, 0, 1, 0]);
    pool.close();
    assert_drained(&pool);
}

/// `try_get` begins a recycling that stays pending, while a getter is polled. Neither loses the object.
pub(super) fn try_get_racing_getter_and_gate() {
    let pool = recycling(1, &[], &[(Gated, Well)]);
    let [object] = lent(&pool);
    drop(object);
    let trier = spawn(&pool, |pool| observe("try_get", pool.try_get().is_some()));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    trier.join().unwrap();
    join([opener, getter]);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// The maintenance refills after a `get`, whenever that happens; it ends when the pool is closed.
pub(super) fn maintenance_racing_get() {
    let pool = Arc::new(builder(2, &[], &[]).min_idle(1).build());
    let maintenance = Pool::maintenance(&pool, |_| std::future::pending::<()>());
    let maintainer = thread::spawn(|| blocking::wait(maintenance));
    let getter = spawn(&pool, |pool| {
        let object = get(pool).unwrap();
        pool.close();
        drop(object);
    });
    getter.join().unwrap();
    maintainer.join().unwrap();
    observe("the maintenance creates an object", pool.stats().created == 2);
    assert_drained(&pool);
}

/// A recycling panics, and the other getter gets the slot. Guards `failed` in `end`.
pub(super) fn panicking_recycle_racing_getter() {
    let pool = recycling(1, &[], &[(Later, Panic)]);
    let [object] = lent(&pool);
    drop(object);
    let outcomes = join([0, 1].map(|_| spawn(&pool, |pool| survives(|| use_one(pool)))));
    assert!(outcomes == [false, true] || outcomes == [true, false]);
    assert_idle(&pool, 1);
}

/// An object proves dead, and its slot was taken away meanwhile: its getter waits, before the other, for a return. Guards
/// the ticket in `wait`, and the clone of the waker before its slot is free in `advance`.
pub(super) fn getter_of_a_dead_object_is_queued_at_the_front() {
    let pool = recycling(2, &[], &[(Gated, Badly)]);
    let [dead, object] = lent(&pool);
    drop(dead);
    let [unlucky, other] = begun(&pool);
    pool.resize(1);
    pool.manager().gate.open();
    let returner = thread::spawn(|| drop(object));
    let [unlucky, other] = [unlucky, other].map(|get| thread::spawn(|| finish(get).unwrap()));
    returner.join().unwrap();
    drop(unlucky.join().unwrap());
    drop(other.join().unwrap());
    assert_idle(&pool, 1);
}

/// A getter that recycles beside its creation is served by that, and its recycling stays pending.
pub(super) fn creation_overtakes_recycling() {
    let pool = recycling(3, &[(Now, Well), (Now, Well), (Gated, Well)], &[(Now, Badly), (Gated, Well)]);
    let objects: [_; 2] = lent(&pool);
    drop(objects);
    let [unlucky] = begun(&pool);
    assert_eq!(counts(&pool), [0, 1, 1, 0]);
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = thread::spawn(|| drop(finish(unlucky).unwrap()));
    let bystander = spawn(&pool, |pool| drop(poll_noop(&mut pool.get())));
    join([opener, getter, bystander]);
    let [idle, in_use, _, waiting] = counts(&pool);
    assert_eq!(waiting, 0);
    assert_eq!(pool.manager().alive(), idle + in_use, "its recycling is pending");
    pool.close();
    assert_drained(&pool);
    assert_eq!(pool.manager().alive(), 0);
}

/// The creation beside it fails: the recycling serves the getter all the same. Guards the look at the queue in
/// `not_created`.
pub(super) fn failing_creation_beside_recycling() {
    let pool = recycling(3, &[(Now, Well), (Now, Well), (Gated, Badly)], &[(Now, Badly), (Gated, Well)]);
    let objects: [_; 2] = lent(&pool);
    drop(objects);
    let [unlucky] = begun(&pool);
    assert_eq!(counts(&pool), [0, 1, 1, 0]);
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    let getter = thread::spawn(|| assert_eq!(finish(unlucky).unwrap().number, 0));
    join([opener, getter]);
    let [idle, in_use, creating, waiting] = counts(&pool);
    assert!([idle, in_use, waiting] == [1, 0, 0] && creating <= 1);
    pool.close();
    assert_drained(&pool);
}
