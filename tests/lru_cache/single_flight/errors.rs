//! Errors of loads: the followers that can take one get it, and the others load in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{
    Blue, Caller, End, Fails, Got, KEY, Red, assert_in_flight, assert_stored, assert_wakes, begin_load, counts,
};
use crate::Cache;
use crate::common::until;

#[test]
fn an_error_goes_to_all_followers_and_is_not_stored() {
    let cache = Cache::new(10);
    let mut callers = begin_load(&cache, [Fails::Red; 5]);
    drop(callers.remove(2));
    let error = callers[0].ends(End::Error(3));
    assert_eq!(error, Got::Red(Arc::new(Red(3))));
    assert_wakes(callers.iter().skip(1), &[1, 1, 1]);
    assert_in_flight(&cache, 1);
    // A caller that comes before they have run has no part in it.
    let mut newcomer = Caller::leading(&cache, Fails::Red);
    assert_in_flight(&cache, 2);
    drop(callers.pop());
    for caller in callers.iter_mut().skip(1) {
        assert!(caller.served().is(&error), "it is the same");
    }
    assert_in_flight(&cache, 1);
    assert!(!newcomer.ends(End::Error(3)).is(&error));
    assert_in_flight(&cache, 0);
    assert_stored(&cache, None);
    assert_eq!(counts(&cache), [0, 6, 2, 2, 0]);
    drop((callers, newcomer));
    let Got::Red(error) = error else { unreachable!() };
    assert_eq!(Arc::into_inner(error), Some(Red(3)), "it is not kept");
}

#[test]
fn followers_of_another_error_type_load_in_turn() {
    use Fails::{Blue as B, Never, Red as R};
    let cache = Cache::new(10);
    let mut callers = begin_load(&cache, [R, B, Never, R, B, R, Never]);
    let red = callers[0].ends(End::Error(1));
    assert_wakes(&callers[1..], &[1, 0, 1, 0, 1, 0]);
    assert_in_flight(&cache, 1);
    for other in [2, 4, 6] {
        callers[other].follows();
    }
    assert!(callers[3].served().is(&red));
    callers[1].takes_the_lead();
    let mut newcomer = Caller::following(&cache, R);
    let blue = callers[1].ends(End::Error(2));
    assert_eq!(blue, Got::Blue(Arc::new(Blue(2))));
    assert_wakes([&callers[2], &callers[4], &callers[6], &newcomer], &[1, 1, 0, 0]);
    callers[2].takes_the_lead();
    assert_eq!(callers[2].ends(End::Value(3)), Got::Value(3));
    assert_stored(&cache, Some(3));
    assert_wakes([&callers[6], &newcomer], &[1, 1]);
    assert_eq!([callers[6].served(), newcomer.served()], [Got::Value(3), Got::Value(3)]);
    // A follower keeps the error that it was given, in spite of later ones.
    assert_in_flight(&cache, 1);
    assert!(callers[4].served().is(&blue));
    assert_in_flight(&cache, 1);
    assert!(callers[5].served().is(&red));
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 8, 3, 2, 1]);
}

#[test]
fn a_follower_with_an_error_is_not_granted_the_lead() {
    let cache = Cache::new(10);
    let mut callers = begin_load(&cache, [Fails::Red, Fails::Red, Fails::Blue, Fails::Red, Fails::Never]);
    let red = callers[0].ends(End::Error(1));
    assert_wakes(&callers[1..], &[1, 1, 1, 0]);
    drop(callers.remove(2));
    assert_wakes(&callers[1..], &[1, 1, 1]);
    drop(callers.pop());
    assert_in_flight(&cache, 1);
    // No follower is left that could lead.
    let mut newcomer = Caller::leading(&cache, Fails::Never);
    assert_in_flight(&cache, 2);
    for follower in &mut callers[1..] {
        assert!(follower.served().is(&red));
    }
    assert_in_flight(&cache, 1);
    assert_eq!(newcomer.ends(End::Value(4)), Got::Value(4));
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 6, 2, 1, 1]);
}

#[test]
fn a_leader_after_an_error_may_abandon_the_load_too() {
    let cache = Cache::new(10);
    let mut callers = begin_load(&cache, [Fails::Red, Fails::Blue, Fails::Red, Fails::Never, Fails::Blue]);
    let red = callers[0].ends(End::Error(1));
    callers[1].takes_the_lead();
    callers.remove(1).panics();
    assert_wakes(&callers[1..], &[1, 1, 0]);
    let mut next = callers.remove(2);
    next.takes_the_lead();
    drop(next);
    assert_wakes(&callers[1..], &[1, 1]);
    callers[2].takes_the_lead();
    assert_eq!(callers[2].ends(End::Value(6)), Got::Value(6));
    assert!(callers[1].served().is(&red));
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 5, 4, 1, 1]);
}

#[test]
fn threads_share_one_error() {
    const THREADS: usize = 8;
    let cache = Cache::new(10);
    let call = || {
        let load = || {
            until(|| cache.stats().misses == THREADS as u64);
            Err(Red(1))
        };
        cache.try_get_or_insert_with(&KEY, load).expect_err("it fails")
    };
    let errors: Vec<Arc<Red>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(call)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])));
    assert_eq!(Arc::strong_count(&errors[0]), THREADS);
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, THREADS as u64, 1, 1, 0]);
}

#[test]
fn threads_of_other_error_types_load_one_after_the_other() {
    let cache = Cache::new(10);
    let mut leader = Caller::leading(&cache, Fails::Red);
    let inside = AtomicUsize::new(0);
    let load = || {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
        thread::yield_now();
        inside.fetch_sub(1, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        let blue = scope.spawn(|| {
            cache.try_get_or_insert_with(&KEY, || {
                load();
                Err(Blue(2))
            })
        });
        until(|| cache.stats().misses == 2);
        let red = scope.spawn(|| cache.try_get_or_insert_with(&KEY, || Err(Red(3))));
        until(|| cache.stats().misses == 3);
        let value = scope.spawn(|| {
            cache.get_or_insert_with(&KEY, || {
                load();
                4
            })
        });
        until(|| cache.stats().misses == 4);
        assert_eq!(leader.ends(End::Error(1)), Got::Red(Arc::new(Red(1))));
        assert_eq!(red.join().unwrap(), Err(Arc::new(Red(1))));
        assert_eq!(blue.join().unwrap(), Err(Arc::new(Blue(2))));
        assert_eq!(value.join().unwrap(), 4);
    });
    assert_in_flight(&cache, 0);
    assert_eq!(counts(&cache), [0, 4, 3, 2, 1]);
}
