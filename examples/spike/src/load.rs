//! The load: an open-loop generator. It sends requests when the schedule says so, whether or not earlier ones were
//! answered, as users do that know nothing of each other.
//!
//! Latency counts from the moment at which a request was *due*, not from when it could be written: the time that it waits
//! for a connection, or for a generator that is late, is time that its user waits. (To count from the write would leave
//! out exactly the worst of it, which Gil Tene calls coordinated omission.)
//!
//! Requests travel over a fixed number of keep-alive connections and may be pipelined, up to a depth, so that one thread
//! can offer 100,000 requests a second beside the service that it measures. Each class has connections of its own, so that
//! no request waits behind those of another class. A request that finds no place within the patience has failed, and so
//! has one that is unanswered when the drain after the run ends. All of this happens on one thread: a task wakes every
//! millisecond to send the requests that are due, and a task for each connection reads its answers. So latency includes
//! about a millisecond of the generator's, with load and without.
//!
//! The threads of the service have the same priority as this one. With a lower one the kernel at times leaves them on the
//! core where this one is busy, and a health check waits for milliseconds that are not the service's. The report says how
//! late this thread was.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::SeedableRng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::SmallRng;
use rand_distr::Zipf;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::database::PRODUCTS;
use crate::http::CLASS;
use crate::outcome::{Glimpse, Outcome};
use crate::request::Class;
use crate::schedule::Schedule;

/// The time after which the generator wakes again to send the requests that are due.
const TICK: Duration = Duration::from_millis(1);
/// Free requests of one tick are spread over about this many connections before any are pipelined. Of the other classes,
/// which have few, a tick puts no two on one connection.
const SPREAD: usize = 16;
/// Of the popularity of products: about a tenth of all requests are for the hottest.
const ZIPF_EXPONENT: f64 = 0.99;
/// The product that most requests are for.
pub const HOTTEST: u32 = 1;
/// The time within which all connections must be open.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A load, and the connections that carry it.
#[derive(Clone, Debug)]
pub struct Load {
    pub schedule: Schedule,
    pub mix: Mix,
    /// The part of the run that is counted by class.
    pub focus: Range<Duration>,
    /// Keep-alive connections, opened before the run: at least one for each class.
    pub connections: usize,
    /// Requests that a connection may have outstanding.
    pub pipeline: usize,
    /// The time after which a request without a place on a connection has failed.
    pub patience: Duration,
    /// The longest time after the run for which answers are read.
    pub drain: Duration,
}

/// The parts of the requests that are of each of [`Class::ALL`].
pub type Mix = [u32; Class::ALL.len()];

impl Load {
    /// Of a hundred requests 90 are from free customers, 9 from paying ones, and one is a health check.
    pub const SPIKE: Mix = [90, 9, 1];
    /// As many of each, so that a little load shows the latency of all.
    pub const EVEN: Mix = [1, 1, 1];

