//! A service that survives a spike.
//!
//! An HTTP service over a real SQLite database meets a load that climbs from 2,000 to 100,000 requests a second and falls
//! back: *without* semaphore, queue, pool, cache, and *with* stanchion's five primitives; or with some of them, or on other
//! crates. The command says in three sentences what came of it, prints tables, and draws a chart.
//!
//! The files, in the order to read them: [`service`] is the service with stanchion, [`parts`] can be left out of it,
//! [`peers`] is the same service on other crates, [`request`] is what both share; [`http`] and [`database`] are around
//! them; [`load`], [`schedule`] and [`outcome`] measure, [`report`] and [`chart`] show.

mod chart;
mod database;
mod http;
mod load;
mod outcome;
mod parts;
mod peers;
mod report;
mod request;
mod schedule;
mod service;

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{CommandFactory, Parser, error::ErrorKind as UsageError, value_parser};
use indicatif::{ProgressBar, ProgressStyle};

use crate::database::Database;
use crate::http::{Running, half_of_the_cores};
use crate::load::{HOTTEST, Load};
use crate::outcome::{Glimpse, Outcome};
use crate::parts::{Part, Parts};
use crate::peers::Peers;
use crate::report::Run;
use crate::request::{Service, Sizes};
use crate::schedule::Schedule;
use crate::service::With;

/// An HTTP service over SQLite that meets a spike of load: without stanchion's five primitives, and with them.
///
/// The rate stays at --from-rate for 15 % of the run, climbs to --to-rate by a constant factor per second for 40 %, stays
/// there for 25 %, and is back at --from-rate for the last 20 %. Requests are sent when they are due, whether or not
/// earlier ones were answered, and latency counts from when they were due.
///
/// Of a hundred requests 90 are from free customers, 9 from paying ones, and one is a health check; the header x-class
/// says which. Each class has connections of its own, and in the queue health checks go first and free customers last.
/// The latency of each class at the peak is compared with its latency without load: in a run before, at --from-rate for
/// 40 % of --seconds, with as many of each class. Its first quarter is not counted.
///
/// Each part of the service does one job, and can be left out:
///
/// - semaphore: admits so many threads at a time. Without it each request has one.
///
/// - queue: orders the requests that wait, urgent ones first; a full one sheds the least urgent. Without it: first come,
///   first served.
///
/// - pool: lends connections to the database. Without it each query opens one.
///
/// - mutex: guards the counts that all threads write. Without it the standard library's does.
///
/// - cache: remembers products, and of the requests for the same one lets one ask the database. Without it all ask.
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
    /// Time after which a request without a place on a connection has failed, in milliseconds
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=60_000))]
    patience: u32,
    /// Longest time after the run for which answers are read, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = value_parser!(u32).range(0..=60))]
    drain: u32,
    /// Port on 127.0.0.1 for the service (0: any free one)
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Database file, created and filled if there is none [default: one in a temporary directory]
    #[arg(long, value_name = "PATH")]
    database: Option<PathBuf>,
    /// With the semaphore: threads that serve at a time; with the pool: its connections [default: half of the cores]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=1_000))]
    permits: Option<u32>,
    /// With the queue: requests that wait before the least urgent are shed
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = value_parser!(u32).range(1..=1_000_000))]
    max_waiting: u32,
    /// With the cache: products that are remembered, of 5,000 (0: none, but requests at the same time share a query)
    #[arg(long, value_name = "COUNT", default_value_t = 2_500, value_parser = value_parser!(u32).range(0..=1_000_000))]
    cache: u32,
    /// One run with only these parts on, of semaphore, queue, pool, mutex, cache, with commas between them, or none.
    /// Given again: one more run, beside the others [default: two runs, with none and with all]
    #[arg(long, value_name = "PARTS")]
    only: Vec<Parts>,
    /// Six runs: without parts, and then each time with one part more, in the order above
    #[arg(long, conflicts_with = "only")]
    ladder: bool,
    /// One more run: the same service on tokio's Semaphore and Mutex, async-priority-channel, deadpool and moka
    #[arg(long)]
    peers: bool,
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
    /// Checks what the flags must satisfy together.
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

    /// The load that the spike is compared with.
    fn unloaded(&self) -> Load {
        let duration = Duration::from_secs(self.seconds.into()).mul_f64(0.4);
        let schedule = Schedule::new(self.from_rate, self.from_rate, duration);
        Load { schedule, mix: Load::EVEN, focus: duration / 4..duration, ..self.load() }
    }

    /// The names of the runs with stanchion, and the parts of each.
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
    // All that can be wrong is found before the load begins.
    allow_open_files(args)?;
    let svg = std::fs::OpenOptions::new().append(true).create(true).open(&args.svg);
    svg.with_context(|| format!("cannot write the chart to {}: choose another file with --svg", args.svg.display()))?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let path = args.database.clone().unwrap_or_else(|| directory.path().join("spike.sqlite"));
    let stage = Stage { args, listener: listen(args.port)?, path: &path };
    Database::prepare(&path)?;

    let (load, sizes) = (args.load(), args.sizes());
    let mut runs = Vec::new();
    for (name, parts) in args.runs() {
        runs.push(stage.run(name, parts.names(), |database| Ok(With::new(database, parts, sizes)))?);
    }
    if args.peers {
        runs.push(stage.run("peers".into(), Peers::PARTS.into(), |database| Peers::new(database, sizes))?);
    }

    let text = if args.json { format!("{:#}\n", report::json(&load, &runs)) } else { report::text(&load, &runs) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error).context("cannot print the report"),
        _ => {}
    }
    chart::write(&args.svg, &load, &runs)?;
    eprintln!("chart: {}", args.svg.display());
    Ok(())
}

