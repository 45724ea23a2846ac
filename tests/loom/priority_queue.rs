//! Models of `PriorityQueue`: which future gets an item, a reservation or room while others push, pop, cancel or close.

use loom::thread::{self, JoinHandle};
use stanchion::{Closed, PriorityQueue, PushOwned, TryPopError, TryPushError, blocking};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use crate::support::{Count, Item, models, observe, poll, poll_noop};

models![
    2: push_racing_pop,
    3: two_pushes_two_pops,
    4: two_pushers_two_poppers,
    2: pop_repolled_racing_push,
    3: pop_cancelled_racing_push,
    2: reserved_pop_cancelled_racing_pop,
    3: reserved_items_are_not_for_others,
    2: parked_push_racing_pop,
    2: parked_push_popped_directly,
    2: push_repolled_racing_pop,
    2: pop_racing_a_push_that_parks,
    3: pop_racing_a_parked_push_dropped,
    2: parked_push_dropped_racing_admission,
    3: two_parked_pushes_two_pops,
    3: close_racing_push_and_pop,
    3: close_racing_parked_push,
    2: close_racing_parked_push_dropped,
    2: reserved_pop_dropped_after_close,
    2: last_item_collected_after_close,
    2: remove_racing_pop,
    3: remove_racing_the_wake,
    2: into_inner_racing_admission,
    2: into_inner_racing_a_direct_pop,
    2: into_inner_racing_close,
    3: into_inner_racing_pops,
    2: retain_racing_a_reserved_pop,
    2: retain_racing_a_push_that_parks,
    2: retain_racing_a_parked_push_dropped,
    2: try_pop_racing_a_push_that_parks,
    2: drain_racing_reserved_pops,
    2: drain_racing_parked_push,
    2: set_priority_racing_pop,
    2: force_push_racing_reserved_pop,
    2: pop_many_leaves_what_others_wait_for,
    3: pop_many_racing_push_and_pop,
    3: drain_admits_more_than_a_batch_holds,
    3: close_fails_more_than_a_batch_holds,
    3: close_ends_more_than_a_batch_holds,
    3: last_item_ends_more_than_a_batch_holds,
];

type Queue = PriorityQueue<u8, Item>;
type Boxed<R> = Pin<Box<dyn Future<Output = R>>>;

fn unbounded() -> Arc<Queue> {
    Arc::new(Queue::unbounded())
}

/// A queue that these items fill.
fn full<const N: usize>(items: [u8; N]) -> Arc<Queue> {
    let queue = Arc::new(Queue::bounded(N));
    for item in items {
        push(&queue, item);
    }
    queue
}

fn spawn<R: 'static>(queue: &Arc<Queue>, body: impl FnOnce(&Queue) -> R + 'static) -> JoinHandle<R> {
    let queue = queue.clone();
    thread::spawn(move || body(&queue))
}

fn push(queue: &Queue, item: u8) -> stanchion::Key {
    queue.try_push(item, Item::new(item)).unwrap()
}

fn pop(queue: &Queue) -> Option<u8> {
    blocking::wait(queue.pop()).map(number)
}

/// Which item it is; loom watches whether its pusher's writes are seen.
fn number((priority, item): (u8, Item)) -> u8 {
    assert_eq!(priority, item.get());
    priority
}

/// A pop that can go to another thread.
fn owned_pop(queue: &Arc<Queue>) -> Boxed<Option<u8>> {
    let queue = queue.clone();
    Box::pin(async move { queue.pop().await.map(number) })
}

/// Pops that wait, in this order.
fn waiting_pops<const N: usize>(queue: &Arc<Queue>) -> [Boxed<Option<u8>>; N] {
    [(); N].map(|()| {
        let mut pop = owned_pop(queue);
        assert!(poll_noop(&mut pop).is_pending());
        pop
    })
}

/// A parked push that can go to another thread: whether the item was accepted.
fn parked_push(queue: &Arc<Queue>, item: u8) -> Boxed<bool> {
    let owned = queue.clone();
    let mut push: Boxed<_> = Box::pin(async move { accepted(item, owned.push(item, Item::new(item)).await) });
    assert!(poll_noop(&mut push).is_pending());
    push
}

