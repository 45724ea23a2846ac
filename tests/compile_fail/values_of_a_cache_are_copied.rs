//! A value that is handed out stays in the cache, so it must be one that can be cloned.

use stanchion::LruCache;

struct Single;

fn main() {
    let cache = LruCache::<u8, Single>::new(1);
    let _ = cache.get(&1); //~ E0277
    let _ = cache.peek(&1); //~ E0277
    let _ = cache.insert(1, Single); //~ E0277
    let _ = cache.get_or_insert_with(&1, || Single); //~ E0277
    // What takes it out does not copy it.
    let _ = (cache.remove(&1), cache.remove_entry(&1), cache.pop_lru());
    cache.retain(|_, _| false);
}
