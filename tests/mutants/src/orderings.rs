//! The memory orderings in the source, and what is weaker.

use std::ops::Range;

use anyhow::{Result, bail};

const PREFIX: &str = "Ordering::";

/// A memory ordering that can be weakened.
#[derive(Debug, PartialEq)]
pub struct Found<'s> {
    /// Of the whole `Ordering::Name`.
    pub range: Range<usize>,
    pub ordering: &'s str,
    /// One step weaker, as the operation allows.
    pub weaker: &'static [&'static str],
    /// The line it stands in, without the blanks around it.
    pub line: &'s str,
}

/// All that is stronger than relaxed, comments apart. `std::cmp::Ordering` has other names.
pub fn find(source: &str) -> Result<Vec<Found<'_>>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let code = line.find("//").map_or(line, |comment| &line[..comment]);
        for (at, _) in code.match_indices(PREFIX) {
            let name = &code[at + PREFIX.len()..];
            if name.starts_with(['{', '*']) {
                bail!(
                    "`{}`: write {PREFIX}Acquire and so on where they are used, so that each can be found",
                    line.trim()
                );
            }
            let ordering = &name[..name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len())];
            let range = start + at..start + at + PREFIX.len() + ordering.len();
            let weaker = weaker(ordering, called(&source[..range.start]));
            if !weaker.is_empty() {
                found.push(Found { range, ordering, weaker, line: line.trim() });
            }
        }
        start += line.len();
    }
    Ok(found)
}

/// The name of the function that the text after `before` is an argument of.
fn called(before: &str) -> &str {
    let mut open = 0;
    let start = before.rfind(|c| {
        open += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        open == 1
    });
    let before = &before[..start.unwrap_or(0)];
    let name = before.rfind(|c: char| c != '_' && !c.is_alphanumeric()).map_or(0, |at| at + 1);
    &before[name..]
}

fn weaker(ordering: &str, operation: &str) -> &'static [&'static str] {
    match (ordering, operation) {
        ("Acquire" | "Release", _) => &["Relaxed"],
        ("AcqRel", _) => &["Acquire", "Release"],
        ("SeqCst", "load") => &["Acquire"],
        ("SeqCst", "store") => &["Release"],
        ("SeqCst", _) => &["AcqRel"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_once_with_what_is_weaker() {
        let source = "// Ordering::Acquire\nuse std::cmp::Ordering;\n  x.load(Ordering::Acquire); // Ordering::Release\n\
            x.store(y.load(Ordering::Relaxed), Ordering::SeqCst);\nx.load(Ordering::SeqCst)\n\
            x.compare_exchange(1, 2, Ordering::AcqRel, Ordering::Relaxed)\nfence(Ordering::SeqCst)\nOrdering::Less";
        let found = find(source).unwrap();
        let told: Vec<_> =
            found.iter().map(|it| (it.ordering, it.weaker.concat(), &source[it.range.clone()])).collect();
        assert_eq!(
            told,
            [
                ("Acquire", "Relaxed".into(), "Ordering::Acquire"),
                ("SeqCst", "Release".into(), "Ordering::SeqCst"),
                ("SeqCst", "Acquire".into(), "Ordering::SeqCst"),
                ("AcqRel", "AcquireRelease".into(), "Ordering::AcqRel"),
                ("SeqCst", "AcqRel".into(), "Ordering::SeqCst"),
            ]
        );
        assert_eq!(found[0].line, "x.load(Ordering::Acquire); // Ordering::Release");
    }

    #[test]
    fn none_is_hidden() {
        assert!(find("use std::sync::atomic::Ordering::{Acquire, Release};").is_err());
        assert!(find("use std::sync::atomic::Ordering::*;").is_err());
    }
}
