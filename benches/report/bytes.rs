//! The bytes of what a program holds: a primitive, a permit, the future of a waiter, an entry of a cache.

use std::fmt::Display;

use allocation_counter::measure;

/// Of a key and a value, 8 bytes each.
const OWN: f64 = 16.0;

/// Two tables: the sizes of types, and the bytes of a cache of so many entries for each of them, key and
/// value left out.
pub fn tables(entries: usize) -> String {
    let mut tables = line("", ["stanchion", "tokio", "async-lock", "mea"]);
    tables += &line("---", ["--:"; 4]);
    for (what, sizes) in sizes() {
        tables += &line(what, sizes);
    }
    let (names, overheads): (Vec<_>, Vec<_>) = overheads(entries).into_iter().unzip();
    tables += &format!("\n{}{}", line("", &names), line("---", names.iter().map(|_| "--:")));
    tables += &line("an entry of a cache", overheads.iter().map(|bytes| format!("{bytes:.0}")));
    tables
}

fn line(name: &str, cells: impl IntoIterator<Item = impl Display>) -> String {
    let cells: String = cells.into_iter().map(|cell| format!(" {cell} |")).collect();
    format!("| {name} |{cells}\n")
}

fn sizes() -> [(&'static str, [usize; 4]); 6] {
    macro_rules! types {
        ($($type:ty),+) => { [$(size_of::<$type>()),+] };
    }
    macro_rules! values {
        ($($value:expr),+) => { [$(size_of_val(&$value)),+] };
    }
    use async_lock as a;
    use mea::{mutex as mm, semaphore as ms};
    use stanchion as s;
    use tokio::sync as t;
    [
        ("`Semaphore`", types!(s::Semaphore, t::Semaphore, a::Semaphore, ms::Semaphore)),
        (
            "its permit",
            types!(s::SemaphorePermit<'_>, t::SemaphorePermit<'_>, a::SemaphoreGuard<'_>, ms::SemaphorePermit<'_>),
        ),
        (
            "the future of `acquire()`",
            values!(
                s::Semaphore::new(1).acquire(),
                t::Semaphore::new(1).acquire(),
                a::Semaphore::new(1).acquire(),
                ms::Semaphore::new(1).acquire(1)
            ),
        ),
        ("`Mutex<()>`", types!(s::Mutex<()>, t::Mutex<()>, a::Mutex<()>, mm::Mutex<()>)),
        (
            "its guard",
            types!(s::MutexGuard<'_, ()>, t::MutexGuard<'_, ()>, a::MutexGuard<'_, ()>, mm::MutexGuard<'_, ()>),
        ),
        (
            "the future of `lock()`",
            values!(
                s::Mutex::new(()).lock(),
                t::Mutex::new(()).lock(),
                a::Mutex::new(()).lock(),
                mm::Mutex::new(()).lock()
            ),
        ),
    ]
}

fn overheads(entries: usize) -> [(&'static str, f64); 7] {
    // None of them allocates anything for a hasher.
    let stanchion = || stanchion::LruCache::new(entries);
    let cached = || cached::ShardedLruCache::new(entries);
    let hashlink = || hashlink::LruCache::new(entries);
    let lru = || lru::LruCache::new(entries.try_into().expect("there is room for an entry"));
    let moka = || moka::sync::Cache::new(entries as u64);
    let quick_cache = || quick_cache::sync::Cache::new(entries);
    let schnellru = || schnellru::LruMap::new(schnellru::ByLength::new(entries as u32));
    [
        ("stanchion", overhead(entries, stanchion, |cache, key| cache.insert(key, key), |cache| cache.len())),
        ("quick_cache", overhead(entries, quick_cache, |cache, key| cache.insert(key, key), |cache| cache.len())),
        ("moka", overhead(entries, moka, |cache, key| cache.insert(key, key), moka_len)),
        ("lru", overhead(entries, lru, |cache, key| cache.put(key, key), |cache| cache.len())),
        ("schnellru", overhead(entries, schnellru, |cache, key| cache.insert(key, key), |cache| cache.len())),
        ("hashlink", overhead(entries, hashlink, |cache, key| cache.insert(key, key), |cache| cache.len())),
        ("cached", overhead(entries, cached, |cache, key| cache.set(key, key), |cache| cache.len())),
    ]
}

/// For each entry of a cache into which twice as many were inserted as there is room for.
fn overhead<C, R>(
    entries: usize,
    create: impl FnOnce() -> C,
    insert: impl Fn(&mut C, u64) -> R,
    len: impl FnOnce(&mut C) -> usize,
) -> f64 {
    let mut full = None;
    let allocated = measure(|| {
        let mut cache = create();
        for key in 0..2 * entries as u64 {
            insert(&mut cache, key);
        }
        let len = len(&mut cache);
        full = Some((cache, len));
    });
    let (_cache, len) = full.expect("the closure of a measurement runs");
    allocated.bytes_current as f64 / len as f64 - OWN
}

/// moka evicts some time after an insertion, or here.
fn moka_len(cache: &mut moka::sync::Cache<u64, u64>) -> usize {
    cache.run_pending_tasks();
    cache.entry_count() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cache_is_full_and_takes_some_memory() {
        for (name, bytes) in overheads(10_000) {
            assert!((1.0..1_000.0).contains(&bytes), "{name}: {bytes}");
        }
    }

    #[test]
    fn memory_is_counted_for_each_entry() {
        let fill = |cache: &mut Vec<u64>, key| {
            if cache.len() < 1_000 {
                cache.push(key)
            }
        };
        // 24 bytes for each of the slots, of which 16 would be key and value.
        let bytes = overhead(1_000, || Vec::with_capacity(3_000), fill, |cache| cache.len());
        assert_eq!(bytes, 8.0);
    }
}
