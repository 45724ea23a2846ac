//! The manager: how objects are created, recycled and found broken.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Metrics;

/// Creates the objects of a [`Pool`](crate::Pool), and tells whether they are still good.
///
/// No method is called under a lock of the pool. Each may panic: the object is discarded then, and its slot given to
/// the next getter. An `Arc` of a manager is a manager, too, so that pools can share one.
///
/// # Examples
///
/// ```
/// use stanchion::{Manager, Metrics, Pool};
/// use std::{io, net::{SocketAddr, TcpListener, TcpStream}};
///
/// struct Connect(SocketAddr);
///
/// impl Manager for Connect {
///     type Object = TcpStream;
///     type Error = io::Error;
///
///     async fn create(&self) -> io::Result<TcpStream> {
///         TcpStream::connect(self.0) // or an async runtime's, with `.await`
///     }
///
///     async fn recycle(&self, stream: &mut TcpStream, _: &Metrics) -> io::Result<()> {
///         stream.take_error()?.map_or(Ok(()), Err)
///     }
/// }
///
/// # stanchion::blocking::wait(async {
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let pool = Pool::builder(Connect(server.local_addr()?)).max_size(4).build();
/// let stream = pool.get().await?;
/// assert_eq!(stream.peer_addr()?, server.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait Manager: Send + Sync + 'static {
    /// The objects to be pooled.
    type Object: Send + 'static;

    /// The reason why an object could not be created, or cannot be reused.
    type Error: Send + 'static;

    /// Creates an object.
    ///
    /// The future outlives the getter that began it: if that is dropped, or served by a returned object first, the
    /// creation stays pending in the pool, and the next getter takes it up, or [`replenish`](crate::Pool::replenish) or
    /// [`maintenance`](crate::Pool::maintenance). So it may be polled by other tasks, on other runtimes, after a time
    /// without any poll; and it may be dropped at any await, by [`clear`](crate::Pool::clear),
    /// [`close`](crate::Pool::close), [`resize`](crate::Pool::resize) or an idle timeout.
    ///
    /// **Limit its time in here.** The pool cannot tell a slow creation from one that hangs, which costs its slot as
    /// long as it hangs (and nothing else: with room for more, getters begin another one beside it).
    ///
    /// **Other runtimes.** A pending creation may belong to a runtime that has ended since, in which its timers and
    /// sockets fail or panic, or to one that is not driven, in which they make no progress. In the first case the
    /// creation is dropped and begun again, and its error is not reported if it occurs in the first poll by the getter
    /// that takes it up, its panic not in any poll by that getter. In the second it is like one that hangs. An object
    /// that was created while no getter looked is [recycled](Self::recycle) before it is handed out. The same holds for
    /// `recycle`.
    ///
    /// # Examples
    ///
    /// A manager that limits the time of a creation:
    ///
    /// ```
    /// use stanchion::{Manager, Pool};
    /// use std::io;
    /// use tokio::time::{Duration, timeout};
    ///
    /// struct Connect;
    ///
    /// # async fn connect() -> io::Result<&'static str> { Ok("connection") }
    /// impl Manager for Connect {
    ///     type Object = &'static str;
    ///     type Error = io::Error;
    ///
    ///     async fn create(&self) -> io::Result<&'static str> {
    ///         timeout(Duration::from_secs(5), connect()).await?
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(*Pool::builder(Connect).build().get().await?, "connection");
    /// # Ok(())
    /// # }
    /// ```
    fn create(&self) -> impl Future<Output = Result<Self::Object, Self::Error>> + Send;

    /// Makes an object fit for its next use, after it was taken out of the pool and before it is handed out.
    ///
    /// If this fails, the object is discarded and the error dropped. The getter then goes on with another idle object,
    /// if there is one, and creates one at the same time.
    ///
    /// Like [`create`](Self::create), the future outlives its getter: one that gives up leaves it pending, and the next
    /// getter takes it up where it stands. A healthy object is never discarded because of an impatient caller. Limit
    /// its time in here, well below what callers wait.
    ///
    /// # Examples
    ///
    /// Objects that are used three times at most:
    ///
    /// ```
    /// use stanchion::{Manager, Metrics, Object, Pool};
    ///
    /// struct Buffers;
    ///
    /// impl Manager for Buffers {
    ///     type Object = Vec<u8>;
    ///     type Error = &'static str;
    ///
    ///     async fn create(&self) -> Result<Vec<u8>, &'static str> {
    ///         Ok(Vec::new())
    ///     }
    ///
    ///     async fn recycle(&self, buffer: &mut Vec<u8>, metrics: &Metrics) -> Result<(), &'static str> {
    ///         buffer.clear();
    ///         if metrics.uses < 3 { Ok(()) } else { Err("used up") }
    ///     }
    /// }
    ///
    /// # stanchion::blocking::wait(async {
    /// let pool = Pool::builder(Buffers).build();
    /// for _ in 0..4 {
    ///     pool.get().await.unwrap().push(7);
    /// }
    /// assert_eq!((pool.stats().created, pool.stats().recycle_failures), (2, 1));
    /// # });
    /// ```
    fn recycle(
        &self,
        object: &mut Self::Object,
        metrics: &Metrics,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (object, metrics);
        AlwaysFit(PhantomData)
    }

    /// Returns `true` if an object that is being returned cannot be used again. It is discarded then.
    ///
    /// This runs in the drop of [`Object`](crate::Object), on whichever thread that happens: it should be quick, and
    /// must not need a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use stanchion::{Manager, Pool};
    ///
    /// #[derive(Default)]
    /// struct Connection { has_failed: bool }
    ///
    /// struct Connect;
    ///
    /// impl Manager for Connect {
    ///     type Object = Connection;
    ///     type Error = ();
    ///
    ///     async fn create(&self) -> Result<Connection, ()> {
    ///         Ok(Connection::default())
    ///     }
    ///
    ///     fn is_broken(&self, connection: &mut Connection) -> bool {
    ///         connection.has_failed
    ///     }
    /// }
    ///
    /// # stanchion::blocking::wait(async {
    /// let pool = Pool::builder(Connect).build();
    /// pool.get().await.unwrap().has_failed = true;
    /// assert_eq!(pool.status().idle, 0);
    /// # });
    /// ```
    fn is_broken(&self, object: &mut Self::Object) -> bool {
        let _ = object;
        false
    }
}

