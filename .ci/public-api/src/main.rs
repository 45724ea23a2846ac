//! The public names of stanchion, one a line, out of what rustdoc knows. `cargo run --manifest-path .ci/public-api/Cargo.toml`
//! compares them with `public-api.txt`; with `-- --bless` it writes that file.
//!
//! Left out is what would bury the rest: blanket and auto traits (`tests/autotraits.rs` holds those that are promised),
//! the methods that std's traits ask for, the paths of what is std's, and the pages of the guide.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use public_api::{Builder, PublicApi};

/// Whose rustdoc JSON this version of `public-api` reads; another one may also list other things.
const COMPILER: &str = "1.95";
const BLESS: &str = "cargo run --manifest-path .ci/public-api/Cargo.toml -- --bless";

fn main() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let kept_at = root.join("public-api.txt");
    let listing = listing(&document(&root)?);
    ensure!(listing.lines().count() > 100, "hardly anything is public: the listing has gone wrong");

    if env::args().any(|argument| argument == "--bless") {
        fs::write(&kept_at, listing).context("public-api.txt cannot be written")?;
        return Ok(ExitCode::SUCCESS);
    }
    let kept = fs::read_to_string(&kept_at).with_context(|| format!("public-api.txt cannot be read; try: {BLESS}"))?;
    let (was, is): (HashSet<_>, HashSet<_>) = (kept.lines().collect(), listing.lines().collect());
    for gone in kept.lines().filter(|line| !is.contains(line)) {
        println!("- {gone}");
    }
    for new in listing.lines().filter(|line| !was.contains(line)) {
        println!("+ {new}");
    }
    if kept != listing {
        println!("what is public has changed. If that is meant, see \"Versions\" in CONTRIBUTING.md, then: {BLESS}");
        return Ok(ExitCode::FAILURE);
    }
    println!("public-api.txt holds all of the {} public items", listing.lines().count());
    Ok(ExitCode::SUCCESS)
}

/// Documents the library for machines. That is unstable: RUSTC_BOOTSTRAP lets the stable toolchain do it.
fn document(root: &Path) -> Result<PublicApi> {
    let version = Command::new("rustc").arg("--version").output().context("rustc does not start")?.stdout;
    ensure!(
        String::from_utf8_lossy(&version).starts_with(&format!("rustc {COMPILER}.")),
        "the listing is made by Rust {COMPILER}: rustup toolchain install {COMPILER}, and say `cargo +{COMPILER} run`"
    );
    let target = root.join("target/public-api");
    let status = Command::new("cargo")
        .args(["rustdoc", "--quiet", "-p", "stanchion", "--lib", "--target-dir"])
        .arg(&target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .current_dir(root)
        .env("RUSTC_BOOTSTRAP", "1")
        .status()
        .context("cargo does not start")?;
    ensure!(status.success(), "the library's documentation does not build");
    let api = Builder::from_rustdoc_json(target.join("doc/stanchion.json"));
    Ok(api.omit_blanket_impls(true).omit_auto_trait_impls(true).build()?)
}

fn listing(api: &PublicApi) -> String {
    let items: Vec<_> = api.items().map(|item| (item, item.to_string())).collect();
    // What `impl Clone for Key` brings along, `Key::clone`, follows from it; associated types do not.
    let of_std: HashSet<_> = items
        .iter()
        .filter(|(_, line)| {
            line.starts_with("impl") && line.contains(" for ") && !line.contains(" stanchion::Manager for ")
        })
        .map(|(item, _)| item.id())
        .collect();
    let mut seen = HashSet::new();
    let mut listing = String::new();
    for (item, line) in &items {
        let asked_for = item.parent_id().is_some_and(|parent| of_std.contains(&parent)) && line.contains("fn ");
        let guide = line.contains("stanchion::_guide");
        let derived = line.contains("StructuralPartialEq");
        // What has two paths, as `Elapsed` has, has its `impl`s twice.
        if !asked_for && !guide && !derived && seen.insert(line) {
            listing.push_str(&shortened(line));
            listing.push('\n');
        }
    }
    listing
}

/// The line with `Option` for `core::option::Option`: nobody writes the path, and std moves things between its crates.
fn shortened(line: &str) -> String {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut short = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_path) {
        let (before, path) = rest.split_at(start);
        let (path, after) = path.split_at(path.find(|c| !is_path(c)).unwrap_or(path.len()));
        let of_std = ["core::", "alloc::", "std::"].iter().any(|name| path.starts_with(name));
        short.push_str(before);
        short.push_str(if of_std { &path[path.rfind("::").map_or(0, |end| end + 2)..] } else { path });
        rest = after;
    }
    short + rest
}
