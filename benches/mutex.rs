//! `Mutex` beside those of tokio, async-lock, futures, futures-intrusive (fair) and mea. The works are those of
//! `common/gate.rs`, where a mutex is a gate for one, and threads that block for it, where parking_lot's mutex takes part too.

mod common;

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::task::Waker;

use common::gate::{
    Gate, Owned, cancel, counting_waker, crowd, each_crowd, free, free_owned, free_try, gate, hand_off, owned,
};
use common::threads::{COUNTS, contend};
use common::{Dice, Group, compare};

type Stanchion = stanchion::Mutex<()>;
type Tokio = tokio::sync::Mutex<()>;
type AsyncLock = async_lock::Mutex<()>;
type Futures = futures::lock::Mutex<()>;
type Intrusive = futures_intrusive::sync::Mutex<()>;
type Mea = mea::mutex::Mutex<()>;

/// The work, put to every mutex.
macro_rules! compare_all {
    ($criterion:expr, $name:expr, $($work:tt)+) => {
        compare!($criterion, $name, [Stanchion, Tokio, AsyncLock, Futures, Intrusive, Mea], $($work)+)
    };
}

fn main() {
    let criterion = &mut common::criterion();

    compare_all!(criterion, "mutex/free/lock", |group, G| free::<G>(group));
    compare!(criterion, "mutex/free/lock_owned", [Stanchion, Tokio, AsyncLock, Futures, Mea], |group, G| {
        free_owned::<G>(group)
    });
    compare_all!(criterion, "mutex/free/try_lock", |group, G| free_try::<G>(group));

    let noop = Waker::noop();
    compare_all!(criterion, "mutex/queue/hand-off", |group, G| hand_off::<G>(group, noop));
    compare_all!(criterion, "mutex/queue/wait + cancel", |group, G| cancel::<G>(group, noop));
    let counting = &counting_waker();
    compare_all!(criterion, "mutex/queue/hand-off, counted waker", |group, G| hand_off::<G>(group, counting));
    compare_all!(criterion, "mutex/queue/wait + cancel, counted waker", |group, G| cancel::<G>(group, counting));

    each_crowd(criterion, "mutex", |criterion, name, runtime, size| {
        compare_all!(criterion, name, |group, G| crowd::<G>(group, runtime, 1, size));
    });

    for (count, threads) in COUNTS {
        for (apart, rolls) in [("one lock", 0), ("one lock, a microsecond apart", ROLLS)] {
            compare!(
                criterion,
                format!("mutex/threads/{apart}, {count}"),
                [stanchion::Mutex<u64>, tokio::sync::Mutex<u64>, async_lock::Mutex<u64>, parking_lot::Mutex<u64>],
                |group, C| count_together::<C>(group, threads, rolls)
            );
        }
    }

    criterion.final_summary();
}

/// That many of the dice, each of which waits for the one before, take about a microsecond.
const ROLLS: usize = 500;

/// A number behind a mutex, for threads.
trait Counter: Sync {
    const NAME: &'static str;

    fn new() -> Self;
    fn add(&self, number: u64);
}

/// Each thread adds to one number, over and over, with so many rolls of its own dice in between.
fn count_together<C: Counter>(group: &mut Group<'_>, threads: usize, rolls: usize) {
    let counter = C::new();
    contend(group, C::NAME, threads, |_, times| {
        let mut dice = Dice::new();
        for _ in 0..times {
            counter.add(1);
            for _ in 0..rolls {
                // One after the other: two rolls at once would be a single multiplication too.
                black_box(dice.roll());
            }
        }
    });
}

/// `counter!(Mutex as "crate": |mutex| lock)`
macro_rules! counter {
    ($Type:ty as $name:literal: |$mutex:ident| $lock:expr) => {
        impl Counter for $Type {
            const NAME: &'static str = $name;

            fn new() -> Self {
                Self::new(0)
            }

            fn add(&self, number: u64) {
                let $mutex = self;
                *$lock += number;
            }
        }
    };
}

counter!(stanchion::Mutex<u64> as "stanchion": |m| m.blocking_lock());
counter!(tokio::sync::Mutex<u64> as "tokio": |m| m.blocking_lock());
counter!(async_lock::Mutex<u64> as "async-lock": |m| m.lock_blocking());
counter!(parking_lot::Mutex<u64> as "parking_lot": |m| m.lock());

gate!(Stanchion as "stanchion": new |_| Self::new(()), acquire |m| m.lock(), try |m| m.try_lock().ok());
gate!(Tokio as "tokio": new |_| Self::new(()), acquire |m| m.lock(), try |m| m.try_lock().ok());
gate!(AsyncLock as "async-lock": new |_| Self::new(()), acquire |m| m.lock(), try |m| m.try_lock());
gate!(Futures as "futures": new |_| Self::new(()), acquire |m| m.lock(), try |m| m.try_lock());
gate!(Intrusive as "futures-intrusive": new |_| Self::new((), true), acquire |m| m.lock(), try |m| m.try_lock());
gate!(Mea as "mea": new |_| Self::new(()), acquire |m| m.lock(), try |m| m.try_lock());

owned!(Stanchion: Arc<Self>, new |_| Arc::new(Self::new(())), acquire |m| Arc::clone(m).lock_owned());
owned!(Tokio: Arc<Self>, new |_| Arc::new(Self::new(())), acquire |m| Arc::clone(m).lock_owned());
owned!(AsyncLock: Arc<Self>, new |_| Arc::new(Self::new(())), acquire |m| m.lock_arc());
owned!(Futures: Arc<Self>, new |_| Arc::new(Self::new(())), acquire |m| Arc::clone(m).lock_owned());
owned!(Mea: Arc<Self>, new |_| Arc::new(Self::new(())), acquire |m| Arc::clone(m).lock_owned());
