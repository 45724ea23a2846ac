//! `Mutex` beside those of tokio, async-lock, futures, futures-intrusive (fair) and mea. The works are those of
//! `common/gate.rs`, where a mutex is a gate for one.

mod common;

use std::future::Future;
use std::sync::Arc;
use std::task::Waker;

use common::compare;
use common::gate::{
    Gate, Owned, cancel, counting_waker, crowd, each_crowd, free, free_owned, free_try, gate, hand_off, owned,
};

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

    criterion.final_summary();
}

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
