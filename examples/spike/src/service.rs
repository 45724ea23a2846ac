//! The service: `GET /product/17` answers with a line of JSON out of the database. It exists twice.
//!
//! **Bare** does what is easily written: every request opens its own connection on the blocking thread
//! pool. Nothing says how many may do so at once, so when load rises the requests slow each other down, and
//! every one of them is late.
//!
//! **Stanchion** adds two primitives, each with one job:
//! - a [`Semaphore`] *admits* as many requests at once as there are connections. The others wait their turn
//!   in order of arrival; and since it can tell how long that line is (`waiters`), a request that would only
//!   make it longer is told so at once (503 with `Retry-After`) instead of being served when it is too late;
//! - a [`Mutex`] around each of a few connections lets one request at a time *use* it, so that connections are
//!   opened once and shared.
//!
//! Everything else is the same code for both.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use stanchion::{Mutex, OwnedMutexGuard, Semaphore};
use tokio::runtime::Runtime;

use crate::database::{Connection, Database, Product};

/// How a request fails to be served.
#[derive(Debug)]
pub enum Refusal {
    /// Too many are waiting already.
    Busy,
    /// The database did not answer.
    Broken(String),
}

type Lookup = Result<Option<Product>, Refusal>;

/// The service without primitives.
pub struct Bare {
    pub database: Database,
}

impl Bare {
    async fn product(&self, id: u32) -> Lookup {
        let database = self.database.clone();
        on_blocking_thread(move || database.connect()?.product(id)).await
    }
}

/// The service with primitives.
pub struct Stanchion {
    admission: Arc<Semaphore>,
    max_waiting: usize,
    connections: Vec<Arc<Mutex<Connection>>>,
}

impl Stanchion {
    /// Opens `permits` connections, to be used by as many requests at once while at most about `max_waiting`
    /// more wait.
    pub fn new(database: &Database, permits: usize, max_waiting: usize) -> anyhow::Result<Self> {
        let connections = (0..permits).map(|_| Ok(Arc::new(Mutex::new(database.connect()?))));
        Ok(Self {
            admission: Arc::new(Semaphore::new(permits)),
            max_waiting,
            connections: connections
                .collect::<rusqlite::Result<_>>()
                .context("cannot open the database for the service")?,
        })
    }

    async fn product(&self, id: u32) -> Lookup {
        // Shed: nobody joins a line that is too long to be served in good time.
        if self.admission.waiters() >= self.max_waiting {
            return Err(Refusal::Busy);
        }
        // Admit: in order of arrival, as many at once as there are connections.
        let permit = Arc::clone(&self.admission).acquire_owned().await.map_err(|_| Refusal::Busy)?;
        // Exclude: this connection is ours until the guard goes.
        let connection = self.free_connection().await;
        on_blocking_thread(move || {
            let product = connection.product(id);
            // Both went along to the thread, so a client that hangs up in the middle of a query does not
            // free them early. The connection goes first: who is admitted next finds it free.
            drop(connection);
            drop(permit);
            product
        })
        .await
    }

    /// Whoever holds a permit finds a free connection, as there are as many of both.
    async fn free_connection(&self) -> OwnedMutexGuard<Connection> {
        let free = self.connections.iter().find_map(|connection| Arc::clone(connection).try_lock_owned().ok());
        match free {
            Some(connection) => connection,
            // The free one changed places while we looked: wait in line at one of them.
            None => Arc::clone(&self.connections[0]).lock_owned().await,
        }
    }
}

/// Runs a query where it may block, away from the threads that serve the sockets.
async fn on_blocking_thread(query: impl FnOnce() -> rusqlite::Result<Option<Product>> + Send + 'static) -> Lookup {
    match tokio::task::spawn_blocking(query).await {
        Ok(product) => product.map_err(|error| Refusal::Broken(error.to_string())),
        Err(error) => Err(Refusal::Broken(error.to_string())),
    }
}

/// Either service.
pub enum Service {
    Bare(Bare),
    Stanchion(Stanchion),
}

