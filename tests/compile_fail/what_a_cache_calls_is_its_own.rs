//! A listener, a weigher or a clock is called for as long as the cache is there.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use stanchion::LruCache;

fn main() {
    let (count, weight, start) = (AtomicU8::new(0), 1, Instant::now());
    let told = LruCache::<u8, u8>::builder(1)
        .on_evict(|_, _, _| drop(count.fetch_add(1, Ordering::Relaxed))) //~ E0373
        .build();
    let weighed = LruCache::<u8, u8>::builder(1).weigher(|_, _| weight).build(); //~ E0373
    let timed = LruCache::<u8, u8>::builder(1).clock(|| start).build(); //~ E0373
    drop((told, weighed, timed));
}
