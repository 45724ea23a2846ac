//! A key and a value on their way into the cache or out of it.

use crate::panic::Guarded;

/// A key and a value in hand while user code runs: if that panics and they panic when they are dropped, nothing aborts.
pub(super) struct Pair<K, V> {
    pub(super) key: Guarded<K>,
    pub(super) value: Guarded<V>,
}

impl<K, V> Pair<K, V> {
    pub(super) fn new((key, value): (K, V)) -> Self {
        Self { key: Guarded(Some(key)), value: Guarded(Some(value)) }
    }

    pub(super) fn key(&self) -> &K {
        self.key.0.as_ref().expect("a pair has its key until it is taken apart")
    }

    pub(super) fn value(&self) -> &V {
        self.value.0.as_ref().expect("a pair has its value until it is taken apart")
    }

    pub(super) fn into_inner(mut self) -> (K, V) {
        self.key.0.take().zip(self.value.0.take()).expect("a pair is taken apart once")
    }
}
