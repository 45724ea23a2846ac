//! How often a cache would have hit: `cargo run --release -p trace -- FILE --capacity N`.
//!
//! Replays a trace of requests through an [`LruCache`]: looks each key up, and puts it in where it is missing.
//! The trace is read as a stream, so it may be longer than memory.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::hash::Hash;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use stanchion::{LruCache, Stats};

/// Replays a trace of requests through an LRU cache and prints how often it hit.
///
/// Empty lines are skipped in either format. Exits with 0 when the trace is over, 1 on trouble (a line that the
/// format does not allow is named) and 2 on flags that make no sense.
#[derive(Debug, Parser)]
#[command(name = "trace")]
struct Args {
    /// The trace, or - for standard input
    file: PathBuf,
    /// How many keys the cache remembers
    #[arg(long, value_name = "COUNT")]
    capacity: usize,
    /// What a line of the trace is (never guessed: an ARC trace read as keys is a trace too, of other keys)
    #[arg(long, default_value = "keys")]
    format: Format,
    /// Parts of the cache, each in order of its own (1: one order for all; never more than --capacity)
    #[arg(long, value_name = "COUNT", default_value = "1")]
    shards: NonZeroUsize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A key: all bytes up to the end of the line
    Keys,
    /// Four whole numbers, `start count ignored id`: requests for the blocks start .. start + count
    Arc,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let printed = replay_file(&args).and_then(|stats| match io::stdout().write_all(report(&stats).as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot print the report: {error}")),
        _ => Ok(()),
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trace: {error}");
            ExitCode::FAILURE
        }
    }
}

fn replay_file(args: &Args) -> Result<Stats, String> {
    let name = args.file.display();
    if args.file.as_os_str() == OsStr::new("-") {
        let bar = progress_bar(None);
        return replay(args, bar.wrap_read(io::stdin().lock())).map_err(|error| format!("standard input: {error}"));
    }
    let (file, length) = open(&args.file).map_err(|error| format!("cannot open {name}: {error}"))?;
    replay(args, progress_bar(length).wrap_read(file)).map_err(|error| format!("{name}: {error}"))
}

/// The file and its length in bytes, which a pipe does not have.
fn open(path: &Path) -> io::Result<(File, Option<u64>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata.is_file().then_some(metadata.len())))
}

/// On standard error, and only if that is a terminal. It is gone when it is dropped.
fn progress_bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{bar:40} {bytes} of {total_bytes}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn replay(args: &Args, trace: impl Read) -> Result<Stats, String> {
    match args.format {
        Format::Keys => {
            let cache: LruCache<Vec<u8>, ()> = cache(args);
            each_line(trace, |line| {
                if !line.is_empty() {
                    request(&cache, line);
                }
                Ok(())
            })?;
            Ok(cache.stats())
        }
        Format::Arc => {
            let cache: LruCache<u64, ()> = cache(args);
            each_line(trace, |line| {
                if !line.trim_ascii().is_empty() {
                    let (start, end) = parse_blocks(line)?;
                    (start..end).for_each(|block| request(&cache, &block));
                }
                Ok(())
            })?;
            Ok(cache.stats())
        }
    }
}

fn cache<K: Hash + Eq>(args: &Args) -> LruCache<K, ()> {
    LruCache::<K, ()>::builder(args.capacity).shards(args.shards.get()).build()
}

/// Makes a key of what was asked for only where it was missing.
fn request<K, Q>(cache: &LruCache<K, ()>, key: &Q)
where
    K: Hash + Eq + Borrow<Q>,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    if cache.get(key).is_none() {
        cache.insert(key.to_owned(), ());
    }
}

/// The longest line in bytes. What has longer ones is no trace but, say, a picture.
const LONGEST: usize = 64 * 1024;

/// Calls `each` with the lines of `trace`, which end with a line feed or with a carriage return and a line feed; an
/// error is told with the line it is about.
fn each_line(trace: impl Read, mut each: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    let mut trace = BufReader::with_capacity(LONGEST, trace);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let about = |line: &[u8], error| format!("line {number}: {}: {error}", quoted(line));
        let read = (&mut trace).take(LONGEST as u64 + 2).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("cannot read line {number}: {error}"))? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").map_or(&line[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
        if text.len() > LONGEST {
            return Err(about(text, format!("expected at most {LONGEST} bytes")));
        }
        each(text).map_err(|error| about(text, error))?;
    }
    Ok(())
}

/// The beginning of a line, with nothing in it that a terminal would obey.
fn quoted(line: &[u8]) -> String {
    const SHOWN: usize = 60;
    let (text, more) = if line.len() > SHOWN { (&line[..SHOWN], "...") } else { (line, "") };
    format!("{:?}{more}", String::from_utf8_lossy(text))
}

