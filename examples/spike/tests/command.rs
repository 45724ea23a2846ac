//! The command: what it prints, where, and how it exits.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs the command in `directory`.
fn spike(directory: &Path, flags: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_spike")).args(flags).current_dir(directory).output()
}

fn standard_error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_small_run_prints_json_and_draws_the_chart() -> Outcome {
    let directory = tempfile::tempdir()?;
    let flags = [
        "--json",
        "--peers",
        "--seconds",
        "1",
        "--from-rate",
        "200",
        "--to-rate",
        "400",
        "--connections",
        "6",
        "--permits",
        "2",
    ];
    let output = spike(directory.path(), &flags)?;
    assert_eq!(output.status.code(), Some(0), "{}", standard_error(&output));

    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let adds_up = |counts: &serde_json::Value| {
        let count = |name: &str| counts[name].as_u64().unwrap_or_default();
        assert_eq!(count("offered"), count("served") + count("shed") + count("failed"));
        count("offered")
    };
    let runs = json["runs"].as_array().ok_or("no runs")?;
    assert_eq!(runs.len(), 3);
    for (run, (name, parts)) in runs.iter().zip([("without", 0), ("with", 5), ("peers", 5)]) {
        assert_eq!(run["name"], name);
        assert_eq!(run["parts"].as_array().map(Vec::len), Some(parts));
        assert!(adds_up(run) > 0);
        let classes = run["classes"].as_array().ok_or("no classes")?;
        assert_eq!(classes.len(), 3);
        let mut peak = 0;
        for (class, name) in classes.iter().zip(["free", "paying", "health"]) {
            assert_eq!(class["class"], name);
            assert!(adds_up(&class["unloaded"]) > 0);
            assert!(class["unloaded"]["served_latency_ms"]["p99"].is_f64(), "{class}");
            peak += adds_up(&class["peak"]);
        }
        assert!((1..run["offered"].as_u64().unwrap_or_default()).contains(&peak), "{run}");
        let wait = |name: &str| run["database_connection_wait_ms"][name].as_f64().unwrap_or_default();
        assert!(0.0 < wait("mean") && wait("mean") <= wait("max"), "{run}");
    }
    // Without a pool each request opens a connection, with one as many are opened as may query at a time.
    assert!(runs[0]["database_connections_opened"].as_u64() > Some(2));
    assert_eq!(runs[1]["database_connections_opened"], 2);
    assert!((1..=2).contains(&runs[1]["threads_at_once"].as_u64().unwrap_or_default()), "{}", runs[1]);
    // Without a cache each request for the hottest product is a query, with one only the first.
    let for_hottest = |run: &serde_json::Value| run["database_queries_for_hottest_product"].as_u64();
    assert!(for_hottest(&runs[0]) > Some(1));
    assert_eq!(for_hottest(&runs[1]), Some(1));
    assert!(runs[0]["cache_hit_ratio"].is_null());
    assert!((0.1..1.0).contains(&runs[1]["cache_hit_ratio"].as_f64().unwrap_or_default()), "{}", runs[1]);
    // All get the same requests.
    assert_eq!(runs[0]["classes"][1]["peak"]["offered"], runs[1]["classes"][1]["peak"]["offered"]);
    let svg = std::fs::read_to_string(directory.path().join("spike.svg"))?;
    assert!(svg.starts_with("<svg") && ["without\n", "with\n", "peers\n"].iter().all(|name| svg.contains(name)));
    assert!(svg.contains(" served, 2 connections opened"), "{svg}");
    Ok(())
}

#[test]
fn the_ladder_has_a_row_for_each_rung_and_each_class() -> Outcome {
    let directory = tempfile::tempdir()?;
    let flags = ["--ladder", "--seconds", "1", "--from-rate", "100", "--to-rate", "100", "--connections", "3"];
    let output = spike(directory.path(), &flags)?;
    assert_eq!(output.status.code(), Some(0), "{}", standard_error(&output));
    let tables = String::from_utf8(output.stdout)?;
    for rung in ["without ", "+ semaphore ", "+ queue ", "+ pool ", "+ mutex ", "+ cache "] {
        let rows = |class: &str| tables.lines().filter(|line| line.starts_with(class) && line.contains(rung)).count();
        assert_eq!(["health (1 %)", "paying (9 %)", "free (90 %)"].map(rows), [1; 3], "{rung}: {tables}");
        assert_eq!(tables.lines().filter(|line| line.starts_with(rung)).count(), 4, "{rung}: {tables}");
    }
    let svg = std::fs::read_to_string(directory.path().join("spike.svg"))?;
    assert!(svg.contains("+ cache\n"), "{svg}");
    Ok(())
}

#[test]
fn the_help_names_classes_and_parts() -> Outcome {
    let output = spike(Path::new("."), &["--help"])?;
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout)?;
    for word in
        ["health check", "paying", "free", "x-class", "--max-waiting", "--cache", "--only", "--ladder", "- mutex:"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
    Ok(())
}

#[test]
fn a_run_may_have_any_parts_over_a_database_that_stays() -> Outcome {
    let directory = tempfile::tempdir()?;
    let flags =
        ["--only", "pool,semaphore", "--only", "cache", "--seconds", "1", "--from-rate", "20", "--to-rate", "20"];
    let output = spike(directory.path(), &[&flags[..], &["--database", "kept.sqlite"]].concat())?;
    assert_eq!(output.status.code(), Some(0), "{}", standard_error(&output));
    let table = String::from_utf8(output.stdout)?;
    let rows = |name: &str| table.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(["semaphore, pool ", "cache ", "without ", "with "].map(rows), [4, 4, 0, 0], "{table}");
    assert!(directory.path().join("kept.sqlite").exists());
    Ok(())
}

#[test]
fn bad_flags_exit_with_2() -> Outcome {
    let directory = tempfile::tempdir()?;
    for flags in [&["--from-rate", "10", "--to-rate", "9"][..], &["--connections", "2"], &["--only", "lock"]] {
        let output = spike(directory.path(), flags)?;
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(output.stdout.is_empty() && standard_error(&output).contains("error:"), "{flags:?}");
    }
    let advice = standard_error(&spike(directory.path(), &["--only", "lock"])?);
    assert!(advice.contains("there is no part lock: choose from semaphore, queue, pool, mutex, cache"), "{advice}");
    Ok(())
}

#[test]
fn errors_exit_with_1_and_advice() -> Outcome {
    let directory = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    for (flags, advice) in [
        (["--port", &port], format!("spike: port {port} is taken: choose another with --port")),
        (["--database", "missing/file"], "spike: cannot create the database missing/file: choose".into()),
        (["--svg", "missing/file"], "spike: cannot write the chart to missing/file: choose".into()),
    ] {
        let output = spike(directory.path(), &flags)?;
        assert_eq!(output.status.code(), Some(1), "{flags:?}");
        assert!(standard_error(&output).starts_with(&advice), "{}", standard_error(&output));
    }
    Ok(())
}
