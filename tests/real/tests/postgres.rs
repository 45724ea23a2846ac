//! A pool of connections to a real PostgreSQL server, which is stopped and started again under load.
//!
//! The server has a folder of its own and listens on a socket there. Where its programs are not installed, the test says
//! so and passes.

#![cfg(target_os = "linux")]

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use stanchion::{GetError, Manager, Metrics, Pool};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

const LIMIT: usize = 6;
const TASKS: u32 = 48;
/// Far more than anything here takes: a test that hangs must fail.
const HANG: Duration = Duration::from_secs(120);

/// A server with an empty database, in a folder that is removed at the end.
struct Server {
    programs: PathBuf,
    folder: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// Creates the database. Returns `None` if PostgreSQL is not installed where Debian has it.
    fn create() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let programs = versions.map(|version| version.unwrap().path().join("bin"));
        let programs = programs.filter(|programs| programs.join("initdb").exists()).max()?;
        // The path of a socket must be short.
        let folder = std::env::temp_dir().join(format!("stanchion-postgres-{}", std::process::id()));
        let server = Self { programs, folder, process: None };
        let mut initdb = server.command("initdb");
        let output = initdb.args(["--username=admin", "--auth=trust", "--no-locale", "--no-sync"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(server)
    }

    /// Returns a command that runs one of the server's programs: not as root, which they refuse, and no longer than the
    /// thread of the test.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=QUIT");
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command.arg(self.programs.join(program)).env("PGDATA", &self.folder).current_dir("/");
        command
    }

    fn start(&mut self) {
        let log = File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/postgres.log")).unwrap();
        // Without TCP, and without waiting for the disk.
        let mut command = self.command("postgres");
        command.args(["-h", "", "-F", "-k"]).arg(&self.folder).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// Stops the server in a mode of `pg_ctl`: `immediate` is a crash, `fast` tells the clients.
    fn stop(&mut self, mode: &str) {
        let Some(mut process) = self.process.take() else { return };
        let stopped = self.command("pg_ctl").args(["stop", "--silent", "--mode", mode]).status();
        assert!(stopped.unwrap().success());
        process.wait().unwrap();
    }

    fn config(&self, user: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.folder).user(user).dbname("postgres");
        config
    }

