//! Closing, and waiting for the end of a pool.

use super::*;

/// A getter that is granted the object gets it, any other fails, and the object is dropped. Guards the checks of `closed`
/// in `must_wait` and `claim`, and the close of the queues.
pub(super) fn close_racing_return_and_get() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    let returner = thread::spawn(|| drop(object));
    let getter = spawn(&pool, |pool| assert!(matches!(use_one(pool), Ok(0) | Err(GetError::Closed))));
    let closer = spawn(&pool, |pool| pool.close());
    join([returner, getter, closer]);
    assert_drained(&pool);
}

/// The same with a getter that creates: its object is dropped with it. Guards the close of `Creating`, and `closed` in
/// `collect`.
pub(super) fn close_racing_creator_and_return() {
    let pool = creating(2, &[(Now, Well), (Gated, Well)]);
    let [object] = lent(&pool);
    let [creator] = begun(&pool);
    let returner = thread::spawn(|| drop(object));
    let getter = thread::spawn(|| assert!(!matches!(finish(creator), Err(GetError::Create(_)))));
    let closer = spawn(&pool, |pool| pool.close());
    join([returner, getter, closer]);
    assert_drained(&pool);
}

/// The same with a getter that was granted a creation and was not polled since.
pub(super) fn close_racing_granted_creation() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let [get] = begun(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(object));
    let getter = thread::spawn(|| assert!(!matches!(finish(get), Err(GetError::Create(_)))));
    let closer = spawn(&pool, |pool| pool.close());
    join([discarder, getter, closer]);
    assert_drained(&pool);
}

/// A creation becomes pending before the close, or would after it; it does not stay. Guards `keeps` in `leave`, and the
/// creations in `shrink_by`.
pub(super) fn close_racing_pending_creation() {
    let pool = creating(1, &[(Gated, Well)]);
    let canceller = spawn(&pool, |pool| drop(poll_noop(&mut pool.get())));
    let closer = spawn(&pool, |pool| pool.close());
    join([canceller, closer]);
    assert_drained(&pool);
}

/// Two create and two wait, and a batch holds two (under loom): of the last two, one sleeps and one is dropped meanwhile.
/// Guards `take_wakers` of the state, and the refill in `Deferred::run`.
pub(super) fn close_wakes_more_than_a_batch_holds() {
    let pool = creating(2, &[(Gated, Well), (Gated, Well)]);
    let [mut first, mut second, third, fourth] = begun(&pool);
    let counts = [0, 1].map(|_| Count::new());
    assert!(poll(&mut first, &counts[0].1).is_pending() && poll(&mut second, &counts[1].1).is_pending());
    let sleeper = thread::spawn(|| assert!(matches!(finish(third), Err(GetError::Closed))));
    let canceller = thread::spawn(|| drop(fourth));
    let closer = spawn(&pool, |pool| pool.close());
    join([sleeper, canceller, closer]);
    assert_eq!(counts.each_ref().map(|(count, _)| count.get()), [1, 1]);
    assert!(poll_noop(&mut first).is_ready());
    drop(second);
    assert_drained(&pool);
}

/// When `closed` resolves, the last object was dropped. Guards the second look in the poll of `PoolClosed`, and
/// `is_drained` in `settle`.
pub(super) fn closed_racing_last_return() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    pool.close();
    let returner = thread::spawn(|| drop(object));
    let waiter = spawn(&pool, |pool| {
        blocking::wait(pool.closed());
        assert_eq!(pool.manager().alive(), 0);
    });
    join([returner, waiter]);
    assert_drained(&pool);
}

/// The same with a close at the same time, and an object that is discarded.
pub(super) fn closed_racing_close_and_discard() {
    let pool = creating(1, &[]);
    let [object] = lent(&pool);
    let discarder = thread::spawn(|| OwnedObject::discard(object));
    let closer = spawn(&pool, |pool| pool.close());
    let waiter = spawn(&pool, |pool| {
        blocking::wait(pool.closed());
        assert!(pool.is_closed());
        assert_eq!(pool.manager().alive(), 0);
    });
    join([discarder, closer, waiter]);
    assert_drained(&pool);
}

/// The same with a creation that ends, or is dropped, at the same time.
pub(super) fn closed_racing_creation() {
    let pool = creating(1, &[(Later, Well)]);
    let creator = spawn(&pool, |pool| assert!(matches!(use_one(pool), Ok(0) | Err(GetError::Closed))));
    let closer = spawn(&pool, |pool| pool.close());
    let waiter = spawn(&pool, |pool| {
        blocking::wait(pool.closed());
        assert_eq!(pool.manager().alive(), 0);
    });
    join([creator, closer, waiter]);
    assert_drained(&pool);
}

/// A `closed` that is dropped at the last return has no effect.
pub(super) fn closed_dropped_racing_last_return() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    pool.close();
    let returner = thread::spawn(|| drop(object));
    let canceller =
        spawn(&pool, |pool| assert!(poll_noop(&mut pool.closed()) == Poll::Pending || pool.status().size == 0));
    join([returner, canceller]);
    assert_drained(&pool);
}

/// Four wait for the same moment: one sleeps, one is dropped meanwhile, and two are woken. Guards the notification in
/// `Deferred::run`.
pub(super) fn last_return_ends_more_than_a_batch_holds() {
    let pool = fixed(1);
    let [object] = lent(&pool);
    pool.close();
    let mut waits = [0, 1, 2, 3].map(|_| {
        let pool = pool.clone();
        Box::pin(async move { pool.closed().await })
    });
    let wakes = [0, 1, 2, 3].map(|_| Count::new());
    for (wait, (_, waker)) in waits.iter_mut().zip(&wakes) {
        assert!(poll(wait, waker).is_pending());
    }
    let [_first, _second, third, fourth] = waits;
    let returner = thread::spawn(|| drop(object));
    let sleeper = thread::spawn(|| blocking::wait(third));
    let canceller = thread::spawn(|| drop(fourth));
    join([returner, sleeper, canceller]);
    assert_eq!([wakes[0].0.get(), wakes[1].0.get()], [1, 1]);
    assert_drained(&pool);
}
