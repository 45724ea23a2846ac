//! One cache, used from every runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stanchion::LruCache;

use crate::common::{Check, watched, yield_now};
use crate::on_every_runtime;

#[test]
fn a_thousand_tasks_make_one_query() {
    const ASKERS: u64 = 1_000;
    let cache = Arc::new(LruCache::<String, u32>::new(10));
    let queries = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let ask = || {
            let (cache, queries) = (cache.clone(), queries.clone());
            async move {
                let query = || async {
                    queries.fetch_add(1, Ordering::SeqCst);
                    while cache.stats().misses < ASKERS {
                        tokio::task::yield_now().await;
                    }
                    5
                };
                cache.get_or_load("answer", query).await
            }
        };
        let tasks: Vec<_> = (0..ASKERS).map(|_| tokio::spawn(ask())).collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 5);
        }
    });
    cache.check();
    let stats = cache.stats();
    assert_eq!((queries.load(Ordering::SeqCst), stats.loads, stats.misses, stats.hits), (1, 1, ASKERS, 0));
}

#[test]
fn every_runtime_shares_one_cache() {
    const ROUNDS: usize = 100;
    let cache = Arc::new(LruCache::builder(ROUNDS).shards(2).build());
    let loads = Arc::new(AtomicUsize::new(0));
    let progress = Arc::new(AtomicUsize::new(0));
    watched(&progress, &cache, || {
        on_every_runtime(|number, may_block| {
            let (cache, loads, progress) = (cache.clone(), loads.clone(), progress.clone());
            async move {
                for round in 0..ROUNDS {
                    let value = if may_block && number % 2 == 0 {
                        cache.get_or_insert_with(&(round / 2), || loads.fetch_add(1, Ordering::SeqCst))
                    } else {
                        let load = || async {
                            yield_now().await;
                            loads.fetch_add(1, Ordering::SeqCst)
                        };
                        cache.get_or_load(&(round / 2), load).await
                    };
                    assert!(value < ROUNDS / 2, "each is loaded once");
                    progress.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    });
    cache.check();
    assert_eq!((loads.load(Ordering::SeqCst), cache.stats().loads), (ROUNDS / 2, ROUNDS as u64 / 2));
}