/// What all runs have in common.
struct Stage<'a> {
    args: &'a Args,
    listener: TcpListener,
    /// The database file.
    path: &'a Path,
}

impl Stage<'_> {
    /// Puts a service under both loads. Each meets a new one, so that it inherits nothing from the other.
    fn run<S: Service>(
        &self,
        name: String,
        parts: Vec<&'static str>,
        build: impl Fn(&Database) -> anyhow::Result<S>,
    ) -> anyhow::Result<Run> {
        let database = Database::at(self.path);
        let (unloaded, _) = self.meet(build(&database)?, &self.args.unloaded(), format!("{name}, unloaded"))?;
        let database = Database::at(self.path);
        let (outcome, service) = self.meet(build(&database)?, &self.args.load(), format!("{name}, spike"))?;
        Ok(Run {
            name,
            parts,
            unloaded,
            outcome,
            connections_opened: database.connections_opened(),
            counts: service.counts(),
            hit_ratio: service.hit_ratio(),
            queries: database.queries(),
            queries_for_hottest: database.queries_for(HOTTEST),
        })
    }

    fn meet<S: Service>(&self, service: S, load: &Load, title: String) -> anyhow::Result<(Outcome, Arc<S>)> {
        let service = Arc::new(service);
        let _running = Running::start(self.listener.try_clone()?, Arc::clone(&service))?;
        let bar = progress_bar(title, load);
        let outcome = load.run(self.listener.local_addr()?, |glimpse| show(&bar, &glimpse))?;
        bar.finish();
        Ok((outcome, service))
    }
}

fn listen(port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            anyhow!("port {port} is taken: choose another with --port, or 0 for any free one")
        }
        ErrorKind::PermissionDenied => {
            anyhow!("port {port} is reserved: choose one above 1023 with --port, or 0 for any free one")
        }
        _ => anyhow!("cannot listen on port {port}: {error}"),
    })
}

/// Both ends of every connection are in this process, and the service without a pool opens the database for each request
/// that it serves: more files than many systems allow a process unless it asks.
#[cfg(unix)]
fn allow_open_files(args: &Args) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let serving = args.connections.min(BLOCKING_THREADS) as usize + args.permits();
    let needed = 2 * (u64::from(args.connections) + serving as u64) + 64;
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
    fn by_default_the_runs_are_two() -> anyhow::Result<()> {
        let runs = |flags: &[&str]| anyhow::Ok(parse(flags)?.runs());
        let run = |name: &str, parts| (name.to_owned(), parts);
        assert_eq!(runs(&[])?, [run("without", Parts::NONE), run("with", Parts::ALL)]);
        assert_eq!(runs(&["--only", "none"])?, [run("without", Parts::NONE)]);
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
        assert_eq!(names, ["without", "+ semaphore", "+ queue", "+ pool", "+ mutex", "+ cache"]);
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