/// Whether the push succeeded; if not, it has its item back.
fn accepted<K>(item: u8, outcome: Result<K, Closed<(u8, Item)>>) -> bool {
    outcome.map_err(|Closed(refused)| assert_eq!(number(refused), item)).is_ok()
}

/// Nothing is left, and no future waits.
fn assert_idle(queue: &Queue) {
    queue.validate();
    assert_eq!((queue.len(), queue.waiting_pops(), queue.waiting_pushes()), (0, 0, 0));
}

/// The lost wake-up. Guards the second look at the items, after the waker was cloned, in `Popping::attempt`, and the first
/// loop of `settle`; and that what was pushed is visible to the pop that gets it.
fn push_racing_pop() {
    let queue = unbounded();
    let popper = spawn(&queue, |queue| assert_eq!(pop(queue), Some(1)));
    let pusher = spawn(&queue, |queue| push(queue, 1));
    popper.join().unwrap();
    pusher.join().unwrap();
    assert_idle(&queue);
}

/// Each of two pushes serves one of two pops. Guards `leave` in `Popping::attempt`: a reservation that outlives its item
/// starves the next.
fn two_pushes_two_pops() {
    let queue = unbounded();
    let poppers = [0, 1].map(|_| spawn(&queue, |queue| pop(queue).unwrap()));
    let pusher = spawn(&queue, |queue| [1, 2].map(|item| push(queue, item)));
    pusher.join().unwrap();
    assert_eq!(poppers.map(|popper| popper.join().unwrap()).iter().sum::<u8>(), 3);
    assert_idle(&queue);
}

/// The same with the pushes on two threads.
fn two_pushers_two_poppers() {
    let queue = unbounded();
    let [first] = waiting_pops(&queue);
    let pushers = [1, 2].map(|item| spawn(&queue, move |queue| push(queue, item)));
    let second = spawn(&queue, |queue| pop(queue).unwrap());
    assert_eq!(blocking::wait(first).unwrap() + second.join().unwrap(), 3);
    for pusher in pushers {
        pusher.join().unwrap();
    }
    assert_idle(&queue);
}

/// A pop that comes with a new waker while it is granted one. Guards the exchange of the waker in `WaitList::poll`, and
/// the second look after the clone in `Popping::attempt`.
fn pop_repolled_racing_push() {
    let queue = unbounded();
    let [pop] = waiting_pops(&queue);
    let popper = thread::spawn(|| assert_eq!(blocking::wait(pop), Some(1)));
    let pusher = spawn(&queue, |queue| push(queue, 1));
    popper.join().unwrap();
    pusher.join().unwrap();
    assert_idle(&queue);
}

/// The first in line leaves while it is granted the item, with another behind it. Guards `settle` in
/// `cancel_pop` and the end of the reservation in `Core::leave`: without either the second sleeps for ever.
fn pop_cancelled_racing_push() {
    let queue = unbounded();
    let [first, second] = waiting_pops(&queue);
    let canceller = thread::spawn(|| drop(first));
    let pusher = spawn(&queue, |queue| push(queue, 1));
    assert_eq!(blocking::wait(second), Some(1));
    canceller.join().unwrap();
    pusher.join().unwrap();
    assert_idle(&queue);
}

/// A reserved pop is cancelled while another one arrives. Guards `settle` in `cancel_pop`, and the second look in
/// `Popping::attempt`.
fn reserved_pop_cancelled_racing_pop() {
    let queue = unbounded();
    let [reserved] = waiting_pops(&queue);
    push(&queue, 1);
    let canceller = thread::spawn(|| drop(reserved));
    let popper = spawn(&queue, |queue| assert_eq!(pop(queue), Some(1)));
    canceller.join().unwrap();
    popper.join().unwrap();
    assert_idle(&queue);
}

