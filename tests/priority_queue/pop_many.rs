//! `pop_many`: one wait for a batch of items.

use std::sync::Arc;

use crate::common::{Log, Task, assert_numbers, ready};
use crate::{Queue, counts, fill, full, items, logged_push, pop_all};

#[test]
fn pop_many_takes_what_is_there_up_to_the_limit() {
    let queue = Queue::unbounded();
    fill(&queue, &[1, 3, 2, 3]);
    let mut into = Vec::new();
    assert_eq!(ready(&mut queue.pop_many(&mut into, 0)), 0);
    assert_eq!((into.len(), counts(&queue)), (0, (4, 0, 0)));
    assert_eq!(ready(&mut queue.pop_many(&mut into, 3)), 3);
    assert_eq!((items(std::mem::take(&mut into)), counts(&queue)), (vec![1, 3, 2], (1, 0, 0)));
    assert_eq!(ready(&mut queue.pop_many(&mut into, usize::MAX)), 1);
    assert_eq!((into, counts(&queue)), (vec![(1, 0)], (0, 0, 0)));
}

#[test]
fn pop_many_with_limit_none_never_waits() {
    let queue = Queue::unbounded();
    let mut into = Vec::new();
    assert_eq!(ready(&mut queue.pop_many(&mut into, 0)), 0);
    assert_eq!(counts(&queue), (0, 0, 0));
    let mut pop = Task::waiting(queue.pop());
    assert_eq!(ready(&mut queue.pop_many(&mut into, 0)), 0);
    queue.try_push(1, 1).unwrap();
    assert_eq!(ready(&mut queue.pop_many(&mut into, 0)), 0);
    assert_eq!((pop.ready(), into.len()), (Some((1, 1)), 0));
}

#[test]
fn pop_many_waits_like_one_pop_and_takes_what_came_meanwhile() {
    let queue = Queue::unbounded();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let mut before = Task::waiting(queue.pop());
    let mut many = Task::waiting(queue.pop_many(&mut one, 3));
    let mut after = Task::waiting(queue.pop_many(&mut two, 9));
    assert_eq!(counts(&queue), (0, 3, 0));
    queue.try_push(1, 0).unwrap();
    assert_eq!((before.wakes(), many.wakes(), after.wakes()), (1, 0, 0));
    queue.try_push(2, 1).unwrap();
    assert_eq!((before.wakes(), many.wakes(), after.wakes()), (1, 1, 0));
    // Its own, and nothing that is others'.
    assert_eq!((many.ready(), counts(&queue)), (1, (1, 1, 0)));
    fill(&queue, &[3, 4, 5, 6]);
    assert_eq!((before.wakes(), many.wakes(), after.wakes()), (1, 1, 1));
    assert_eq!((after.ready(), counts(&queue)), (4, (1, 0, 0)), "one is for the first");
    assert_eq!(before.ready(), Some((1, 0)));
    drop((many, after));
    assert_eq!((items(one), items(two)), (vec![1], vec![3, 2, 1, 0]));
}

#[test]
fn pop_many_leaves_what_is_reserved() {
    let queue = Queue::unbounded();
    let mut pops = [0; 2].map(|_| Task::waiting(queue.pop()));
    fill(&queue, &[1, 2, 3, 4, 5]);
    let mut into = Vec::new();
    assert_eq!(ready(&mut queue.pop_many(&mut into, 9)), 3);
    assert_eq!((items(into), counts(&queue)), (vec![4, 3, 2], (2, 0, 0)));
    assert_eq!(pops.each_mut().map(|pop| pop.ready().unwrap()), [(2, 1), (1, 0)]);
}

#[test]
fn pop_many_admits_the_parked_as_it_goes() {
    for limit in [1, 2, 3, 4, 5, 6, 9] {
        let (queue, _) = full(&[5, 1]);
        let log = Arc::new(Log::default());
        let mut waiters: Vec<_> =
            [(3, 2), (9, 3), (1, 4), (7, 5)].iter().map(|&(p, item)| logged_push(&queue, &log, p, item)).collect();
        let mut into = Vec::new();
        let taken = limit.min(6);
        assert_eq!(ready(&mut queue.pop_many(&mut into, limit)), taken);
        let order = [3, 5, 0, 2, 1, 4];
        assert_eq!(items(into), order[..taken]);
        let left = 6 - taken;
        assert_eq!(counts(&queue), (left.min(2), 0, left.saturating_sub(2)));
        let mut woken = log.take();
        woken.sort_unstable();
        let done = |item: usize| {
            let rest = &order[taken..];
            let admitted = rest.iter().filter(|&&other| other < 2).count();
            let parked: Vec<_> = rest.iter().filter(|&&other| other >= 2).collect();
            parked.iter().position(|&&other| other as usize == item).is_none_or(|at| at < 2 - admitted)
        };
        assert_numbers(&woken, (2..6).filter(|&item| done(item)));
        assert_eq!(items(pop_all(&queue)), order[taken..]);
        assert!(waiters.iter_mut().all(|push| ready(push).is_ok()));
    }
}

#[test]
fn a_reserved_pop_many_takes_its_own_and_the_parked() {
    let queue = Queue::bounded(2);
    let mut pop = Task::waiting(queue.pop());
    let mut into = Vec::new();
    let mut many = Task::waiting(queue.pop_many(&mut into, 9));
    fill(&queue, &[1, 2]);
    let mut parked = [3, 4].map(|item| Task::waiting(queue.push(item, item)));
    assert_eq!(many.ready(), 3);
    drop(many);
    assert_eq!((items(into), counts(&queue)), (vec![4, 3, 1], (1, 0, 0)));
    assert!(parked.iter_mut().all(|push| push.wakes() == 1 && push.ready().is_ok()));
    assert_eq!(pop.ready(), Some((1, 0)));
}

#[test]
fn a_dropped_pop_many_passes_its_reservation_on() {
    let queue = Queue::unbounded();
    let mut into = Vec::new();
    let many = Task::waiting(queue.pop_many(&mut into, 9));
    let mut pop = Task::waiting(queue.pop());
    queue.try_push(1, 1).unwrap();
    assert_eq!((many.wakes(), pop.wakes()), (1, 0));
    drop(many);
    assert_eq!((pop.wakes(), into.len(), counts(&queue)), (1, 0, (1, 0, 0)));
    assert_eq!(pop.ready(), Some((1, 1)));
}
