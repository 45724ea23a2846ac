//! Pages to read, without code of their own: how to come from another crate, and how to model with this one.
//!
//! They exist in the documentation only, and their examples are compiled and run by `tests/guides`.

/// Looking for races in your own code, with these primitives inside.
#[doc = include_str!("guide/loom.md")]
pub mod loom {}

/// Putting a task queue to use: scaling, retries, tasks that await tasks, limits by class, deadlines.
#[doc = include_str!("guide/tasks.md")]
pub mod tasks {}

/// Putting a pool to use: limits in the manager, errors, abandoned transactions, leaks.
#[doc = include_str!("guide/pool.md")]
pub mod pool {}

/// Coming from tokio's `sync` module.
#[doc = include_str!("guide/tokio.md")]
pub mod from_tokio {}

/// Coming from async-lock.
#[doc = include_str!("guide/async_lock.md")]
pub mod from_async_lock {}

/// Coming from deadpool.
#[doc = include_str!("guide/deadpool.md")]
pub mod from_deadpool {}

/// Coming from bb8.
#[doc = include_str!("guide/bb8.md")]
pub mod from_bb8 {}

/// Coming from moka.
#[doc = include_str!("guide/moka.md")]
pub mod from_moka {}

/// Coming from quick_cache.
#[doc = include_str!("guide/quick_cache.md")]
pub mod from_quick_cache {}

/// Coming from lru.
#[doc = include_str!("guide/lru.md")]
pub mod from_lru {}

/// Coming from async-priority-channel.
#[doc = include_str!("guide/async_priority_channel.md")]
pub mod from_async_priority_channel {}
