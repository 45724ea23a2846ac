//! A cache keeps what it is given: a reference must last as long as it says.

use stanchion::LruCache;

fn keep<'a>(cache: &LruCache<u8, &'static str>, value: &'a str) {
    let shorter: &LruCache<u8, &'a str> = cache; //~ lifetime
    shorter.insert(1, value);
}

fn main() {
    let cache = LruCache::new(1);
    keep(&cache, "long");
    {
        let text = String::from("short");
        cache.insert(2, &*text); //~ E0597
    }
    drop(cache.get(&2));
}
