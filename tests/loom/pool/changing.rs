//! `resize`, `clear`, `replenish`, `maintain`, `retain` and `add`.

use super::*;

/// No more objects are alive than may be, and each waiting getter is served, whether its object is returned, discarded or
/// created. Guards `settle` in `change_and_catch`.
pub(super) fn resize_racing_return_and_get() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    let returner = thread::spawn(|| drop(first));
    let getter = spawn(&pool, |pool| drop(get(pool).unwrap()));
    let resizer = spawn(&pool, |pool| {
        pool.resize(1);
        pool.resize(2);
    });
    join([returner, getter, resizer]);
    drop(second);
    let [idle, ..] = counts(&pool);
    assert!(idle == 1 || idle == 2);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// An object that is returned while there are too many is discarded, and no more than that. Guards the size in `keeps`.
pub(super) fn resize_down_racing_returns() {
    let pool = creating(3, &[]);
    let [first, second, third] = lent(&pool);
    let returners = [first, second].map(|object| thread::spawn(|| drop(object)));
    let resizer = spawn(&pool, |pool| pool.resize(1));
    join(returners);
    resizer.join().unwrap();
    drop(third);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().alive(), 1);
}

/// The same down to zero.
pub(super) fn resize_to_zero_and_back() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let returner = thread::spawn(|| drop(object));
    let getter = spawn(&pool, |pool| drop(get(pool).unwrap()));
    let resizer = spawn(&pool, |pool| {
        pool.resize(0);
        pool.resize(1);
    });
    join([returner, getter, resizer]);
    let [idle, ..] = counts(&pool);
    assert!(idle <= 1);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// An object that one of them has doomed, but not dropped yet, counts for the other. Guards `doomed`.
pub(super) fn two_resizes_shrink_once() {
    let pool = creating(2, &[]);
    let [first, second] = lent(&pool);
    drop(first);
    let resizer = spawn(&pool, |pool| pool.resize(1));
    let returner = spawn(&pool, |pool| {
        drop(second);
        pool.resize(1);
    });
    join([resizer, returner]);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().alive(), 1);
    pool.resize(0);
    assert_idle(&pool, 0);
}

/// A driven creation ends, and its object is discarded when it is returned, unless there is room again.
pub(super) fn resize_racing_creation() {
    let pool = creating(1, &[(Later, Well)]);
    let creator = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    let resizer = spawn(&pool, |pool| {
        pool.resize(0);
        pool.validate();
        pool.resize(1);
    });
    join([creator, resizer]);
    let [idle, ..] = counts(&pool);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// Four wait when there is room for four, and a batch holds two (under loom): the third sleeps, the fourth is dropped
/// meanwhile. Guards `settle` in `change_and_catch`, and `take_wakers` of the state.
pub(super) fn growing_serves_more_than_a_batch_holds() {
    let pool = creating(8, &[]);
    pool.resize(4);
    let objects: [_; 4] = lent(&pool);
    let [first, second, third, fourth] = begun(&pool);
    let resizer = spawn(&pool, |pool| pool.resize(8));
    let sleeper = thread::spawn(|| drop(finish(third).unwrap()));
    let canceller = thread::spawn(|| drop(fourth));
    join([resizer, sleeper, canceller]);
    assert_eq!(counts(&pool), [0, 5, 2, 0], "the first is granted what the third returned");
    drop((first, second, objects));
    assert_idle(&pool, 5);
}

/// A getter after the clear gets a new object. Guards `generation` in `keeps`.
pub(super) fn clear_racing_return() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let returner = thread::spawn(|| drop(object));
    let clearer = spawn(&pool, |pool| {
        pool.clear();
        assert_eq!(use_one(pool), Ok(1));
    });
    join([returner, clearer]);
    assert_idle(&pool, 1);
}

/// An object begun before the clear is discarded when it is returned. Guards the generation of a job.
pub(super) fn clear_racing_creation() {
    let pool = creating(1, &[(Later, Well)]);
    let [mut creator] = begun(&pool);
    let creator = thread::spawn(move || assert!(matches!(poll_noop(&mut creator), Poll::Ready(Ok(_)))));
    let clearer = spawn(&pool, |pool| {
        pool.clear();
        assert_eq!(use_one(pool), Ok(1));
    });
    join([creator, clearer]);
    assert_idle(&pool, 1);
}

