//! The lists: a file for each part of the source, with what to break in it and what should notice.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::source::{Mutant, SWITCH};

/// All lists, in the order of their names.
#[derive(Debug)]
pub struct Lists(pub Vec<List>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The file's, without its ending.
    #[serde(skip)]
    pub name: String,
    /// The sources that it is about. Their orderings are run with what is named here; the first is meant where an entry
    /// names none.
    pub files: Vec<String>,
    /// Files of `tests/loom`, whose models may notice.
    pub models: Vec<String>,
    /// Test targets that may: `lib`, or `target`, or `target::filter`.
    pub tests: Vec<String>,
    #[serde(default, rename = "mutant")]
    pub entries: Vec<Entry>,
    #[serde(default, rename = "ordering")]
    pub orderings: Vec<Survivor>,
}

/// One thing to break.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub file: Option<String>,
    pub what: String,
    pub old: String,
    pub new: String,
    /// Which one, if `old` is there more than once; the first is 1.
    pub nth: Option<usize>,
    /// What else must change in the same file.
    #[serde(default)]
    pub also: Vec<Change>,
    /// Why nothing can notice.
    pub survives: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub old: String,
    pub new: String,
    pub nth: Option<usize>,
}

/// Why nothing notices a weaker ordering.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survivor {
    pub file: Option<String>,
    /// Without the blanks around it.
    pub line: String,
    /// If there are several weaker ones.
    pub weaker: Option<String>,
    pub survives: String,
}

impl Lists {
    pub fn read(folder: &Path) -> Result<Self> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        let mut lists = Vec::new();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "toml")) {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            lists.push(List::parse(name, &text).with_context(|| format!("{} is not a list", path.display()))?);
        }
        if lists.is_empty() {
            bail!("{} has no lists", folder.display());
        }
        lists.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self(lists))
    }

    pub fn of(&self, mutant: &Mutant) -> &List {
        &self.0[mutant.list]
    }

    pub fn name(&self, mutant: &Mutant) -> &str {
        &self.of(mutant).name
    }
}

impl List {
    pub fn parse(name: String, text: &str) -> Result<Self> {
        let list: Self = toml::from_str(text)?;
        if list.files.is_empty() || list.models.is_empty() && list.tests.is_empty() {
            bail!("`files` and `models` or `tests` say what it is about and who should notice");
        }
        for entry in &list.entries {
            let mut texts = entry.also.iter().map(|also| &also.new).chain([&entry.new]);
            if !texts.any(|new| new.contains(SWITCH)) {
                bail!("`{}`: the new text lacks {SWITCH}", entry.what);
            }
        }
        Ok(Self { name, ..list })
    }

    pub fn file<'a>(&'a self, file: &'a Option<String>) -> &'a str {
        file.as_ref().unwrap_or(&self.files[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "files = ['src/a.rs']\nmodels = ['a']\ntests = []\n";

    #[test]
    fn a_list() {
        let entries = "[[mutant]]\nwhat = 'x'\nold = 'y'\nnew = 'MUT(#) || y'\nnth = 2\nsurvives = 'so'
            [[mutant]]\nfile = 'src/b.rs'\nwhat = 'z'\nold = '''\nan\nd'''\nnew = 'MUT(#)'\nalso = [{ old = '1', new = '2' }]
            [[ordering]]\nline = 'l'\nsurvives = 's'";
        let list = List::parse("n".into(), &[HEAD, entries].concat()).unwrap();
        let [x, z] = &list.entries[..] else { panic!("{list:?}") };
        assert_eq!((list.file(&x.file), x.nth, x.survives.as_deref()), ("src/a.rs", Some(2), Some("so")));
        assert_eq!((list.file(&z.file), z.old.as_str(), z.also.len()), ("src/b.rs", "an\nd", 1));
        assert_eq!((list.name.as_str(), list.orderings[0].line.as_str()), ("n", "l"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let wrong = |text: &str| format!("{:#}", List::parse(String::new(), text).unwrap_err());
        assert!(wrong(&[HEAD, "tets = []"].concat()).contains("unknown field"));
        let entry = "[[mutant]]\nwhat = 'it'\nold = 'y'\nnew = 'x'\n";
        assert_eq!(wrong(&[HEAD, entry].concat()), "`it`: the new text lacks MUT(#)");
        assert!(wrong(&[HEAD, entry, "olt = 'x'\n"].concat()).contains("olt"));
        assert!(wrong("files = []\nmodels = ['a']\ntests = []").contains("what it is about"));
    }
}
