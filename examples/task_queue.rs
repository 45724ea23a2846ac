//! Webhooks, delivered by three workers and retried when the receiver fails:
//! `cargo run -p examples --example task_queue`.
//!
//! A retry has a lower priority, so that first attempts do not wait behind those for a receiver that is down, and the
//! pause before it occupies no worker. In the end the queue is shut down, within a time limit.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use axum::{Router, extract::Path, http::StatusCode, routing::post};
use stanchion::TaskQueue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

async fn send(receiver: SocketAddr, hook: u32, attempt: u32) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(receiver).await?;
    connection.write_all(format!("POST /{hook}/{attempt} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await?;
    ensure!(response.starts_with("HTTP/1.0 200"), "hook {hook} was refused: {response:?}");
    Ok(())
}

/// Tries three times. Returns the attempt that succeeded, counted from 1.
async fn deliver(queue: TaskQueue<u8>, receiver: SocketAddr, hook: u32) -> anyhow::Result<Option<u32>> {
    for (attempt, priority) in [(1, 3), (2, 2), (3, 1)] {
        let task = queue.submit(priority, timeout(Duration::from_secs(5), send(receiver, hook, attempt))).await?;
        // Failed, if it was cancelled, panicked, took too long, or was refused by the receiver.
        if let Ok(Ok(Ok(()))) = task.await {
            return Ok(Some(attempt));
        }
        sleep(Duration::from_millis(10) * attempt).await;
    }
    Ok(None)
}

/// A receiver that fails at the first attempt for every third hook, and always for the last one.
async fn receive(Path((hook, attempt)): Path<(u32, u32)>) -> StatusCode {
    let fails = hook == 12 || hook % 3 == 0 && attempt == 1;
    if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let receiver = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, Router::new().route("/{hook}/{attempt}", post(receive))).await });

    let queue = TaskQueue::bounded(100);
    let mut workers = JoinSet::new();
    for _ in 0..3 {
        workers.spawn(queue.clone().run());
    }
    let mut deliveries = JoinSet::new();
    for hook in 1..=12 {
        deliveries.spawn(deliver(queue.clone(), receiver, hook));
    }
    let attempts = deliveries.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;

    queue.close(); // The workers end when all accepted tasks are done.
    if timeout(Duration::from_secs(5), queue.idle()).await.is_err() {
        workers.abort_all(); // Cancels what runs,
        queue.cancel_all(); // and what is queued.
    }
    workers.join_all().await;
    let [first, second, never] = [Some(1), Some(2), None].map(|at| attempts.iter().filter(|&&was| was == at).count());
    println!("delivered at the first attempt: {first}, at the second: {second}, given up: {never}");
    assert_eq!((first, second, never), (8, 3, 1));
    Ok(())
}
