//! The database behind the service: a catalogue of products and their reviews in one SQLite file.
//!
//! It is filled once, from a fixed seed, and then only read. The one query joins a product with its reviews over an index:
//! some tens of microseconds of real work, as much as a page view costs. The parts of the service decide how many
//! connections are opened and how many queries are made, which is counted here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::config::DbConfig;
use rusqlite::{OpenFlags, OptionalExtension, params};

/// Products in the catalogue; their ids run from 1 to this.
pub const PRODUCTS: u32 = 5_000;
/// Reviews in the catalogue, spread over the products at random.
pub const REVIEWS: u32 = 100_000;

/// In the header of the file, so that the file of another program is neither read nor overwritten.
const APPLICATION_ID: i32 = 0x5370_696B;

const SCHEMA: &str = "
    CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL);
    CREATE TABLE review (
        id INTEGER PRIMARY KEY,
        product INTEGER NOT NULL REFERENCES product,
        stars INTEGER NOT NULL,
        body TEXT NOT NULL
    );
";

const QUERY: &str = "
    SELECT name, price_cents, count(stars), ifnull(avg(stars), 0)
    FROM product LEFT JOIN review ON product = product.id
    WHERE product.id = ?1
    GROUP BY product.id
";

/// What a page about a product shows.
#[derive(Debug, PartialEq)]
pub struct Product {
    pub id: u32,
    pub name: String,
    pub price_cents: u32,
    pub reviews: u32,
    pub mean_stars: f64,
}

/// A database file, and counts of the connections and queries through this handle and its clones.
#[derive(Clone)]
pub struct Database {
    path: Arc<Path>,
    tally: Arc<Tally>,
}

struct Tally {
    opened: AtomicU64,
    /// By product; at 0, those for products that do not exist.
    queries: Vec<AtomicU64>,
}

impl Database {
    /// Opens the catalogue in the file at `path`, creating and filling it if there is none yet.
    pub fn prepare(path: &Path) -> anyhow::Result<Self> {
        create(path).with_context(|| {
            format!("cannot create the database {}: choose a file that can be written with --database", path.display())
        })?;
        Ok(Self::at(path))
    }

    /// The file at `path`, which has been prepared, with its counts at zero.
    pub fn at(path: &Path) -> Self {
        let queries = (0..=PRODUCTS).map(|_| AtomicU64::default()).collect();
        Self { path: path.into(), tally: Arc::new(Tally { opened: AtomicU64::default(), queries }) }
    }

    /// Opens a connection: a file handle, a page cache, and the schema, read and parsed.
    pub fn connect(&self) -> rusqlite::Result<Connection> {
        // SQLite's own mutexes are not needed: a connection is never used by two threads at once.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sqlite = rusqlite::Connection::open_with_flags(&self.path, flags)?;
        // Otherwise SQLite plans a prepared query again for each product.
        sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        self.tally.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Connection { sqlite, tally: Arc::clone(&self.tally), failed: false })
    }

    /// Returns the number of connections that were opened.
    pub fn connections_opened(&self) -> u64 {
        self.tally.opened.load(Ordering::Relaxed)
    }

    /// Returns the number of queries.
    pub fn queries(&self) -> u64 {
        self.tally.queries.iter().map(|queries| queries.load(Ordering::Relaxed)).sum()
    }

    /// Returns the number of queries for this product of the catalogue.
    pub fn queries_for(&self, id: u32) -> u64 {
        self.tally.queries[id as usize].load(Ordering::Relaxed)
    }
}

/// A connection to the database. It can move between threads but not be shared by them.
pub struct Connection {
    sqlite: rusqlite::Connection,
    tally: Arc<Tally>,
    failed: bool,
}

impl Connection {
    /// Looks a product up, with a summary of its reviews. Blocks the thread.
    pub fn product(&mut self, id: u32) -> rusqlite::Result<Option<Product>> {
        let queries = &self.tally.queries;
        queries.get(id as usize).unwrap_or(&queries[0]).fetch_add(1, Ordering::Relaxed);
        let product = self.look_up(id);
        self.failed |= product.is_err();
        product
    }