    /// Runs the load against the service at `address`. Blocks until it is over, and calls `watch` a few times a second.
    pub fn run(&self, address: SocketAddr, watch: impl FnMut(Glimpse)) -> anyhow::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the load generator")?;
        let outcome = Rc::new(RefCell::new(Outcome::new(self.schedule.duration(), self.focus.clone())?));
        LocalSet::new().block_on(&runtime, self.drive(address, &outcome, watch))?;
        // The tasks that read answers were dropped with their set.
        let mut outcome = Rc::into_inner(outcome).context("an answer is still being read")?.into_inner();
        outcome.settle();
        Ok(outcome)
    }

    async fn drive(
        &self,
        address: SocketAddr,
        outcome: &Rc<RefCell<Outcome>>,
        mut watch: impl FnMut(Glimpse),
    ) -> anyhow::Result<()> {
        let Ok(connections) = timeout(CONNECT_DEADLINE, self.connect(address)).await else {
            bail!("{} connections could not be opened within {CONNECT_DEADLINE:?}", self.connections);
        };
        let start = Instant::now();
        let (connections, readers): (Vec<_>, Vec<_>) = connections?.into_iter().unzip();
        for (connection, reader) in connections.iter().zip(readers) {
            spawn_local(read_answers(reader, Rc::clone(connection), Rc::clone(outcome), start));
        }
        let mut generator = Generator::new(self, &connections)?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for tick in 0_u64.. {
            ticks.tick().await;
            let now = start.elapsed();
            let mut outcome = outcome.borrow_mut();
            let is_over = generator.tick(now, &mut outcome);
            if tick % 128 == 0 || is_over {
                watch(outcome.glimpse(now));
            }
            if is_over {
                break;
            }
        }
        Ok(())
    }

    async fn connect(&self, address: SocketAddr) -> anyhow::Result<Vec<(Rc<Connection>, OwnedReadHalf)>> {
        let mut connections = Vec::with_capacity(self.connections);
        for (number, class) in (1..).zip(self.classes()) {
            let stream = TcpStream::connect(address).await.context("cannot connect to the service")?;
            stream.set_nodelay(true)?;
            let (reader, stream) = stream.into_split();
            connections.push((Rc::new(Connection { class, stream, state: RefCell::default() }), reader));
            if number % 64 == 0 {
                // The backlog of a listener is short, and a client beyond it waits for a second.
                sleep(TICK).await;
            }
        }
        Ok(connections)
    }

    /// Returns the class of each connection. Each class has as many, so that rare ones are pipelined less.
    fn classes(&self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().cycle().take(self.connections)
    }
}

/// A load that runs.
struct Generator<'a> {
    load: &'a Load,
    lanes: [Lane; Class::ALL.len()],
    requests: Requests,
    /// The number of requests that were due so far.
    offered: u64,
    last_tick: Duration,
}

impl<'a> Generator<'a> {
    fn new(load: &'a Load, connections: &[Rc<Connection>]) -> anyhow::Result<Self> {
        let of = |class| connections.iter().filter(move |each| each.class == class).cloned().collect();
        let lanes = Class::ALL.map(|class| Lane { class, connections: of(class), next: 0, waiting: VecDeque::new() });
        Ok(Self { load, lanes, requests: Requests::new(load.mix)?, offered: 0, last_tick: Duration::ZERO })
    }

    /// Sends the requests that are due. Returns `true` at the end of the load.
    fn tick(&mut self, now: Duration, outcome: &mut Outcome) -> bool {
        let Load { schedule, patience, pipeline, drain, .. } = self.load;
        outcome.longest_pause = outcome.longest_pause.max(now.saturating_sub(self.last_tick));
        self.last_tick = now;
        while let Some(request) = self.next(now, outcome) {
            self.lanes[request.class as usize].waiting.push_back(request);
        }
        for lane in &mut self.lanes {
            let is_late = |request: &Request| now.saturating_sub(request.due) > *patience;
            while let Some(request) = lane.waiting.front().filter(|request| is_late(request)) {
                outcome.fail_unsent(request.class, request.due);
                lane.waiting.pop_front();
            }
            lane.send(*pipeline);
        }
        let all_answered = self.offered == schedule.total() && self.lanes.iter().all(Lane::is_quiet);
        let is_over = all_answered || now >= schedule.duration() + *drain;
        if is_over {
            self.fail_the_rest(outcome);
        }
        is_over
    }

    /// Offers the next request, if it is due.
    fn next(&mut self, now: Duration, outcome: &mut Outcome) -> Option<Request> {
        let schedule = self.load.schedule;
        let due = Some(self.offered).filter(|offered| *offered < schedule.total()).map(|number| schedule.due(number));
        let request = self.requests.next(due.filter(|due| *due <= now)?);
        outcome.offer(request.class, request.due);
        self.offered += 1;
        Some(request)
    }

    /// Requests that were never sent have failed, those included that a late generator did not come to.
    fn fail_the_rest(&mut self, outcome: &mut Outcome) {
        let waiting = self.lanes.iter_mut().flat_map(|lane| lane.waiting.drain(..));
        waiting.for_each(|request| outcome.fail_unsent(request.class, request.due));
        while let Some(request) = self.next(Duration::MAX, outcome) {
            outcome.fail_unsent(request.class, request.due);
        }
    }
}

