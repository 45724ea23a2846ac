//! A listener is called by whichever thread uses the cache.

use std::rc::Rc;

use stanchion::LruCache;

fn main() {
    let told = Rc::new(1);
    LruCache::<u8, u8>::builder(1).on_evict(move |_, _, _| drop(told.clone())); //~ E0277
}
