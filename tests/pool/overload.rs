//! Overload on paused time, beside a plain simulation of what ten objects can do at best.
//!
//! Callers arrive at random, wait for at most 500 ms and use an object for 20 ms. All that happens is decided by the seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use stanchion::{Manager, Metrics, Pool};
use tokio::time::{Instant, sleep, sleep_until, timeout};

const SIZE: usize = 10;
const USE: u64 = 20;
const PATIENCE: u64 = 500;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Slow {
    create: u64,
    check: u64,
    created: AtomicUsize,
}

impl Manager for Slow {
    type Object = ();
    type Error = ();

    async fn create(&self) -> Result<(), ()> {
        sleep(ms(self.create)).await;
        self.created.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn recycle(&self, (): &mut (), _: &Metrics) -> Result<(), ()> {
        sleep(ms(self.check)).await;
        Ok(())
    }
}

/// Poisson arrivals in milliseconds, with a load that depends on the time.
fn arrivals(check: u64, end: u64, load: impl Fn(u64) -> f64) -> Vec<u64> {
    let per_caller = (USE + check) as f64 / SIZE as f64;
    let (mut at, mut seed, mut arrivals) = (0.0, 4711_u64, Vec::new());
    while at < end as f64 {
        arrivals.push(at as u64);
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let uniform = (seed >> 11) as f64 / (1_u64 << 53) as f64;
        at -= uniform.max(1e-12).ln() * per_caller / load(at as u64);
    }
    arrivals
}

/// The times at which callers are served that arrive then, if no one begins what would come too late.
fn ideal(arrivals: &[u64], create: u64, check: u64) -> Vec<u64> {
    let mut free: BinaryHeap<_> = (0..SIZE).map(|_| Reverse(create)).collect();
    let mut served = Vec::new();
    for &arrival in arrivals {
        let Reverse(earliest) = *free.peek().unwrap();
        let ready = earliest.max(arrival) + check;
        if ready <= arrival + PATIENCE {
            free.pop();
            free.push(Reverse(ready + USE));
            served.push(arrival);
        }
    }
    served
}

/// The callers that the pool serves, by their arrival, and the number of objects created.
async fn serve(arrivals: &[u64], create: u64, check: u64) -> (Vec<u64>, usize) {
    let manager = Slow { create, check, created: AtomicUsize::new(0) };
    let pool = Arc::new(Pool::builder(manager).max_size(SIZE).build());
    let (start, mut tasks) = (Instant::now(), Vec::new());
    for &arrival in arrivals {
        sleep_until(start + ms(arrival)).await;
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            let object = timeout(ms(PATIENCE), pool.get()).await.ok()?.ok()?;
            sleep(ms(USE)).await;
            drop(object);
            Some(arrival)
        }));
    }
    let mut served = Vec::new();
    for task in tasks {
        served.extend(task.await.unwrap());
    }
    let stats = pool.stats();
    assert_eq!(stats.gets, arrivals.len() as u64);
    assert_eq!(stats.abandoned, (arrivals.len() - served.len()) as u64);
    pool.validate();
    (served, pool.manager().created.load(Relaxed))
}

#[tokio::test(start_paused = true)]
async fn overload_is_served_at_capacity() {
    for load in [1.3, 2.0, 3.0] {
        for check in [2, 5, 10] {
            for create in [100, 200, 1_000] {
                let (warm, end) = (2_000, 6_000);
                let arrivals = arrivals(check, end, |_| load);
                let after = |served: Vec<u64>| served.into_iter().filter(|&arrival| arrival > warm).count();
                let best = after(ideal(&arrivals, create, check));
                let (served, created) = serve(&arrivals, create, check).await;
                let share = after(served) as f64 / best as f64;
                println!("{load}x, check {check} ms, create {create} ms: {share:.3} of the best, {created} created");
                assert!(share >= 0.95, "{load}x, check {check} ms, create {create} ms: {share:.3}");
                assert!(created <= 2 * SIZE, "{load}x, check {check} ms, create {create} ms: {created} created");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_burst_all_callers_are_served_again() {
    for create in [100, 1_000] {
        let arrivals = arrivals(2, 15_000, |at| if (5_000..7_000).contains(&at) { 2.0 } else { 0.8 });
        let (served, created) = serve(&arrivals, create, 2).await;
        let late = |times: &[u64]| times.iter().filter(|&&arrival| arrival > 9_000).count();
        assert_eq!(late(&served), late(&arrivals), "created in {create} ms");
        assert!(created <= 2 * SIZE, "{created} created");
    }
}
