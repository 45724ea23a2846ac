//! Programs that must not compile: those in `compile_fail`, marked `//~ CODE` in each line that the compiler must refuse.
//!
//! The lines and codes of all errors are compared (the first word of an error without a code), and not the wording, which
//! changes from compiler to compiler. A program without a mark fails the test.

#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines, each with the code of an error in it.
type Errors = BTreeSet<(usize, String)>;

#[test]
fn what_would_be_unsound_does_not_compile() {
    let library = library();
    let mut programs: Vec<PathBuf> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    programs.sort();
    assert!(programs.len() >= 10, "where are the programs? {programs:?}");
    let failures: Vec<String> = programs.iter().filter_map(|program| misjudged(program, &library)).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

/// Builds the library in the profile of this test, and returns its directory.
fn library() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "-p",
        "stanchion",
        "--lib",
        "--manifest-path",
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
    ]);
    cargo.arg("--target-dir").arg(target);
    let directory = if cfg!(debug_assertions) {
        target.join("debug")
    } else {
        cargo.arg("--release");
        target.join("release")
    };
    assert!(cargo.status().unwrap().success(), "the library does not build");
    directory
}

/// Compiles a program, and describes how its errors differ from those that are marked.
fn misjudged(program: &Path, library: &Path) -> Option<String> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--error-format=short", "--cap-lints=allow"]);
    rustc.arg("--extern").arg(format!("stanchion={}", library.join("libstanchion.rlib").display()));
    rustc.arg("-L").arg(format!("dependency={}", library.join("deps").display()));
    rustc.arg("--out-dir").arg(env!("CARGO_TARGET_TMPDIR")).arg(program);
    let output = rustc.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let (wanted, got) = (marked(&fs::read_to_string(program).unwrap()), reported(&said));
    let as_wanted = !output.status.success() && !wanted.is_empty() && got == wanted;
    (!as_wanted).then(|| format!("{}\nwanted {wanted:?}\ngot    {got:?}\n{said}", program.display()))
}

fn marked(source: &str) -> Errors {
    let lines = source.lines().enumerate();
    let marks = lines.filter_map(|(index, line)| Some((index + 1, line.split_once("//~ ")?.1.to_owned())));
    marks.collect()
}

/// From lines like `tests/compile_fail/some.rs:8:9: error[E0597]: what is wrong`, or with no code and `error: what ...`.
fn reported(said: &str) -> Errors {
    let errors = said.lines().filter_map(|line| {
        let (place, error) = line.split_once(": error")?;
        let number = place.rsplit(':').nth(1)?.parse().ok()?;
        let code = error.trim_start_matches(['[', ':', ' ']).split([']', ' ']).next()?;
        Some((number, code.to_owned()))
    });
    errors.collect()
}