    /// Returns `true` if a query failed: another connection may succeed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    fn look_up(&self, id: u32) -> rusqlite::Result<Option<Product>> {
        self.sqlite
            .prepare_cached(QUERY)?
            .query_row([id], |row| {
                Ok(Product {
                    id,
                    name: row.get(0)?,
                    price_cents: row.get(1)?,
                    reviews: row.get(2)?,
                    mean_stars: row.get(3)?,
                })
            })
            .optional()
    }
}

fn create(path: &Path) -> anyhow::Result<()> {
    let mut sqlite = rusqlite::Connection::open(path)?;
    let application: i32 = sqlite.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if application == APPLICATION_ID {
        return Ok(()); // written last, in the same transaction as the rows: they are all there
    }
    let tables: u32 = sqlite.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 {
        bail!("it already holds something else");
    }

    // One transaction: the file is either complete or empty.
    let transaction = sqlite.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    let mut random = StdRng::seed_from_u64(1);
    {
        let mut insert = transaction.prepare("INSERT INTO product VALUES (?1, ?2, ?3)")?;
        for id in 1..=PRODUCTS {
            insert.execute(params![id, format!("product no. {id}"), random.random_range(99..100_000)])?;
        }
        let mut insert = transaction.prepare("INSERT INTO review (product, stars, body) VALUES (?1, ?2, ?3)")?;
        for number in 1..=REVIEWS {
            let body = format!("review no. {number}: does what it says, and says what it does");
            insert.execute(params![random.random_range(1..=PRODUCTS), random.random_range(1..=5), body])?;
        }
    }
    // After the rows: sorting once is faster than keeping them in order.
    transaction.execute("CREATE INDEX review_by_product ON review (product, stars)", [])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_database_answers_and_counts() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let database = Database::prepare(&directory.path().join("catalogue.sqlite"))?;
        let mut connection = database.connect()?;
        let product = connection.product(17)?.context("product 17 is missing")?;
        assert_eq!(product.name, "product no. 17");
        assert!((1.0..=5.0).contains(&product.mean_stars));
        assert_eq!(connection.product(PRODUCTS + 1)?, None);
        assert_eq!((database.connections_opened(), database.queries()), (1, 2));
        assert_eq!((database.queries_for(17), database.queries_for(PRODUCTS)), (1, 0));
        Ok(())
    }

    #[test]
    fn it_is_filled_once_and_found_again() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("catalogue.sqlite");
        let first = Database::prepare(&path)?.connect()?.product(1)?;
        assert_eq!(Database::prepare(&path)?.connect()?.product(1)?, first);
        let reviews: u32 =
            rusqlite::Connection::open(&path)?.query_row("SELECT count(*) FROM review", [], |row| row.get(0))?;
        assert_eq!(reviews, REVIEWS);
        Ok(())
    }

    #[test]
    fn a_path_that_cannot_be_written_is_an_error() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        for path in [directory.path().join("missing/catalogue.sqlite"), directory.path().to_owned()] {
            let error = Database::prepare(&path).err().context("it was created")?;
            assert!(format!("{error:#}").contains("cannot create the database"), "{error:#}");
        }
        Ok(())
    }

    #[test]
    fn a_file_of_another_program_is_left_alone() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("other");
        std::fs::write(&path, "not a database, but dear to its owner")?;
        assert!(Database::prepare(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path)?, "not a database, but dear to its owner");

        let path = directory.path().join("other.sqlite");
        rusqlite::Connection::open(&path)?.execute("CREATE TABLE dear (id INTEGER)", [])?;
        let error = Database::prepare(&path).err().context("it was taken")?;
        assert!(format!("{error:#}").contains("something else"), "{error:#}");
        Ok(())
    }
}
