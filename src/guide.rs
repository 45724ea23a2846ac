//! Guides: migrating from another crate, and modelling code that uses this one.
//!
//! They exist in the documentation only, and their examples are compiled and run by `tests/guides`.

#[allow(unused_imports)] // The pages link to these names.
use crate::*;

/// Coming from the locks of `tokio::sync` and async-lock.
#[doc = include_str!("guide/locks.md")]
pub mod locks {}

/// Coming from async-priority-channel, and from tokio's mpsc channel and tasks.
#[doc = include_str!("guide/queues.md")]
pub mod queues {}

/// Coming from deadpool, bb8, moka, quick_cache and lru.
#[doc = include_str!("guide/pools_and_caches.md")]
pub mod pools_and_caches {}

/// Finding races in code that uses these primitives, by models for loom.
#[doc = include_str!("guide/loom.md")]
pub mod loom {}
