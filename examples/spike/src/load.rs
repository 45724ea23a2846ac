//! The load: an open-loop generator. It asks when the schedule says so, whether or not the service has
//! answered what was asked before, as people do who know nothing of each other.
//!
//! Latency runs from the moment a request was *due*, not from when it could at last be written: time spent
//! waiting for a free connection, or for a generator that is late, is time the person waited. (Measuring from
//! the write instead would leave out exactly the worst of it, which Gil Tene calls coordinated omission.)
//!
//! Requests travel over a fixed number of keep-alive connections and may be pipelined, up to a depth, so that
//! one thread can offer 100,000 requests a second beside the service it measures. A client is of one class, so
//! each class has connections of its own, and no request waits for a place, or in a pipeline, behind those of
//! another class. One that finds no place within the generator's patience has failed, as has one that is
//! unanswered when the drain after the run ends. All of it happens on one thread with a runtime of its own: a
//! task that wakes every millisecond to send what is due, and one task for each connection that reads the
//! answers. Latency therefore includes about a millisecond that is the generator's, in every run, with and
//! without load.
//!
//! The service's threads have the same priority as this one, though it should rather be on another machine:
//! with a lower one they weigh so little that the kernel at times leaves them on the core where this one is
//! busy, and a health check then waits for milliseconds, for no fault of the service. How long this thread is
//! held up instead is in the report.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
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
use crate::service::Class;

/// Time slices that a run is recorded in, for the chart.
pub const SLICES: usize = 100;
/// How often the generator wakes to send what is due.
const TICK: Duration = Duration::from_millis(1);
/// A tick's free requests are spread over about this many connections before any are pipelined. Of the others,
/// who are few, a tick puts no two on one connection.
const SPREAD: usize = 16;
/// How popular products are: the hottest one gets about a tenth of all requests.
const ZIPF_EXPONENT: f64 = 0.99;
/// The product that most requests are for.
pub const HOTTEST: u32 = 1;
/// How long opening the connections may take altogether.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// When each request is due: calm, a climb by the same factor every second, a peak, and calm again.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    from: u32,
    to: u32,
    duration: Duration,
}

impl Schedule {
    /// The phases and the share of the run that each one takes.
    pub const PHASES: [(&str, f64); 4] = [("calm", 0.15), ("climb", 0.40), ("peak", 0.25), ("calm", 0.20)];

    /// Rates are in requests a second.
    pub fn new(from: u32, to: u32, duration: Duration) -> Self {
        Self { from, to, duration }
    }

    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// When the rate is at its highest.
    pub fn peak(&self) -> Range<Duration> {
        let start = Self::PHASES[..2].iter().map(|(_, share)| share).sum();
        self.duration.mul_f64(start)..self.duration.mul_f64(start + Self::PHASES[2].1)
    }

    /// The lowest and the highest rate, in requests a second.
    pub fn rates(&self) -> (u32, u32) {
        (self.from, self.to)
    }

    /// How many requests the whole run asks for.
    pub fn total(&self) -> u64 {
        self.requests().iter().sum::<f64>().round() as u64
    }

    /// When the request with this number (the first is 0) is due, from the start of the run.
    pub fn due(&self, number: u64) -> Duration {
        let mut number = number as f64;
        let mut start = 0.0;
        for (phase, requests) in self.requests().into_iter().enumerate() {
            let length = self.length(phase);
            if number < requests || phase == 3 {
                // The rates integrate to `requests`; solved here for the time at which they reach `number`.
                let (from, to, growth) = (f64::from(self.from), f64::from(self.to), self.growth());
                let time = match phase {
                    1 if growth > 0.0 => length / growth * (number * growth / (from * length)).ln_1p(),
                    2 => number / to,
                    _ => number / from,
                };
                return Duration::from_secs_f64(start + time.min(length));
            }
            number -= requests;
            start += length;
        }
        self.duration
    }

    /// How many requests each phase asks for.
    fn requests(&self) -> [f64; 4] {
        let (from, to, growth) = (f64::from(self.from), f64::from(self.to), self.growth());
        let climb = if growth > 0.0 { (to - from) / growth } else { from };
        let mean = [from, climb, to, from];
        std::array::from_fn(|phase| mean[phase] * self.length(phase))
    }

    fn length(&self, phase: usize) -> f64 {
        Self::PHASES[phase].1 * self.duration.as_secs_f64()
    }

    /// The climb multiplies the rate by e to this power.
    fn growth(&self) -> f64 {
        (f64::from(self.to) / f64::from(self.from)).ln()
    }
}

