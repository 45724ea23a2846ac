//! The source and what is to change in it: the text of each mutant, all of a layer in one text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use crate::lists::{Entry, List, Lists};
use crate::orderings;

/// What asks, in a list's new text, whether the mutant was chosen.
pub const SWITCH: &str = "MUT(#)";

/// The bits of the chosen mutant's number, each a variable that is set or not.
pub const VARIABLES: [&str; 10] = [
    "STANCHION_MUTANT_0",
    "STANCHION_MUTANT_1",
    "STANCHION_MUTANT_2",
    "STANCHION_MUTANT_3",
    "STANCHION_MUTANT_4",
    "STANCHION_MUTANT_5",
    "STANCHION_MUTANT_6",
    "STANCHION_MUTANT_7",
    "STANCHION_MUTANT_8",
    "STANCHION_MUTANT_9",
];

/// The files of `src`, by their path from the root of the workspace.
pub type Sources = BTreeMap<String, String>;

/// One thing that can be broken.
#[derive(Debug)]
pub struct Mutant {
    /// From 1 on; 0 is stanchion as it is.
    pub number: usize,
    /// Which of the lists.
    pub list: usize,
    pub file: String,
    /// The file and the function.
    pub place: String,
    pub what: String,
    pub survives: Option<String>,
    /// In order, and apart from each other.
    edits: Vec<Edit>,
}

#[derive(Debug, Clone)]
struct Edit {
    range: Range<usize>,
    new: String,
}

impl Mutant {
    pub fn matches(&self, lists: &Lists, filter: &str) -> bool {
        lists.name(self) == filter || self.place.contains(filter) || self.what.contains(filter)
    }

    /// What tells it from all others, wherever it has moved.
    pub fn identity(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let changes: Vec<_> = self.edits.iter().map(|edit| (edit.range.len(), &edit.new)).collect();
        (&self.place, &self.what, changes).hash(&mut hasher);
        hasher.finish()
    }

    fn overlaps(&self, other: &Self) -> bool {
        // Touching is overlapping, too: of two insertions in one place one would come first.
        let touch = |a: &Edit| other.edits.iter().any(|b| a.range.start <= b.range.end && b.range.start <= a.range.end);
        self.file == other.file && self.edits.iter().any(touch)
    }
}

/// Everything in `src`.
pub fn read(root: &Path) -> Result<Sources> {
    let mut sources = Sources::new();
    let mut folders = vec!["src".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).with_context(|| format!("cannot read {folder}"))? {
            let entry = entry.with_context(|| format!("cannot read {folder}"))?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.ends_with(".rs") {
                let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
                sources.insert(path, text);
            }
        }
    }
    Ok(sources)
}

/// What the source does, comments apart.
pub fn fingerprint(sources: &Sources) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (file, text) in sources {
        file.hash(&mut hasher);
        text.lines().map(str::trim).filter(|line| !line.starts_with("//")).for_each(|line| line.hash(&mut hasher));
    }
    hasher.finish()
}

/// All mutants: the orderings of each list's files, then its entries.
pub fn mutants(lists: &Lists, sources: &Sources) -> Result<Vec<Mutant>> {
    for (file, text) in sources {
        let claims = lists.0.iter().filter(|list| list.files.contains(file)).count();
        if claims != 1 && !orderings::find(text).with_context(|| file.clone())?.is_empty() {
            bail!("{file} has memory orderings, and belongs to {claims} lists: name it in the `files` of one");
        }
    }
    let mut mutants = Vec::new();
    for (index, list) in lists.0.iter().enumerate() {
        of_list(index, list, sources, &mut mutants).with_context(|| format!("in the list {}", list.name))?;
    }
    for (index, mutant) in mutants.iter_mut().enumerate() {
        mutant.number = index + 1;
    }
    if mutants.len() >> VARIABLES.len() > 0 {
        bail!("{} mutants are more than the variables can count", mutants.len());
    }
    Ok(mutants)
}

