//! Answers of a name server, cached for as long as each answer says: `cargo run -p examples --example lru_cache`.
//!
//! Callers that ask for one name at the same time share one query. That a name does not exist is remembered for a shorter
//! time, and an answer with a time to live of zero is not stored.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use stanchion::LruCache;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

#[derive(Clone)]
struct Answer {
    time_to_live: Duration,
    addresses: Vec<IpAddr>,
}

struct Resolver {
    server: SocketAddr,
    answers: LruCache<String, Answer>,
}

impl Resolver {
    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<IpAddr>> {
        // An error is not stored: the next caller asks the server again.
        let answer = self.answers.try_get_or_load(name, || self.query(name)).await;
        Ok(answer.map_err(|error| anyhow!("{name}: {error:#}"))?.addresses)
    }

    async fn query(&self, name: &str) -> anyhow::Result<Answer> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.send_to(name.as_bytes(), self.server).await?;
        let mut buffer = [0; 512];
        let length = timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await??;
        let mut words = std::str::from_utf8(&buffer[..length])?.split(' ');
        let seconds = words.next().context("an empty answer")?.parse()?;
        let addresses = words.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Answer { time_to_live: Duration::from_secs(seconds), addresses })
    }
}

/// A name server that answers `name` with `seconds address address ..`.
async fn serve(socket: UdpSocket) -> io::Result<()> {
    let mut name = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut name).await?;
        let answer = match &name[..length] {
            b"www.example" => "300 192.0.2.1 192.0.2.2",
            b"changing.example" => "0 192.0.2.3",
            _ => "30",
        };
        socket.send_to(answer.as_bytes(), client).await?;
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let time_to_live = |_: &String, answer: &Answer| Some(answer.time_to_live);
    let answers = LruCache::builder(10_000).shards(16).expire_after(time_to_live).build();
    let resolver = Arc::new(Resolver { server: socket.local_addr()?, answers });
    tokio::spawn(serve(socket));

    for name in ["www.example", "absent.example"] {
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let resolver = Arc::clone(&resolver);
            callers.spawn(async move { resolver.resolve(name).await });
        }
        let answers = callers.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        println!("{name}: {:?}, for {} callers", answers[0], answers.len());
    }
    for _ in 0..2 {
        println!("changing.example: {:?}", resolver.resolve("changing.example").await?);
    }
    let (entries, queries) = (resolver.answers.len(), resolver.answers.stats().loads);
    println!("{queries} queries for 18 callers, {entries} names are in the cache");
    assert_eq!((queries, entries), (4, 2));
    Ok(())
}
