//! The recipes of the documentation.

use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::task::yield_now;

use crate::common::poll;
use crate::{Cache, gate};

const CALLERS: u32 = 20;

#[test]
fn callers_less_patient_than_a_load_never_fill_the_cache() {
    let cache = Cache::new(4);
    for caller in 1..=CALLERS {
        let mut load = Box::pin(cache.get_or_load(&1, std::future::pending));
        assert!(poll(&mut load).is_pending());
        drop(load); // out of patience
        assert_eq!((cache.get(&1), cache.stats().loads), (None, caller.into()));
    }
}

#[test]
fn a_spawned_load_outlives_its_impatient_caller() {
    Builder::new_current_thread().build().unwrap().block_on(async {
        let cache = Arc::new(Cache::new(4));
        let (value, opens) = gate();
        let mut value = Some(value);
        for _ in 0..CALLERS {
            let (cache, value) = (cache.clone(), value.take());
            let load =
                tokio::spawn(
                    async move { cache.get_or_load(&1, || value.expect("only the first caller loads")).await },
                );
            yield_now().await;
            drop(load); // out of patience
        }
        opens.send(7).unwrap();
        yield_now().await;
        assert_eq!(cache.get(&1), Some(7));
        assert_eq!(cache.stats().loads, 1);
    });
}
