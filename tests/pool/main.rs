//! The behaviour of a pool: which getter gets which object and when, and what happens to objects and creations, whatever
//! futures, wakers and the manager do.

#![cfg(not(loom))]

mod closing;
#[path = "../common/mod.rs"]
mod common;
mod creating;
mod lifetimes;
mod maintenance;
mod manager;
mod overload;
mod panics;
mod patience;
mod pending;
mod recycling;
mod replenishing;
mod resizing;
mod scripts;
mod serving;
mod user_code;

use std::fmt;

use common::{Check, Task, ready};
use manager::Factory;
use stanchion::{Get, Manager, Object, Pool, Status};

/// More waiters than any batch of wakers takes at once.
const MANY: usize = 100;

/// So many may be created at once, however few there are.
const FEW: usize = 8;

type TestPool = Pool<Factory>;
type Held<'p> = Object<'p, Factory>;
type Getter<'p> = Task<Get<'p, Factory>>;

/// Checks the invariants and returns (idle, in use, creating, waiting).
fn counts<M: Manager>(pool: &Pool<M>) -> (usize, usize, usize, usize) {
    pool.check();
    let Status { idle, in_use, creating, waiting, .. } = pool.status();
    (idle, in_use, creating, waiting)
}

/// Gets an object that is there at the first poll.
#[track_caller]
fn take<M: Manager<Error: fmt::Debug>>(pool: &Pool<M>) -> Object<'_, M> {
    let object = ready(&mut pool.get()).expect("it is neither closed nor full");
    pool.check();
    object
}

/// A pool of at most `max_size`, with idle objects 0 to `idle`, returned in this order.
fn filled(factory: &Factory, max_size: usize, idle: usize) -> TestPool {
    let pool = factory.pool(max_size);
    fill(&pool, idle);
    pool
}

/// Returns so many new objects, the oldest first.
fn fill(pool: &TestPool, idle: usize) {
    drop((0..idle).map(|_| take(pool)).collect::<Vec<_>>());
    assert_eq!(counts(pool), (idle, 0, 0, 0));
}

/// A getter that has been polled once and is not served yet.
#[track_caller]
fn waiting(pool: &TestPool) -> Getter<'_> {
    let getter = Task::waiting(pool.get());
    pool.check();
    getter
}

/// The object of a getter that is served.
#[track_caller]
fn served<'p>(getter: &mut Getter<'p>) -> Held<'p> {
    getter.ready().expect("it is neither closed nor full")
}

/// Asserts that it was woken, and did not have to be polled before.
#[track_caller]
fn woken(getter: &Getter<'_>) {
    assert!(getter.wakes() > 0, "it was not woken");
}

/// Drops the pool, after which nothing may be left.
#[track_caller]
fn all_is_dropped(pool: TestPool, factory: &Factory) {
    pool.check();
    drop(pool);
    assert_eq!((factory.alive(), factory.live()), (0, 0), "something is left of the pool");
    assert_eq!((factory.creates.in_flight(), factory.recycles.in_flight()), (0, 0));
}
