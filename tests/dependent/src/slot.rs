//! A number that is costly to compute: computed once, by the first caller, and read without the lock from then on.

pub mod broken {
    use crate::sync::{AtomicBool, AtomicUsize, Ordering};
    use stanchion::Mutex;

    pub struct Slot {
        filling: Mutex<()>,
        filled: AtomicBool,
        value: AtomicUsize,
    }

    impl Slot {
        pub fn empty() -> Self {
            Self { filling: Mutex::new(()), filled: AtomicBool::new(false), value: AtomicUsize::new(0) }
        }

        pub async fn get_or_fill(&self, compute: impl AsyncFnOnce() -> usize) -> usize {
            // Sees that it is filled, but perhaps not the value.
            if !self.filled.load(Ordering::Relaxed) {
                let _guard = self.filling.lock().await;
                if !self.filled.load(Ordering::Relaxed) {
                    self.value.store(compute().await, Ordering::Relaxed);
                    self.filled.store(true, Ordering::Relaxed);
                }
            }
            self.value.load(Ordering::Relaxed)
        }
    }
}

pub mod right {
    use crate::sync::{AtomicBool, AtomicUsize, Ordering};
    use stanchion::Mutex;

    pub struct Slot {
        filling: Mutex<()>,
        filled: AtomicBool,
        value: AtomicUsize,
    }

    impl Slot {
        pub fn empty() -> Self {
            Self { filling: Mutex::new(()), filled: AtomicBool::new(false), value: AtomicUsize::new(0) }
        }

        pub async fn get_or_fill(&self, compute: impl AsyncFnOnce() -> usize) -> usize {
            // A caller that does not take the lock sees the value by this pair of `Acquire` and `Release`.
            if !self.filled.load(Ordering::Acquire) {
                let _guard = self.filling.lock().await;
                if !self.filled.load(Ordering::Relaxed) {
                    self.value.store(compute().await, Ordering::Relaxed);
                    self.filled.store(true, Ordering::Release);
                }
            }
            self.value.load(Ordering::Relaxed)
        }
    }
}