    /// Connects as soon as the server accepts connections.
    async fn admin(&self) -> Client {
        loop {
            if let Ok((admin, connection)) = self.config("admin").connect(NoTls).await {
                tokio::spawn(connection);
                return admin;
            }
            // A server that starts sends no event.
            sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("immediate");
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Counts the server's processes for connections of the pool.
async fn backends(admin: &Client) -> usize {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'client'";
    admin.query_one(query, &[]).await.unwrap().get::<_, i64>(0) as usize
}

struct Postgres(Config);

impl Manager for Postgres {
    type Object = Client;
    type Error = Box<dyn Error + Send + Sync>;

    async fn create(&self) -> Result<Client, Self::Error> {
        let connected = timeout(HANG, self.0.connect(NoTls)).await?;
        let (client, connection) = connected.inspect_err(|error| {
            // The server counts more exactly than any query of a test.
            assert_ne!(error.code(), Some(&SqlState::TOO_MANY_CONNECTIONS), "more than {LIMIT} connections");
        })?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A query that was given up does not break its connection: this one waits for its end.
    async fn recycle(&self, client: &mut Client, _: &Metrics) -> Result<(), Self::Error> {
        timeout(HANG, client.simple_query("SELECT 1")).await??;
        Ok(())
    }

    fn is_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}

/// Calls of the tasks, by how they ended.
#[derive(Default)]
struct Load {
    served: watch::Sender<usize>,
    failed: watch::Sender<usize>,
    given_up: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    /// Calls again and again, and returns the number of calls that were served.
    async fn call(self: Arc<Self>, pool: Arc<Pool<Postgres>>, patience: Duration) -> usize {
        let mut served = 0;
        while !self.is_over.load(Relaxed) {
            match timeout(patience, query(&pool)).await {
                Ok(true) => {
                    served += 1;
                    self.served.send_modify(|calls| *calls += 1);
                }
                Ok(false) => {
                    self.failed.send_modify(|calls| *calls += 1);
                    // Nothing waits for this: a caller whose call failed does not call again at once.
                    sleep(Duration::from_millis(2)).await;
                }
                Err(_) => drop(self.given_up.fetch_add(1, Relaxed)),
            }
        }
        served
    }
}

/// Returns `true` if the query was answered.
async fn query(pool: &Pool<Postgres>) -> bool {
    match pool.get().await {
        Ok(client) => client.simple_query("SELECT pg_sleep(0.002)").await.is_ok(),
        Err(GetError::Create(_)) => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// Waits for so many more calls.
async fn more(calls: &watch::Sender<usize>, count: usize) {
    let goal = *calls.borrow() + count;
    let mut calls = calls.subscribe();
    timeout(HANG, calls.wait_for(|&calls| calls >= goal)).await.expect("the load makes progress").unwrap();
}

/// From 3 ms to 2 s, each longer than the one before by the same factor.
fn patience(task: u32) -> Duration {
    Duration::from_millis(3).mul_f64((2_000_f64 / 3.0).powf(f64::from(task) / f64::from(TASKS - 1)))
}

#[test]
fn a_pool_outlives_restarts_of_its_server() {
    let Some(server) = Server::create() else {
        eprintln!("SKIPPED: PostgreSQL is not installed; on Debian: apt-get install postgresql");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(restarts(server));
}

async fn restarts(mut server: Server) {
    server.start();
    let mut admin = server.admin().await;
    admin.batch_execute(&format!("CREATE ROLE client LOGIN CONNECTION LIMIT {LIMIT}")).await.unwrap();
    let pool = Arc::new(Pool::builder(Postgres(server.config("client"))).max_size(LIMIT).min_idle(2).build());
    let maintenance = tokio::spawn(Pool::maintenance(&pool, sleep));
    let load = Arc::new(Load::default());
    let tasks = (0..TASKS).map(|task| tokio::spawn(load.clone().call(pool.clone(), patience(task)))).collect();

    more(&load.served, 500).await;
    for mode in ["immediate", "fast"] {
        assert!(backends(&admin).await <= LIMIT);
        server.stop(mode);
        more(&load.failed, 500).await;
        server.start();
        let start = Instant::now();
        admin = server.admin().await;
        let failed = *load.failed.borrow();
        more(&load.served, 1).await;
        println!("{mode}: calls are served {} ms after the start", start.elapsed().as_millis());
        more(&load.served, 500).await;
        // Once the server accepts connections, only what was begun before that fails.
        assert!(*load.failed.borrow() - failed <= LIMIT);
    }
    all_is_accounted_for(&admin, &pool, &load, tasks).await;
    maintenance.await.unwrap();
}

/// Ends the load and closes the pool.
async fn all_is_accounted_for(admin: &Client, pool: &Pool<Postgres>, load: &Load, tasks: Vec<JoinHandle<usize>>) {
    load.is_over.store(true, Relaxed);
    for (number, task) in (0..).zip(tasks) {
        let served = task.await.unwrap();
        assert!(served > 0 || patience(number) < Duration::from_secs(1), "task {number} is never served");
    }
    let mut clients = Vec::new();
    for _ in 0..LIMIT {
        clients.push(pool.get().await.unwrap());
    }
    let (status, stats) = (pool.status(), pool.stats());
    assert_eq!((status.in_use, status.size, status.waiting), (LIMIT, LIMIT, 0), "{status:?}");
    assert_eq!(backends(admin).await, LIMIT);
    let calls = *load.served.borrow() + *load.failed.borrow() + load.given_up.load(Relaxed);
    assert_eq!(stats.gets as usize, calls + LIMIT, "{stats:?}");
    assert_eq!(stats.created - stats.recycle_failures - stats.discarded, LIMIT as u64, "{stats:?}");
    drop(clients);
    pool.close();
    timeout(HANG, pool.closed()).await.expect("all connections are returned");
    while backends(admin).await > 0 {}
}