/// Shares one manager among pools.
impl<M: Manager> Manager for Arc<M> {
    type Object = M::Object;
    type Error = M::Error;

    fn create(&self) -> impl Future<Output = Result<M::Object, M::Error>> + Send {
        M::create(self)
    }

    fn recycle(&self, object: &mut M::Object, metrics: &Metrics) -> impl Future<Output = Result<(), M::Error>> + Send {
        M::recycle(self, object, metrics)
    }

    fn is_broken(&self, object: &mut M::Object) -> bool {
        M::is_broken(self, object)
    }
}

/// The future of the provided `recycle`.
pub(super) struct AlwaysFit<E>(PhantomData<fn() -> E>);

impl<E> Future for AlwaysFit<E> {
    type Output = Result<(), E>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}

/// The manager of a pool that creates nothing: see [`Pool::from_objects`](crate::Pool::from_objects).
///
/// # Examples
///
/// ```
/// use stanchion::{Fixed, Pool};
///
/// struct Server {
///     ports: Pool<Fixed<u16>>,
/// }
///
/// # stanchion::blocking::wait(async {
/// let server = Server { ports: Pool::from_objects(8000..8004) };
/// assert!(*server.ports.get().await? >= 8000);
/// # Ok::<(), stanchion::GetError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
pub struct Fixed<T>(PhantomData<fn() -> T>);

impl<T: Send + 'static> Manager for Fixed<T> {
    type Object = T;
    type Error = Infallible;

    async fn create(&self) -> Result<T, Infallible> {
        pending().await
    }
}

impl<T> Fixed<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> fmt::Debug for Fixed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fixed")
    }
}