/// What to ask for, and over what.
#[derive(Clone, Debug)]
pub struct Load {
    pub schedule: Schedule,
    /// How many parts of the requests are of each class.
    pub mix: Mix,
    /// The part of the run that is told by class.
    pub focus: Range<Duration>,
    /// Keep-alive connections, opened before the run: one for each class at least.
    pub connections: usize,
    /// Requests that a connection may have outstanding.
    pub pipeline: usize,
    /// How long a request waits for a place on a connection before it has failed.
    pub patience: Duration,
    /// How long after the run answers are still waited for.
    pub drain: Duration,
}

/// Parts for each of [`Class::ALL`].
pub type Mix = [u32; Class::ALL.len()];

impl Load {
    /// The spike: of a hundred requests 90 are free, 9 are paid for, and one is a health check.
    pub const SPIKE: Mix = [90, 9, 1];
    /// As many of each, so that a little load tells the latency of all.
    pub const EVEN: Mix = [1, 1, 1];

    /// Runs the load against the service at `address` and blocks until it is over. `watch` is called a few
    /// times a second.
    pub fn run(&self, address: SocketAddr, watch: impl FnMut(Glimpse)) -> anyhow::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the load generator")?;
        let outcome = Rc::new(RefCell::new(Outcome::new(self.schedule.duration(), self.focus.clone())?));
        LocalSet::new().block_on(&runtime, self.drive(address, &outcome, watch))?;
        // The tasks that read answers went with their set, so nobody else has a hold of it.
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
        let connections = connections?;
        let start = Instant::now();
        let (connections, readers): (Vec<_>, Vec<_>) = connections.into_iter().unzip();
        for (connection, reader) in connections.iter().zip(readers) {
            spawn_local(read_answers(reader, Rc::clone(connection), Rc::clone(outcome), start));
        }
        let mut lanes = Class::ALL.map(|class| Lane {
            class,
            connections: connections.iter().filter(|each| each.class == class).cloned().collect(),
            turn: 0,
            waiting: VecDeque::new(),
        });

        let total = self.schedule.total();
        let end = self.schedule.duration() + self.drain;
        let mut asked = 0; // of the total
        let mut requests = Requests::new(self.mix)?;
        let mut last = Duration::ZERO;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for tick in 0_u64.. {
            ticks.tick().await;
            let now = start.elapsed();

            let mut outcome = outcome.borrow_mut();
            outcome.longest_pause = outcome.longest_pause.max(now.saturating_sub(last));
            last = now;
            while asked < total {
                let due = self.schedule.due(asked);
                if due > now {
                    break;
                }
                let request = requests.next(due);
                outcome.offer(request.class, due);
                lanes[request.class as usize].waiting.push_back(request);
                asked += 1;
            }
            for lane in &mut lanes {
                let late = |request: &Request| now.saturating_sub(request.due) > self.patience;
                while let Some(request) = lane.waiting.front().filter(|request| late(request)) {
                    outcome.fail_unsent(request.class, request.due);
                    lane.waiting.pop_front();
                }
                lane.send(self.pipeline);
            }

            let answered = || lanes.iter().all(Lane::is_quiet);
            let over = now >= end || (asked == total && answered());
            if over {
                lanes.iter().flat_map(|lane| &lane.waiting).for_each(|it| outcome.fail_unsent(it.class, it.due));
                // A generator that fell behind was asked for the rest all the same.
                for number in asked..total {
                    let Request { class, due, .. } = requests.next(self.schedule.due(number));
                    outcome.offer(class, due);
                    outcome.fail_unsent(class, due);
                }
            }
            if tick % 128 == 0 || over {
                watch(outcome.glimpse(now));
            }
            if over {
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
            connections.push((Rc::new(Connection { class, stream, line: RefCell::default() }), reader));
            if number % 64 == 0 {
                // A listener's backlog is short, and who overruns it is made to wait a second.
                sleep(TICK).await;
            }
        }
        Ok(connections)
    }

    /// The class of each connection. The classes have equally many, so that the rarer a class, the less its
    /// requests are pipelined.
    fn classes(&self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().cycle().take(self.connections)
    }
}

/// The clients of one class.
struct Lane {
    class: Class,
    connections: Vec<Rc<Connection>>,
    /// Whose turn it is among the connections.
    turn: usize,
    /// What has no place on a connection yet.
    waiting: VecDeque<Request>,
}

