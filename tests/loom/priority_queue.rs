//! Models of `PriorityQueue`: which future gets an item, a reservation or room while others push, pop, cancel or close.

pub(crate) mod closing;

use loom::thread::{self, JoinHandle};
use stanchion::{Closed, PriorityQueue, PushOwned, TryPopError, blocking};
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
    2: remove_racing_pop,
    3: remove_racing_the_wake,
    2: into_inner_racing_admission,
    2: into_inner_racing_a_direct_pop,
    3: into_inner_racing_pops,
    2: retain_racing_a_reserved_pop,
    2: retain_racing_a_push_that_parks,
    2: retain_racing_a_parked_push_dropped,
    2: try_pop_racing_a_push_that_parks,
    2: drain_racing_reserved_pops,
    2: drain_racing_parked_push,
    2: set_priority_racing_pop,
    2: force_push_racing_reserved_pop,
    2: pop_many_leaves_reserved_items,
    3: pop_many_racing_push_and_pop,
    3: drain_admits_more_than_a_batch_holds,
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

/// Returns the number of an item. Loom checks that the writes of its pusher are visible.
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

/// A parked push that can go to another thread; its output is true if the item was accepted.
fn parked_push(queue: &Arc<Queue>, item: u8) -> Boxed<bool> {
    let owned = queue.clone();
    let mut push: Boxed<_> = Box::pin(async move { accepted(item, owned.push(item, Item::new(item)).await) });
    assert!(poll_noop(&mut push).is_pending());
    push
}

/// Returns true if the push succeeded, and checks the item that it returns if not.
fn accepted<K>(item: u8, outcome: Result<K, Closed<(u8, Item)>>) -> bool {
    outcome.map_err(|Closed(refused)| assert_eq!(number(refused), item)).is_ok()
}

/// Asserts that no item is left, and no future waits.
fn assert_idle(queue: &Queue) {
    queue.validate();
    assert_eq!((queue.len(), queue.waiting_pops(), queue.waiting_pushes()), (0, 0, 0));
}

/// The lost wake-up. Guards the second attempt, after the waker was cloned, in `Popping::attempt`, and the first
/// loop of `settle`; and that the pushed item is visible to the pop that gets it.
fn push_racing_pop() {
    let queue = unbounded();
    let popper = spawn(&queue, |queue| assert_eq!(pop(queue), Some(1)));
    let pusher = spawn(&queue, |queue| push(queue, 1));
    popper.join().unwrap();
    pusher.join().unwrap();
    assert_idle(&queue);
}

/// Each of two pushes serves one of two pops. Guards `leave` in `Popping::attempt`: a reservation that outlives its item
/// starves the next pop.
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

/// A pop is polled with a new waker while it is granted. Guards the exchange of the waker in `WaitList::poll`, and
/// the second attempt after the clone in `Popping::attempt`.
fn pop_repolled_racing_push() {
    let queue = unbounded();
    let [pop] = waiting_pops(&queue);
    let popper = thread::spawn(|| assert_eq!(blocking::wait(pop), Some(1)));
    let pusher = spawn(&queue, |queue| push(queue, 1));
    popper.join().unwrap();
    pusher.join().unwrap();
    assert_idle(&queue);
}

/// The first waiter is cancelled while it is granted the item, with another behind it. Guards `settle` in
/// `cancel_pop` and the end of the reservation in `Core::leave`: without either the second waits for ever.
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

/// A reserved pop is cancelled while another one arrives. Guards `settle` in `cancel_pop`, and the second attempt in
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

/// An item that is reserved for a waiter is not popped by a later pop, whether the waiter was woken or not. Guards
/// `has_unreserved` in `try_pop` and in `is_entitled`.
fn reserved_items_are_not_for_others() {
    let queue = unbounded();
    let [first] = waiting_pops(&queue);
    let popper = thread::spawn(|| assert_eq!(blocking::wait(first), Some(1)));
    let pusher = spawn(&queue, |queue| push(queue, 1));
    let late = spawn(&queue, |queue| {
        assert_eq!(queue.try_pop().map(number), Err(TryPopError::Empty));
        assert!(poll_noop(&mut queue.pop()).is_pending());
    });
    popper.join().unwrap();
    pusher.join().unwrap();
    late.join().unwrap();
    assert_idle(&queue);
}

