//! A shop on axum and SQLite that uses all five primitives: `cargo run -p examples --example axum`.
//!
//! It sends itself some requests and ends. With `-- --serve 127.0.0.1:8080` it serves until Ctrl-C:
//! `curl localhost:8080/products/1`, `curl -X POST localhost:8080/orders/paying/1`.

use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rusqlite::{Connection, OptionalExtension};
use stanchion::{LruCache, Manager, Mutex, Pool, PriorityQueue, Semaphore};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, spawn_blocking};

struct Shop {
    /// Limits how many requests are answered at the same time.
    admission: Semaphore,
    /// Remembers products, absent ones too, and has the database asked once for each.
    products: LruCache<u32, Option<String>>,
    database: Arc<Pool<Sqlite>>,
    /// Orders that wait for a worker, those of paying customers first.
    orders: PriorityQueue<bool, Order>,
    /// Locked across the write, so that lines are not mixed.
    journal: Mutex<File>,
}

struct Order {
    product: u32,
    /// Dropped without a number, it answers the request with 503.
    sale: oneshot::Sender<i64>,
}

struct Sqlite(PathBuf);

impl Manager for Sqlite {
    type Object = Connection;
    type Error = rusqlite::Error;

    async fn create(&self) -> rusqlite::Result<Connection> {
        let path = self.0.clone();
        spawn_blocking(|| Connection::open(path)).await.expect("opening does not panic")
    }
}

impl Shop {
    async fn open(folder: &FilePath) -> anyhow::Result<Arc<Self>> {
        let database = Arc::new(Pool::builder(Sqlite(folder.join("shop.sqlite"))).max_size(4).build());
        database.get().await?.execute_batch(
            "PRAGMA journal_mode = WAL;
            CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
            CREATE TABLE sale (number INTEGER PRIMARY KEY, product INTEGER NOT NULL);
            INSERT INTO product VALUES (1, 'plums'), (2, 'pears')",
        )?;
        Ok(Arc::new(Self {
            admission: Semaphore::new(64),
            products: LruCache::builder(10_000).time_to_live(Duration::from_secs(60)).build(),
            database,
            orders: PriorityQueue::bounded(16),
            journal: Mutex::new(File::create(folder.join("journal")).await?),
        }))
    }

    /// Runs a query on a thread that may block, from which the connection is returned to the pool.
    async fn query<R, F>(&self, query: F) -> anyhow::Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    {
        let connection = Arc::clone(&self.database).get_owned().await?;
        Ok(spawn_blocking(move || query(&connection)).await??)
    }

    async fn sell(&self, product: u32) -> anyhow::Result<i64> {
        let insert = move |connection: &Connection| {
            connection.execute("INSERT INTO sale (product) VALUES (?1)", [product])?;
            Ok(connection.last_insert_rowid())
        };
        let sale = self.query(insert).await?;
        let mut journal = self.journal.lock().await;
        journal.write_all(format!("sale {sale} of product {product}\n").as_bytes()).await?;
        journal.flush().await?;
        Ok(sale)
    }

    /// A worker: handles orders, the most urgent first, until the queue is closed and empty.
    async fn work(self: Arc<Self>) {
        while let Some((_, Order { product, sale })) = self.orders.pop().await {
            match self.sell(product).await {
                Ok(number) => drop(sale.send(number)), // An error: the client has hung up.
                Err(error) => eprintln!("product {product} was not sold: {error:#}"),
            }
        }
    }
}

async fn admit(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    if shop.admission.waiters() >= 100 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response(); // at once, instead of an answer that comes too late
    }
    let _permit = shop.admission.acquire().await;
    next.run(request).await
}

async fn get_product(State(shop): State<Arc<Shop>>, Path(id): Path<u32>) -> Result<String, StatusCode> {
    let sql = "SELECT name FROM product WHERE id = ?1";
    let find = move |connection: &Connection| connection.query_row(sql, [id], |row| row.get(0)).optional();
    let product = shop.products.try_get_or_load(&id, || shop.query(find)).await;
    product.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?.ok_or(StatusCode::NOT_FOUND)
}

async fn post_order(
    State(shop): State<Arc<Shop>>,
    Path((class, product)): Path<(String, u32)>,
) -> Result<String, StatusCode> {
    let (sale, number) = oneshot::channel();
    // A full queue drops the newest of the least urgent orders, which may be this one.
    drop(shop.orders.force_push(class == "paying", Order { product, sale }));
    Ok(format!("sale {}", number.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let shop = Shop::open(folder.path()).await?;
    let mut workers = JoinSet::new();
    for _ in 0..2 {
        workers.spawn(Arc::clone(&shop).work());
    }
    let app = Router::new()
        .route("/products/{id}", get(get_product))
        .route("/orders/{class}/{product}", post(post_order))
        .layer(from_fn_with_state(Arc::clone(&shop), admit))
        .with_state(Arc::clone(&shop));
    let serve = std::env::args().skip_while(|argument| argument != "--serve").nth(1);
    let listener = TcpListener::bind(serve.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());
    match serve {
        Some(_) => tokio::signal::ctrl_c().await?,
        None => demonstrate(address, &shop).await?,
    }

    // From the outside in: no new requests, no new orders, no new queries.
    drop(stop);
    server.await??;
    shop.orders.close();
    workers.join_all().await;
    shop.database.close();
    shop.database.closed().await;
    Ok(())
}

/// Sends requests, all at once, and prints the answers.
async fn demonstrate(server: SocketAddr, shop: &Shop) -> anyhow::Result<()> {
    let mut answers = JoinSet::new();
    for request in ["GET /products/1", "GET /products/9", "POST /orders/free/2", "POST /orders/paying/1"].repeat(3) {
        answers.spawn(async move {
            let mut connection = TcpStream::connect(server).await?;
            connection.write_all(format!("{request} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            let mut response = String::new();
            connection.read_to_string(&mut response).await?;
            let (head, body) = response.split_once("\r\n\r\n").context("the response has no body")?;
            println!("{request}: {} {body}", head.lines().next().unwrap_or_default());
            anyhow::Ok(())
        });
    }
    answers.join_all().await.into_iter().collect::<anyhow::Result<()>>()?;
    let queries = shop.products.stats().loads;
    let sales: i64 =
        shop.query(|connection| connection.query_row("SELECT count(*) FROM sale", (), |row| row.get(0))).await?;
    println!("6 product pages, {queries} queries for them, {sales} sales");
    ensure!((queries, sales) == (2, 6), "each product is loaded once, and each order is carried out");
    Ok(())
}
