//! The pages of `src/guide`, for the sake of their examples: `cargo test` runs them as documentation tests of this
//! package, so that the library's own tests need none of the crates that the pages compare it with.

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/locks.md")]
mod locks {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/queues.md")]
mod queues {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/pools_and_caches.md")]
mod pools_and_caches {}

#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/loom.md")]
mod loom {}
