//! Models of code that uses stanchion's primitives: loom finds the bugs, and passes the right forms.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p dependent
//! ```
//!
//! Without `--cfg loom` they are compiled, since the page `stanchion::_guide::loom` shows them, and not run.

mod outcomes;

use loom::future::block_on;
use loom::thread;
use stanchion::{Mutex, PriorityQueue, Semaphore, blocking};
use std::env;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Runs a model, and asserts that there was something to explore.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    // Counted outside loom's world.
    use std::sync::atomic::{AtomicUsize, Ordering};
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    loom::model(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{runs} interleavings");
    assert!(runs >= 10, "only {runs} interleavings: its threads do not contend");
}

/// Asserts that a model fails with this message. It runs in a process of its own: a failure that leaves threads waiting,
/// as a deadlock does, may end the process.
fn finds(test: &str, bug: &str, model: impl Fn() + Send + Sync + 'static) {
    if env::var_os("DEPENDENT_CHILD").is_some() {
        return loom::model(model);
    }
    let mut child = Command::new(env::current_exe().unwrap());
    let output = child.args([test, "--exact", "--nocapture"]).env("DEPENDENT_CHILD", "yes").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(bug), "expected \"{bug}\" in: {said}");
}

/// Runs a model of two threads: the other one makes a change, of what `start` gives it, while this one observes. Asserts
/// that loom shows both outcomes of the observing call, the one before the change and the one after it.
fn both_outcomes<T: 'static, S: 'static>(
    new: fn() -> T,
    start: fn(&Arc<T>) -> S,
    change: fn(S),
    observe: fn(&Arc<T>) -> bool,
) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let seen = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counts = seen.clone();
    loom::model(move || {
        let shared = Arc::new(new());
        let state = start(&shared);
        let other = thread::spawn(move || change(state));
        counts[usize::from(observe(&shared))].fetch_add(1, Ordering::Relaxed);
        other.join().unwrap();
    });
    let [before, after] = seen.each_ref().map(|count| count.load(Ordering::Relaxed));
    println!("{before} interleavings before the change, {after} after it");
    assert!(before > 0 && after > 0, "only one outcome is explored: {before} before, {after} after");
}

#[path = "."]
mod broken {
    use dependent::{accounts::broken::Accounts, gate::broken::Gate, jobs::broken::Jobs, slot::broken::Slot};
    pub(crate) mod models;
}

#[path = "."]
mod right {
    use dependent::{accounts::right::Accounts, gate::right::Gate, jobs::right::Jobs, slot::right::Slot};
    #[allow(clippy::duplicate_mod)] // On purpose: the same models.
    pub(crate) mod models;
}

/// Two tests of each model: loom finds the bug of the broken form, and nothing in the right one.
macro_rules! tests_of {
    ($($model:ident: $bug:literal,)*) => {$(
        mod $model {
            #[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
            #[test]
            fn loom_finds_the_bug() {
                super::finds(concat!(stringify!($model), "::loom_finds_the_bug"), $bug, super::broken::models::$model);
            }

            #[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
            #[test]
            fn loom_passes_the_right_form() {
                super::explore(super::right::models::$model);
            }
        }
    )*};
}
tests_of! {
    last_place: "there was a place: NoPermits",
    count_of_visitors: "another visitor is still counted",
    job_at_closing_time: "accepted, and never done",
    first_and_second_ask: "filled, with what?",
    crossing_transfers: "deadlock; threads = ",
}

/// Stands for your own data: loom fails the model when two threads touch it at once, or in no order.
struct Witness(loom::cell::UnsafeCell<()>);

// SAFETY: there is nothing in it to be read or written.
unsafe impl Sync for Witness {}

impl Witness {
    fn new() -> Arc<Self> {
        Arc::new(Self(loom::cell::UnsafeCell::new(())))
    }

    fn write(&self) {
        self.0.with_mut(|_| ());
    }

    fn read(&self) {
        self.0.with(|_| ());
    }
}