impl Service {
    async fn product(&self, id: u32) -> Lookup {
        match self {
            Self::Bare(service) => service.product(id).await,
            Self::Stanchion(service) => service.product(id).await,
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(id) = request.uri().path().strip_prefix("/product/").and_then(|id| id.parse().ok()) else {
            return response(StatusCode::NOT_FOUND, None, complaint("ask for /product/NUMBER"));
        };
        if request.method() != Method::GET {
            let allow = (ALLOW, HeaderValue::from_static("GET"));
            return response(StatusCode::METHOD_NOT_ALLOWED, Some(allow), complaint("only GET"));
        }
        match self.product(id).await {
            Ok(Some(product)) => response(StatusCode::OK, None, page(&product)),
            Ok(None) => response(StatusCode::NOT_FOUND, None, complaint("no such product")),
            Err(Refusal::Busy) => {
                let retry_after = (RETRY_AFTER, HeaderValue::from_static("1"));
                response(StatusCode::SERVICE_UNAVAILABLE, Some(retry_after), complaint("busy"))
            }
            Err(Refusal::Broken(error)) => response(StatusCode::INTERNAL_SERVER_ERROR, None, complaint(&error)),
        }
    }
}

fn page(product: &Product) -> String {
    let Product { id, name, price_cents, reviews, mean_stars } = product;
    json!({ "id": id, "name": name, "price_cents": price_cents, "reviews": reviews, "mean_stars": mean_stars })
        .to_string()
}

fn complaint(error: &str) -> String {
    json!({ "error": error }).to_string()
}

fn response(
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().extend(header);
    response
}

/// A service that is being served, on threads of its own, until it is dropped.
pub struct Running {
    runtime: Option<Runtime>,
}

impl Running {
    /// Serves `service` to everybody who connects to `listener`.
    pub fn start(listener: TcpListener, service: Service) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("service")
            .on_thread_start(give_way)
            .build()
            .context("cannot start the service's threads")?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).context("cannot listen")?
        };
        runtime.spawn(accept(listener, Arc::new(service)));
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // What a drowning service still has in hand is not waited for.
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, service: Arc<Service>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, or the client is gone already: others may fare better.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let service = Arc::clone(&service);
                async move { Ok::<_, Infallible>(service.answer(&request).await) }
            });
            // An error here is a client that hung up: there is nobody to tell.
            let _ = hyper::server::conn::http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

/// Lets the load generator run first where cores are few. In earnest it would be on other machines, and a
/// service that drowns could not slow down the clock that measures it.
fn give_way() {
    #[cfg(target_os = "linux")] // elsewhere it would apply to the whole process
    let _ = rustix::process::setpriority_process(None, 10);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::PRODUCTS;
    use crate::load::{Load, Schedule};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn start(service: Service) -> anyhow::Result<(Running, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        Ok((Running::start(listener, service)?, address))
    }

    /// Asks over a connection of its own, and returns all that comes back.
    fn ask(address: SocketAddr, request: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Does so with either service.
    fn with_each(test: impl Fn(SocketAddr, &Database) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        Database::prepare(&path)?;
        let database = Database::at(&path);
        let (_running, address) = start(Service::Bare(Bare { database: database.clone() }))?;
        test(address, &database)?;
        let database = Database::at(&path);
        let (_running, address) = start(Service::Stanchion(Stanchion::new(&database, 2, 10)?))?;
        test(address, &database)
    }

    #[test]
    fn both_answer_over_a_real_socket() -> anyhow::Result<()> {
        with_each(|address, _| {
            let answer = ask(address, "GET /product/17")?;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("\"name\":\"product no. 17\""), "{answer}");
            let answer = ask(address, &format!("GET /product/{}", PRODUCTS + 1))?;
            assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
            assert!(ask(address, "GET /nothing")?.starts_with("HTTP/1.1 404 Not Found\r\n"));
            assert!(ask(address, "POST /product/17")?.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
            Ok(())
        })
    }

    #[test]
    fn both_bear_a_small_load() -> anyhow::Result<()> {
        with_each(|address, database| {
            let load = Load {
                schedule: Schedule::new(20, 40, 1),
                connections: 4,
                pipeline: 8,
                patience: PATIENCE,
                drain: PATIENCE,
            };
            let outcome = load.run(address, |_| ())?;
            assert_eq!(outcome.offered, load.schedule.total());
            assert_eq!(outcome.served, outcome.offered);
            assert_eq!(database.queries(), outcome.served);
            Ok(())
        })
    }

    #[test]
    fn bare_opens_the_database_for_each_request_and_stanchion_does_not() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        Database::prepare(&path)?;
        let (bare, with) = (Database::at(&path), Database::at(&path));
        let (_one, to_bare) = start(Service::Bare(Bare { database: bare.clone() }))?;
        let (_other, to_stanchion) = start(Service::Stanchion(Stanchion::new(&with, 2, 10)?))?;
        for id in 1..=5 {
            ask(to_bare, &format!("GET /product/{id}"))?;
            ask(to_stanchion, &format!("GET /product/{id}"))?;
        }
        assert_eq!((bare.connections_opened(), bare.queries()), (5, 5));
        assert_eq!((with.connections_opened(), with.queries()), (2, 5));
        Ok(())
    }

    #[test]
    fn who_finds_the_line_too_long_is_told_so() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        let service = Stanchion::new(&Database::prepare(&path)?, 1, 1)?;
        let admission = Arc::clone(&service.admission);
        let (_running, address) = start(Service::Stanchion(service))?;

        let permit = Arc::clone(&admission).try_acquire_owned()?;
        let first = std::thread::spawn(move || ask(address, "GET /product/1"));
        let deadline = Instant::now() + PATIENCE;
        while admission.waiters() == 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let second = ask(address, "GET /product/2")?;
        assert!(second.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{second}");
        assert!(second.contains("retry-after: 1\r\n"), "{second}");
        drop(permit);
        let first = first.join().map_err(|_| anyhow::anyhow!("the first request panicked"))??;
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
        Ok(())
    }
}
