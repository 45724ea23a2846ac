//! A service that survives a spike.
//!
//! An HTTP service on this machine, over a real SQLite database, meets a load that climbs from 2,000 to
//! 100,000 requests a second and falls back. It meets it twice: first bare, then with a `Semaphore` that admits, a
//! `PriorityQueue` that puts the urgent first, a `Pool` that lends connections, a `Mutex` that keeps the books and an
//! `LruCache` that remembers what everybody wants; or with any of these, to see what each is good for. The command
//! prints the runs side by side and draws how they went.
//!
//! The files, in the order to read them: [`service`] is what a program with stanchion looks like, [`parts`] are what
//! can be left out of it, [`http`] brings it requests, [`database`] is what it protects, [`load`] asks, [`report`] and
//! [`chart`] tell.

mod chart;
mod database;
mod http;
mod load;
mod parts;
mod report;
mod service;

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{CommandFactory, Parser, error::ErrorKind as UsageError, value_parser};
use indicatif::{ProgressBar, ProgressStyle};

use crate::database::Database;
use crate::http::{Running, half_of_the_cores};
use crate::load::{Glimpse, HOTTEST, Load, Schedule};
use crate::parts::{Part, Parts};
use crate::report::Run;
use crate::service::{Service, Sizes};

/// An HTTP service over SQLite that meets a spike of load: bare, and with stanchion's five primitives, or with some.
///
/// The rate stays at --from-rate for 15 % of the run, climbs to --to-rate by a constant factor per second for
/// 40 %, stays there for 25 %, and is back at --from-rate for the last 20 %. Requests are sent when they are
/// due, whether or not earlier ones were answered, and latency counts from when they were due.
///
/// Of a hundred requests 90 are from free customers, 9 from paying ones, and one is a health check; the header
/// x-class says which. All ask for the same, over connections of their own, and with the queue the health
/// checks go first and the free customers last. What the three feel at the peak is compared with what they feel
/// without load: in a run before, at --from-rate for 40 % of --seconds, with as many of each, the first quarter
/// of it not counted.
///
/// Each part of the service does one job, and can be left out:
///
/// - semaphore: admits so many threads at once. Else each request has one.
///
/// - queue: the line for that, the urgent first; a full one turns the least urgent away. Else first come, first served.
///
/// - pool: lends connections to the database. Else each look-up opens one.
///
/// - mutex: keeps the books that all threads write in. Else the standard library's does.
///
/// - cache: remembers products, and of those who ask for the same one has one ask the database. Else all ask.
///
/// Exits with 0 when the runs are over, 1 on trouble and 2 on flags that make no sense.
#[derive(Debug, Parser)]
#[command(name = "spike", max_term_width = 100)]
struct Args {
    /// Rate before and after the spike, in requests a second
    #[arg(long, value_name = "RATE", default_value_t = 2_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    from_rate: u32,
    /// Rate at the peak, in requests a second
    #[arg(long, value_name = "RATE", default_value_t = 100_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    to_rate: u32,
    /// Length of each run, in seconds
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Keep-alive connections that carry the load, a third of them for each class
    #[arg(long, value_name = "COUNT", default_value_t = 384, value_parser = value_parser!(u32).range(3..=10_000))]
    connections: u32,
    /// Requests that a connection may have outstanding at once (1: none are pipelined)
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = value_parser!(u32).range(1..=1_000))]
    pipeline: u32,
    /// How long a request waits for a place on a connection before it has failed, in milliseconds
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=60_000))]
    patience: u32,
    /// How long answers are still waited for after the run, in seconds at most
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = value_parser!(u32).range(0..=60))]
    drain: u32,
    /// Port on 127.0.0.1 for the service (0: any free one)
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Database file, created and filled if there is none [default: one in a temporary directory]
    #[arg(long, value_name = "PATH")]
    database: Option<PathBuf>,
    /// With the semaphore: threads that serve at once; with the pool: its connections [default: half of the cores]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=1_000))]
    permits: Option<u32>,
    /// With the queue: requests that wait before the least urgent are shed (connections up to this and --permits
    /// together can never make the line that long)
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = value_parser!(u32).range(1..=1_000_000))]
    max_waiting: u32,
    /// With the cache: products that are remembered, of the 5,000 that there are (0: none, but who asks while somebody
    /// else does waits for that answer all the same)
    #[arg(long, value_name = "COUNT", default_value_t = 2_500, value_parser = value_parser!(u32).range(0..=1_000_000))]
    cache: u32,
    /// One run with only these parts on, of semaphore, queue, pool, mutex, cache, with commas between them, or none.
    /// Given again: one more run, beside the others [default: two runs, with none and with all]
    #[arg(long, value_name = "PARTS")]
    only: Vec<Parts>,
    /// Six runs: bare, and then each time with one part more, in the order above, to see what each is good for
    #[arg(long, conflicts_with = "only")]
    ladder: bool,
    /// File for the chart: each run side by side
    #[arg(long, value_name = "PATH", default_value = "spike.svg")]
    svg: PathBuf,
    /// Print the numbers as JSON instead of tables
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = args.check() {
        error.exit();
    }
    match spike(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spike: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    /// What the flags must satisfy together.
    fn check(&self) -> Result<(), clap::Error> {
        if self.from_rate > self.to_rate {
            let message =
                format!("--from-rate {} is above --to-rate {}: the rate can only climb", self.from_rate, self.to_rate);
            return Err(Self::command().error(UsageError::ValueValidation, message));
        }
        Ok(())
    }

    /// The spike.
    fn load(&self) -> Load {
        let schedule = Schedule::new(self.from_rate, self.to_rate, Duration::from_secs(self.seconds.into()));
        Load {
            schedule,
            mix: Load::SPIKE,
            focus: schedule.peak(),
            connections: self.connections as usize,
            pipeline: self.pipeline as usize,
            patience: Duration::from_millis(self.patience.into()),
            drain: Duration::from_secs(self.drain.into()),
        }
    }

    /// What the spike is compared with.
    fn unloaded(&self) -> Load {
        let duration = Duration::from_secs(self.seconds.into()).mul_f64(0.4);
        let schedule = Schedule::new(self.from_rate, self.from_rate, duration);
        Load { schedule, mix: Load::EVEN, focus: duration / 4..duration, ..self.load() }
    }

    /// What the runs are called, and what the service is made of in each.
    fn runs(&self) -> Vec<(String, Parts)> {
        let named = |parts: &Parts| (parts.to_string(), *parts);
        if self.ladder {
            let mut parts = Parts::NONE;
            let rung = |part: Part| {
                parts = parts.with(part);
                (format!("+ {}", part.name()), parts)
            };
            return std::iter::once(named(&Parts::NONE)).chain(Part::LADDER.map(rung)).collect();
        }
        let runs = if self.only.is_empty() { &[Parts::NONE, Parts::ALL][..] } else { &self.only };
        runs.iter().map(named).collect()
    }

    fn sizes(&self) -> Sizes {
        let [max_waiting, remembered] = [self.max_waiting, self.cache].map(|size| size as usize);
        Sizes { permits: self.permits(), max_waiting, remembered }
    }

    fn permits(&self) -> usize {
        self.permits.map_or_else(half_of_the_cores, |permits| permits as usize)
    }
}

