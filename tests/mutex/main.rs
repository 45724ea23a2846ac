//! Behaviour of a mutex: which future gets the value and when, whatever its guards and their parts go through.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;

mod guards;
mod locking;
mod showing;
mod threads;
mod value;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::Check;
use stanchion::Mutex;

fn shared<T>(value: T) -> Arc<Mutex<T>> {
    Arc::new(Mutex::new(value))
}

/// Counts its drops.
#[derive(Debug)]
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns true if the mutex is unlocked, without waiters.
fn is_free<T: ?Sized>(mutex: &Mutex<T>) -> bool {
    mutex.check();
    mutex.waiters() == 0 && mutex.try_lock().is_ok()
}
