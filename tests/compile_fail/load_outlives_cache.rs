//! A caller that loads, or waits for a load, refers to the cache, which must live as long.

use stanchion::LruCache;

fn main() {
    let load = {
        let cache = LruCache::<u8, u8>::new(1);
        cache.get_or_load(&1, || async { 1 }) //~ E0597
    };
    drop(load);
    let load = {
        let cache = LruCache::<u8, u8>::new(1);
        cache.try_get_or_load(&1, || async { Err(1) }) //~ E0597
    };
    drop(load);
    let key = String::from("key");
    let cache = LruCache::<String, u8>::new(1);
    let load = cache.get_or_load(key.as_str(), || async { 1 });
    drop(key); //~ E0505
    drop(load);
}