/// What somebody has waited for is not there for who comes later, woken or not. Guards the demand for something
/// `has_unreserved` in `try_pop` and in `is_entitled`.
fn reserved_items_are_not_for_others() {
    let queue = unbounded();
    let [first] = waiting_pops(&queue);
    let popper = thread::spawn(|| assert_eq!(blocking::wait(first), Some(1)));
    let pusher = spawn(&queue, |queue| push(queue, 1));
    let barger = spawn(&queue, |queue| {
        assert_eq!(queue.try_pop().map(number), Err(TryPopError::Empty));
        assert!(poll_noop(&mut queue.pop()).is_pending());
    });
    popper.join().unwrap();
    pusher.join().unwrap();
    barger.join().unwrap();
    assert_idle(&queue);
}

/// A push is admitted to the room that a pop makes. Guards the second look in `Push::poll`, the plan's `next`, and
/// `grant` in `admit_parked`.
fn parked_push_racing_pop() {
    let queue = full([2]);
    let pusher = spawn(&queue, |queue| assert!(accepted(1, blocking::wait(queue.push(1, Item::new(1))))));
    let popper = spawn(&queue, |queue| assert_eq!([pop(queue), pop(queue)], [Some(2), Some(1)]));
    pusher.join().unwrap();
    popper.join().unwrap();
    assert_idle(&queue);
}

/// A push whose item is the most urgent completes when that is popped. Guards `grant` in `take`, and the comparison of the
/// parked with the admitted.
fn parked_push_popped_directly() {
    let queue = full([1]);
    let push = parked_push(&queue, 2);
    let pusher = thread::spawn(|| assert!(blocking::wait(push)));
    let popper = spawn(&queue, |queue| assert_eq!(pop(queue), Some(2)));
    pusher.join().unwrap();
    popper.join().unwrap();
    assert_eq!(queue.try_pop().map(number), Ok(1));
    assert_idle(&queue);
}

/// A parked push that comes with a new waker while it is admitted. Guards `poll` of the wait list in `Push::poll`.
fn push_repolled_racing_pop() {
    let queue = full([2]);
    let push = parked_push(&queue, 1);
    let pusher = thread::spawn(|| assert!(blocking::wait(push)));
    let popper = spawn(&queue, |queue| assert_eq!(pop(queue), Some(2)));
    pusher.join().unwrap();
    popper.join().unwrap();
    assert_eq!(pop(&queue), Some(1));
    assert_idle(&queue);
}

/// A pop takes what has parked though the one before it, which has a reservation, is not polled. Guards `settle` in
/// `park`, and the parked in `available`.
fn pop_racing_a_push_that_parks() {
    let queue = Arc::new(Queue::bounded(1));
    let [mut reserved] = waiting_pops(&queue);
    push(&queue, 1);
    let pusher = spawn(&queue, |queue| assert!(accepted(2, blocking::wait(queue.push(2, Item::new(2))))));
    let popper = spawn(&queue, |queue| assert_eq!(pop(queue), Some(2)));
    popper.join().unwrap();
    pusher.join().unwrap();
    assert_eq!(poll_noop(&mut reserved), Poll::Ready(Some(1)));
    assert_idle(&queue);
}

/// A push gives up and takes a reservation with it, unless that was used in time; the pop that loses it is served by the
/// next item. Guards `settle` in `cancel_push`.
fn pop_racing_a_parked_push_dropped() {
    let queue = Arc::new(Queue::bounded(1));
    let [mut first, second] = waiting_pops(&queue);
    push(&queue, 1);
    let parked = parked_push(&queue, 2);
    let canceller = thread::spawn(|| drop(parked));
    let popper = thread::spawn(|| blocking::wait(second).unwrap());
    let pusher = spawn(&queue, |queue| assert!(accepted(3, blocking::wait(queue.push(3, Item::new(3))))));
    let popped = popper.join().unwrap();
    let Poll::Ready(Some(other)) = poll_noop(&mut first) else { panic!("the older reservation was lost") };
    canceller.join().unwrap();
    pusher.join().unwrap();
    let left: Vec<u8> = queue.drain().into_iter().map(number).collect();
    match (popped, other) {
        (2, 3) | (3, 2) => assert_eq!(left, [1]),
        (2, 1) => assert_eq!(left, [3]),
        (3, 1) => assert!(left.is_empty()),
        other => panic!("they cannot have popped {other:?}"),
    }
    assert_idle(&queue);
}

