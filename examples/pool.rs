//! Transfers in a SQLite database, by twenty tasks that share four connections: `cargo run -p examples --example pool`.
//!
//! A connection that is returned in the middle of a transaction is closed, which rolls the transaction back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use stanchion::{Manager, Metrics, Pool};
use tokio::task::{JoinSet, spawn_blocking};

struct Sqlite(PathBuf);

impl Manager for Sqlite {
    type Object = Connection;
    type Error = rusqlite::Error;

    async fn create(&self) -> rusqlite::Result<Connection> {
        let path = self.0.clone();
        let open = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(60))?;
            Ok(connection)
        };
        spawn_blocking(open).await.expect("opening does not panic")
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> rusqlite::Result<()> {
        connection.query_row("SELECT 1", (), |_| Ok(()))
    }

    fn is_broken(&self, connection: &mut Connection) -> bool {
        !connection.is_autocommit()
    }
}

fn transfer(connection: &mut Connection, from: i64, to: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("UPDATE account SET balance = balance - 1 WHERE id = ?1", [from])?;
    transaction.execute("UPDATE account SET balance = balance + 1 WHERE id = ?1", [to])?;
    transaction.commit()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let pool = Arc::new(Pool::builder(Sqlite(folder.path().join("bank.sqlite"))).max_size(4).min_idle(1).build());
    tokio::spawn(Pool::maintenance(&pool, tokio::time::sleep)); // Ends when the pool is closed.
    pool.get().await?.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
        CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
        INSERT INTO account VALUES (0, 100), (1, 100), (2, 100)",
    )?;

    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let pool = Arc::clone(&pool);
        tasks.spawn(async move {
            let mut connection = pool.get_owned().await?;
            // SQLite blocks, so the query runs on a thread that may; the connection is returned from there.
            spawn_blocking(move || transfer(&mut connection, number % 3, (number + 1) % 3)).await??;
            anyhow::Ok(())
        });
    }
    tasks.join_all().await.into_iter().collect::<anyhow::Result<()>>()?;
    // A bug: the transaction is never finished.
    pool.get().await?.execute_batch("BEGIN; UPDATE account SET balance = 0")?;

    let sum = pool.get().await?.query_row("SELECT sum(balance) FROM account", (), |row| row.get::<_, i64>(0))?;
    let stats = pool.stats();
    println!("20 transfers, {} connections opened, {} discarded, sum {sum}", stats.created, stats.discarded);
    assert_eq!((sum, stats.discarded), (300, 1));
    assert!(pool.status().size <= 4);
    pool.close();
    pool.closed().await; // The file may be removed now.
    Ok(())
}
