//! Many levels: items that are admitted among their equals, and levels that are added and removed by the thousand.

use std::cmp::Reverse;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use stanchion::PriorityQueue;

use crate::common::{Check, Task};
use crate::ranked::{Alive, Ranked, comparisons};
use crate::{Queue, counts, fill, full, items, pop_all};

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

#[test]
fn large_priorities_come_out_sorted() {
    let large = |number: u8| [number; 3_000];
    let mut random = StdRng::seed_from_u64(5);
    for count in 1..40 {
        let queue = PriorityQueue::unbounded();
        let mut numbers: Vec<u8> = (0..count).collect();
        if count % 2 == 0 {
            numbers.shuffle(&mut random);
        }
        for &number in &numbers {
            queue.try_push(large(number), number).unwrap();
            queue.check();
        }
        for number in (0..count).rev() {
            assert_eq!(queue.try_pop(), Ok((large(number), number)));
            queue.check();
        }
    }
}

#[test]
fn thousands_of_priorities_in_any_order_come_out_sorted() {
    const LEVELS: u32 = 5_000;
    let mut random = StdRng::seed_from_u64(4);
    for order in 0..3 {
        let mut levels: Vec<u32> = (0..LEVELS).collect();
        match order {
            0 => {}
            1 => levels.reverse(),
            _ => levels.shuffle(&mut random),
        }
        let queue = Queue::unbounded();
        let mut keys: Vec<_> = levels.iter().map(|&level| (level, queue.try_push(level, level).unwrap())).collect();
        queue.check();
        // Some items are removed, and some get another priority, which others may have.
        keys.shuffle(&mut random);
        for (level, key) in keys.drain(..LEVELS as usize / 4) {
            assert_eq!(queue.remove(key), Some((level, level)));
        }
        queue.check();
        let mut left: Vec<_> = keys.iter().map(|&(level, _)| (Reverse(level), 0, level)).collect();
        for (at, (level, key)) in (1..).zip(keys.drain(..LEVELS as usize / 4)) {
            let place = left.iter().position(|entry| entry.2 == level).unwrap();
            let new = random.random_range(0..LEVELS);
            assert!(queue.set_priority(key, new));
            left[place] = (Reverse(new), at, level);
        }
        queue.check();
        left.sort();
        let (now, later) = left.split_at(left.len() / 2);
        let pairs = |entries: &[(Reverse<u32>, i32, u32)]| -> Vec<(u32, u32)> {
            entries.iter().map(|&(Reverse(priority), _, item)| (priority, item)).collect()
        };
        let popped: Vec<_> = now.iter().map(|_| queue.try_pop().unwrap()).collect();
        assert_eq!(popped, pairs(now));
        queue.check();
        assert_eq!(queue.drain(), pairs(later));
        assert_eq!(counts(&queue), (0, 0, 0));
    }
}

#[test]
fn thousands_of_parked_pushes_come_in_sorted() {
    const PARKED: u32 = 2_000;
    let mut random = StdRng::seed_from_u64(5);
    let queue = Queue::bounded(3);
    fill(&queue, &[0; 3]);
    let mut levels: Vec<u32> = (1..=PARKED).collect();
    levels.shuffle(&mut random);
    let mut waiters: Vec<_> =
        levels.iter().map(|&level| Some(Task::waiting(queue.push(1 + level / 3, level)))).collect();
    assert_eq!(counts(&queue), (3, 0, PARKED as usize));
    let mut left: Vec<_> = levels.iter().zip(0..).map(|(&level, at)| (Reverse(1 + level / 3), at, level)).collect();
    // Every third push is cancelled.
    left.retain(|entry| entry.1 % 3 != 0);
    for push in waiters.iter_mut().step_by(3) {
        *push = None;
    }
    queue.check();
    left.sort_unstable();
    for (count, (Reverse(priority), at, item)) in left.into_iter().enumerate() {
        assert_eq!(queue.try_pop(), Ok((priority, item)));
        assert!(waiters[at].take().unwrap().ready().is_ok());
        if count % 100 == 0 {
            queue.check();
        }
    }
    assert_eq!(items(pop_all(&queue)), [0, 1, 2]);
}

#[test]
fn a_level_may_come_between_any_two_others() {
    // Levels stand side by side in blocks, which are divided when they are full: as many as fill some.
    for levels in [64, 128, 256] {
        for at in 0..=levels {
            let queue = Queue::unbounded();
            (0..levels).for_each(|level| assert!(queue.try_push(2 * level + 1, 0).is_ok()));
            for item in 0..3 {
                queue.try_push(2 * at, item).unwrap();
            }
            queue.check();
            let popped = queue.drain();
            assert!(popped.is_sorted_by_key(|&(level, item)| (Reverse(level), item)), "{at} of {levels}");
            assert_eq!(popped.len(), levels as usize + 3);
        }
    }
}

/// Each level gets an item that is older than the one that it has.
#[test]
fn an_admitted_item_finds_its_equals_among_many_levels() {
    const LEVELS: u32 = 600;
    let queue = Queue::bounded(LEVELS as usize);
    let keys: Vec<_> = (0..LEVELS).map(|level| queue.try_push(level, 2).unwrap()).collect();
    let parked: Vec<_> = (0..LEVELS).map(|level| Task::waiting(queue.push(level, 1))).collect();
    for (key, level) in keys.into_iter().zip(0..) {
        assert!(queue.set_priority(key, LEVELS) && queue.set_priority(key, level), "a new arrival");
    }
    let wanted: Vec<_> = (0..LEVELS).rev().flat_map(|level| [(level, 1), (level, 2)]).collect();
    let popped: Vec<_> = wanted.iter().map(|_| queue.try_pop().unwrap()).collect();
    assert_eq!((popped, counts(&queue)), (wanted, (0, 0, 0)));
    drop(parked);
}

/// The work for one item grows with the number of levels, and slowly.
#[test]
fn comparisons_grow_with_the_logarithm_of_the_levels() {
    let alive = Alive::default();
    let queue = Ranked::unbounded();
    for id in 0..4_000 {
        queue.try_push(alive.rank(id % 1_000, id), alive.item(id)).unwrap();
    }
    let mut most = 0;
    for level in (0..1_000).step_by(37) {
        let mut key = None;
        most = most.max(comparisons(|| {
            key = queue.try_push(alive.rank(level, 9_999), alive.item(9_999)).ok();
        }));
        most = most.max(comparisons(|| queue.set_priority(key.unwrap(), alive.rank(level / 2, 9_999))));
    }
    assert!(most <= 60, "{most} comparisons for a thousand levels");
    assert!(most >= 1);
}