/// Two threads write under the guards that `protect` gives them, and their writes are read after both.
fn two_write<G>(protect: impl Fn() -> G + Clone + Send + 'static) {
    let witness = Witness::new();
    let write = {
        let witness = witness.clone();
        move || {
            let _guard = protect();
            witness.write();
        }
    };
    let other = thread::spawn(write.clone());
    write();
    other.join().unwrap();
    witness.read();
}

#[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
#[test]
fn a_mutex_orders_what_it_protects() {
    explore(|| {
        let mutex = Arc::new(Mutex::new(()));
        two_write(move || mutex.clone().blocking_lock_owned());
    });
}

#[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
#[test]
fn a_semaphore_of_one_orders_what_it_protects() {
    explore(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        two_write(move || block_on(semaphore.clone().acquire_owned()));
    });
}

#[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
#[test]
fn a_semaphore_of_two_protects_nothing() {
    finds("a_semaphore_of_two_protects_nothing", "Causality violation: Concurrent write accesses", || {
        let semaphore = Arc::new(Semaphore::new(2));
        two_write(move || block_on(semaphore.clone().acquire_owned()));
    });
}

#[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
#[test]
fn two_mutexes_protect_nothing() {
    finds("two_mutexes_protect_nothing", "Causality violation: Concurrent write accesses", || {
        two_write(|| Arc::new(Mutex::new(())).blocking_lock_owned());
    });
}

#[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
#[test]
fn what_precedes_a_push_precedes_its_pop() {
    explore(|| {
        let queue = Arc::new(PriorityQueue::unbounded());
        let pusher = thread::spawn({
            let queue = queue.clone();
            move || {
                let witness = Witness::new();
                witness.write();
                queue.try_push(1, witness).unwrap();
            }
        });
        let (_, witness) = blocking::wait(queue.pop()).unwrap();
        witness.write();
        pusher.join().unwrap();
    });
}

#[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
#[test]
fn what_follows_a_push_is_a_race_with_its_pop() {
    finds("what_follows_a_push_is_a_race_with_its_pop", "Causality violation: Concurrent", || {
        let queue = Arc::new(PriorityQueue::unbounded());
        let pusher = thread::spawn({
            let queue = queue.clone();
            move || {
                let witness = Witness::new();
                queue.try_push(1, witness.clone()).unwrap();
                witness.write();
            }
        });
        let (_, witness) = blocking::wait(queue.pop()).unwrap();
        witness.write();
        pusher.join().unwrap();
    });
}

#[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
#[test]
fn either_arc_and_either_wait_will_do() {
    explore(|| {
        let of_std = Arc::new(Mutex::new(0));
        let of_loom = loom::sync::Arc::new(Semaphore::new(1));
        let other = thread::spawn({
            let (of_std, of_loom) = (of_std.clone(), of_loom.clone());
            move || {
                let _permit = blocking::wait(of_loom.acquire()).unwrap();
                *blocking::wait(of_std.lock()) += 1;
            }
        });
        block_on(async {
            let _permit = of_loom.acquire().await.unwrap();
            *of_std.lock().await += 1;
        });
        other.join().unwrap();
        assert_eq!((*of_std.blocking_lock(), of_loom.available_permits()), (2, 1));
    });
}

loom::lazy_static! {
    static ref DOOR: Semaphore = Semaphore::new(1);
}

#[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
#[test]
fn a_static_is_created_for_each_run() {
    explore(|| {
        let go_through = || drop(blocking::wait(DOOR.acquire()).unwrap());
        let other = thread::spawn(go_through);
        go_through();
        other.join().unwrap();
        assert_eq!(DOOR.forget_permits(1), 1, "it was there at the start of this run");
    });
}

#[cfg_attr(not(loom), ignore = "a model, for --cfg loom")]
#[test]
fn a_timeout_does_not_end_a_wait() {
    finds("a_timeout_does_not_end_a_wait", "deadlock; threads = ", || {
        let semaphore = Semaphore::new(0);
        let _ = blocking::wait_timeout(semaphore.acquire(), Duration::from_nanos(1));
    });
}