impl Lane {
    /// Gives what is waiting a place on the connections, each in turn.
    fn send(&mut self, pipeline: usize) {
        let share = if self.class == Class::Free { self.waiting.len().div_ceil(SPREAD) } else { 1 };
        for _ in 0..self.connections.len() {
            if self.waiting.is_empty() {
                break;
            }
            self.turn = (self.turn + 1) % self.connections.len();
            let mut line = self.connections[self.turn].line.borrow_mut();
            if line.lost {
                continue;
            }
            let room = pipeline.saturating_sub(line.outstanding.len());
            for request in self.waiting.drain(..share.min(room).min(self.waiting.len())) {
                line.outstanding.push_back(request.due);
                request.write(&mut line.unsent);
            }
        }
        self.connections.iter().for_each(|connection| connection.flush());
    }

    /// Whether nothing more is to come.
    fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.connections.iter().all(|each| each.is_quiet())
    }
}

/// A keep-alive connection to the service.
struct Connection {
    class: Class,
    stream: OwnedWriteHalf,
    line: RefCell<Line>,
}

#[derive(Default)]
struct Line {
    /// When the requests that are unanswered were due, in the order they were made.
    outstanding: VecDeque<Duration>,
    /// Bytes of requests that the socket had no room for yet.
    unsent: Vec<u8>,
    lost: bool,
}

