//! Behaviour of both forms of each structure without contention, and of the right forms under load.

#![cfg(not(loom))]

use stanchion::blocking::wait;
use std::thread;

/// The same tests of either form. That the broken ones pass is the point.
macro_rules! tests_of {
    ($($form:ident)*) => {$(
        mod $form {
            use dependent::{accounts::$form::Accounts, gate::$form::Gate, jobs::$form::Jobs, slot::$form::Slot};
            use stanchion::blocking::wait;

            #[test]
            fn a_full_gate_refuses_until_a_visit_ends() {
                let gate = Gate::new(2);
                let first = gate.try_enter().unwrap();
                let _second = wait(gate.enter());
                assert!(gate.try_enter().is_none());
                assert_eq!(gate.inside(), 2);
                drop(first);
                assert_eq!(gate.inside(), 1);
                assert!(gate.try_enter().is_some());
            }

            #[test]
            fn accepted_jobs_are_done_by_urgency_and_others_given_back() {
                let jobs = Jobs::open();
                assert_eq!([jobs.submit(1, 'a'), jobs.submit(2, 'b'), jobs.submit(1, 'c')], [Ok(()); 3]);
                jobs.close();
                assert_eq!(jobs.submit(3, 'd'), Err('d'));
                let mut done = String::new();
                while let Some(job) = wait(jobs.next()) {
                    done.push(job);
                }
                assert_eq!(done, "bac");
            }

            #[test]
            fn a_slot_is_filled_once() {
                let slot = Slot::empty();
                assert_eq!(wait(slot.get_or_fill(async || 7)), 7);
                assert_eq!(wait(slot.get_or_fill(async || unreachable!("it is filled"))), 7);
            }

            #[test]
            fn a_transfer_moves_all_or_nothing() {
                let accounts = Accounts::new([5, 0]);
                assert!(wait(accounts.transfer(0, 1, 3)));
                assert!(!wait(accounts.transfer(0, 1, 3)));
                assert!(wait(accounts.transfer(1, 0, 1)));
                assert_eq!([0, 1].map(|account| wait(accounts.balance(account))), [3, 2]);
            }
        }
    )*};
}
tests_of!(broken right);

const ROUNDS: usize = 1000;

/// Calls `work` with 0 to 3 on as many threads.
fn on_four_threads(work: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for number in 0..4 {
            let work = &work;
            scope.spawn(move || work(number));
        }
    });
}

#[test]
fn a_gate_under_load_never_counts_too_many() {
    let gate = dependent::gate::right::Gate::new(2);
    on_four_threads(|number| {
        for _ in 0..ROUNDS {
            let visit = if number < 2 { Some(wait(gate.enter())) } else { gate.try_enter() };
            assert!((usize::from(visit.is_some())..=2).contains(&gate.inside()));
        }
    });
    assert_eq!(gate.inside(), 0);
}

#[test]
fn no_job_is_lost_while_the_shop_closes() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for _ in 0..ROUNDS / 10 {
        let jobs = dependent::jobs::right::Jobs::open();
        let (accepted, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        on_four_threads(|number| match number {
            0 => {
                while wait(jobs.next()).is_some() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            1 => jobs.close(),
            _ => {
                accepted.fetch_add((0..10).take_while(|&job| jobs.submit(1, job).is_ok()).count(), Ordering::Relaxed);
            }
        });
        assert_eq!(accepted.into_inner(), done.into_inner());
    }
}

#[test]
fn money_goes_round_in_both_directions() {
    let accounts = dependent::accounts::right::Accounts::new([10; 4]);
    on_four_threads(|from| {
        for round in 0..ROUNDS {
            wait(accounts.transfer(from, (from + 1 + round % 3) % 4, 1));
        }
    });
    assert_eq!((0..4).map(|account| wait(accounts.balance(account))).sum::<u64>(), 40);
}