/// A push is dropped while it is admitted, with another behind it: its item stays or its room is the other's, and the
/// other completes only then. Guards the look at the grant in the drop of `Push`.
fn parked_push_dropped_racing_admission() {
    let queue = full([3]);
    let first = parked_push(&queue, 2);
    let mut second = parked_push(&queue, 1);
    let (count, waker) = Count::new();
    assert!(poll(&mut second, &waker).is_pending());
    let canceller = thread::spawn(|| drop(first));
    let popper = spawn(&queue, |queue| assert_eq!(pop(queue), Some(3)));
    canceller.join().unwrap();
    popper.join().unwrap();
    queue.validate();
    let admitted = queue.waiting_pushes() == 0;
    assert_eq!((queue.len(), count.get()), (1, usize::from(admitted)));
    if !admitted {
        assert_eq!(queue.try_pop().map(number), Ok(2), "the first was admitted before it was dropped");
    }
    assert_eq!(poll_noop(&mut second), Poll::Ready(true));
    assert_eq!(queue.try_pop().map(number), Ok(1));
    assert_idle(&queue);
}

/// Two pops on two threads make room for two pushes, one of which is popped directly.
fn two_parked_pushes_two_pops() {
    let queue = full([2]);
    let [urgent, other] = [3, 1].map(|item| parked_push(&queue, item));
    let pusher = thread::spawn(|| assert!(blocking::wait(other)));
    let poppers = [0, 1].map(|_| spawn(&queue, |queue| queue.try_pop().map(number).unwrap()));
    assert_eq!(poppers.map(|popper| popper.join().unwrap()).iter().sum::<u8>(), 5);
    pusher.join().unwrap();
    assert!(blocking::wait(urgent));
    assert_eq!(pop(&queue), Some(1));
    assert_idle(&queue);
}

/// What is accepted is popped, what is refused comes back, and no pop hangs. Guards the check of `closed` in `admit`, the
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

/// The same with a push that waits for room. Guards `take_wakers` in `close`, and that nothing is admitted from among
/// those who have failed.
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

/// A push is dropped while it fails: its item goes with it, and once. Guards the removal in `cancel_push` and the
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

/// A pop that waits behind a reservation is not closed while there is an item. Guards `is_drained` in `settle`.
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

/// A pop that waits when the last item of a closed queue is collected is closed. Guards the end of `settle`,
/// and the second look of the one who comes in between.
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

/// The item is removed or popped; in the first case the next one is the pop's, though its waker was woken for nothing.
/// Guards the second loop of `settle`, `revoke`, and `register` for a pop that was revoked.
fn remove_racing_pop() {
    let queue = unbounded();
    let popper = spawn(&queue, |queue| pop(queue).unwrap());
    let remover = spawn(&queue, |queue| {
        let removed = queue.remove(push(queue, 1)).map(number);
        if removed.is_some() {
            push(queue, 2);
        }
        removed.unwrap_or_default()
    });
    assert_eq!(popper.join().unwrap(), 1 + remover.join().unwrap());
    assert_idle(&queue);
}

/// As above, but the pop is put back, and served again, by others while its waker is on the way out of a push. Guards
/// `grant` to a waiter whose waker is not there.
fn remove_racing_the_wake() {
    let queue = unbounded();
    let [mut first, second] = waiting_pops(&queue);
    let key = push(&queue, 1);
    let popper = thread::spawn(|| blocking::wait(second).unwrap());
    let pusher = spawn(&queue, |queue| push(queue, 2));
    let remover = spawn(&queue, move |queue| {
        assert_eq!(queue.remove(key).map(number), Some(1));
        push(queue, 3);
    });
    pusher.join().unwrap();
    remover.join().unwrap();
    let popped = popper.join().unwrap();
    assert_eq!(poll_noop(&mut first), Poll::Ready(Some(5 - popped)));
    assert_idle(&queue);
}

