//! Pushes that give up and take their item back, and futures that own their handle to the queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use stanchion::{Closed, PopOwned, PriorityQueue, PushOwned, TryPopError, blocking};

use crate::common::{Counter, Log, Task, poll, poll_with, ready};
use crate::panics::panics_when_dropped;
use crate::{Queue, counts, full, items, logged_pop, logged_push, pop_all};

#[test]
fn a_push_that_was_not_polled_gives_its_item_back() {
    let queue = Queue::unbounded();
    assert_eq!(queue.push(1, 7).into_inner(), Some((1, 7)));
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn a_parked_push_gives_its_item_back() {
    let (queue, _) = full(&[1, 2]);
    let log = Arc::default();
    let pushes = [(3, 7), (5, 8), (4, 9)].map(|(priority, item)| logged_push(&queue, &log, priority, item));
    let [first, second, third] = pushes;
    assert_eq!(second.into_inner(), Some((5, 8)));
    assert_eq!((counts(&queue), log.take()), ((2, 0, 2), vec![]), "no room has been made");
    assert_eq!(queue.try_pop(), Ok((4, 9)), "it competes no longer");
    assert_eq!(first.into_inner(), Some((3, 7)));
    assert_eq!((third.into_inner(), log.take()), (None, vec![9]), "it was popped");
    assert_eq!(items(pop_all(&queue)), [1, 0]);
}

#[test]
fn a_push_that_was_admitted_has_no_item_to_give_back() {
    let (queue, keys) = full(&[1]);
    let mut push = queue.push(2, 7);
    assert!(poll(&mut push).is_pending());
    queue.remove(keys[0]).unwrap();
    assert_eq!(push.into_inner(), None);
    assert_eq!((counts(&queue), queue.try_pop()), ((1, 0, 0), Ok((2, 7))));
    let mut push = queue.push(3, 8);
    ready(&mut push).unwrap();
    assert_eq!(push.into_inner(), None);
}

#[test]
fn a_push_refused_by_close_gives_its_item_back_once() {
    let (queue, _) = full(&[1]);
    let mut pushes = [2, 3].map(|item| queue.push(1, item));
    assert!(pushes.iter_mut().all(|push| poll(push).is_pending()));
    queue.close();
    let [first, mut second] = pushes;
    assert_eq!(first.into_inner(), Some((1, 2)));
    assert_eq!(ready(&mut second), Err(Closed((1, 3))));
    assert_eq!((second.into_inner(), counts(&queue)), (None, (1, 0, 0)));
}

#[test]
fn giving_up_revokes_the_newest_reservation_and_wakes_no_task() {
    let queue = Queue::bounded(1);
    let log = Arc::new(Log::default());
    let mut pops = [0, 1].map(|entry| logged_pop(&queue, &log, entry));
    queue.try_push(1, 0).unwrap();
    let mut push = queue.push(2, 7);
    assert!(poll(&mut push).is_pending());
    assert_eq!((log.take(), counts(&queue)), (vec![0, 1], (1, 0, 1)));
    assert_eq!(push.into_inner(), Some((2, 7)));
    assert_eq!((log.take(), counts(&queue)), (vec![], (1, 1, 0)));
    assert!(poll(&mut pops[1]).is_pending());
    assert_eq!((ready(&mut pops[0]), queue.try_pop()), (Some((1, 0)), Err(TryPopError::Empty)));
}

/// The item is worth more than the panic.
#[test]
fn a_waker_that_panics_costs_no_item_that_is_given_back() {
    let queue = PriorityQueue::bounded(1);
    queue.try_push(1, 0).unwrap();
    let mut push = queue.push(2, 7);
    let armed = Arc::default();
    assert!(poll_with(&mut push, &panics_when_dropped(&armed).waker()).is_pending());
    armed.store(1, Ordering::Relaxed);
    assert_eq!(push.into_inner(), Some((2, 7)));
    assert_eq!(armed.load(Ordering::Relaxed), 0, "it has panicked");
}

#[test]
fn owned_futures_go_where_their_queue_is_not() {
    struct Connection {
        push: PushOwned<u8, &'static str>,
        pop: PopOwned<u8, &'static str>,
    }
    let queue = Arc::new(PriorityQueue::bounded(1));
    let connection = Connection { push: queue.clone().push_owned(1, "job"), pop: queue.clone().pop_owned() };
    drop(queue);
    let popper = thread::spawn(|| blocking::wait(connection.pop));
    blocking::wait(connection.push).unwrap();
    assert_eq!(popper.join().unwrap(), Some((1, "job")));
}

#[test]
fn owned_futures_behave_as_borrowed_ones_do() {
    let queue = Arc::new(Queue::bounded(1));
    let mut pops = [0; 2].map(|_| Task::waiting(queue.clone().pop_owned()));
    assert_eq!(counts(&queue), (0, 2, 0));
    ready(&mut queue.clone().push_owned(1, 1)).unwrap();
    let counter = Arc::new(Counter::default());
    let parked = [2, 3].map(|item| {
        let mut push = queue.clone().push_owned(2, item);
        assert!(poll_with(&mut push, &counter.clone().into()).is_pending());
        push
    });
    assert_eq!((counts(&queue), pops.each_ref().map(Task::wakes)), ((1, 0, 2), [1, 1]));
    let [dropped, kept] = parked;
    drop(dropped);
    assert_eq!(pops[0].ready(), Some((2, 3)));
    assert_eq!((counter.count(), kept.into_inner()), (1, None));
    drop(pops);
    assert_eq!((counts(&queue), queue.try_pop()), ((1, 0, 0), Ok((1, 1))), "no reservation is left");
    assert_eq!(Arc::strong_count(&queue), 1);
}
