//! Models of a queue that is closed: items are popped or returned, and no waiter is left.

use std::task::Poll;

use loom::thread;
use stanchion::{TryPopError, TryPushError, blocking};

use super::{
    Queue, assert_idle, full, more_than_a_batch, number, owned_push, parked_push, pop, push, spawn, unbounded,
    waiting_pops,
};
use crate::support::{Item, models, observe, poll_noop};

models![
    3: close_racing_push_and_pop,
    3: close_racing_parked_push,
    2: close_racing_parked_push_dropped,
    2: reserved_pop_dropped_after_close,
    2: last_item_collected_after_close,
    2: into_inner_racing_close,
    3: close_fails_more_than_a_batch_holds,
    3: close_ends_more_than_a_batch_holds,
    3: last_item_ends_more_than_a_batch_holds,
];

/// An accepted item is popped, a refused one is returned, and no pop hangs. Guards the check of `closed` in `admit`, the
/// one of `is_drained` in `Core::wait`, and the end of `settle`.
fn close_racing_push_and_pop() {
    let queue = unbounded();
    let popper = spawn(&queue, pop);
    let pusher = spawn(&queue, |queue| match queue.try_push(1, Item::new(1)) {
        Ok(_) => Some(1),
        Err(TryPushError::Closed(refused)) => (number(refused) != 1).then_some(1),
        Err(TryPushError::Full(_)) => panic!("it is never full"),
    });
    let closer = spawn(&queue, Queue::close);
    assert_eq!(popper.join().unwrap(), pusher.join().unwrap());
    closer.join().unwrap();
    assert_eq!(queue.try_pop().map(number), Err(TryPopError::Closed));
    assert_idle(&queue);
}

/// The same with a push that waits for room. Guards `take_wakers` in `close`, and that no revoked push is
/// admitted.
fn close_racing_parked_push() {
    let queue = full([1]);
    let push = parked_push(&queue, 2);
    let pusher = thread::spawn(|| u8::from(blocking::wait(push)));
    let popper = spawn(&queue, |queue| [(); 2].map(|()| pop(queue).unwrap_or(0)).iter().sum::<u8>());
    let closer = spawn(&queue, Queue::close);
    assert_eq!(popper.join().unwrap(), 1 + 2 * pusher.join().unwrap());
    closer.join().unwrap();
    assert_idle(&queue);
}

/// A push is dropped while it is revoked: its item is dropped, and once. Guards the removal in `cancel_push` and the
/// list that `WaitList::remove` chooses.
fn close_racing_parked_push_dropped() {
    let queue = full([2]);
    let push = parked_push(&queue, 1);
    let canceller = thread::spawn(|| drop(push));
    let closer = spawn(&queue, |queue| {
        queue.close();
        assert_eq!([pop(queue), pop(queue)], [Some(2), None]);
    });
    canceller.join().unwrap();
    closer.join().unwrap();
    assert_idle(&queue);
}

/// A pop that waits behind a reservation does not end while there is an item. Guards `is_drained` in `settle`.
fn reserved_pop_dropped_after_close() {
    let queue = unbounded();
    let [reserved, waiting] = waiting_pops(&queue);
    push(&queue, 1);
    queue.close();
    let canceller = thread::spawn(|| drop(reserved));
    let popper = thread::spawn(|| assert_eq!(blocking::wait(waiting), Some(1)));
    canceller.join().unwrap();
    popper.join().unwrap();
    assert_idle(&queue);
}

/// A waiting pop ends when the last item of a closed queue is collected. Guards the end of `settle`, and the second
/// attempt of a pop that is enqueued in between.
fn last_item_collected_after_close() {
    let queue = unbounded();
    let [mut reserved] = waiting_pops(&queue);
    push(&queue, 1);
    queue.close();
    let collector = thread::spawn(move || assert_eq!(poll_noop(&mut reserved), Poll::Ready(Some(1))));
    let popper = spawn(&queue, |queue| assert_eq!(pop(queue), None));
    collector.join().unwrap();
    popper.join().unwrap();
    assert_idle(&queue);
}

/// A revoked push returns its item, too. Guards that `cancel_push` takes it from the parked items.
fn into_inner_racing_close() {
    let queue = full([2]);
    let push = owned_push(&queue, 1);
    let giver = spawn(&queue, move |queue| {
        observe("is_closed", queue.is_closed());
        assert_eq!(push.into_inner().map(number), Some(1));
    });
    let closer = spawn(&queue, Queue::close);
    giver.join().unwrap();
    closer.join().unwrap();
    assert_eq!([pop(&queue), pop(&queue)], [Some(2), None]);
    assert_idle(&queue);
}

/// Guards `append` in `WaitList::close`, and the refill in `wake` for pushes.
fn close_fails_more_than_a_batch_holds() {
    let queue = full([5]);
    let pushes = [4, 3, 2, 1].map(|item| parked_push(&queue, item));
    let third = more_than_a_batch(&queue, pushes, Queue::close);
    assert!(!third);
    assert_eq!([pop(&queue), pop(&queue)], [Some(5), None]);
    assert_idle(&queue);
}

/// Guards `take_wakers` in `settle`, and the refill in `wake` for pops.
fn close_ends_more_than_a_batch_holds() {
    let queue = unbounded();
    let pops = waiting_pops(&queue);
    assert_eq!(more_than_a_batch(&queue, pops, Queue::close), None);
    assert_idle(&queue);
}

/// The same when a pop collects the last item of a closed queue.
fn last_item_ends_more_than_a_batch_holds() {
    let queue = unbounded();
    let [mut reserved] = waiting_pops(&queue);
    let pops = waiting_pops(&queue);
    push(&queue, 1);
    queue.close();
    let third = more_than_a_batch(&queue, pops, |_| assert_eq!(poll_noop(&mut reserved), Poll::Ready(Some(1))));
    assert_eq!(third, None);
    assert_idle(&queue);
}
