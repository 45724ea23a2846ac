//! Log records, shipped to a collector that is slower than the program: `cargo run -p examples --example priority_queue`.
//!
//! Logging never waits. A full queue evicts its newest record of the lowest level, so that errors arrive however many
//! debug records there are.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use stanchion::PriorityQueue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Debug,
    Error,
}

static RECORDS: PriorityQueue<Level, String> = PriorityQueue::bounded(100);

/// Returns the level of the record for which there was no room, if any; it may be another than this one.
fn log(level: Level, record: String) -> Option<Level> {
    match RECORDS.force_push(level, record) {
        Ok((_, evicted)) => evicted.map(|(level, _)| level),
        Err(_closed) => Some(level),
    }
}

/// Sends records in batches, the most urgent first, until the queue is closed and empty.
async fn ship(mut collector: TcpStream) -> io::Result<()> {
    let mut batch = Vec::new();
    while RECORDS.pop_many(&mut batch, 16).await > 0 {
        let lines: String = batch.drain(..).map(|(level, record)| format!("{level:?}: {record}\n")).collect();
        collector.write_all(lines.as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(1)).await; // a slow network
    }
    Ok(())
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let shipping = tokio::spawn(ship(TcpStream::connect(listener.local_addr()?).await?));
    let mut received = BufReader::new(listener.accept().await?.0).lines();

    let program = std::thread::spawn(|| {
        let level = |number| if number % 100 == 0 { Level::Error } else { Level::Debug };
        let evicted: Vec<_> = (1..=5000).filter_map(|number| log(level(number), format!("record {number}"))).collect();
        RECORDS.close();
        evicted
    });
    let (mut records, mut errors) = (0, 0);
    while let Some(line) = received.next_line().await? {
        records += 1;
        errors += usize::from(line.starts_with("Error"));
    }
    shipping.await??;
    let evicted = program.join().expect("logging does not panic");
    println!("of 5000 records {records} arrived, and {errors} of 50 errors; {} were evicted", evicted.len());
    assert_eq!((records + evicted.len(), errors), (5000, 50));
    assert!(evicted.iter().all(|&level| level == Level::Debug));
    Ok(())
}
