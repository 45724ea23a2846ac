//! Downloads, at most three at a time: `cargo run -p examples --example semaphore`.
//!
//! The server is a part of this program and notes the most requests that it had to answer at the same time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::{Router, extract::Path, routing::get};
use stanchion::Semaphore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const LIMIT: usize = 3;
static DOWNLOADS: Semaphore = Semaphore::new(LIMIT);

async fn download(server: SocketAddr, path: String) -> anyhow::Result<String> {
    // Returned when the download ends, fails, or is given up by its caller.
    let _permit = DOWNLOADS.acquire().await?;
    let mut connection = TcpStream::connect(server).await?;
    connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await?;
    let (_head, body) = response.split_once("\r\n\r\n").context("the response has no body")?;
    Ok(body.to_owned())
}

static AT_ONCE: AtomicUsize = AtomicUsize::new(0);
static MOST_AT_ONCE: AtomicUsize = AtomicUsize::new(0);

async fn file(Path(number): Path<u32>) -> String {
    MOST_AT_ONCE.fetch_max(AT_ONCE.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(20)).await;
    AT_ONCE.fetch_sub(1, Ordering::Relaxed);
    format!("the content of file {number}")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let server = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, Router::new().route("/files/{number}", get(file))).await });

    let mut downloads = JoinSet::new();
    for number in 1..=12 {
        downloads.spawn(download(server, format!("/files/{number}")));
    }
    let files = downloads.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;

    let most = MOST_AT_ONCE.load(Ordering::Relaxed);
    println!("{} downloads, at most {most} at the same time", files.len());
    assert_eq!(files.len(), 12);
    assert!((1..=LIMIT).contains(&most));
    assert_eq!(DOWNLOADS.available_permits(), LIMIT);
    Ok(())
}
