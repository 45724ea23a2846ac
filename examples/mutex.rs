//! One connection, shared by tasks that send a request on it and wait for the answer:
//! `cargo run -p examples --example mutex`.
//!
//! The lock is held across both awaits, so that no answer goes to another task. A caller that gives up between them
//! takes the connection with it, and the next caller opens another.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use stanchion::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

static CONNECTION: Mutex<Option<BufReader<TcpStream>>> = Mutex::new(None);

async fn call(server: SocketAddr, request: &str) -> io::Result<String> {
    let mut slot = CONNECTION.lock().await;
    // Out of its slot until the answer is complete: half an exchange must not be continued by the next caller.
    let mut connection = match slot.take() {
        Some(connection) => connection,
        None => BufReader::new(TcpStream::connect(server).await?),
    };
    connection.write_all(format!("{request}\n").as_bytes()).await?;
    let mut answer = String::new();
    if connection.read_line(&mut answer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *slot = Some(connection);
    Ok(answer.trim_end().to_owned())
}

/// Answers each number with its square, and all else never. Prints a line for each connection.
async fn serve(listener: TcpListener) -> io::Result<()> {
    for connection in 1.. {
        let (stream, _) = listener.accept().await?;
        println!("connection {connection}");
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut request = String::new();
            while stream.read_line(&mut request).await? > 0 {
                if let Ok(number) = request.trim_end().parse::<u64>() {
                    stream.write_all(format!("{connection}: {}\n", number * number).as_bytes()).await?;
                }
                request.clear();
            }
            io::Result::Ok(())
        });
    }
    Ok(())
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let server = listener.local_addr()?;
    tokio::spawn(serve(listener));

    let mut tasks = JoinSet::new();
    for number in 1..=9 {
        tasks.spawn(async move { (number, call(server, &number.to_string()).await) });
    }
    for (number, answer) in tasks.join_all().await {
        assert_eq!(answer?, format!("1: {}", number * number));
    }
    println!("nine tasks got their answers on one connection");

    let given_up = timeout(Duration::from_millis(10), call(server, "a question without an answer")).await;
    assert!(given_up.is_err());
    assert_eq!(call(server, "5").await?, "2: 25");
    println!("a caller that gave up cost a connection, and no other caller its answer");
    Ok(())
}