fn of_list(index: usize, list: &List, sources: &Sources, mutants: &mut Vec<Mutant>) -> Result<()> {
    let text_of = |file: &str| sources.get(file).ok_or_else(|| anyhow!("there is no {file}"));
    let mut explained = HashSet::new();
    for file in &list.files {
        let text = text_of(file)?;
        for found in orderings::find(text)? {
            for weaker in found.weaker {
                let survivor = list.orderings.iter().position(|survivor| {
                    list.file(&survivor.file) == file
                        && survivor.line == found.line
                        && survivor.weaker.as_ref().is_none_or(|name| name == weaker)
                });
                explained.extend(survivor);
                let old = &text[found.range.clone()];
                let new = format!("if {SWITCH} {{ Ordering::{weaker} }} else {{ {old} }}");
                mutants.push(Mutant {
                    number: 0,
                    list: index,
                    file: file.clone(),
                    place: place(file, text, found.range.start),
                    what: format!("{} → {weaker}: `{}`", found.ordering, found.line),
                    survives: survivor.map(|at| list.orderings[at].survives.clone()),
                    edits: vec![Edit { range: found.range.clone(), new }],
                });
            }
        }
    }
    if let Some((_, survivor)) = list.orderings.iter().enumerate().find(|(at, _)| !explained.contains(at)) {
        bail!("no ordering is in the line `{}`, which is explained", survivor.line);
    }

    let mut names = HashSet::new();
    for entry in &list.entries {
        let file = list.file(&entry.file);
        let text = text_of(file)?;
        let edits = edits(entry, text).with_context(|| format!("`{}` in {file}", entry.what))?;
        if !names.insert(&entry.what) {
            bail!("two are called `{}`", entry.what);
        }
        mutants.push(Mutant {
            number: 0,
            list: index,
            file: file.to_owned(),
            place: place(file, text, edits[0].range.start),
            what: entry.what.clone(),
            survives: entry.survives.clone(),
            edits,
        });
    }
    Ok(())
}

fn edits(entry: &Entry, text: &str) -> Result<Vec<Edit>> {
    let mut edits = vec![edit(text, &entry.old, &entry.new, entry.nth)?];
    for also in &entry.also {
        edits.push(edit(text, &also.old, &also.new, also.nth)?);
    }
    edits.sort_by_key(|edit| edit.range.start);
    if edits.windows(2).any(|pair| pair[0].range.end > pair[1].range.start) {
        bail!("its changes overlap");
    }
    Ok(edits)
}

/// Replaces `old` by `new`, or rather what they do not have in common at either end.
fn edit(text: &str, old: &str, new: &str, nth: Option<usize>) -> Result<Edit> {
    let starts: Vec<usize> = text.match_indices(old).map(|(at, _)| at).collect();
    let start = match (nth, &starts[..]) {
        _ if old.is_empty() => bail!("the old text is empty"),
        (_, []) => bail!("the old text is not there (any more):\n{old}"),
        (None, [start]) => *start,
        (None, _) => bail!("the old text is there {} times: say which by `nth`:\n{old}", starts.len()),
        (Some(_), [_]) => bail!("the old text is there once: `nth` is not needed:\n{old}"),
        (Some(nth), _) => match nth.checked_sub(1).and_then(|index| starts.get(index)) {
            Some(start) => *start,
            None => bail!("the old text is there {} times only:\n{old}", starts.len()),
        },
    };
    let same = |pairs: &mut dyn Iterator<Item = (char, char)>| -> usize {
        pairs.take_while(|(old, new)| old == new).map(|(old, _)| old.len_utf8()).sum()
    };
    let before = same(&mut old.chars().zip(new.chars()));
    let (rest_of_old, rest_of_new) = (&old[before..], &new[before..]);
    let after = same(&mut rest_of_old.chars().rev().zip(rest_of_new.chars().rev()));
    let new = &rest_of_new[..rest_of_new.len() - after];
    Ok(Edit { range: start + before..start + old.len() - after, new: new.to_owned() })
}

