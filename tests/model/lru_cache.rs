//! The cache and its model, step by step, with loaders that end when an operation says so.
//!
//! The model is a list of entries for each shard, and for each in-flight load its members in their order.
//! All counts are found by counting. The shard of each key is found with another cache, whose small capacity leaves
//! the last shards without room. Time is in whole seconds; it is turned back to observe expired entries that were not
//! removed yet.

mod calls;
mod checks;
mod loads;
mod model;
mod operations;
mod test;
mod user_code;

use std::collections::BTreeMap;
use std::mem;
use std::panic::panic_any;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Unstructured;
use stanchion::LruCache;

use super::alarm::{Alarmed, allow_expected_panics};
use model::Model;
use operations::{Limits, Mix, Op, Settings, capacity};
use test::Test;
use user_code::{Borrowed, Environment, Key, Shared, Value, lock};

const KEYS: u8 = 12;

/// The number of the first inserted value. A loaded value has the number of its caller.
const INSERTED: usize = 1_000_000;

type Cache = LruCache<Key, Value, Mix>;

/// Runs the operations that `data` encodes.
///
/// # Panics
///
/// When the cache does anything else than the model.
pub(crate) fn run(data: &[u8]) {
    allow_expected_panics();
    let mut data = Unstructured::new(data);
    let Ok(settings) = data.arbitrary::<Settings>() else { return };
    start(&settings, std::iter::from_fn(|| if data.is_empty() { None } else { data.arbitrary().ok() }));
}

fn start(settings: &Settings, ops: impl Iterator<Item = Op>) {
    let environment = Environment::new();
    let capacity = capacity(settings.capacity);
    let shards = (1 + usize::from(settings.shards % 4)).min(capacity.max(1));
    let keys: Vec<_> = (0..KEYS).map(|key| Borrowed { key, environment: environment.clone() }).collect();
    // Before anything is stored, at the earliest time.
    let cache = cache(settings, &environment);
    lock(&environment).seconds = 1;
    let model = Model::new(capacity, shards_of(shards, settings.mix), shards, settings);
    let mut test = Test {
        cache: &cache,
        keys: &keys,
        ops,
        model,
        depth: 0,
        tasks: Vec::new(),
        alarms: BTreeMap::new(),
        callers: 0,
        inserted: INSERTED,
        log: Arc::default(),
        environment: environment.clone(),
    };
    test.check();
    while test.next_step() {}
    test.end();
    drop(cache);
    assert_eq!(lock(&environment).alive, [0; 3], "keys, values or errors outlive the cache");
}

fn cache(settings: &Settings, environment: &Shared) -> Cache {
    let mut builder = LruCache::builder(capacity(settings.capacity)).shards(1 + usize::from(settings.shards % 4));
    if settings.weighs {
        builder = builder.weigher(|_: &Key, value: &Value| value.weight.unwrap_or_else(|| panic_any(Alarmed)));
    }
    if settings.listens {
        let environment = environment.clone();
        builder = builder.on_evict(move |key: Key, value: Value, cause| {
            let mut environment = lock(&environment);
            let (id, serial) = key.id();
            environment.reports.push((id, serial, value.id, cause));
            let panics = mem::take(&mut environment.next_report_panics);
            drop(environment);
            if panics {
                panic_any(Alarmed);
            }
        });
    }
    let Limits { ttl, idle, expire_after } = settings.limits();
    if let Some(ttl) = ttl {
        builder = builder.time_to_live(Duration::from_secs(ttl));
    }
    if let Some(idle) = idle {
        builder = builder.time_to_idle(Duration::from_secs(idle));
    }
    if expire_after {
        builder = builder.expire_after(|_: &Key, value: &Value| value.ttl.map(Duration::from_secs));
    }
    let environment = environment.clone();
    let clock = move || {
        let mut environment = lock(&environment);
        environment.clock_reads += 1;
        environment.start + Duration::from_secs(environment.seconds)
    };
    builder.clock(clock).hasher(settings.mix).build()
}

/// Returns the shard of each key: at capacity `n` only the first `n` shards have room for an entry.
fn shards_of(shards: usize, mix: Mix) -> Vec<usize> {
    let probe = LruCache::builder(shards).shards(shards).hasher(mix).build();
    let holds = |key, capacity| {
        probe.set_capacity(capacity);
        probe.insert(key, ());
        probe.contains_key(&key)
    };
    (0..KEYS).map(|key| (0..shards).find(|&shard| holds(key, shard + 1)).expect("it has a shard")).collect()
}

/// Sequences that found a fault in a mutated cache.
#[cfg(test)]
mod tests {
    use super::operations::{Ending, Kind};
    use super::*;

    const POLL: Op = Op::Poll { which: 0, waker: false };

    fn load(kind: Kind) -> Op {
        Op::Load { key: 0, kind, waker: false, later: 1 }
    }

    fn finish(how: Ending) -> Op {
        Op::Finish { which: 0, how }
    }

    /// Runs operations on a cache with room for one entry.
    fn one<const N: usize>(ops: [Op; N]) {
        allow_expected_panics();
        start(&Settings { capacity: 1, listens: true, ttl: 9, idle: 9, ..Settings::default() }, ops.into_iter());
    }

    #[test]
    fn a_follower_given_an_error_clones_no_later_value() {
        let take_over = || Op::Poll { which: 1, waker: false };
        one([
            load(Kind::A),
            load(Kind::A),
            load(Kind::B),
            finish(Ending::Failure),
            POLL,
            take_over(),
            finish(Ending::Good(0)),
            take_over(),
            Op::ClonePanics,
            POLL,
        ]);
    }
}
