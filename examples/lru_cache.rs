//! Answers of a name server, cached for as long as each answer says.
//!
//! Callers that ask for one name at the same time share one query, an answer without addresses is remembered for a shorter
//! time, and one with a time to live of zero is not stored at all.

use std::net::IpAddr;
use std::time::Duration;

use stanchion::{LruCache, blocking};

#[derive(Clone)]
struct Answer {
    addresses: Vec<IpAddr>,
    time_to_live: Duration,
}

/// What a name server would answer.
async fn query(name: &str) -> Answer {
    let (addresses, seconds) = match name {
        "www.example" => (vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()], 300),
        "changing.example" => (vec![[192, 0, 2, 3].into()], 0),
        _ => (vec![], 30),
    };
    Answer { addresses, time_to_live: Duration::from_secs(seconds) }
}

struct Resolver {
    answers: LruCache<String, Answer>,
}

impl Resolver {
    fn new() -> Self {
        let life = |_: &String, answer: &Answer| Some(answer.time_to_live);
        Self { answers: LruCache::builder(10_000).shards(16).expire_after(life).build() }
    }

    async fn resolve(&self, name: &str) -> Vec<IpAddr> {
        self.answers.get_or_load(name, || query(name)).await.addresses
    }
}

fn main() {
    let resolver = Resolver::new();
    blocking::wait(async {
        for name in ["www.example", "changing.example", "absent.example"] {
            for _ in 0..2 {
                println!("{name}: {:?}", resolver.resolve(name).await);
            }
        }
    });
    let stats = resolver.answers.stats();
    println!("{} hits, {} queries", stats.hits, stats.loads);
    assert_eq!((stats.hits, stats.loads), (2, 4));
}
