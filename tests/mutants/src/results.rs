//! What was found, kept from one run to the next: a hunt that is cut off goes on where it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::source::{self, Mutant, Sources};

/// What became of a mutant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fate {
    /// By a model or a test, and how.
    Caught {
        by: By,
        how: How,
    },
    Survived,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum By {
    Model(String),
    /// Of which target, and which tests.
    Tests(String, Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum How {
    Failed,
    Aborted,
    Hung,
}

/// Fates by what identifies a mutant. Those of another source count for nothing.
pub struct Results {
    path: PathBuf,
    kept: Kept,
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    source: u64,
    fates: BTreeMap<u64, Fate>,
}

impl Results {
    pub fn open(path: &Path, sources: &Sources) -> Result<Self> {
        let source = source::fingerprint(sources);
        let read = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        let kept = read.filter(|kept| kept.source == source);
        Ok(Self { path: path.to_owned(), kept: kept.unwrap_or(Kept { source, ..Kept::default() }) })
    }

    pub fn get(&self, mutant: &Mutant) -> Option<&Fate> {
        self.kept.fates.get(&mutant.identity())
    }

    pub fn forget(&mut self, mutants: &[&Mutant]) {
        for mutant in mutants {
            self.kept.fates.remove(&mutant.identity());
        }
    }

    /// Notes a fate, on the disk as well.
    pub fn note(&mut self, mutant: &Mutant, fate: Fate) -> Result<()> {
        self.kept.fates.insert(mutant.identity(), fate);
        // Written anew and put in its place, so that being cut off leaves the old one or the new one.
        let new = self.path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(&self.kept)?)
            .and_then(|()| fs::rename(&new, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}
