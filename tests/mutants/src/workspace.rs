//! What cargo knows: where the workspace and its build output are.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

#[derive(Debug)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
}

impl Workspace {
    /// Asks the cargo that started us, or the one on the path.
    pub fn find() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .context("cannot start cargo; is it on the path?")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Self::read(&serde_json::from_slice(&output.stdout).context("`cargo metadata` did not answer in JSON")?)
    }

    fn read(metadata: &Value) -> Result<Self> {
        let path = |field: &str| {
            let path = metadata[field].as_str().map(PathBuf::from);
            path.ok_or_else(|| anyhow!("`cargo metadata` does not tell `{field}`"))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// Where the copy, the results and what the processes print are kept.
    pub fn work(&self) -> PathBuf {
        self.target.join("mutants")
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

    #[test]
    fn reads_what_matters() {
        let workspace = Workspace::read(&json!({ "workspace_root": "/w", "target_directory": "/elsewhere" })).unwrap();
        assert_eq!(workspace.root, PathBuf::from("/w"));
        assert_eq!(workspace.work(), PathBuf::from("/elsewhere/mutants"));
        let error = Workspace::read(&json!({ "workspace_root": "/w" })).unwrap_err().to_string();
        assert_eq!(error, "`cargo metadata` does not tell `target_directory`");
    }
}
