//! Leaders and followers that are dropped or panic before they have a result.

use super::{
    ABANDONS, Caller, End, Fails, Got, KEY, assert_in_flight, assert_stored, assert_wakes, begin_infallible,
    begin_load, counts,
};
use crate::Cache;

#[test]
fn the_longest_waiting_follower_takes_over_an_abandoned_load() {
    for way in ABANDONS {
        let cache = Cache::new(10);
        let mut callers: Vec<_> = (0..5).map(|_| Caller::new(&cache, Fails::Never)).collect();
        callers[0].takes_the_lead();
        callers.iter_mut().skip(1).for_each(Caller::follows);
        drop(callers.remove(0));
        for left in (1..=3).rev() {
            assert_in_flight(&cache, 1);
            assert_wakes(&callers, &[&[1], &*vec![0; left]].concat());
            // Only the follower that was granted the lead may begin.
            callers.iter_mut().skip(1).for_each(Caller::follows);
            let loads = cache.stats().loads;
            way.run(callers.remove(0));
            assert_eq!(cache.stats().loads, loads + way.loads(), "{way:?}");
        }
        assert_wakes(&callers, &[1]);
        callers[0].takes_the_lead();
        assert_eq!(callers[0].ends(End::Value(9)), Got::Value(9), "{way:?}");
        assert_in_flight(&cache, 0);
        assert_stored(&cache, Some(9));
        assert_eq!(counts(&cache), [0, 5, 2 + 3 * way.loads(), 0, 1], "{way:?}");
    }
}

#[test]
fn a_load_is_removed_with_its_last_member() {
    for way in ABANDONS {
        for followers in 0..3 {
            let cache = Cache::new(10);
            let mut callers: Vec<_> = (0..=followers).map(|_| Caller::new(&cache, Fails::Red)).collect();
            let mut first = callers.remove(0);
            if followers == 0 {
                way.run(first);
            } else {
                first.takes_the_lead();
                callers.iter_mut().for_each(Caller::follows);
                drop(first);
                callers.into_iter().for_each(|caller| way.run(caller));
            }
            assert_in_flight(&cache, 0);
            assert_stored(&cache, None);
            let mut next = Caller::leading(&cache, Fails::Never);
            assert_eq!(next.ends(End::Value(9)), Got::Value(9));
            assert_in_flight(&cache, 0);
        }
    }
}

#[test]
fn callers_may_be_cancelled_in_any_order() {
    const ORDERS: [[usize; 4]; 8] = [
        [0, 1, 2, 3],
        [3, 2, 1, 0],
        [1, 0, 2, 3],
        [2, 0, 1, 3],
        [0, 2, 1, 3],
        [0, 3, 2, 1],
        [1, 2, 3, 0],
        [3, 0, 1, 2],
    ];
    for begins in [false, true] {
        for order in ORDERS {
            let cache = Cache::new(10);
            let mut callers: Vec<_> = begin_load(&cache, [Fails::Never; 4]).into_iter().map(Some).collect();
            for cancelled in order {
                assert_in_flight(&cache, 1);
                callers[cancelled] = None;
                // The first of the others leads, or was granted the lead.
                let mut left =
                    callers.iter_mut().enumerate().filter_map(|(place, caller)| Some((place, caller.as_mut()?)));
                if let Some((place, first)) = left.next() {
                    assert_eq!(first.wakes(), usize::from(place > 0), "{order:?}");
                    if begins && place > 0 && !first.leads() {
                        first.takes_the_lead();
                    }
                }
                left.for_each(|(_, caller)| {
                    assert_eq!(caller.wakes(), 0, "{order:?}");
                    caller.follows();
                });
            }
            assert_in_flight(&cache, 0);
        }
    }
}

#[test]
fn a_newcomer_to_a_leaderless_load_waits_behind_the_others() {
    let cache = Cache::new(10);
    let [leader, mut granted, other] = begin_infallible(&cache);
    drop(leader);
    let mut newcomer = Caller::following(&cache, Fails::Never);
    assert_in_flight(&cache, 1);
    granted.takes_the_lead();
    drop(granted);
    assert_wakes([&other, &newcomer], &[1, 0]);
    drop(other);
    assert_wakes([&newcomer], &[1]);
    newcomer.takes_the_lead();
    let mut last = Caller::following(&cache, Fails::Never);
    assert_eq!(newcomer.ends(End::Value(3)), Got::Value(3));
    assert_eq!(last.served(), Got::Value(3));
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 5, 3, 0, 1]);
}

#[test]
fn there_is_no_limit_to_takeovers() {
    let cache = Cache::new(10);
    let mut callers = begin_load(&cache, [Fails::Never; 500]);
    for _ in 1..500 {
        drop(callers.remove(0));
        callers[0].takes_the_lead();
    }
    assert_eq!(callers[0].ends(End::Value(5)), Got::Value(5));
    assert_eq!(counts(&cache), [0, 500, 500, 0, 1]);
    assert_in_flight(&cache, 0);
}

#[test]
fn a_leaked_leader_does_not_block_insert_or_remove() {
    let cache = Cache::new(10);
    let [leader, mut follower] = begin_infallible(&cache);
    std::mem::forget(leader);
    follower.follows();
    assert_eq!(cache.insert(KEY, 3), None);
    assert_eq!(follower.served(), Got::Value(3));
    cache.clear();
    std::mem::forget(Caller::leading(&cache, Fails::Never));
    let stuck = Caller::following(&cache, Fails::Never);
    cache.remove(&KEY);
    let mut next = Caller::leading(&cache, Fails::Never);
    assert_eq!(next.ends(End::Value(4)), Got::Value(4));
    assert_stored(&cache, Some(4));
    assert_eq!(stuck.wakes(), 0);
    assert_in_flight(&cache, 2);
}
