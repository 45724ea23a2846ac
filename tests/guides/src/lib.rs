//! The pages of `src/guide`, for the sake of their examples: `cargo test` runs them as documentation tests of this
//! package, so that the library's own tests need none of the crates that the pages compare it with.

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/loom.md")]
mod loom {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/tasks.md")]
mod tasks {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/pool.md")]
pub mod pool {}

#[doc = include_str!("../../../src/guide/tokio.md")]
mod from_tokio {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/async_lock.md")]
mod from_async_lock {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/deadpool.md")]
mod from_deadpool {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/bb8.md")]
mod from_bb8 {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/moka.md")]
mod from_moka {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/quick_cache.md")]
mod from_quick_cache {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/lru.md")]
mod from_lru {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/async_priority_channel.md")]
mod from_async_priority_channel {}