fn spike(args: &Args) -> anyhow::Result<()> {
    // Whatever can be wrong is found out before the load begins.
    allow_open_files(args)?;
    let listener = listen(args.port)?;
    let svg = std::fs::OpenOptions::new().append(true).create(true).open(&args.svg);
    svg.with_context(|| format!("cannot write the chart to {}: choose another file with --svg", args.svg.display()))?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let path = args.database.clone().unwrap_or_else(|| directory.path().join("spike.sqlite"));
    Database::prepare(&path)?;

    let load = args.load();
    let mut runs = Vec::new();
    for (name, parts) in args.runs() {
        // Each load meets a service of its own, so that neither inherits anything from the other.
        let meet = |what, load: &Load| {
            let database = Database::at(&path);
            let service = Arc::new(Service::new(&database, parts, args.sizes()));
            let _running = Running::start(listener.try_clone()?, Arc::clone(&service))?;
            let bar = progress_bar(format!("{name}, {what}"), load);
            let outcome = load.run(listener.local_addr()?, |glimpse| show(&bar, &glimpse))?;
            bar.finish();
            anyhow::Ok((outcome, service, database))
        };
        let (unloaded, ..) = meet("unloaded", &args.unloaded())?;
        let (outcome, service, database) = meet("spike", &load)?;
        runs.push(Run {
            name,
            parts,
            unloaded,
            outcome,
            connections_opened: database.connections_opened(),
            counts: service.counts(),
            hit_ratio: service.hit_ratio(),
            queries: database.queries(),
            queries_for_hottest: database.queries_for(HOTTEST),
        });
    }

    let text = if args.json { format!("{:#}\n", report::json(&load, &runs)) } else { report::tables(&load, &runs) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error).context("cannot print the report"),
        _ => {}
    }
    chart::write(&args.svg, &load, &runs)?;
    eprintln!("chart: {}", args.svg.display());
    Ok(())
}

fn listen(port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            anyhow!("port {port} is taken: choose another with --port, or 0 for any free one")
        }
        ErrorKind::PermissionDenied => {
            anyhow!("port {port} is not for everybody: choose one above 1023 with --port, or 0 for any free one")
        }
        _ => anyhow!("cannot listen on port {port}: {error}"),
    })
}