impl Connection {
    /// Writes as much as the socket takes.
    fn flush(&self) {
        let mut line = self.line.borrow_mut();
        while !line.unsent.is_empty() && !line.lost {
            match self.stream.try_write(&line.unsent) {
                Ok(0) => line.lost = true,
                Ok(written) => drop(line.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => line.lost = true,
            }
        }
    }

    /// Whether nothing more is to come.
    fn is_quiet(&self) -> bool {
        let line = self.line.borrow();
        line.lost || line.outstanding.is_empty()
    }
}

/// Reads what comes back on a connection until it is lost. Its outstanding requests then stay unanswered.
async fn read_answers(
    mut stream: OwnedReadHalf,
    connection: Rc<Connection>,
    outcome: Rc<RefCell<Outcome>>,
    start: Instant,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    // Nothing more is read at the end, on trouble, and when an answer is longer than any of the service's.
    while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]).await {
        filled += read;
        let now = start.elapsed();
        let mut line = connection.line.borrow_mut();
        let mut outcome = outcome.borrow_mut();
        let mut used = 0;
        let understood = loop {
            match parse_answer(&buffer[used..filled]) {
                Ok(Some((status, length))) => {
                    let Some(due) = line.outstanding.pop_front() else { break false };
                    outcome.answer(connection.class, due, now, status);
                    used += length;
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if !understood {
            break;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
    connection.line.borrow_mut().lost = true;
}

/// The status and the length in bytes of the answer that `bytes` begins with, if it is all there.
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

/// What is asked for, by whom, and when it is due.
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

/// An endless line of requests: always the same one, so that all runs are asked the same.
struct Requests {
    /// What is asked for, over and over. Drawn beforehand, for the generator has little time while it runs.
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

/// What came of a load.
#[derive(Debug)]
pub struct Outcome {
    pub total: Tally,
    /// Of each class, what was due within the focus of the load. It is in the order of [`Class::ALL`].
    pub focus: [Tally; Class::ALL.len()],
    /// Latency of all answers, be they pages, refusals or errors, in microseconds.
    pub answers: Histogram<u64>,
    /// The run in [`SLICES`] equal parts, by when requests were due.
    pub slices: Vec<Slice>,
    /// The longest that the generator itself was held up between two ticks.
    pub longest_pause: Duration,
    slice_length: Duration,
    in_focus: Range<Duration>,
}

/// What came of some requests.
#[derive(Debug)]
pub struct Tally {
    /// All requests that the schedule asked for: served + shed + failed.
    pub offered: u64,
    /// Answered with what was asked for.
    pub served: u64,
    /// Answered with 503: come back later.
    pub shed: u64,
    pub failed: Failed,
    /// Latency of what was served, in microseconds.
    pub latency: Histogram<u64>,
}

/// The ways to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Failed {
    /// No connection had a place for it in time.
    pub unsent: u64,
    /// No answer when the drain ended, or its connection was lost.
    pub unanswered: u64,
    /// An answer that is neither the page nor a 503.
    pub errors: u64,
}

impl Failed {
    pub fn total(&self) -> u64 {
        self.unsent + self.unanswered + self.errors
    }
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        let latency = Histogram::new_with_bounds(1, LONGEST, 3)?;
        Ok(Self { offered: 0, served: 0, shed: 0, failed: Failed::default(), latency })
    }

    fn answer(&mut self, latency: u64, status: u16) {
        match status {
            200 => {
                self.served += 1;
                self.latency.saturating_record(latency);
            }
            503 => self.shed += 1,
            _ => self.failed.errors += 1,
        }
    }

    /// Counts what is accounted for in no other way as unanswered.
    fn settle(&mut self) {
        let accounted = self.served + self.shed + self.failed.unsent + self.failed.errors;
        self.failed.unanswered = self.offered.saturating_sub(accounted);
    }
}

/// A slice of time.
#[derive(Debug)]
pub struct Slice {
    pub offered: u64,
    pub served: u64,
    pub shed: u64,
    /// Latency of what was served, in microseconds, of each class.
    pub latency: [Histogram<u32>; Class::ALL.len()],
}

/// A glimpse of a run for whoever watches.
pub struct Glimpse {
    pub elapsed: Duration,
    pub served: u64,
    pub shed: u64,
    pub failed: u64,
}

/// The histograms reach from a microsecond to an hour; what is beyond counts as an hour.
const LONGEST: u64 = 3_600_000_000;

impl Outcome {
    /// Of a load of this duration that is told by class for what is due within `focus`.
    pub fn new(duration: Duration, focus: Range<Duration>) -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 2);
        let slice =
            || Ok(Slice { offered: 0, served: 0, shed: 0, latency: [histogram()?, histogram()?, histogram()?] });
        Ok(Self {
            total: Tally::new()?,
            focus: [Tally::new()?, Tally::new()?, Tally::new()?],
            answers: Histogram::new_with_bounds(1, LONGEST, 3)?,
            slices: (0..SLICES).map(|_| slice()).collect::<anyhow::Result<_>>()?,
            longest_pause: Duration::ZERO,
            slice_length: duration / SLICES as u32,
            in_focus: focus,
        })
    }

    fn slice(&mut self, due: Duration) -> &mut Slice {
        let slice = (due.as_secs_f64() / self.slice_length.as_secs_f64()) as usize;
        &mut self.slices[slice.min(SLICES - 1)]
    }

    /// Where a request is counted.
    fn tallies(&mut self, class: Class, due: Duration) -> impl Iterator<Item = &mut Tally> {
        let focus = self.in_focus.contains(&due).then_some(&mut self.focus[class as usize]);
        std::iter::once(&mut self.total).chain(focus)
    }

    pub fn offer(&mut self, class: Class, due: Duration) {
        self.tallies(class, due).for_each(|tally| tally.offered += 1);
        self.slice(due).offered += 1;
    }

    pub fn answer(&mut self, class: Class, due: Duration, now: Duration, status: u16) {
        let latency = now.saturating_sub(due).as_micros().try_into().unwrap_or(u64::MAX);
        self.answers.saturating_record(latency);
        self.tallies(class, due).for_each(|tally| tally.answer(latency, status));
        let slice = self.slice(due);
        match status {
            200 => {
                slice.served += 1;
                slice.latency[class as usize].saturating_record(latency);
            }
            503 => slice.shed += 1,
            _ => {}
        }
    }

    fn fail_unsent(&mut self, class: Class, due: Duration) {
        self.tallies(class, due).for_each(|tally| tally.failed.unsent += 1);
    }

    fn settle(&mut self) {
        self.total.settle();
        self.focus.iter_mut().for_each(Tally::settle);
    }

    fn glimpse(&self, elapsed: Duration) -> Glimpse {
        Glimpse { elapsed, served: self.total.served, shed: self.total.shed, failed: self.total.failed.total() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_asks_for_as_much_as_its_rates_say() {
        for (from, to, seconds) in [(2_000, 100_000, 10_u32), (100, 100, 3), (1, 3, 1), (50, 5_000, 2)] {
            let schedule = Schedule::new(from, to, Duration::from_secs(seconds.into()));
            let growth = (f64::from(to) / f64::from(from)).ln();
            let climb = if growth == 0.0 { f64::from(from) } else { f64::from(to - from) / growth };
            let mean = 0.35 * f64::from(from) + 0.40 * climb + 0.25 * f64::from(to);
            assert_eq!(schedule.total(), (mean * f64::from(seconds)).round() as u64);

            let due: Vec<_> = (0..schedule.total()).map(|number| schedule.due(number)).collect();
            assert!(due.is_sorted());
            assert_eq!(due[0], Duration::ZERO);
            assert!(due[due.len() - 1] <= schedule.duration());
        }
    }

    #[test]
    fn the_schedule_has_the_rates_it_was_given() {
        let schedule = Schedule::new(100, 6_400, Duration::from_secs(100));
        let within = |from: f64, to: f64| {
            let (from, to) = (Duration::from_secs_f64(from), Duration::from_secs_f64(to));
            (0..schedule.total()).filter(|&number| (from..to).contains(&schedule.due(number))).count() as i64
        };
        let close = |count: i64, expected: i64| {
            assert!((count - expected).abs() <= 1 + expected / 1_000, "{count} for {expected}")
        };
        close(within(10.0, 11.0), 100);
        // Half-way through the climb the rate is the geometric mean.
        close(within(34.5, 35.5), 800);
        close(within(60.0, 61.0), 6_400);
        close(within(90.0, 91.0), 100);
    }

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

    fn outcome(milliseconds: u64, focus: Range<u64>) -> anyhow::Result<Outcome> {
        let at = Duration::from_millis;
        Outcome::new(at(milliseconds), at(focus.start)..at(focus.end))
    }

    #[test]
    fn every_request_ends_up_somewhere() -> anyhow::Result<()> {
        let at = Duration::from_millis;
        let mut outcome = outcome(1_000, 0..1_000)?;
        for due in [0, 5, 5, 990, 995, 999] {
            outcome.offer(Class::Free, at(due));
        }
        outcome.answer(Class::Free, at(0), at(2), 200);
        outcome.answer(Class::Free, at(5), at(9), 503);
        outcome.answer(Class::Free, at(5), at(8), 500);
        outcome.fail_unsent(Class::Free, at(990));
        outcome.answer(Class::Free, at(995), at(1_995), 200);
        outcome.settle();
        for tally in [&outcome.total, &outcome.focus[Class::Free as usize]] {
            assert_eq!((tally.offered, tally.served, tally.shed), (6, 2, 1));
            assert_eq!(tally.failed, Failed { unsent: 1, unanswered: 1, errors: 1 });
        }
        assert_eq!((outcome.slices[0].offered, outcome.slices[99].offered), (3, 3));
        assert_eq!((outcome.slices[0].served, outcome.slices[99].served), (1, 1));
        assert_eq!((outcome.slices[0].shed, outcome.slices[99].shed), (1, 0));
        Ok(())
    }

    #[test]
    fn the_focus_is_told_by_class() -> anyhow::Result<()> {
        let at = Duration::from_millis;
        let mut outcome = outcome(1_000, 400..600)?;
        for (due, class) in [(399, Class::Free), (400, Class::Free), (599, Class::Health), (600, Class::Health)] {
            outcome.offer(class, at(due));
            outcome.answer(class, at(due), at(due + 7), 200);
        }
        outcome.settle();
        assert_eq!(outcome.total.served, 4);
        assert_eq!(Class::ALL.map(|class| outcome.focus[class as usize].offered), [1, 0, 1]);
        assert_eq!(outcome.focus[Class::Health as usize].latency.max() / 100, 70);
        Ok(())
    }

    #[test]
    fn the_peak_is_where_the_rate_is_highest() {
        let schedule = Schedule::new(1, 100, Duration::from_secs(100));
        let peak = schedule.peak();
        let millis = |duration: Duration| (duration.as_secs_f64() * 1e3).round() as u64;
        assert_eq!((millis(peak.start), millis(peak.end)), (55_000, 80_000));
    }

    #[test]
    fn percentiles_are_of_what_was_recorded() -> anyhow::Result<()> {
        let mut outcome = outcome(1_000, 0..1_000)?;
        for milliseconds in 1..=1_000 {
            outcome.answer(Class::Free, Duration::ZERO, Duration::from_millis(milliseconds), 200);
        }
        let close = |value: u64, milliseconds: u64| value.abs_diff(milliseconds * 1_000) <= milliseconds;
        let latency = &outcome.total.latency;
        assert!(close(latency.value_at_quantile(0.5), 500));
        assert!(close(latency.value_at_quantile(0.99), 990));
        assert!(close(latency.max(), 1_000));
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
        // Bound, so that nobody else takes the port, but not listening.
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse()?)?;
        let error = load(1).run(socket.local_addr()?, |_| ()).err().context("it ran")?;
        assert!(format!("{error:#}").contains("cannot connect to the service"), "{error:#}");
        Ok(())
    }
}
