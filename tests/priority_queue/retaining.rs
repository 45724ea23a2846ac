//! Visiting all items, and keeping some of them.

use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::TryPopError;

use crate::common::{Task, panic_of};
use crate::ranked::{Alive, Ranked, id_of, with_panic_at};
use crate::{Queue, counts, fill, full, items, logged_push, pop_all};

#[test]
fn a_visit_meets_the_admitted_in_order_with_their_keys() {
    let (queue, keys) = full(&[2, 7, 2, 9]);
    let _parked = Task::waiting(queue.push(8, 4));
    let mut visits = Vec::new();
    queue.for_each(|key, &priority, &item| visits.push((key, priority, item)));
    assert_eq!(visits, [(keys[3], 9, 3), (keys[1], 7, 1), (keys[0], 2, 0), (keys[2], 2, 2)]);
    Queue::unbounded().for_each(|_, _, _| panic!("an empty queue has no items"));
}

#[test]
fn a_visitor_that_panics_leaves_the_queue_usable() {
    let (queue, _) = full(&[1, 2]);
    assert_eq!(panic_of(|| queue.for_each(|_, _, _| panic!("the visit"))), "the visit");
    assert_eq!((counts(&queue), items(pop_all(&queue))), ((2, 0, 0), vec![1, 0]));
}

#[test]
fn the_items_that_are_not_kept_come_back_in_order() {
    let queue = Queue::unbounded();
    let keys = fill(&queue, &[2, 7, 2, 9, 7, 2, 0]);
    let mut seen = Vec::new();
    let removed = queue.retain(|&priority, &item| {
        seen.push(item);
        priority != 2 || item == 2
    });
    assert_eq!(seen, [3, 1, 4, 0, 2, 5, 6], "each is visited once, most urgent first");
    assert_eq!(removed, [(2, 0), (2, 5)]);
    assert_eq!([0, 2].map(|at| queue.priority(keys[at])), [None, Some(2)]);
    assert_eq!((counts(&queue), queue.retain(|_, _| true)), ((5, 0, 0), vec![]));
    assert_eq!(pop_all(&queue), [(9, 3), (7, 1), (7, 4), (2, 2), (0, 6)]);
}

#[test]
fn the_room_is_for_the_most_urgent_of_the_parked() {
    let (queue, _) = full(&[5, 5, 1, 3]);
    let log = Arc::default();
    let parked = [(0, 4), (5, 5), (2, 6), (9, 7), (5, 8)].map(|(level, item)| logged_push(&queue, &log, level, item));
    assert_eq!(queue.retain(|&priority, _| priority != 5), [(5, 0), (5, 1)]);
    let mut woken = log.take();
    woken.sort_unstable();
    assert_eq!((woken, counts(&queue)), (vec![5, 7], (4, 0, 3)));
    assert_eq!(pop_all(&queue), [(9, 7), (5, 5), (5, 8), (3, 3), (2, 6), (1, 2), (0, 4)]);
    drop(parked);
}

#[test]
fn reserved_items_are_asked_about_too() {
    let queue = Queue::unbounded();
    let mut pops = [0; 3].map(|_| Task::waiting(queue.pop()));
    fill(&queue, &[1, 2, 3]);
    assert_eq!(queue.retain(|&priority, _| priority == 2), [(3, 2), (1, 0)]);
    assert_eq!(counts(&queue), (1, 2, 0));
    assert!(pops[1].is_pending() && pops[2].is_pending(), "the newest reservations are revoked");
    assert_eq!((pops[0].ready(), queue.try_pop()), (Some((2, 1)), Err(TryPopError::Empty)));
}

#[test]
fn a_closure_that_panics_removes_nothing() {
    let (queue, keys) = full(&[1, 2, 3]);
    let parked = Task::waiting(queue.push(4, 4));
    for panics_at in 0..3 {
        let mut left = panics_at;
        let removal = || {
            queue.retain(|_, _| {
                left -= 1;
                assert!(left >= 0, "the closure");
                false
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(removal)).is_err());
        assert_eq!((counts(&queue), parked.wakes()), ((3, 0, 1), 0));
    }
    assert!(keys.iter().all(|&key| queue.priority(key).is_some()));
    assert_eq!(items(pop_all(&queue)), [4, 2, 1, 0]);
}

#[test]
fn a_comparison_that_panics_removes_nothing() {
    for panics_at in 0.. {
        let alive = Alive::default();
        let queue = Ranked::bounded(4);
        for id in 0..4 {
            queue.try_push(alive.rank(id, id), alive.item(id)).unwrap();
        }
        let parked = [4, 5, 6].map(|id| Task::waiting(queue.push(alive.rank(id % 3, id), alive.item(id))));
        let removed = with_panic_at(panics_at, || queue.retain(|rank, _| rank.id % 2 == 0));
        let Some(removed) = removed else {
            assert_eq!((counts(&queue), alive.count()), ((4, 0, 3), 14));
            continue;
        };
        assert!(panics_at > 3, "the parked find their places by comparisons");
        assert_eq!(removed.into_iter().map(id_of).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(counts(&queue), (4, 0, 1));
        assert_eq!(pop_all(&queue).into_iter().map(id_of).collect::<Vec<_>>(), [2, 5, 4, 0, 6]);
        drop(parked);
        break;
    }
}

/// Many are admitted at once, beside equals that are older and newer, and beside one another.
#[test]
fn many_that_are_admitted_at_once_keep_the_order() {
    let mut random = StdRng::seed_from_u64(6);
    for (count, levels) in [(40, 3), (40, 500), (600, 4), (600, 5_000)] {
        for keep in [0, 1, 7] {
            let queue = Queue::bounded(count);
            // By item: its priority, and the time of its arrival.
            let mut places = Vec::new();
            let (mut keys, mut parked) = (Vec::new(), Vec::new());
            for item in 0..2 * count {
                places.push((Reverse(random.random_range(0..levels)), 3 * item));
                let (Reverse(priority), _) = places[item];
                if item < count {
                    keys.push(queue.try_push(priority, item as u32).unwrap());
                    continue;
                }
                parked.push(Task::waiting(queue.push(priority, item as u32)));
                let (moved, priority) = (random.random_range(0..count), random.random_range(0..levels));
                if item % 5 == 0 && places[moved].0 != Reverse(priority) {
                    places[moved] = (Reverse(priority), 3 * item + 1);
                    assert!(queue.set_priority(keys[moved], priority));
                }
            }
            let is_kept = |item: usize| keep > 0 && item % keep == 0;
            let ordered = |mut items: Vec<usize>| {
                items.sort_by_key(|&item| places[item]);
                items.into_iter().map(|item| (places[item].0.0, item as u32)).collect::<Vec<_>>()
            };
            let removed = queue.retain(|_, &item| is_kept(item as usize));
            assert_eq!(removed, ordered((0..count).filter(|&item| !is_kept(item)).collect()));
            let room = removed.len();
            assert_eq!(counts(&queue), (count, 0, count - room));
            let left = (0..2 * count).filter(|&item| item >= count || is_kept(item)).collect();
            assert_eq!(pop_all(&queue), ordered(left));
            drop(parked);
        }
    }
}
