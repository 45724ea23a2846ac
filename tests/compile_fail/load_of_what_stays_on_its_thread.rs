//! A load goes to other threads with its loader, or not at all.

use std::future::ready;
use std::rc::Rc;

use stanchion::LruCache;

fn send<T: Send>(_: T) {}

fn main() {
    let cache = LruCache::<u8, u8>::new(1);
    let held = Rc::new(1);
    send(cache.get_or_load(&1, || ready(*held))); //~ E0277
}