/// The clients of one class.
struct Lane {
    class: Class,
    connections: Vec<Rc<Connection>>,
    /// The connection that sends next.
    next: usize,
    /// Requests that have no place on a connection yet.
    waiting: VecDeque<Request>,
}

impl Lane {
    /// Puts waiting requests on the connections, one connection after the other.
    fn send(&mut self, pipeline: usize) {
        let share = if self.class == Class::Free { self.waiting.len().div_ceil(SPREAD) } else { 1 };
        for _ in 0..self.connections.len() {
            if self.waiting.is_empty() {
                break;
            }
            self.next = (self.next + 1) % self.connections.len();
            let mut state = self.connections[self.next].state.borrow_mut();
            if state.is_lost {
                continue;
            }
            let room = pipeline.saturating_sub(state.outstanding.len());
            for request in self.waiting.drain(..share.min(room).min(self.waiting.len())) {
                state.outstanding.push_back(request.due);
                request.write(&mut state.unsent);
            }
        }
        self.connections.iter().for_each(|connection| connection.flush());
    }

    /// Returns `true` if no more answers will come.
    fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.connections.iter().all(|each| each.is_quiet())
    }
}

/// A keep-alive connection to the service.
struct Connection {
    class: Class,
    stream: OwnedWriteHalf,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// For each unanswered request, in the order in which they were made, the time at which it was due.
    outstanding: VecDeque<Duration>,
    /// Bytes of requests that the socket had no room for yet.
    unsent: Vec<u8>,
    is_lost: bool,
}