/// Both ends of every connection are in this process, and the bare service opens the database for each
/// request it has in hand: more than many systems allow a process unless it asks.
#[cfg(unix)]
fn allow_open_files(args: &Args) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let in_hand = args.connections.min(BLOCKING_THREADS) as usize + args.permits();
    let needed = 2 * (u64::from(args.connections) + in_hand as u64) + 64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < needed) {
        bail!(
            "{} connections need about {needed} open files and {} are allowed: use fewer --connections, or raise `ulimit -n`",
            args.connections,
            maximum.unwrap_or_default(),
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .context("cannot raise the limit of open files")
}

#[cfg(not(unix))]
fn allow_open_files(_: &Args) -> anyhow::Result<()> {
    Ok(())
}

/// Tokio's default for each of the service's two runtimes.
#[cfg(unix)]
const BLOCKING_THREADS: u32 = 2 * 512;

/// On standard error, and only if that is a terminal.
fn progress_bar(name: String, load: &Load) -> ProgressBar {
    let length = load.schedule.duration().as_millis() as u64;
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {prefix}: {msg}") {
        bar.set_style(style);
    }
    bar.with_prefix(name)
}

fn show(bar: &ProgressBar, glimpse: &Glimpse) {
    bar.set_position(glimpse.elapsed.as_millis() as u64);
    bar.set_message(format!(
        "{:.1} s  served {}  shed {}  failed {}",
        glimpse.elapsed.as_secs_f64(),
        glimpse.served,
        glimpse.shed,
        glimpse.failed
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
        let args = Args::try_parse_from([&["spike"], flags].concat())?;
        args.check()?;
        Ok(args)
    }

    #[test]
    fn the_flags_are_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn good_flags_are_taken() -> anyhow::Result<()> {
        let args = parse(&["--seconds", "1", "--from-rate", "10", "--to-rate", "20"])?;
        assert_eq!(args.load().schedule.rates(), (10, 20));
        assert_eq!(args.unloaded().schedule.rates(), (10, 10));
        assert!(args.permits() >= 1);
        assert_eq!(parse(&["--permits", "3"])?.permits(), 3);
        Ok(())
    }

    #[test]
    fn without_flags_the_runs_are_two_and_else_as_many_as_are_asked_for() -> anyhow::Result<()> {
        let runs = |flags: &[&str]| anyhow::Ok(parse(flags)?.runs());
        let run = |name: &str, parts| (name.to_owned(), parts);
        assert_eq!(runs(&[])?, [run("bare", Parts::NONE), run("full", Parts::ALL)]);
        assert_eq!(runs(&["--only", "none"])?, [run("bare", Parts::NONE)]);
        let pool = Parts::NONE.with(Part::Pool);
        assert_eq!(
            runs(&["--only", "pool", "--only", "semaphore,pool"])?,
            [run("pool", pool), run("semaphore, pool", pool.with(Part::Semaphore))]
        );
        Ok(())
    }

    #[test]
    fn each_rung_of_the_ladder_has_one_part_more() -> anyhow::Result<()> {
        let runs = parse(&["--ladder"])?.runs();
        let (names, parts): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
        assert_eq!(names, ["bare", "+ semaphore", "+ queue", "+ pool", "+ mutex", "+ cache"]);
        assert_eq!((parts[0], parts[5]), (Parts::NONE, Parts::ALL));
        for (number, parts) in parts.windows(2).enumerate() {
            assert_eq!(parts[1], parts[0].with(Part::LADDER[number]));
            assert_ne!(parts[1], parts[0]);
        }
        Ok(())
    }

    #[test]
    fn bad_flags_are_refused_as_usage_errors() {
        for flags in [
            &["--from-rate", "10", "--to-rate", "9"][..],
            &["--from-rate", "0"],
            &["--connections", "2"],
            &["--pipeline", "0"],
            &["--permits", "0"],
            &["--max-waiting", "0"],
            &["--cache", "-1"],
            &["--seconds", "0"],
            &["--seconds", "soon"],
            &["--port", "65536"],
            &["--only", ""],
            &["--only", "neither"],
            &["--only", "none,pool"],
            &["--only", "none", "--ladder"],
            &["--nonsense"],
        ] {
            match parse(flags) {
                Err(error) => assert_eq!(error.exit_code(), 2, "{flags:?}: {error}"),
                Ok(args) => panic!("{flags:?} was taken: {args:?}"),
            }
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named() -> anyhow::Result<()> {
        let taken = listen(0)?;
        let port = taken.local_addr()?.port();
        let error = listen(port).err().context("it was free")?.to_string();
        assert_eq!(error, format!("port {port} is taken: choose another with --port, or 0 for any free one"));
        Ok(())
    }
}
