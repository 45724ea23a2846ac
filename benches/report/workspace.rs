//! What cargo knows: where the workspace and its build output are, which benches there are, and which versions of the
//! peers they were built with.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// The package that is measured; also how the benches call it among the contenders.
pub const OURS: &str = "stanchion";
/// The package that has the benches, and this report.
pub const BENCHES: &str = "benches";

/// The parts of `cargo metadata` that matter here.
#[derive(Debug)]
pub struct Workspace {
    pub root: PathBuf,
    /// Where criterion keeps its results.
    pub criterion: PathBuf,
    /// The names of the bench targets.
    pub benches: Vec<String>,
    /// stanchion and what it is built and measured with: names and versions.
    versions: Vec<(String, String)>,
}

impl Workspace {
    /// Asks the cargo that started us, or the one on the path.
    pub fn find() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--format-version", "1"])
            .output()
            .context("cannot start cargo; is it on the path?")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata = serde_json::from_slice(&output.stdout).context("`cargo metadata` did not answer in JSON")?;
        Self::read(&metadata, env::var_os("CRITERION_HOME").map(PathBuf::from))
    }

    fn read(metadata: &Value, criterion_home: Option<PathBuf>) -> Result<Self> {
        let text = |value: &Value, field: &str| {
            let text = value[field].as_str().map(str::to_owned);
            text.ok_or_else(|| anyhow!("`cargo metadata` does not tell `{field}`"))
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();

        let root = PathBuf::from(text(metadata, "workspace_root")?);
        let packages = list(&metadata["packages"]);
        let package = packages
            .iter()
            .find(|package| package["name"] == BENCHES && package["source"].is_null())
            .ok_or_else(|| anyhow!("{} is not the workspace of {OURS}: start this command in there", root.display()))?;

        let is_bench = |target: &&Value| list(&target["kind"]).iter().any(|kind| kind == "bench");
        let targets = list(&package["targets"]);
        let benches = targets.iter().filter(is_bench).map(|target| text(target, "name")).collect::<Result<_>>()?;

        // A package may be there in several versions; what counts is the one that our own benches link.
        let nodes = list(&metadata["resolve"]["nodes"]);
        let node = nodes.iter().find(|node| node["id"] == package["id"]);
        let linked = node.map(|node| list(&node["dependencies"])).unwrap_or_default();
        let versions = packages
            .iter()
            .filter(|package| linked.contains(&package["id"]))
            .map(|package| Ok((text(package, "name")?, text(package, "version")?)))
            .collect::<Result<_>>()?;

        // `cargo metadata` has heeded CARGO_TARGET_DIR already.
        let criterion = match criterion_home {
            Some(home) => home,
            None => PathBuf::from(text(metadata, "target_directory")?).join("criterion"),
        };
        Ok(Self { root, criterion, benches, versions })
    }

    /// The version of stanchion or of one of its peers.
    pub fn version(&self, package: &str) -> Option<&str> {
        self.versions.iter().find(|(name, _)| name == package).map(|(_, version)| version.as_str())
    }
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata() -> Value {
        json!({
            "workspace_root": "/w",
            "target_directory": "/elsewhere",
            "packages": [
                { "name": "mea", "id": "mea 1", "version": "1.0.0", "source": "registry", "targets": [] },
                { "name": "mea", "id": "mea 2", "version": "2.0.0", "source": "registry", "targets": [] },
                { "name": "stanchion", "id": "s", "version": "0.1.0", "source": null, "targets": [] },
                { "name": "benches", "id": "b", "version": "0.0.0", "source": null, "targets": [
                    { "name": "report", "kind": ["bin"] },
                    { "name": "mutex", "kind": ["bench"] },
                ] },
            ],
            "resolve": { "nodes": [{ "id": "b", "dependencies": ["mea 2", "s"] }] },
        })
    }

    #[test]
    fn reads_what_matters() {
        let workspace = Workspace::read(&metadata(), None).unwrap();
        assert_eq!(workspace.root, PathBuf::from("/w"));
        assert_eq!(workspace.criterion, PathBuf::from("/elsewhere/criterion"));
        assert_eq!(workspace.benches, ["mutex"]);
        assert_eq!(workspace.version("stanchion"), Some("0.1.0"));
        assert_eq!(workspace.version("mea"), Some("2.0.0"), "the version that is linked");
        assert_eq!(workspace.version("serde"), None);
    }

    #[test]
    fn criterion_may_live_elsewhere() {
        let workspace = Workspace::read(&metadata(), Some("/home/of/criterion".into())).unwrap();
        assert_eq!(workspace.criterion, PathBuf::from("/home/of/criterion"));
    }

    #[test]
    fn another_workspace_is_an_error() {
        let error = Workspace::read(&json!({ "workspace_root": "/other", "packages": [] }), None).unwrap_err();
        assert_eq!(error.to_string(), "/other is not the workspace of stanchion: start this command in there");
    }
}
