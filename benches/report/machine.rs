//! What the figures depend on besides the code: the processor, the compiler, the versions of the peers.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

/// The processor's model, its cores, and the compiler.
pub fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores, {}", model(&cpus), compiler())
}

fn model(cpus: &str) -> &str {
    let names = cpus.lines().filter(|line| line.starts_with("model name"));
    names.filter_map(|line| line.split_once(':')).map(|(_, model)| model.trim()).next().unwrap_or(env::consts::ARCH)
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let version = output.ok().filter(|output| output.status.success()).and_then(|output| {
        let words = String::from_utf8(output.stdout).ok()?;
        Some(words.split(' ').take(2).collect::<Vec<_>>().join(" "))
    });
    version.unwrap_or_else(|| "an unknown compiler".to_owned())
}

/// The crates among these that are packages, with their versions.
pub fn versions(root: &Path, crates: &BTreeSet<&str>) -> Result<String> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let known = crates.iter().filter_map(|name| Some(format!("{name} {}", version(&lock, name)?)));
    Ok(known.collect::<Vec<_>>().join(", "))
}

/// The version that the benches link. Where there are several, their own entry names it.
fn version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let mut packages = lock.split("[[package]]");
    let benches = packages.clone().find(|text| text.contains("name = \"benches\"\n"))?;
    let linked = benches.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
    let (_, version) =
        linked.map(|entry| entry.split_once(' ').unwrap_or((entry, ""))).find(|(name, _)| *name == package)?;
    if !version.is_empty() {
        return Some(version);
    }
    let entry = packages.find(|text| text.contains(&format!("name = \"{package}\"\n")))?;
    entry.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: A Processor @ 2.50GHz\nmodel name\t: B\n"),
            "A Processor @ 2.50GHz"
        );
        assert_eq!(model(""), env::consts::ARCH);
    }

    #[test]
    fn versions_are_those_that_the_benches_link() {
        let lock = r#"
[[package]]
name = "benches"
version = "0.0.0"
dependencies = [
 "mea 2.0.0",
 "tokio",
]

[[package]]
name = "mea"
version = "1.0.0"

[[package]]
name = "tokio"
version = "1.2.3"

[[package]]
name = "serde"
version = "1.0.0"
"#;
        assert_eq!(
            ["mea", "tokio", "serde", "std"].map(|name| version(lock, name)),
            [Some("2.0.0"), Some("1.2.3"), None, None]
        );
    }
}