/// An object created in advance goes to the getter that waits for it. Guards `deliver` in `finish_creation`.
pub(super) fn replenish_racing_get() {
    let pool = Arc::new(builder(1, &[(Later, Well)], &[]).min_idle(1).build());
    let filler = spawn(&pool, |pool| assert_eq!(blocking::wait(pool.replenish()), Ok(())));
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    join([filler, getter]);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// The same while the pool is closed.
pub(super) fn replenish_racing_get_and_close() {
    let pool = Arc::new(builder(1, &[(Later, Well)], &[]).min_idle(1).build());
    let filler = spawn(&pool, |pool| assert_eq!(blocking::wait(pool.replenish()), Ok(())));
    let getter = spawn(&pool, |pool| assert!(matches!(use_one(pool), Ok(0) | Err(GetError::Closed))));
    let closer = spawn(&pool, |pool| pool.close());
    join([filler, getter, closer]);
    assert_drained(&pool);
}

/// The first to create fails, and the slot is for the other. Guards `failed` in `finish_creation`.
pub(super) fn failing_replenish_racing_get() {
    let pool = Arc::new(builder(1, &[(Later, Badly)], &[]).min_idle(1).build());
    let filler = spawn(&pool, |pool| blocking::wait(pool.replenish()).is_ok());
    let getter = spawn(&pool, |pool| use_one(pool).is_ok());
    let [filled, got] = join([filler, getter]);
    assert!(filled || got);
    // While the getter drives its creation, there is nothing to do for the other.
    assert!(got || counts(&pool) == [usize::from(pool.manager().creates.begun() > 1), 0, 0, 0]);
    counts(&pool);
}

/// The creation of a `replenish` that is dropped goes to the waiting getter. Guards the drop of `Replenishing`.
pub(super) fn replenish_dropped_racing_get() {
    let pool = Arc::new(builder(1, &[(Gated, Well)], &[]).min_idle(1).build());
    let filler = spawn(&pool, |pool| assert_ne!(poll_noop(&mut Box::pin(pool.replenish())), Poll::Ready(Err(Failed))));
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    join([filler, getter, opener]);
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// A creation is pending, or will be soon: it is not begun a second time. Guards the pending creations in `claim_spare`.
pub(super) fn replenish_racing_creator_dropped() {
    let pool = Arc::new(builder(1, &[(Gated, Well)], &[]).min_idle(1).build());
    let [creator] = begun(&pool);
    let canceller = thread::spawn(|| drop(creator));
    let filler = spawn(&pool, |pool| assert_eq!(blocking::wait(pool.replenish()), Ok(())));
    let opener = spawn(&pool, |pool| pool.manager().gate.open());
    join([canceller, filler, opener]);
    // As long as the creator had it in its hand, there was nothing to do.
    assert_eq!(blocking::wait(pool.replenish()), Ok(()));
    assert_idle(&pool, 1);
    assert_eq!(pool.manager().creates.begun(), 1);
}

/// An expired object is discarded or got. Guards the count of what `maintain` takes out.
pub(super) fn maintain_racing_get() {
    let start = Instant::now();
    let pool = Arc::new(builder(1, &[], &[]).idle_timeout(Duration::from_secs(1)).clock(move || start).build());
    let [object] = lent(&pool);
    drop(object);
    let maintainer = spawn(&pool, move |pool| {
        let _ = pool.maintain(start + Duration::from_secs(1));
    });
    let getter = spawn(&pool, |pool| assert!(use_one(pool).unwrap() <= 1));
    join([maintainer, getter]);
    let [idle, ..] = counts(&pool);
    assert!(idle <= 1);
    assert_idle(&pool, idle);
    assert_eq!(pool.manager().alive(), idle);
}

/// An object is taken out, or got; when it is added again it is for the waiting getter. Guards `deliver` in `add`.
pub(super) fn retain_and_add_racing_get() {
    let pool = fixed(1);
    let keeper = spawn(&pool, |pool| {
        for thing in pool.retain(|_, _| false) {
            assert!(pool.add(thing).is_ok());
        }
    });
    let getter = spawn(&pool, |pool| assert_eq!(use_one(pool), Ok(0)));
    join([keeper, getter]);
    assert_idle(&pool, 1);
}

/// An object that is added is in the pool or given back, and does not outlive the close. Guards the check of `closed` in
/// `add`.
pub(super) fn add_racing_close() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let thing = OwnedObject::detach(object);
    let adder = spawn(&pool, |pool| {
        let was_closed = pool.is_closed();
        assert!(pool.add(thing).is_err() || !was_closed);
    });
    let closer = spawn(&pool, |pool| pool.close());
    join([adder, closer]);
    assert_drained(&pool);
}
