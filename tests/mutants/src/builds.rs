//! The copy of the workspace that is broken, and what is built of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::source::Sources;
use crate::workspace::{Workspace, cargo};

/// How the unit tests in `src` are called among the targets.
pub const UNIT_TESTS: &str = "lib";
const MODELS: &str = "loom";
const BROKEN: &str = "the mutants do not build: a list has an entry that does not compile, or touches its neighbour";

/// What was built: the models, and each test target by its name.
pub struct Build {
    pub root: PathBuf,
    models: Option<PathBuf>,
    tests: BTreeMap<String, PathBuf>,
}

impl Build {
    /// Whether the library builds of these sources, which takes seconds.
    pub fn check(workspace: &Workspace, sources: &Sources) -> Result<()> {
        let mut command = cargo();
        command.current_dir(copied(workspace, sources)?).args(["check", "--package", "stanchion", "--lib"]);
        let status = command.env("CARGO_TARGET_DIR", &workspace.target).status().context("cannot start cargo")?;
        if status.success() { Ok(()) } else { bail!(BROKEN) }
    }

    /// Copies the workspace, with other sources, and builds its models and some of its tests.
    pub fn new(workspace: &Workspace, sources: &Sources, models: bool, tests: &BTreeSet<&str>) -> Result<Self> {
        let mut build = Self { root: copied(workspace, sources)?, models: None, tests: BTreeMap::new() };
        if models {
            let mut command = build.cargo();
            command.args(["--release", "--test", MODELS]);
            command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", workspace.target.join("loom"));
            build.models = executables(command)?.remove(MODELS);
        }
        if !tests.is_empty() {
            let mut command = build.cargo();
            command.env("CARGO_TARGET_DIR", &workspace.target);
            for &test in tests {
                if test == UNIT_TESTS {
                    command.arg("--lib")
                } else {
                    command.args(["--test", test])
                };
            }
            build.tests = executables(command)?;
        }
        Ok(build)
    }

    fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).args(["test", "--package", "stanchion", "--no-run"]);
        command.arg("--message-format=json-render-diagnostics");
        command
    }

    /// Runs one model.
    pub fn model(&self, name: &str) -> Result<Command> {
        let models = self.models.as_ref().ok_or_else(|| anyhow!("cargo has built no models"))?;
        let mut command = Command::new(models);
        command.current_dir(&self.root).env("STANCHION_MODEL", name);
        Ok(command)
    }

    /// Runs a test target, or those of its tests that `target::filter` names.
    pub fn test(&self, name: &str) -> Result<Command> {
        let (target, filter) = split(name);
        let path = self.tests.get(target).ok_or_else(|| anyhow!("cargo has built no test target `{target}`"))?;
        let mut command = Command::new(path);
        // Where cargo runs it, and told what cargo tells.
        command.current_dir(&self.root).env("CARGO_MANIFEST_DIR", &self.root).args(filter);
        Ok(command)
    }
}

/// `target`, or `target::filter`.
pub fn split(test: &str) -> (&str, Option<&str>) {
    test.split_once("::").map_or((test, None), |(target, filter)| (target, Some(filter)))
}

/// Builds, and asks which executables there are, by target.
fn executables(mut command: Command) -> Result<BTreeMap<String, PathBuf>> {
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!(BROKEN);
    }
    let mut executables = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let (Some(path), Some(target)) = (message["executable"].as_str(), message["target"]["name"].as_str()) else {
            continue;
        };
        let name = if message["target"]["kind"][0] == "test" { target } else { UNIT_TESTS };
        executables.insert(name.to_owned(), PathBuf::from(path));
    }
    Ok(executables)
}

/// A copy of the workspace with other sources, and where it is.
fn copied(workspace: &Workspace, sources: &Sources) -> Result<PathBuf> {
    let root = workspace.work().join("copy");
    let changed = sources.iter().map(|(file, text)| (workspace.root.join(file), text.as_str())).collect();
    copy(&workspace.root, &root, &changed)?;
    Ok(root)
}

/// Makes `to` what `from` is, but for files that are `changed`. What is the same already stays untouched, so that cargo
/// need not build it again.
fn copy(from: &Path, to: &Path, changed: &HashMap<PathBuf, &str>) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make the folder {}", to.display()))?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
        let (name, path) = (entry.file_name(), entry.path());
        if is_left_out(&name.to_string_lossy()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&path, &to.join(&name), changed)?;
        } else {
            let content = match changed.get(&path) {
                Some(text) => text.as_bytes().to_owned(),
                None => fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
            };
            let to = to.join(&name);
            if fs::read(&to).ok().is_none_or(|there| there != content) {
                fs::write(&to, content).with_context(|| format!("cannot write {}", to.display()))?;
            }
        }
        names.insert(name);
    }
    for entry in fs::read_dir(to).with_context(|| format!("cannot read {}", to.display()))? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            let gone = entry.path();
            let removed = if entry.file_type()?.is_dir() { fs::remove_dir_all(&gone) } else { fs::remove_file(&gone) };
            removed.with_context(|| format!("cannot remove {}", gone.display()))?;
        }
    }
    Ok(())
}

/// What is built, fetched or hidden.
fn is_left_out(name: &str) -> bool {
    name.starts_with('.') || name.starts_with("target") || name == "fuzz"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_what_it_is_of() {
        let folder = std::env::temp_dir().join(format!("stanchion-copy-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        for made in ["src", "target", "gone"] {
            fs::create_dir_all(from.join(made)).unwrap();
            fs::write(from.join(made).join("a"), made).unwrap();
        }
        let changed = HashMap::from([(from.join("src").join("a"), "changed")]);
        copy(&from, &to, &changed).unwrap();
        assert_eq!(fs::read_to_string(to.join("src").join("a")).unwrap(), "changed");
        assert!(to.join("gone").join("a").exists() && !to.join("target").exists());

        let written = || fs::metadata(to.join("src").join("a")).unwrap().modified().unwrap();
        let before = written();
        fs::remove_dir_all(from.join("gone")).unwrap();
        copy(&from, &to, &changed).unwrap();
        assert!(!to.join("gone").exists());
        assert_eq!(written(), before, "what is the same stays untouched");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn targets_and_filters() {
        assert_eq!(split("lru_cache::foreign_code::deeds"), ("lru_cache", Some("foreign_code::deeds")));
        assert_eq!(split("lib"), ("lib", None));
    }
}
