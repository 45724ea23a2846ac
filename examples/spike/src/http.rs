//! HTTP around a service: `GET /product/17` answers with a line of JSON. The header `x-class` is `health`, `paying` or
//! `free`.
//!
//! A request that is read late is late, however quickly it is served then. So threads of their own read the connections of
//! free customers, which are many: no urgent request waits behind them to be read. The first request of a connection
//! decides its class.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::TcpListener;
use std::pin::pin;
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
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::database::Product;
use crate::request::{Class, Refusal, Service};

/// The header with the class of a request.
pub const CLASS: &str = "x-class";

async fn answer<S: Service>(service: &Arc<S>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(id) = request.uri().path().strip_prefix("/product/").and_then(|id| id.parse().ok()) else {
        return response(StatusCode::NOT_FOUND, None, complaint("ask for /product/NUMBER"));
    };
    if request.method() != Method::GET {
        let allow = (ALLOW, HeaderValue::from_static("GET"));
        return response(StatusCode::METHOD_NOT_ALLOWED, Some(allow), complaint("only GET"));
    }
    let class = request.headers().get(CLASS).and_then(|class| Class::named(class.as_bytes())).unwrap_or(Class::Free);
    match service.product(class, id).await {
        Ok(Some(product)) => response(StatusCode::OK, None, page(&product)),
        Ok(None) => response(StatusCode::NOT_FOUND, None, complaint("no such product")),
        Err(Refusal::Busy(_)) => {
            let retry_after = (RETRY_AFTER, HeaderValue::from_static("1"));
            // Sent often, and in a hurry.
            response(StatusCode::SERVICE_UNAVAILABLE, Some(retry_after), r#"{"error":"busy"}"#)
        }
        Err(Refusal::Broken(error)) => response(StatusCode::INTERNAL_SERVER_ERROR, None, complaint(&error)),
    }
}

fn page(product: &Product) -> String {
    let Product { id, name, price_cents, reviews, mean_stars } = product;
    let name = json!(name);
    // Almost every request is answered with this, so it is not built as a `Value` first.
    format!(
        r#"{{"id":{id},"name":{name},"price_cents":{price_cents},"reviews":{reviews},"mean_stars":{mean_stars:?}}}"#
    )
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
    /// Reads the connections of free customers.
    free: Option<Runtime>,
    /// Reads the others, and runs the service.
    urgent: Option<Runtime>,
}

impl Running {
    /// Serves all connections to `listener`.
    pub fn start<S: Service>(listener: TcpListener, service: Arc<S>) -> anyhow::Result<Self> {
        let threads = |name, count| {
            Builder::new_multi_thread()
                .enable_all()
                .thread_name(name)
                .worker_threads(count)
                .build()
                .context("cannot start the service's threads")
        };
        let free = threads("free", half_of_the_cores())?;
        let urgent = threads("urgent", half_of_the_cores())?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _inside = urgent.enter();
            tokio::net::TcpListener::from_std(listener).context("cannot listen")?
        };
        urgent.spawn(accept(listener, Arc::clone(&service), free.handle().clone()));
        urgent.spawn(async move { service.run().await });
        Ok(Self { free: Some(free), urgent: Some(urgent) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for runtime in [self.free.take(), self.urgent.take()].into_iter().flatten() {
            // Requests that are still served are not waited for.
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// Leaves cores to read requests with: one that is read late is answered late.
pub fn half_of_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

async fn accept<S: Service>(listener: tokio::net::TcpListener, service: Arc<S>, free: Handle) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No file descriptor is left, or the client has gone: the next connection may succeed.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(receive(stream, Arc::clone(&service), free.clone()));
    }
}

/// Serves a connection on the threads for its class.
async fn receive<S: Service>(stream: TcpStream, service: Arc<S>, free: Handle) {
    if first_class(&stream).await > Class::Free {
        return serve(stream, service).await;
    }
    let Ok(stream) = stream.into_std() else { return };
    free.spawn(async move {
        if let Ok(stream) = TcpStream::from_std(stream) {
            yielding(serve(stream, service)).await;
        }
    });
}

/// Yields the core after each poll of `future`. Otherwise a busy thread keeps the others waiting until its time slice
/// ends: for milliseconds, many times what a request takes.
async fn yielding(future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    poll_fn(|context| {
        let state = future.as_mut().poll(context);
        std::thread::yield_now();
        state
    })
    .await;
}

/// Returns the class of the first request of a connection, which stays unread.
async fn first_class(stream: &TcpStream) -> Class {
    let mut bytes = [0; 1024];
    let length = stream.peek(&mut bytes).await.unwrap_or(0);
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    // An incomplete request counts as free.
    let _ = request.parse(&bytes[..length]);
    let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(CLASS));
    header.and_then(|class| Class::named(class.value)).unwrap_or(Class::Free)
}

async fn serve<S: Service>(stream: TcpStream, service: Arc<S>) {
    let answer = service_fn(|request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(answer(&service, &request).await) }
    });
    // An error here is a client that hung up.
    let _ = hyper::server::conn::http1::Builder::new()
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Database, PRODUCTS};
    use crate::load::{HOTTEST, Load};
    use crate::parts::Parts;
    use crate::request::Sizes;
    use crate::schedule::Schedule;
    use crate::service::With;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn start(service: &Arc<With>) -> anyhow::Result<(Running, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        Ok((Running::start(listener, Arc::clone(service))?, address))
    }

    /// Sends a request over a connection of its own, and returns the answer.
    fn ask(address: SocketAddr, request: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn service(database: &Database, parts: Parts) -> Arc<With> {
        Arc::new(With::new(database, parts, Sizes { permits: 2, max_waiting: 10, remembered: 100 }))
    }

    /// Tests a service without parts, and one with all.
    fn with_each(test: impl Fn(SocketAddr, &Database, &With) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        Database::prepare(&path)?;
        for parts in [Parts::NONE, Parts::ALL] {
            let database = Database::at(&path);
            let service = service(&database, parts);
            let (_running, address) = start(&service)?;
            test(address, &database, &service)?;
        }
        Ok(())
    }

    #[test]
    fn both_answer_over_a_real_socket() -> anyhow::Result<()> {
        with_each(|address, _, _| {
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
        with_each(|address, database, service| {
            let schedule = Schedule::new(20, 40, Duration::from_secs(1));
            let load = Load {
                schedule,
                mix: Load::EVEN,
                focus: schedule.peak(),
                connections: 4,
                pipeline: 8,
                patience: PATIENCE,
                drain: PATIENCE,
            };
            let outcome = load.run(address, |_| ())?;
            assert_eq!(outcome.total.offered, schedule.total());
            assert_eq!(outcome.total.served, outcome.total.offered);
            let (queries, for_hottest) = (database.queries(), database.queries_for(HOTTEST));
            match service.hit_ratio() {
                None => assert!(queries == outcome.total.served && for_hottest > 1, "{queries}, {for_hottest}"),
                Some(ratio) => {
                    // A follower of a load neither hits nor queries.
                    let spared = (outcome.total.served - queries) as f64 / outcome.total.served as f64;
                    assert!(0.0 < ratio && ratio <= spared, "{ratio}, {spared}");
                    assert_eq!(for_hottest, 1);
                }
            }
            Ok(())
        })
    }

    #[test]
    fn pool_and_cache_spare_connections_and_queries() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        Database::prepare(&path)?;
        for (parts, connections, queries) in [(Parts::NONE, 10, 10), (Parts::ALL, 2, 5)] {
            let database = Database::at(&path);
            let service = service(&database, parts);
            let (_running, address) = start(&service)?;
            for id in (1..=5).chain(1..=5) {
                ask(address, &format!("GET /product/{id}"))?;
            }
            assert_eq!((database.connections_opened(), database.queries()), (connections, queries));
            let counts = service.counts();
            assert_eq!(u64::from(counts.connections), queries);
            assert!(counts.mean_wait() <= counts.longest_wait && counts.longest_wait <= counts.waited, "{counts:?}");
            assert_eq!((counts.serving, counts.most_serving), (0, 1));
        }
        Ok(())
    }

    #[test]
    fn the_default_class_is_free() -> anyhow::Result<()> {
        // An unknown class is no error.
        with_each(|address, _, _| {
            for class in ["", "\r\nx-class: health", "\r\nX-Class: paying", "\r\nx-class: royal"] {
                let mut stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                write!(stream, "GET /product/3 HTTP/1.1\r\nhost: localhost{class}\r\nconnection: close\r\n\r\n")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{class}: {answer}");
            }
            Ok(())
        })
    }

    #[test]
    fn the_first_request_decides_the_class_of_a_connection() -> anyhow::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let class = |bytes: &str| -> anyhow::Result<Class> {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
                let mut client = TcpStream::connect(listener.local_addr()?)?;
                client.write_all(bytes.as_bytes())?;
                drop(client);
                let (stream, _) = listener.accept().await?;
                Ok(first_class(&stream).await)
            })
        };
        assert_eq!(class("GET / HTTP/1.1\r\nX-CLASS: health\r\n\r\n")?, Class::Health);
        let two = "GET / HTTP/1.1\r\nx-class: paying\r\n\r\nGET / HTTP/1.1\r\nx-class: health\r\n\r\n";
        assert_eq!(class(two)?, Class::Paying);
        for nothing in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nx-class: royal\r\n\r\n", "GET /", "\0\0", ""] {
            assert_eq!(class(nothing)?, Class::Free, "{nothing:?}");
        }
        Ok(())
    }
}