/// The file and the function that something is in.
fn place(file: &str, text: &str, at: usize) -> String {
    let file = file.trim_start_matches("src/");
    // The line as a whole: the name may stand behind what changes.
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    let name = text[..end].lines().rev().find_map(|line| {
        let code = line.split("//").next().unwrap_or_default();
        let (_, name) = code.split_once("fn ").filter(|(before, _)| before.is_empty() || before.ends_with(' '))?;
        let name = &name[..name.find(['(', '<'])?];
        (!name.is_empty()).then_some(name)
    });
    name.map_or(file.to_owned(), |name| format!("{file} `{name}`"))
}

/// Mutants that can stand in one text. As few layers as come out when each goes to the first that it fits into.
pub fn layers<'m>(mutants: &[&'m Mutant]) -> Vec<Vec<&'m Mutant>> {
    let mut layers: Vec<Vec<&Mutant>> = Vec::new();
    for &mutant in mutants {
        match layers.iter_mut().find(|layer| !layer.iter().any(|other| mutant.overlaps(other))) {
            Some(layer) => layer.push(mutant),
            None => layers.push(vec![mutant]),
        }
    }
    layers
}

/// The sources with all mutants of a layer, none of which does anything unless it is chosen.
pub fn with(sources: &Sources, layer: &[&Mutant]) -> Sources {
    let mut by_file: HashMap<&str, Vec<(&Edit, usize)>> = HashMap::new();
    for mutant in layer {
        by_file.entry(&mutant.file).or_default().extend(mutant.edits.iter().map(|edit| (edit, mutant.number)));
    }
    let mut changed = sources.clone();
    for (file, mut edits) in by_file {
        // From the end, so that what is before stays where it is.
        edits.sort_by_key(|(edit, _)| std::cmp::Reverse(edit.range.start));
        let text = changed.get_mut(file).expect("mutants are made of what is there");
        for (Edit { range, new }, number) in edits {
            text.replace_range(range.clone(), &new.replace(SWITCH, &format!("crate::mutant({number})")));
        }
    }
    let root = changed.get_mut("src/lib.rs").expect("a library has a root");
    root.push_str(&format!(
        "
/// Whether this mutant was chosen. Asking allocates nothing, since tests count that: the variables that are set are empty.
#[allow(dead_code)]
pub(crate) fn mutant(number: usize) -> bool {{
    static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {{
        let variables = {VARIABLES:?};
        let set = |&(_, name): &(usize, &str)| std::env::var_os(name).is_some();
        variables.into_iter().enumerate().filter(set).map(|(bit, _)| 1 << bit).sum()
    }});
    *chosen == number
}}
"
    ));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "fn f() {\n    a(x && y);\n    a(x);\n}\n\npub(crate) fn g<T>() {\n    f.load(Ordering::Acquire);\n}\n";
    const HEAD: &str = "files = ['src/lib.rs']\nmodels = ['m']\ntests = []\n";

    fn made(list: &str) -> Result<(Sources, Vec<Mutant>)> {
        let sources = Sources::from([("src/lib.rs".to_owned(), SOURCE.to_owned())]);
        let lists = Lists(vec![List::parse("l".into(), &[HEAD, list].concat())?]);
        let mutants = mutants(&lists, &sources)?;
        Ok((sources, mutants))
    }

    fn wrong(list: &str) -> String {
        format!("{:#}", made(list).unwrap_err())
    }

    #[test]
    fn mutants_stand_side_by_side() {
        let (sources, mutants) = made(
            "[[mutant]]\nwhat = 'no x'\nold = 'a(x && y)'\nnew = 'a((x || MUT(#)) && y)'
             [[mutant]]\nwhat = 'no y'\nold = 'x && y'\nnew = 'x && (y || MUT(#))'
             [[mutant]]\nwhat = 'no f'\nold = 'a(x'\nnth = 2\nnew = 'if !MUT(#) { a(x'\nalso = [{ old = ';\n}\n\npub', new = '; }\n}\n\npub' }]
             [[mutant]]\nwhat = 'nothing'\nold = 'a(x && y);'\nnew = 'if !MUT(#) { a(x && y); }'"
                .replace("'; }\n}\n\npub'", "\"; }\\n}\\n\\npub\"")
                .replace("';\n}\n\npub'", "\";\\n}\\n\\npub\"")
                .as_str(),
        )
        .unwrap();
        let names: Vec<_> = mutants.iter().map(|it| (it.number, it.place.as_str(), it.what.as_str())).collect();
        assert_eq!(
            names,
            [
                (1, "lib.rs `g`", "Acquire → Relaxed: `f.load(Ordering::Acquire);`"),
                (2, "lib.rs `f`", "no x"),
                (3, "lib.rs `f`", "no y"),
                (4, "lib.rs `f`", "no f"),
                (5, "lib.rs `f`", "nothing"),
            ]
        );
        let layers = layers(&mutants.iter().collect::<Vec<_>>());
        assert_eq!(
            layers.iter().map(|it| it.iter().map(|it| it.number).collect()).collect::<Vec<Vec<_>>>(),
            [vec![1, 2, 3, 4], vec![5]]
        );
        let first = &with(&sources, &layers[0])["src/lib.rs"];
        let expected = "fn f() {\n    a((x || crate::mutant(2)) && (y || crate::mutant(3)));\n    if !crate::mutant(4) { a(x); }\n}\n\n\
            pub(crate) fn g<T>() {\n    f.load(if crate::mutant(1) { Ordering::Relaxed } else { Ordering::Acquire });\n}\n";
        assert!(first.starts_with(expected), "{first}");
        assert!(first.contains("fn mutant("));
        let identities: HashSet<u64> = mutants.iter().map(Mutant::identity).collect();
        assert_eq!(identities.len(), 5);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let entry =
            |old: &str, rest: &str| wrong(&format!("[[mutant]]\nwhat = 'w'\nnew = 'MUT(#)'\nold = '{old}'\n{rest}"));
        assert!(entry("b(x)", "").contains("not there"));
        assert!(entry("a(x", "").contains("there 2 times: say which"));
        assert!(entry("a(x", "nth = 3").contains("2 times only"));
        assert!(entry("a(x", "nth = 0").contains("2 times only"));
        assert!(entry("a(x)", "nth = 1").contains("not needed"));
        assert!(entry("a(x)", "also = [{ old = '(x)', new = '1' }]").contains("overlap"));
        assert!(entry("a(x)", "file = 'src/no.rs'").contains("there is no src/no.rs"));
        assert!(
            wrong("[[ordering]]\nline = 'f.load(Ordering::Release);'\nsurvives = 's'")
                .contains("no ordering is in the line")
        );
    }

    #[test]
    fn an_ordering_cannot_be_forgotten() {
        let sources =
            Sources::from([("src/b.rs".to_owned(), SOURCE.to_owned()), ("src/lib.rs".to_owned(), String::new())]);
        let lists = Lists(vec![List::parse("l".into(), HEAD).unwrap()]);
        let error = mutants(&lists, &sources).unwrap_err().to_string();
        assert_eq!(error, "src/b.rs has memory orderings, and belongs to 0 lists: name it in the `files` of one");
    }

    #[test]
    fn a_survivor_among_the_orderings_is_explained() {
        let explained = "[[ordering]]\nline = 'f.load(Ordering::Acquire);'\nweaker = 'Relaxed'\nsurvives = 'so'";
        assert_eq!(made(explained).unwrap().1[0].survives.as_deref(), Some("so"));
    }

    #[test]
    fn comments_change_nothing() {
        let print = |text: &str| fingerprint(&Sources::from([("src/lib.rs".to_owned(), text.to_owned())]));
        assert_eq!(print("/// A\nfn a() {}"), print("  //! B\n// C\nfn a() {}"));
        assert_ne!(print("fn a() {}"), print("fn b() {}"));
    }
}