/// A parked push, to be given up.
fn owned_push(queue: &Arc<Queue>, item: u8) -> PushOwned<u8, Item> {
    let mut push = queue.clone().push_owned(item, Item::new(item));
    assert!(poll_noop(&mut push).is_pending());
    push
}

/// The item comes back, or it is in the queue. Guards the look at the grant in `cancel_push`.
fn into_inner_racing_admission() {
    let queue = full([2]);
    let push = owned_push(&queue, 1);
    let giver = thread::spawn(|| push.into_inner().map(number));
    let popper = spawn(&queue, |queue| assert_eq!(pop(queue), Some(2)));
    let back = giver.join().unwrap();
    popper.join().unwrap();
    queue.validate();
    if observe("into_inner", back.is_some()) {
        assert_eq!((back, queue.try_pop().map(number)), (Some(1), Err(TryPopError::Empty)));
    } else {
        assert_eq!(queue.try_pop().map(number), Ok(1));
    }
    assert_idle(&queue);
}

/// The same when its item is the most urgent.
fn into_inner_racing_a_direct_pop() {
    let queue = full([1]);
    let push = owned_push(&queue, 2);
    let giver = thread::spawn(|| push.into_inner().map(number));
    let popper = spawn(&queue, |queue| queue.try_pop().map(number));
    let (back, popped) = (giver.join().unwrap(), popper.join().unwrap());
    if observe("into_inner", back.is_some()) {
        assert_eq!((back, popped), (Some(2), Ok(1)));
    } else {
        assert_eq!((popped, queue.try_pop().map(number)), (Ok(2), Ok(1)));
    }
    assert_idle(&queue);
}

/// A push that fails has its item, too. Guards that `cancel_push` takes it from among the parked.
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

/// A reservation for the item goes with it: the newest, unless the item was popped in time. Guards `settle` in
/// `cancel_push`.
fn into_inner_racing_pops() {
    let queue = Arc::new(Queue::bounded(1));
    let [mut first, mut second] = waiting_pops(&queue);
    push(&queue, 1);
    let parked = owned_push(&queue, 2);
    let giver = thread::spawn(|| parked.into_inner().map(number));
    let popper = thread::spawn(move || match poll_noop(&mut second) {
        Poll::Ready(popped) => popped,
        Poll::Pending => None,
    });
    let popped = popper.join().unwrap();
    let (back, Poll::Ready(other)) = (giver.join().unwrap(), poll_noop(&mut first)) else {
        panic!("the older reservation is lost")
    };
    match observe("into_inner", back.is_some()) {
        true => assert_eq!((back, popped.or(other)), (Some(2), Some(1))),
        false => assert_eq!((popped, other), (Some(2), Some(1))),
    }
    // If the second popped in time, the first is the one without an item.
    drop(first);
    drop(queue.drain());
    assert_idle(&queue);
}

/// The reserved item is popped, or removed and the reservation revoked. Guards `settle` in `retain`.
fn retain_racing_a_reserved_pop() {
    let queue = unbounded();
    let [mut reserved] = waiting_pops(&queue);
    push(&queue, 1);
    let popper = thread::spawn(move || {
        let popped = poll_noop(&mut reserved);
        (popped, reserved)
    });
    let remover = spawn(&queue, |queue| queue.retain(|_, _| false).into_iter().map(number).collect::<Vec<_>>());
    let (popped, mut reserved) = popper.join().unwrap();
    let removed = remover.join().unwrap();
    if observe("retain", removed == [1]) {
        assert!(popped.is_pending());
        push(&queue, 2);
        assert_eq!(poll_noop(&mut reserved), Poll::Ready(Some(2)));
    } else {
        assert_eq!((popped, removed.len()), (Poll::Ready(Some(1)), 0));
    }
    assert_idle(&queue);
}

