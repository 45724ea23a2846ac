//! The mutants that are known to change nothing that a test could notice, each with the reason.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::derive::Mutant;

pub const FILE: &str = "tests/mutants/equivalent.toml";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equivalents {
    #[serde(default)]
    equivalent: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `*` for any.
    pub function: String,
    /// As the tool prints it.
    pub mutant: String,
    pub reason: String,
}

impl Equivalents {
    pub fn read(root: &Path) -> Result<Self> {
        Self::parse(&fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?)
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).with_context(|| format!("{FILE} is not as it should be"))
    }

    /// Returns the reason why this mutant changes nothing, if one is known.
    pub fn reason(&self, mutant: &Mutant) -> Option<&str> {
        self.equivalent.iter().find(|entry| entry.is_for(mutant)).map(|entry| &entry.reason[..])
    }

    /// The entries that are for none of all mutants.
    pub fn stale<'e>(&'e self, all: &[Mutant]) -> impl Iterator<Item = &'e Entry> {
        self.equivalent.iter().filter(|entry| !all.iter().any(|mutant| entry.is_for(mutant)))
    }
}

impl Entry {
    fn is_for(&self, mutant: &Mutant) -> bool {
        (self.function == "*" || self.function == mutant.function) && self.mutant == mutant.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive;

    #[test]
    fn an_entry_is_found_by_function_and_text() {
        let (mutants, _) = derive::of_file("src/a.rs", vec!["a".into()], "fn f() { b(); c(); }").unwrap();
        let equivalents = Equivalents::parse(
            "[[equivalent]]\nfunction = 'a::f'\nmutant = 'delete `b();`'\nreason = 'r'
             [[equivalent]]\nfunction = 'a::g'\nmutant = 'delete `c();`'\nreason = 'gone'",
        )
        .unwrap();
        assert_eq!(mutants.iter().map(|it| equivalents.reason(it)).collect::<Vec<_>>(), [Some("r"), None]);
        assert_eq!(equivalents.stale(&mutants).map(|entry| &entry.reason[..]).collect::<Vec<_>>(), ["gone"]);
        assert!(Equivalents::parse("[[equivalent]]\nfunction = 'a'").is_err());
        assert!(Equivalents::parse("").unwrap().equivalent.is_empty());
    }

    #[test]
    fn the_file_can_be_read() {
        Equivalents::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
    }
}
