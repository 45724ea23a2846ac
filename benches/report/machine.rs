//! Under what conditions the figures came about: the machine, the system, the compiler, the versions.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::Command;
use std::thread;

use anyhow::Result;

use crate::summary::{Primitive, all_peers};
use crate::workspace::{OURS, Workspace};

/// How much the processor's caches hold, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Caches {
    /// Of one core.
    pub l2: f64,
    /// Of all of them.
    pub l3: f64,
}

impl Caches {
    pub fn find() -> Self {
        Self::read(|index, field| {
            fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{field}")).unwrap_or_default()
        })
    }

    /// What is not told is taken to be 1 MiB and 32 MiB.
    fn read(tell: impl Fn(usize, &str) -> String) -> Self {
        let size = |level, otherwise| {
            let index = (0..8).find(|&index| tell(index, "level").trim() == level);
            let size = index.and_then(|index| tell(index, "size").trim().strip_suffix('K')?.parse::<f64>().ok());
            1024.0 * size.unwrap_or(otherwise)
        };
        Self { l2: size("2", 1024.0), l3: size("3", 32.0 * 1024.0) }
    }
}

pub fn mebibytes(bytes: f64) -> String {
    format!("{} MiB", bytes / 1024.0 / 1024.0)
}

/// How many threads run at the same time.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

pub fn table(workspace: &Workspace, primitives: &[Primitive], caches: Caches) -> Result<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let caches = format!("L2 {} for each core, L3 {} for all", mebibytes(caches.l2), mebibytes(caches.l3));
    let machine = machine(&read("/proc/cpuinfo"), &read("/proc/meminfo"));
    let system = system(&read("/etc/os-release"), &read("/proc/sys/kernel/osrelease"));
    let rounds: Vec<_> = primitives.iter().map(|primitive| (primitive.name.as_str(), primitive.rounds)).collect();

    let version = |package: &str| format!("{package} {}", workspace.version(package).unwrap_or("(unknown version)"));
    let peers: Vec<String> = crates(&all_peers(primitives)).into_iter().map(version).collect();

    let rows = [
        ("machine", machine),
        ("caches", caches),
        ("system", system),
        ("compiler", compiler()),
        ("measured", version(OURS)),
        ("beside", peers.join(", ")),
        ("rounds", rounds_of(&rounds)),
    ];
    let rows = rows.map(|(name, value)| format!("| {name} | {value} |\n"));
    Ok(format!("| | |\n| --- | --- |\n{}", rows.concat()))
}

/// How many rounds, primitive by primitive if they differ: a filter measures some again and leaves the others.
fn rounds_of(primitives: &[(&str, usize)]) -> String {
    match primitives {
        [] => "0".to_owned(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, rounds)| rounds == first) => first.to_string(),
        _ => primitives.iter().map(|(name, rounds)| format!("{name} {rounds}")).collect::<Vec<_>>().join(", "),
    }
}

/// A contender is named by its crate, or by that and what of it is meant: `tokio mpsc`.
fn crates<'a>(peers: &[&'a str]) -> BTreeSet<&'a str> {
    peers.iter().filter_map(|peer| peer.split(' ').next()).collect()
}

fn machine(cpuinfo: &str, meminfo: &str) -> String {
    let model = field(cpuinfo, "model name", ':').unwrap_or(env::consts::ARCH);
    let cores = cores();
    let cores = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
    match field(meminfo, "MemTotal", ':').and_then(|total| total.strip_suffix(" kB")?.trim().parse::<f64>().ok()) {
        Some(kibibytes) => format!("{model}, {cores}, {:.0} GiB of memory", kibibytes / 1024.0 / 1024.0),
        None => format!("{model}, {cores}"),
    }
}

/// The distribution, and the kernel's version as far as it means something to others.
fn system(os_release: &str, kernel: &str) -> String {
    let Some(name) = field(os_release, "PRETTY_NAME", '=') else { return env::consts::OS.to_owned() };
    let name = name.trim_matches('"');
    match kernel.trim().split('.').collect::<Vec<_>>()[..] {
        [major, minor, ..] => format!("{name}, Linux {major}.{minor}"),
        _ => name.to_owned(),
    }
}

/// The value of the first line `name: value`.
fn field<'a>(text: &'a str, name: &str, separator: char) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(separator));
    lines.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    match Command::new(rustc).arg("--version").output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crate_once() {
        let peers = ["mea", "tokio BinaryHeap + Notify", "tokio mpsc", "async-lock"];
        assert_eq!(crates(&peers).into_iter().collect::<Vec<_>>(), ["async-lock", "mea", "tokio"]);
    }

    #[test]
    fn rounds() {
        assert_eq!(rounds_of(&[]), "0");
        assert_eq!(rounds_of(&[("mutex", 5), ("pool", 5)]), "5");
        assert_eq!(rounds_of(&[("mutex", 1), ("pool", 2)]), "mutex 1, pool 2");
    }

    #[test]
    fn a_machine() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A Processor @ 2.50GHz\n\nprocessor\t: 1\nmodel name\t: Another\n";
        let machine = machine(cpuinfo, "MemFree:  1 kB\nMemTotal:       24689348 kB\n");
        assert!(machine.starts_with("A Processor @ 2.50GHz, ") && machine.ends_with(", 24 GiB of memory"), "{machine}");
    }

    #[test]
    fn a_machine_that_does_not_tell() {
        assert!(machine("", "MemTotal: much").starts_with(&format!("{}, ", env::consts::ARCH)));
        assert_eq!(system("", ""), env::consts::OS);
        assert_eq!(system("PRETTY_NAME=\"A Linux 12\"\n", ""), "A Linux 12");
    }

    #[test]
    fn caches() {
        let told = |index: usize, field: &str| match (index, field) {
            (0 | 1, "level") => "1\n".to_owned(),
            (0 | 1, "size") => "32K\n".to_owned(),
            (_, "level") => index.to_string(),
            (2, "size") => "2048K\n".to_owned(),
            _ => String::new(),
        };
        let mebibyte = 1024.0 * 1024.0;
        assert_eq!(Caches::read(told), Caches { l2: 2.0 * mebibyte, l3: 32.0 * mebibyte });
        let silent = Caches::read(|_, _| String::new());
        assert_eq!(silent, Caches { l2: mebibyte, l3: 32.0 * mebibyte });
    }

    #[test]
    fn a_system() {
        assert_eq!(system("ID=a\nPRETTY_NAME=\"A Linux 12\"\n", "6.18.44-custom\n"), "A Linux 12, Linux 6.18");
    }
}
