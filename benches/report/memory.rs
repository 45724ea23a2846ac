//! How much memory a cache takes for an entry, beside its key and its value: what it has allocated once it is full and as
//! many entries have left it again.

use allocation_counter::measure;

const ENTRIES: usize = 1_000_000;

/// What an entry is made of: a key and a value of 8 bytes each.
const OWN: f64 = 16.0;

pub fn table() -> String {
    let row = |name: &str, cells: &[String]| format!("| {name} | {} |\n", cells.join(" | "));
    let (names, bytes): (Vec<String>, Vec<String>) =
        caches(ENTRIES).into_iter().map(|(name, bytes)| (name.to_owned(), format!("{bytes:.1}"))).unzip();
    let rule = vec!["--:".to_owned(); names.len()];
    row("", &names) + &row("---", &rule) + &row("bytes", &bytes)
}

fn caches(entries: usize) -> [(&'static str, f64); 7] {
    // None of them allocates anything for a hasher.
    let stanchion = || stanchion::LruCache::new(entries);
    let cached = || cached::ShardedLruCache::new(entries);
    let hashlink = || hashlink::LruCache::new(entries);
    let lru = || lru::LruCache::new(entries.try_into().expect("not zero"));
    let moka = || moka::sync::Cache::new(entries as u64);
    let quick_cache = || quick_cache::sync::Cache::new(entries);
    let schnellru = || schnellru::LruMap::new(schnellru::ByLength::new(entries as u32));
    [
        ("stanchion", overhead(entries, stanchion, |cache, key| cache.insert(key, key), |cache| cache.len())),
        ("cached", overhead(entries, cached, |cache, key| cache.set(key, key), |cache| cache.len())),
        ("hashlink", overhead(entries, hashlink, |cache, key| cache.insert(key, key), |cache| cache.len())),
        ("lru", overhead(entries, lru, |cache, key| cache.put(key, key), |cache| cache.len())),
        ("moka", overhead(entries, moka, |cache, key| cache.insert(key, key), moka_len)),
        ("quick_cache", overhead(entries, quick_cache, |cache, key| cache.insert(key, key), |cache| cache.len())),
        ("schnellru", overhead(entries, schnellru, |cache, key| cache.insert(key, key), |cache| cache.len())),
    ]
}

/// Per entry of a cache into which twice as many were put as there is room for.
fn overhead<C, R>(
    entries: usize,
    make: impl FnOnce() -> C,
    insert: impl Fn(&mut C, u64) -> R,
    len: impl FnOnce(&mut C) -> usize,
) -> f64 {
    let mut full = None;
    let allocated = measure(|| {
        let mut cache = make();
        for key in 0..2 * entries as u64 {
            insert(&mut cache, key);
        }
        let len = len(&mut cache);
        full = Some((cache, len));
    });
    let (_cache, len) = full.expect("it was measured");
    allocated.bytes_current as f64 / len as f64 - OWN
}

/// It evicts when it finds the time.
fn moka_len(cache: &mut moka::sync::Cache<u64, u64>) -> usize {
    cache.run_pending_tasks();
    cache.entry_count() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cache_is_full_and_takes_some_memory() {
        for (name, bytes) in caches(10_000) {
            assert!((1.0..1_000.0).contains(&bytes), "{name}: {bytes}");
        }
    }

    #[test]
    fn memory_is_counted_per_entry() {
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