/// The room is for the push, whether it has parked before or comes later. Guards the admissions in `retain`.
fn retain_racing_a_push_that_parks() {
    let queue = full([1]);
    let pusher = spawn(&queue, |queue| {
        let mut push = queue.push(2, Item::new(2));
        match poll_noop(&mut push) {
            Poll::Ready(outcome) => assert!(accepted(2, outcome)),
            Poll::Pending => {
                assert!(accepted(2, blocking::wait(push)));
                return true;
            }
        }
        false
    });
    let remover = spawn(&queue, |queue| queue.retain(|&priority, _| priority != 1).into_iter().map(number).sum::<u8>());
    observe("the push", pusher.join().unwrap());
    assert_eq!((remover.join().unwrap(), pop(&queue)), (1, Some(2)));
    assert_idle(&queue);
}

/// The room is for the push, or it has taken its item away. Guards that what is dropped was not admitted.
fn retain_racing_a_parked_push_dropped() {
    let queue = full([1]);
    let push = parked_push(&queue, 2);
    let canceller = thread::spawn(|| drop(push));
    let remover = spawn(&queue, |queue| queue.retain(|_, _| false).into_iter().map(number).sum::<u8>());
    canceller.join().unwrap();
    assert_eq!(remover.join().unwrap(), 1);
    queue.validate();
    if observe("the admission", queue.len() == 1) {
        assert_eq!(queue.try_pop().map(number), Ok(2));
    }
    assert_idle(&queue);
}

/// With one item reserved there is another one as soon as it has parked. Guards `available`.
fn try_pop_racing_a_push_that_parks() {
    let queue = Arc::new(Queue::bounded(1));
    let [mut reserved] = waiting_pops(&queue);
    push(&queue, 1);
    let pusher = spawn(&queue, |queue| assert!(accepted(2, blocking::wait(queue.push(2, Item::new(2))))));
    let popped = queue.try_pop().map(number);
    if observe("try_pop", popped.is_ok()) {
        assert_eq!(popped, Ok(2));
    }
    let Poll::Ready(collected) = poll_noop(&mut reserved) else { panic!("a reservation is lost") };
    pusher.join().unwrap();
    let left: u8 = queue.drain().into_iter().map(number).sum();
    assert_eq!(popped.unwrap_or(0) + collected.unwrap() + left, 3);
    assert_idle(&queue);
}

/// Reservations are revoked from under two pops, and one item comes back: it is for the one that has waited longest.
/// Guards the order in which `settle` revokes, and the end at which `revoke` puts back.
fn drain_racing_reserved_pops() {
    let queue = unbounded();
    let [first, mut second] = waiting_pops(&queue);
    push(&queue, 1);
    push(&queue, 2);
    let popper = thread::spawn(|| blocking::wait(first).unwrap());
    let drainer = spawn(&queue, |queue| {
        let drained = queue.drain().into_iter().map(number).sum::<u8>();
        push(queue, 4);
        drained
    });
    let (popped, drained) = (popper.join().unwrap(), drainer.join().unwrap());
    queue.validate();
    match (popped, drained) {
        (4, 3) => assert!(poll_noop(&mut second).is_pending()),
        (2, 1) => assert_eq!(poll_noop(&mut second), Poll::Ready(Some(4))),
        other => panic!("nobody can have popped and drained {other:?}"),
    }
    drop(second);
    assert_idle(&queue);
}

/// Guards the loop of `drain` that admits, and the completion of the pushes in it.
fn drain_racing_parked_push() {
    let queue = full([1]);
    let pusher = spawn(&queue, |queue| assert!(accepted(2, blocking::wait(queue.push(2, Item::new(2))))));
    let drainer = spawn(&queue, |queue| queue.drain().into_iter().map(number).collect::<Vec<_>>());
    pusher.join().unwrap();
    assert_eq!(drainer.join().unwrap(), [1]);
    assert_eq!(pop(&queue), Some(2));
    assert_idle(&queue);
}

/// An item is popped with its old priority or its new one.
fn set_priority_racing_pop() {
    let queue = unbounded();
    let key = push(&queue, 1);
    push(&queue, 2);
    let setter = spawn(&queue, move |queue| queue.set_priority(key, 3));
    let popper =
        spawn(&queue, |queue| [(); 2].map(|()| queue.try_pop().map(|(priority, item)| (priority, item.get()))));
    match (setter.join().unwrap(), popper.join().unwrap()) {
        (true, [Ok((3, 1)), Ok((2, 2))] | [Ok((2, 2)), Ok((3, 1))]) => {}
        (false, [Ok((2, 2)), Ok((1, 1))]) => {}
        other => panic!("nobody can have seen {other:?}"),
    }
    assert_idle(&queue);
}