/// The first block that a line of an ARC trace asks for, and the one behind the last.
fn parse_blocks(line: &[u8]) -> Result<(u64, u64), String> {
    // Wide enough for whatever stands where it is ignored.
    let mut numbers = std::str::from_utf8(line).unwrap_or_default().split_ascii_whitespace().map(str::parse::<i128>);
    let five = std::array::from_fn(|_| numbers.next());
    let [Some(Ok(start)), Some(Ok(count)), Some(Ok(_)), Some(Ok(_)), None] = five else {
        return Err("expected four whole numbers: start count ignored id".into());
    };
    let block = |number: i128| u64::try_from(number).ok();
    let ends = block(start).zip(block(count)).and_then(|(start, count)| Some((start, start.checked_add(count)?)));
    ends.ok_or_else(|| format!("expected start, count and start + count to be from 0 to {}", u64::MAX))
}

fn report(stats: &Stats) -> String {
    let Stats { hits, misses, evictions, .. } = stats;
    let requests = hits + misses;
    let ratio = if requests == 0 { "-".into() } else { format!("{:.2} %", 100.0 * *hits as f64 / requests as f64) };
    let mut text = String::new();
    for (name, count) in [("requests", requests), ("hits", *hits), ("misses", *misses), ("evictions", *evictions)] {
        let _ = writeln!(text, "{name:9} {count:>12}");
    }
    let _ = writeln!(text, "hit ratio {ratio:>12}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind as UsageError;

    fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["trace"], flags].concat())
    }

    /// (hits, misses, evictions) of a trace, or what was wrong with it.
    fn outcome(trace: &[u8], flags: &[&str]) -> Result<(u64, u64, u64), String> {
        let args = parse(&[&["-"], flags].concat()).map_err(|error| error.to_string())?;
        replay(&args, trace).map(|stats| (stats.hits, stats.misses, stats.evictions))
    }

    /// The same, as plainly as can be.
    fn naive<K: PartialEq>(keys: impl IntoIterator<Item = K>, capacity: usize) -> (u64, u64, u64) {
        let (mut recent, mut counts) = (Vec::new(), (0, 0, 0)); // the most recent is last
        for key in keys {
            if let Some(place) = recent.iter().position(|other| *other == key) {
                recent.remove(place);
                counts.0 += 1;
            } else {
                counts.1 += 1;
            }
            recent.push(key);
            if recent.len() > capacity {
                recent.remove(0);
                counts.2 += u64::from(capacity > 0);
            }
        }
        counts
    }

    /// Numbers below `below`, the small ones more often.
    fn numbers(below: u64) -> impl Iterator<Item = u64> {
        let mut state = 1_u64;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (state >> 33) % below;
            number * number / below
        })
    }

    #[test]
    fn a_trace_worked_out_by_hand() {
        // a b c fill it, a hits, d takes b's place, b takes c's, a hits, c takes d's.
        let keys = b"a\nb\nc\na\nd\nb\na\nc\n";
        assert_eq!(outcome(keys, &["--capacity", "3"]), Ok((2, 6, 3)));
        assert_eq!(outcome(keys, &["--capacity", "4"]), Ok((4, 4, 0)));
        assert_eq!(outcome(keys, &["--capacity", "0"]), Ok((0, 8, 0)));
        // 10 11 12, then 11 12 13: the last takes the place of 10.
        assert_eq!(outcome(b"10 3 0 1\n11 3 0 2", &["--capacity", "3", "--format", "arc"]), Ok((2, 4, 1)));
    }

    #[test]
    fn the_trace_of_this_package_is_understood() -> Result<(), String> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/trace.txt");
        let stats = replay_file(&parse(&[file, "--capacity", "3"]).map_err(|error| error.to_string())?)?;
        let words = ["requests", "8", "hits", "2", "misses", "6", "evictions", "3", "hit", "ratio", "25.00", "%"];
        assert!(report(&stats).split_whitespace().eq(words), "{}", report(&stats));
        Ok(())
    }

    #[test]
    fn it_hits_as_often_as_a_plain_list_does() -> Result<(), String> {
        let blocks: Vec<u64> = numbers(300).take(3_000).collect();
        let lines = |line: fn(&u64) -> String| blocks.iter().map(line).collect::<String>();
        let keys = lines(|block| format!("{block}\n"));
        let runs = lines(|block| format!("{block}\t{}  0 7\r\n", block % 4));
        for capacity in [0, 1, 2, 10, 100, 299, 300] {
            let flags = ["--capacity", &capacity.to_string()];
            let counts = naive(&blocks, capacity);
            assert!(capacity < 2 || counts.0 > 0, "{counts:?}");
            assert_eq!(outcome(keys.as_bytes(), &flags)?, counts, "{capacity}");
            let blocks = blocks.iter().flat_map(|&block| block..block + block % 4);
            let flags = [&flags[..], &["--format", "arc"]].concat();
            assert_eq!(outcome(runs.as_bytes(), &flags)?, naive(blocks, capacity), "{capacity}");
        }
        Ok(())
    }

    #[test]
    fn shards_lose_no_request_and_hold_no_more() -> Result<(), String> {
        let keys: String = numbers(3_000).take(3_000).map(|number| format!("{number}\n")).collect();
        let (hits, misses, evictions) = outcome(keys.as_bytes(), &["--capacity", "60", "--shards", "7"])?;
        assert!(hits > 0 && evictions > 0);
        assert_eq!((hits + misses, misses - evictions), (3_000, 60));
        Ok(())
    }

    #[test]
    fn keys_are_what_stands_between_line_ends() {
        for (trace, counts) in [
            (&b"a\na\r\na"[..], (2, 1)),
            (b"a\n a\na \nA\n", (0, 4)),
            (b"\n\r\na\n\n\na\n\n", (1, 1)),
            (b"\xff\xfe\n\xff\n\xff\xfe", (1, 2)),
            (b"a\rb\na\n", (0, 2)),
            (b"", (0, 0)),
        ] {
            let text = quoted(trace);
            assert_eq!(outcome(trace, &["--capacity", "9"]).map(|it| (it.0, it.1)), Ok(counts), "{text}");
        }
        let longest = [b'x'; LONGEST];
        let two = [&longest[..], b"\r\n", &longest[..]].concat();
        assert_eq!(outcome(&two, &["--capacity", "9"]), Ok((1, 1, 0)));
    }

    #[test]
    fn a_bad_line_is_told_by_its_number_and_text() {
        let four = "expected four whole numbers: start count ignored id";
        let range = "expected start, count and start + count to be from 0 to 18446744073709551615";
        for (line, shown, why) in [
            (&b"1 2 3"[..], r#""1 2 3""#, four),
            (b"1 2 3 4 5", r#""1 2 3 4 5""#, four),
            (b"1 two 3 4", r#""1 two 3 4""#, four),
            (b"1 2 3 4.5", r#""1 2 3 4.5""#, four),
            (b"1 2 3 \xff", "\"1 2 3 \u{fffd}\"", four),
            (b"\x1b[2J", r#""\u{1b}[2J""#, four),
            (b"-1 2 0 0", r#""-1 2 0 0""#, range),
            (b"18446744073709551616 0 0 0", r#""18446744073709551616 0 0 0""#, range),
            (b"18446744073709551615 1 0 0", r#""18446744073709551615 1 0 0""#, range),
        ] {
            let trace = [b"5 1 0 0\n\n \t\n", line, b"\n5 1 0 0\n"].concat();
            let error = outcome(&trace, &["--capacity", "9", "--format", "arc"]);
            assert_eq!(error, Err(format!("line 4: {shown}: {why}")));
        }
        let trace = [b"a\n", &[b'x'; LONGEST + 1][..]].concat();
        let error = outcome(&trace, &["--capacity", "9"]);
        let beginning = "x".repeat(60);
        assert_eq!(error, Err(format!("line 2: \"{beginning}\"...: expected at most 65536 bytes")));
    }

    #[test]
    fn what_is_ignored_may_be_any_number() {
        let trace = b"18446744073709551614 1 -1 18446744073709551616\n7 0 0 0\n";
        assert_eq!(outcome(trace, &["--capacity", "9", "--format", "arc"]), Ok((0, 1, 0)));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error =
            |file| replay_file(&parse(&[file, "--capacity", "1"]).expect("good flags")).err().unwrap_or_default();
        assert!(error("missing/trace").starts_with("cannot open missing/trace: "), "{}", error("missing/trace"));
        #[cfg(unix)]
        assert!(error("/").starts_with("/: cannot read line 1: "), "{}", error("/"));
    }

    #[test]
    fn a_trace_of_nothing_has_no_ratio() {
        assert!(report(&Stats::default()).ends_with("hit ratio            -\n"));
    }

    #[test]
    fn flags_that_make_no_sense_are_usage_errors() {
        Args::command().debug_assert();
        for (flags, kind) in [
            (&["FILE"][..], UsageError::MissingRequiredArgument),
            (&["--capacity", "1"], UsageError::MissingRequiredArgument),
            (&["FILE", "--capacity", "-1"], UsageError::UnknownArgument),
            (&["FILE", "--capacity", "many"], UsageError::ValueValidation),
            (&["FILE", "--capacity", "1", "--shards", "0"], UsageError::ValueValidation),
            (&["FILE", "--capacity", "1", "--format", "lirs"], UsageError::InvalidValue),
        ] {
            let error = parse(flags).expect_err("bad flags");
            assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{flags:?}: {error}");
        }
    }
}