/// A push is admitted to the room that a pop makes. Guards the second attempt in `Push::poll`, the plan's `next`, and
/// `grant` in `admit_parked`.
fn parked_push_racing_pop() {
    let queue = full([2]);
    let pusher = spawn(&queue, |queue| assert!(accepted(1, blocking::wait(queue.push(1, Item::new(1))))));
    let popper = spawn(&queue, |queue| assert_eq!([pop(queue), pop(queue)], [Some(2), Some(1)]));
    pusher.join().unwrap();
    popper.join().unwrap();
    assert_idle(&queue);
}

/// A push with the most urgent item completes when that is popped. Guards `grant` in `take`, and the comparison of the
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

/// A parked push is polled with a new waker while it is admitted. Guards `poll` of the wait list in `Push::poll`.
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

/// A pop takes a parked item although the pop before it, which has a reservation, is not polled. Guards `settle` in
/// `park`, and the parked items in `available`.
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

/// A push is cancelled and a reservation revoked, unless that was used in time; the pop that loses it is served by the
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
        other => panic!("no order pops {other:?}"),
    }
    assert_idle(&queue);
}

/// A push is dropped while it is admitted, with another behind it: its item stays, or its room goes to the
/// other, which completes only then. Guards the check of the grant in the drop of `Push`.
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

/// The item is removed or popped; in the first case the pop gets the next one, after a wake without an item.
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

/// As above, but the reservation is revoked, and granted again, while a push wakes the pop. Guards `grant` to a waiter
/// without a waker.
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

/// The item is returned, or it is in the queue. Guards the check of the grant in `cancel_push`.
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

/// The newest reservation is revoked with the item, unless that was popped in time. Guards `settle` in
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

/// The room is for the push, whether it parks before or after. Guards the admissions in `retain`.
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

/// The push is admitted, or dropped with its item. Guards that a push is not both.
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

/// The reservations of two pops are revoked, and one item is pushed again: it is for the pop that has waited longest.
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
        other => panic!("no order pops and drains {other:?}"),
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
        other => panic!("no order gives {other:?}"),
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
        let evicted = queue.force_push(2, Item::new(2)).unwrap().1;
        let not_reserved = queue.try_pop().ok();
        evicted.or(not_reserved).map_or(0, number)
    });
    let (popped, other) = (popper.join().unwrap(), pusher.join().unwrap());
    queue.validate();
    assert_eq!(popped + other + queue.try_pop().map_or(0, number), 3);
    assert_idle(&queue);
}

/// Guards `has_unreserved` in the loop of `Popping::attempt`.
fn pop_many_leaves_reserved_items() {
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

/// No item is lost or popped twice, and the room is used.
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

/// Four waiters are served at once and a batch holds two (under loom): one of the others waits, one is cancelled
/// meanwhile. Returns the output of the third.
fn more_than_a_batch<R: 'static>(queue: &Arc<Queue>, mut served: [Boxed<R>; 4], serve: impl FnOnce(&Queue)) -> R {
    let counts = [0, 1].map(|_| Count::new());
    for (served, (_, waker)) in served.iter_mut().zip(&counts) {
        assert!(poll(served, waker).is_pending());
    }
    let [first, second, third, fourth] = served;
    let waiter = thread::spawn(|| blocking::wait(third));
    let canceller = thread::spawn(|| drop(fourth));
    serve(queue);
    canceller.join().unwrap();
    let output = waiter.join().unwrap();
    queue.validate();
    assert_eq!(counts.map(|(count, _)| count.get()), [1, 1]);
    drop((first, second));
    output
}

/// Guards the refill in `wake`, without which the third push waits for ever, the branch of `grant` for a full
/// batch, and the list that `WaitList::remove` chooses.
fn drain_admits_more_than_a_batch_holds() {
    let queue = full([5, 6, 7, 8]);
    let pushes = [4, 3, 2, 1].map(|item| parked_push(&queue, item));
    let third = more_than_a_batch(&queue, pushes, |queue| drop(queue.drain()));
    assert!(third);
    let left: u8 = queue.drain().into_iter().map(number).sum();
    assert!([9, 10].contains(&left), "only the fourth may be cancelled in time");
    assert_idle(&queue);
}
