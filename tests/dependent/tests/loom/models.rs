//! Models of two threads at each structure. Compiled for the broken forms and for the right ones.

use super::{Accounts, Gate, Jobs, Slot};
use loom::future::block_on;
use loom::thread;
use stanchion::blocking;
use std::sync::Arc;

pub(crate) fn last_place() {
    let gate = Arc::new(Gate::new(1));
    let other = thread::spawn({
        let gate = gate.clone();
        move || gate.try_enter().is_some()
    });
    let entered = gate.try_enter().is_some();
    assert!(other.join().unwrap() || entered, "neither got the only place");
}

pub(crate) fn count_of_visitors() {
    let gate = Arc::new(Gate::new(1));
    let other = thread::spawn({
        let gate = gate.clone();
        move || {
            let _visit = block_on(gate.enter());
            assert_eq!(gate.inside(), 1, "another visitor is still counted");
        }
    });
    drop(blocking::wait(gate.enter()));
    other.join().unwrap();
    assert_eq!(gate.inside(), 0);
}

pub(crate) fn job_at_closing_time() {
    let jobs = Arc::new(Jobs::open());
    let submitter = thread::spawn({
        let jobs = jobs.clone();
        move || [1, 2].into_iter().filter(|&urgency| jobs.submit(urgency, "a job").is_ok()).count()
    });
    jobs.close();
    let mut done = 0;
    while let Some(_job) = block_on(jobs.next()) {
        done += 1;
    }
    assert_eq!(done, submitter.join().unwrap(), "accepted, and never done");
}

pub(crate) fn first_and_second_ask() {
    let slot = Arc::new(Slot::empty());
    let other = thread::spawn({
        let slot = slot.clone();
        move || block_on(slot.get_or_fill(async || 7))
    });
    assert_eq!(block_on(slot.get_or_fill(async || 7)), 7, "filled, with what?");
    assert_eq!(other.join().unwrap(), 7, "filled, with what?");
}

pub(crate) fn crossing_transfers() {
    let accounts = Arc::new(Accounts::new([2, 2]));
    let other = thread::spawn({
        let accounts = accounts.clone();
        move || assert!(block_on(accounts.transfer(1, 0, 2)))
    });
    assert!(block_on(accounts.transfer(0, 1, 1)));
    other.join().unwrap();
    assert_eq!((block_on(accounts.balance(0)), block_on(accounts.balance(1))), (3, 1));
}