impl Connection {
    /// Writes as much as the socket takes.
    fn flush(&self) {
        let mut state = self.state.borrow_mut();
        while !state.unsent.is_empty() && !state.is_lost {
            match self.stream.try_write(&state.unsent) {
                Ok(0) => state.is_lost = true,
                Ok(written) => drop(state.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => state.is_lost = true,
            }
        }
    }

    /// Returns `true` if no more answers will come.
    fn is_quiet(&self) -> bool {
        let state = self.state.borrow();
        state.is_lost || state.outstanding.is_empty()
    }
}

/// Reads the answers on a connection until it is lost. Its outstanding requests then stay unanswered.
async fn read_answers(
    mut stream: OwnedReadHalf,
    connection: Rc<Connection>,
    outcome: Rc<RefCell<Outcome>>,
    start: Instant,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    // It is lost at its end, on an error, and when an answer is longer than any of the service's.
    while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]).await {
        filled += read;
        let now = start.elapsed();
        let mut state = connection.state.borrow_mut();
        let mut outcome = outcome.borrow_mut();
        let mut used = 0;
        let is_understood = loop {
            match parse_answer(&buffer[used..filled]) {
                Ok(Some((status, length))) => {
                    let Some(due) = state.outstanding.pop_front() else { break false };
                    outcome.answer(connection.class, due, now, status);
                    used += length;
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if !is_understood {
            break;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
    connection.state.borrow_mut().is_lost = true;
}

/// Returns the status and the length in bytes of the answer that `bytes` begins with, if it is complete.
fn parse_answer(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(bytes)? else {
        return Ok(None);
    };
    let body: usize = answer
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
        .context("an answer does not say how long it is")?;
    let length = head.saturating_add(body);
    Ok((length <= bytes.len()).then_some((answer.code.unwrap_or_default(), length)))
}

/// A request for a product.
struct Request {
    class: Class,
    product: u32,
    due: Duration,
}

impl Request {
    fn write(&self, bytes: &mut Vec<u8>) {
        let Self { class, product, .. } = self;
        // Writing to memory does not fail.
        let _ =
            write!(bytes, "GET /product/{product} HTTP/1.1\r\nhost: localhost\r\n{CLASS}: {}\r\n\r\n", class.name());
    }
}

/// An endless sequence of requests, the same in each run.
struct Requests {
    /// Classes and products, over and over. They are drawn before the run, in which the generator has little time.
    drawn: Vec<(Class, u32)>,
    made: usize,
}

impl Requests {
    const DRAWN: usize = 1 << 16;

    fn new(mix: Mix) -> anyhow::Result<Self> {
        let mut random = SmallRng::seed_from_u64(2);
        let popularity = Zipf::new(PRODUCTS.into(), ZIPF_EXPONENT)?;
        let classes = WeightedIndex::new(mix)?;
        let draw = || (Class::ALL[classes.sample(&mut random)], popularity.sample(&mut random) as u32);
        Ok(Self { drawn: std::iter::repeat_with(draw).take(Self::DRAWN).collect(), made: 0 })
    }

    fn next(&mut self, due: Duration) -> Request {
        let (class, product) = self.drawn[self.made % Self::DRAWN];
        self.made += 1;
        Request { class, product, due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed_when_they_are_all_there() -> anyhow::Result<()> {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for part in 0..answer.len() {
            assert_eq!(parse_answer(&answer[..part])?, None);
        }
        assert_eq!(parse_answer(answer)?, Some((200, answer.len())));
        assert!(parse_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_answer(b"what?\r\n\r\n").is_err());
        Ok(())
    }

    #[test]
    fn requests_are_the_same_every_time_and_favour_a_few() -> anyhow::Result<()> {
        let ask = || -> anyhow::Result<Vec<u8>> {
            let mut requests = Requests::new(Load::SPIKE)?;
            let mut bytes = Vec::new();
            (0..1_000).for_each(|_| requests.next(Duration::ZERO).write(&mut bytes));
            Ok(bytes)
        };
        let bytes = ask()?;
        assert_eq!(bytes, ask()?);
        let text = String::from_utf8(bytes)?;
        assert_eq!(text.matches("HTTP/1.1").count(), 1_000);
        let count = |product: u32| text.matches(&format!("/product/{product} ")).count();
        assert!((50..200).contains(&count(HOTTEST)), "{}", count(HOTTEST));
        assert!((1..=PRODUCTS).all(|product| count(product) <= count(HOTTEST)));
        Ok(())
    }

    #[test]
    fn requests_are_of_the_classes_that_the_mix_says() -> anyhow::Result<()> {
        let count = |mix| -> anyhow::Result<[i32; 3]> {
            let mut requests = Requests::new(mix)?;
            let mut counts = [0; 3];
            (0..10_000).for_each(|_| counts[requests.next(Duration::ZERO).class as usize] += 1);
            Ok(counts)
        };
        let close = |counts: [i32; 3], expected: [i32; 3]| {
            counts.iter().zip(expected).all(|(count, expected)| (count - expected).abs() <= 150)
        };
        assert!(close(count(Load::SPIKE)?, [9_000, 900, 100]));
        assert!(close(count(Load::EVEN)?, [3_333, 3_333, 3_333]));
        assert_eq!(count([0, 0, 1])?, [0, 0, 10_000]);
        Ok(())
    }

    fn load(seconds: u64) -> Load {
        let schedule = Schedule::new(100, 200, Duration::from_secs(seconds));
        Load {
            schedule,
            mix: Load::EVEN,
            focus: schedule.peak(),
            connections: 3,
            pipeline: 2,
            patience: Duration::from_millis(50),
            drain: Duration::ZERO,
        }
    }

    #[test]
    fn a_service_that_hangs_up_fails_every_request() -> anyhow::Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let service = std::thread::spawn(move || (0..3).for_each(|_| drop(listener.accept())));
        let outcome = load(1).run(address, |_| ())?;
        assert_eq!(outcome.total.offered, load(1).schedule.total());
        assert_eq!(outcome.total.failed.total(), outcome.total.offered);
        assert!(service.join().is_ok());
        Ok(())
    }

    #[test]
    fn a_service_that_never_answers_does_not_hold_the_generator() -> anyhow::Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let outcome = load(1).run(listener.local_addr()?, |_| ())?;
        assert_eq!(outcome.total.failed.total(), outcome.total.offered);
        Ok(())
    }

    #[test]
    fn a_service_that_is_not_there_is_an_error() -> anyhow::Result<()> {
        // Bound, so that no other program takes the port, but not listening.
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse()?)?;
        let error = load(1).run(socket.local_addr()?, |_| ()).err().context("it ran")?;
        assert!(format!("{error:#}").contains("cannot connect to the service"), "{error:#}");
        Ok(())
    }
}
