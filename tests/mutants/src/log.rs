//! The fate of each mutant when it was last run, in `target/mutants/log.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::derive::Mutant;
use crate::hunt::{By, Fate};

const FILE: &str = "mutants/log.txt";

pub struct Log {
    path: PathBuf,
    /// By what stays when lines move.
    fates: BTreeMap<String, (String, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Caught(By),
    Survived,
    Invalid,
}

impl Log {
    /// Reads what former runs have left of these mutants.
    pub fn read(target: &Path, mutants: &[Mutant]) -> Self {
        let path = target.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let known: BTreeSet<String> = mutants.iter().map(identity).collect();
        Self { path, fates: text.lines().filter_map(parse).filter(|(identity, _)| known.contains(identity)).collect() }
    }

    pub fn fate(&self, mutant: &Mutant) -> Option<Kind> {
        self.fates.get(&identity(mutant)).map(|(_, kind)| *kind)
    }

    /// Writes at once, so that a run that is stopped leaves what it has found.
    pub fn add(&mut self, mutant: &Mutant, shown: &str, fate: &Fate) -> Result<()> {
        self.fates.insert(identity(mutant), (format!("{shown}: {fate:?}\n"), Kind::from(fate)));
        let text: String = self.fates.values().map(|(line, _)| &line[..]).collect();
        let new = self.path.with_extension("new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, &self.path)?)
    }
}

impl From<&Fate> for Kind {
    fn from(fate: &Fate) -> Self {
        match fate {
            Fate::Caught { by, .. } => Self::Caught(*by),
            Fate::Survived { .. } => Self::Survived,
            Fate::Invalid => Self::Invalid,
        }
    }
}

fn identity(mutant: &Mutant) -> String {
    format!("{}: {}: {}", mutant.file, mutant.function, mutant.text)
}

/// Reads `file:line: function: text: fate`.
fn parse(line: &str) -> Option<(String, (String, Kind))> {
    let kinds = [
        (": Caught { by: Test", Kind::Caught(By::Test)),
        (": Caught { by: Model", Kind::Caught(By::Model)),
        (": Survived {", Kind::Survived),
        (": Invalid", Kind::Invalid),
    ];
    let (end, kind) = kinds.into_iter().find_map(|(sign, kind)| Some((line.rfind(sign)?, kind)))?;
    let (file, rest) = line[..end].split_once(':')?;
    let (_, rest) = rest.split_once(": ")?;
    Some((format!("{file}: {rest}"), (format!("{line}\n"), kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let line = "src/a.rs:7: a::f: `b: c` -> `true`: Survived { is_reached: true }";
        let (identity, (whole, kind)) = parse(line).unwrap();
        assert_eq!((&identity[..], kind), ("src/a.rs: a::f: `b: c` -> `true`", Kind::Survived));
        assert_eq!(whole, format!("{line}\n"));
        let caught = "src/a.rs:7: a::f: delete `g();`: Caught { by: Model, how: \"m: fails\" }";
        assert_eq!(parse(caught).unwrap().1.1, Kind::Caught(By::Model));
        assert_eq!(parse("src/a.rs:7: a::f: delete `g();`: Invalid").unwrap().1.1, Kind::Invalid);
        assert!(parse("src/a.rs:7: a::f").is_none());
    }
}
