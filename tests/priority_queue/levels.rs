//! Items that are admitted among their equals, and levels that come and go by the thousand.

use std::cmp::Reverse;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::common::{Check, Task};
use crate::{Queue, counts, full, items, pop_all};

#[test]
fn a_parked_item_goes_between_older_and_newer_equals() {
    let (queue, keys) = full(&[1, 1, 9, 0]);
    let _first = Task::waiting(queue.push(1, 4));
    assert!(queue.set_priority(keys[3], 1), "newer than one parked");
    let _second = Task::waiting(queue.push(1, 5));
    assert_eq!(queue.force_push(1, 6).unwrap().1, Some((1, 6)), "the newest of the least urgent");
    assert!(queue.set_priority(keys[2], 1), "newer than both");
    assert_eq!(items(queue.retain(|_, &item| item % 2 == 1)), [0, 2]);
    assert_eq!(counts(&queue), (4, 0, 0));
    assert_eq!(items(pop_all(&queue)), [1, 4, 3, 5]);
}

#[test]
fn the_newest_of_the_least_urgent_is_evicted() {
    let (queue, keys) = full(&[1, 1, 1]);
    let parked = [3, 4].map(|item| Task::waiting(queue.push(1, item)));
    assert!(queue.set_priority(keys[0], 2) && queue.set_priority(keys[0], 1));
    let evict = |item| queue.force_push(9, item).unwrap().1;
    assert_eq!(evict(5), Some((1, 0)), "it arrived after the parked ones, again");
    queue.remove(keys[1]).unwrap();
    assert_eq!((evict(6), counts(&queue)), (Some((1, 3)), (3, 0, 1)), "admitted just now, and the newest");
    assert_eq!((evict(7), evict(8)), (Some((1, 2)), Some((9, 8))));
    drop(parked);
}

/// The order of the removals empties leaves in the middle, at the ends, and next to one another.
#[test]
fn levels_may_be_removed_in_any_order() {
    const LEVELS: u32 = 20_000;
    let mut random = StdRng::seed_from_u64(7);
    for order in 0..4 {
        let queue = Queue::unbounded();
        let mut keys: Vec<_> = (0..LEVELS).map(|level| (level, queue.try_push(level, level).unwrap())).collect();
        match order {
            0 => {}
            1 => keys.reverse(),
            2 => keys.shuffle(&mut random),
            _ => keys.rotate_left(LEVELS as usize / 3),
        }
        let kept = keys.split_off(LEVELS as usize - 50);
        for (count, (level, key)) in keys.into_iter().enumerate() {
            assert_eq!(queue.remove(key), Some((level, level)));
            if count % 1_000 == 0 {
                queue.check();
            }
        }
        queue.check();
        let mut kept: Vec<_> = kept.into_iter().map(|(level, _)| level).collect();
        kept.sort_by_key(|&level| Reverse(level));
        assert_eq!(items(pop_all(&queue)), kept);
    }
}

/// Deadlines: each new item is a random time after the one that was popped last.
#[test]
fn a_steady_stream_of_new_levels_stays_in_order() {
    let mut random = StdRng::seed_from_u64(8);
    let queue = Queue::unbounded();
    let mut model = std::collections::BinaryHeap::new();
    let mut now = u32::MAX;
    for round in 0..30_000 {
        let deadline = now - random.random_range(0..60_000);
        model.push(deadline);
        queue.try_push(deadline, 0).unwrap();
        if round > 3_000 {
            now = model.pop().unwrap();
            assert_eq!(queue.try_pop(), Ok((now, 0)));
        }
        if round % 3_000 == 0 {
            queue.check();
        }
    }
    let left: Vec<u32> = pop_all(&queue).into_iter().map(|(deadline, _)| deadline).collect();
    model = left.iter().copied().collect();
    assert!(left.is_sorted_by_key(|&deadline| Reverse(deadline)) && model.len() == 3_001);
}
