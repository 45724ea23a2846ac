//! The changed copy of the workspace, and its builds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The name of the unit tests in `src` among the targets.
const UNIT_TESTS: &str = "lib";
const MODELS: &str = "loom";

pub struct Copy {
    pub root: PathBuf,
    target: PathBuf,
}

/// The executables of a cargo command, or its errors: for each, the places in the source that it names.
#[derive(Default)]
pub struct Built {
    pub executables: BTreeMap<String, PathBuf>,
    pub errors: Vec<Vec<(String, Range<usize>)>>,
    pub rendered: String,
}

impl Copy {
    /// Copies the tracked and the untracked files. The copy has a target directory of its own: in that of the workspace
    /// cargo would take what it has built from the copy for the same packages, and never build those of the workspace again.
    pub fn new(root: &Path, target: &Path) -> Result<Self> {
        let copy = Self { root: target.join("mutants/copy"), target: target.join("mutants/target") };
        if copy.root.exists() {
            fs::remove_dir_all(&copy.root).context("cannot remove the last copy")?;
        }
        let files = git(root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        for file in files.split_terminator('\0').filter(|file| root.join(file).is_file()) {
            let to = copy.root.join(file);
            fs::create_dir_all(to.parent().expect("a file is in a folder"))?;
            fs::copy(root.join(file), to).with_context(|| format!("cannot copy {file}"))?;
        }
        Ok(copy)
    }

    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.root.join(file), text).with_context(|| format!("cannot write {file} of the copy"))
    }

    pub fn check(&self, loom: bool) -> Result<Built> {
        self.cargo(loom, &["check", "--lib"])
    }

    /// Builds these test targets.
    pub fn tests<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Built> {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let mut arguments = vec!["test", "--no-run"];
        for name in names {
            arguments.extend(if name == UNIT_TESTS { vec!["--lib"] } else { vec!["--test", name] });
        }
        if arguments.len() == 2 { Ok(Built::default()) } else { self.cargo(false, &arguments) }
    }

    pub fn models(&self) -> Result<Built> {
        self.cargo(true, &["test", "--no-run", "--release", "--test", MODELS])
    }

    /// Runs a test target, or those of its tests that have `filter` in their names.
    pub fn test(&self, built: &Built, target: &str, filter: Option<&str>) -> Result<Command> {
        let path = built.executables.get(target).with_context(|| format!("cargo has built no test target {target}"))?;
        let mut command = Command::new(path);
        command.current_dir(&self.root).env("CARGO_MANIFEST_DIR", &self.root).args(filter);
        Ok(command)
    }

    /// Runs one model, in a process of its own.
    pub fn model(&self, built: &Built, name: &str) -> Result<Command> {
        let mut command = self.test(built, MODELS, None)?;
        command.env("STANCHION_MODEL", name);
        Ok(command)
    }

    fn cargo(&self, loom: bool, arguments: &[&str]) -> Result<Built> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).args(arguments).args(["--package", "stanchion", "--message-format", "json"]);
        command.env("CARGO_TARGET_DIR", if loom { self.target.join("loom") } else { self.target.clone() });
        if loom {
            command.env("RUSTFLAGS", "--cfg loom");
        }
        let output = command.stderr(Stdio::piped()).output().context("cannot start cargo")?;
        let built = read(&String::from_utf8_lossy(&output.stdout));
        if !output.status.success() && built.errors.is_empty() {
            bail!("cargo has failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(built)
    }
}

/// Reads cargo's messages, in JSON.
fn read(messages: &str) -> Built {
    let mut built = Built::default();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if let (Some(path), Some(target)) = (message["executable"].as_str(), message["target"]["name"].as_str()) {
            let name = if message["target"]["kind"][0] == "test" { target } else { UNIT_TESTS };
            built.executables.insert(name.to_owned(), path.into());
        }
        let message = &message["message"];
        // An error without a place is the summary.
        if message["level"] == "error" && message["spans"].as_array().is_some_and(|spans| !spans.is_empty()) {
            let mut places = Vec::new();
            gather(message, &mut places);
            built.errors.push(places);
            built.rendered += message["rendered"].as_str().unwrap_or_default();
        }
    }
    built
}

/// The places that a message names, the primary ones first.
fn gather(message: &Value, places: &mut Vec<(String, Range<usize>)>) {
    let spans = || message["spans"].as_array().into_iter().flatten();
    for is_primary in [true, false] {
        for span in spans().filter(|span| span["is_primary"] == is_primary) {
            let mut span = span;
            while let Some(file) = span["file_name"].as_str() {
                let at = |field: &str| span[field].as_u64().unwrap_or_default() as usize;
                places.push((file.to_owned(), at("byte_start")..at("byte_end")));
                span = &span["expansion"]["span"];
            }
        }
    }
    message["children"].as_array().into_iter().flatten().for_each(|child| gather(child, places));
}

pub fn git(root: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").current_dir(root).args(arguments).output().context("cannot start git")?;
    if !output.status.success() {
        bail!("git {} has failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_and_errors_are_read_from_json() {
        let built = read(
            r#"{"executable":"/t/a","target":{"name":"semaphore","kind":["test"]}}
            {"executable":"/t/b","target":{"name":"stanchion","kind":["lib"]}}
            {"message":{"level":"error","rendered":"R","spans":[
                {"file_name":"b.rs","byte_start":1,"byte_end":2,"is_primary":false,"expansion":null},
                {"file_name":"a.rs","byte_start":3,"byte_end":4,"is_primary":true,
                 "expansion":{"span":{"file_name":"c.rs","byte_start":5,"byte_end":6}}}],"children":[]}}
            {"message":{"level":"error","spans":[]}}"#
                .replace("\n                ", " ")
                .replace("\n                 ", " ")
                .as_str(),
        );
        let names: Vec<&str> = built.executables.keys().map(|name| &name[..]).collect();
        assert_eq!(names, ["lib", "semaphore"]);
        assert_eq!(built.errors, [[("a.rs".into(), 3..4), ("c.rs".into(), 5..6), ("b.rs".into(), 1..2)]]);
        assert_eq!(built.rendered, "R");
    }
}