/// A reserved item is exchanged for a more urgent one: the reservation is for either.
fn force_push_racing_reserved_pop() {
    let queue = Arc::new(Queue::bounded(1));
    let [reserved] = waiting_pops(&queue);
    push(&queue, 1);
    let popper = thread::spawn(|| blocking::wait(reserved).unwrap());
    let pusher = spawn(&queue, |queue| {
        let forced_out = queue.force_push(2, Item::new(2)).unwrap().1;
        let not_reserved = queue.try_pop().ok();
        forced_out.or(not_reserved).map_or(0, number)
    });
    let (popped, other) = (popper.join().unwrap(), pusher.join().unwrap());
    queue.validate();
    assert_eq!(popped + other + queue.try_pop().map_or(0, number), 3);
    assert_idle(&queue);
}

/// Guards `has_unreserved` in the loop of `Popping::attempt`.
fn pop_many_leaves_what_others_wait_for() {
    let queue = unbounded();
    let [first] = waiting_pops(&queue);
    push(&queue, 1);
    let many = spawn(&queue, |queue| {
        let mut popped = Vec::new();
        assert_eq!(blocking::wait(queue.pop_many(&mut popped, 2)), 1);
        popped.into_iter().map(number).sum::<u8>()
    });
    let pusher = spawn(&queue, |queue| push(queue, 2));
    let popped = many.join().unwrap();
    pusher.join().unwrap();
    assert_eq!(blocking::wait(first), Some(3 - popped));
    assert_idle(&queue);
}

/// Nothing is lost or popped twice, and what room is made is used.
fn pop_many_racing_push_and_pop() {
    let queue = full([1]);
    let push = parked_push(&queue, 2);
    let many = spawn(&queue, |queue| {
        let mut popped = Vec::new();
        let count = blocking::wait(queue.pop_many(&mut popped, 2));
        assert!(count > 0 && popped.len() == count);
        popped.into_iter().map(number).sum::<u8>()
    });
    let popper = spawn(&queue, |queue| queue.try_pop().map_or(0, number));
    let pusher = thread::spawn(|| assert!(blocking::wait(push)));
    assert_eq!(many.join().unwrap() + popper.join().unwrap(), 3);
    pusher.join().unwrap();
    assert_idle(&queue);
}

/// Four are served at once and the batch holds two (under loom): one of the others sleeps, one leaves meanwhile.
/// Returns what the sleeper got.
fn more_than_a_batch<R: 'static>(queue: &Arc<Queue>, mut served: [Boxed<R>; 4], serve: impl FnOnce(&Queue)) -> R {
    let counts = [0, 1].map(|_| Count::new());
    for (served, (_, waker)) in served.iter_mut().zip(&counts) {
        assert!(poll(served, waker).is_pending());
    }
    let [first, second, third, fourth] = served;
    let sleeper = thread::spawn(|| blocking::wait(third));
    let canceller = thread::spawn(|| drop(fourth));
    serve(queue);
    canceller.join().unwrap();
    let got = sleeper.join().unwrap();
    queue.validate();
    assert_eq!(counts.map(|(count, _)| count.get()), [1, 1]);
    drop((first, second));
    got
}

/// Guards the refill in `wake`, without which the third push sleeps for ever, the branch of `grant` for who finds the
/// batch full, and the list that `WaitList::remove` chooses.
fn drain_admits_more_than_a_batch_holds() {
    let queue = full([5, 6, 7, 8]);
    let pushes = [4, 3, 2, 1].map(|item| parked_push(&queue, item));
    let third = more_than_a_batch(&queue, pushes, |queue| drop(queue.drain()));
    assert!(third);
    let left: u8 = queue.drain().into_iter().map(number).sum();
    assert!([9, 10].contains(&left), "only the fourth may have left in time");
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
