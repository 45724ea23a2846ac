//! TESTING.md is written by hand except for what stands between two markers; that is replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Result, bail};

use crate::lists::Lists;
use crate::results::{By, Fate, How, Results};
use crate::source::Mutant;

const BEGIN: &str = "<!-- mutants:begin -->";
const END: &str = "<!-- mutants:end -->";
/// More than these of those who noticed are only counted.
const NAMED: usize = 2;
/// What stands where the fate of a mutant is not known, or not understood.
const NOT_RUN: &str = "not run yet";
const NOT_EXPLAINED: &str = "not explained yet";

fn split(page: &str) -> Result<(&str, &str, &str)> {
    let Some((before, rest)) = page.split_once(BEGIN) else { bail!("TESTING.md has no line `{BEGIN}`") };
    let Some((between, after)) = rest.split_once(END) else { bail!("TESTING.md has no line `{END}` after `{BEGIN}`") };
    Ok((before, between, after))
}

/// The page with `generated` between its markers.
pub fn replace(page: &str, generated: &str) -> Result<String> {
    let (before, _, after) = split(page)?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", generated.trim()))
}

/// Who has noticed each mutant according to the page, by number: the first to ask.
pub fn hints(page: &str, lists: &Lists, mutants: &[Mutant]) -> Result<BTreeMap<usize, By>> {
    let (_, between, _) = split(page)?;
    let told: BTreeMap<String, &str> = rows(between).collect();
    let hint = |mutant: &Mutant| Some((mutant.number, caught_by(told.get(&row(lists, mutant))?)?));
    Ok(mutants.iter().filter_map(hint).collect())
}

/// The rows of the tables, and who has noticed. A row is known by what it tells of, without the number, which may change
/// by itself.
fn rows(between: &str) -> impl Iterator<Item = (String, &str)> {
    let mut list = "";
    between.lines().filter_map(move |line| {
        list = line.strip_prefix("### ").unwrap_or(list);
        match line.split(" | ").collect::<Vec<&str>>()[..] {
            [number, place, what, catcher] if number.trim_start_matches("| ").parse::<usize>().is_ok() => {
                Some((format!("{list}: {place}: {what}"), catcher.trim_end_matches(" |")))
            }
            _ => None,
        }
    })
}

fn row(lists: &Lists, mutant: &Mutant) -> String {
    format!("{}: {}: {}", lists.name(mutant), cell(&mutant.place), cell(&mutant.what))
}

/// What [`catcher`] was written of, as far as it names them.
fn caught_by(catcher: &str) -> Option<By> {
    let (whose, names) = catcher.split_once('`')?;
    let mut names = names.split('`').step_by(2).map(str::to_owned).take_while(|name| !name.contains(' '));
    match whose.trim().strip_suffix(':') {
        None => Some(By::Model(names.next()?)),
        Some(target) => Some(By::Tests(target.to_owned(), names.collect())),
    }
}

/// Whether the page tells of the mutants that there are, and of no others, and of each how it ended.
pub fn check(page: &str, lists: &Lists, mutants: &[Mutant]) -> Result<()> {
    let (_, between, _) = split(page)?;
    let is_open = |line: &&str| [NOT_RUN, NOT_EXPLAINED].iter().any(|open| line.contains(open));
    let open = between.lines().filter(is_open).map(|line| format!("open: {line}"));
    let told: BTreeSet<String> = rows(between).map(|(row, _)| row).collect();
    let made: BTreeSet<String> = mutants.iter().map(|mutant| row(lists, mutant)).collect();
    let (missing, gone) = (made.difference(&told), told.difference(&made));
    let missing = missing.map(|row| format!("not there: {row}"));
    let gone = gone.map(|row| format!("too much: {row}"));
    let wrong: Vec<String> = missing.chain(gone).chain(open).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "TESTING.md does not tell of each mutant how it ended; `cargo run --release -p mutants` finds it out, and whoever \
         survives needs a test, or `survives = \"why\"` in its list:\n{}",
        wrong.join("\n")
    );
}

/// What stands between the markers.
pub fn generated(lists: &Lists, mutants: &[Mutant], results: &Results) -> String {
    let fates: Vec<(&Mutant, Option<&Fate>)> = mutants.iter().map(|mutant| (mutant, results.get(mutant))).collect();
    let count = |is: &dyn Fn(Option<&Fate>) -> bool| fates.iter().filter(|(_, fate)| is(*fate)).count();
    let by_models = count(&|fate| matches!(fate, Some(Fate::Caught { by: By::Model(_), .. })));
    let by_tests = count(&|fate| matches!(fate, Some(Fate::Caught { by: By::Tests(..), .. })));
    let survived = count(&|fate| fate == Some(&Fate::Survived));
    let mut text =
        format!("{} mutants: {by_models} caught by a model, {by_tests} by a test, {survived} survive", fates.len());
    match count(&|fate| fate.is_none()) {
        0 => text += ".\n",
        missing => writeln!(text, ", {missing} {NOT_RUN}.").expect(TAKES),
    }
    for (index, list) in lists.0.iter().enumerate() {
        writeln!(text, "\n### {}\n\n| # | where | what is weaker | caught by |\n|--:|---|---|---|", list.name)
            .expect(TAKES);
        let of_list = || fates.iter().filter(|(mutant, _)| mutant.list == index);
        for (mutant, fate) in of_list() {
            let (place, what) = (cell(&mutant.place), cell(&mutant.what));
            writeln!(text, "| {} | {place} | {what} | {} |", mutant.number, catcher(*fate)).expect(TAKES);
        }
        let survivors: Vec<_> = of_list().filter(|(_, fate)| *fate == Some(&Fate::Survived)).collect();
        if !survivors.is_empty() {
            writeln!(text, "\nWhy some survive:\n").expect(TAKES);
        }
        for (mutant, _) in survivors {
            let why = mutant.survives.as_deref().unwrap_or(NOT_EXPLAINED).trim();
            writeln!(text, "- {}: {why}", mutant.number).expect(TAKES);
        }
    }
    text
}

const TAKES: &str = "a string takes everything";

fn catcher(fate: Option<&Fate>) -> String {
    let (by, how) = match fate {
        Some(Fate::Caught { by, how }) => (by, how),
        Some(Fate::Survived) => return "**survives**".into(),
        None => return NOT_RUN.into(),
    };
    let how = match how {
        How::Failed => "",
        How::Aborted => ", which aborts",
        How::Hung => ", which hangs",
    };
    match by {
        By::Model(name) => format!("model `{name}`{how}"),
        By::Tests(target, names) => {
            let named: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
            let others = names.len().saturating_sub(NAMED);
            let others = if others > 0 { format!(" and {others} more") } else { String::new() };
            format!("{target}: {}{others}{how}", named.join(", "))
        }
    }
}

/// As it may stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::List;
    use crate::source::{self, Sources};

    fn example() -> (Lists, Vec<Mutant>, Results) {
        let list = "files = ['src/lib.rs']\nmodels = ['m']\ntests = []
            [[mutant]]\nwhat = 'no a'\nold = 'a'\nnew = 'a || MUT(#)'
            [[mutant]]\nwhat = 'no b || c'\nold = 'b'\nnew = 'b || MUT(#)'
            [[mutant]]\nwhat = 'no d'\nold = 'd'\nnew = 'd || MUT(#)'\nsurvives = 'as it should'";
        let lists = Lists(vec![List::parse("l".into(), list).unwrap()]);
        let sources = Sources::from([("src/lib.rs".to_owned(), "a; b; d".to_owned())]);
        let mutants = source::mutants(&lists, &sources).unwrap();
        let folder = std::env::temp_dir().join(format!(
            "stanchion-page-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let mut results = Results::open(&folder.join("results"), &sources).unwrap();
        let fates = [
            Fate::Caught { by: By::Model("m".into()), how: How::Aborted },
            Fate::Caught { by: By::Tests("t".into(), ["x", "y", "z"].map(str::to_owned).into()), how: How::Failed },
            Fate::Survived,
        ];
        for (mutant, fate) in mutants.iter().zip(fates) {
            results.note(mutant, fate).unwrap();
        }
        // They are read back as they were written.
        let results = Results::open(&folder.join("results"), &sources).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        (lists, mutants, results)
    }

    #[test]
    fn a_whole_page() {
        let (lists, mutants, results) = example();
        let text = generated(&lists, &mutants, &results);
        let expected = "\
3 mutants: 1 caught by a model, 1 by a test, 1 survive.

### l

| # | where | what is weaker | caught by |
|--:|---|---|---|
| 1 | lib.rs | no a | model `m`, which aborts |
| 2 | lib.rs | no b \\|\\| c | t: `x`, `y` and 1 more |
| 3 | lib.rs | no d | **survives** |

Why some survive:

- 3: as it should
";
        assert_eq!(text, expected);
        let page = replace(&format!("{BEGIN}{END}"), &text).unwrap();
        check(&page, &lists, &mutants).unwrap();
        let error = check(&page.replace("no d", "no e"), &lists, &mutants).unwrap_err().to_string();
        assert!(error.ends_with("not there: l: lib.rs: no d\ntoo much: l: lib.rs: no e"), "{error}");
        let mut forgetful = results;
        forgetful.forget(&[&mutants[2]]);
        let text = generated(&lists, &mutants, &forgetful);
        assert!(text.starts_with("3 mutants: 1 caught by a model, 1 by a test, 0 survive, 1 not run yet.\n"), "{text}");
        assert!(text.ends_with("| 3 | lib.rs | no d | not run yet |\n"), "{text}");
        let error = check(&replace(&page, &text).unwrap(), &lists, &mutants).unwrap_err().to_string();
        assert!(error.ends_with("open: | 3 | lib.rs | no d | not run yet |"), "{error}");
        let error = check(&page.replace("as it should", NOT_EXPLAINED), &lists, &mutants).unwrap_err().to_string();
        assert!(error.ends_with(":\nopen: - 3: not explained yet"), "{error}");
        let hints = hints(&page, &lists, &mutants).unwrap();
        let tests = ["x", "y"].map(str::to_owned).into();
        assert_eq!(hints, BTreeMap::from([(1, By::Model("m".into())), (2, By::Tests("t".into(), tests))]));
        // It is the same when the numbers have moved on.
        check(&page.replace("| 3 |", "| 7 |"), &lists, &mutants).unwrap();
    }

    #[test]
    fn what_is_outside_the_markers_stays() {
        let page = "before\n<!-- mutants:begin -->\nold\n<!-- mutants:end -->\nafter\n";
        let once = replace(page, "new\n").unwrap();
        assert_eq!(once, "before\n<!-- mutants:begin -->\n\nnew\n\n<!-- mutants:end -->\nafter\n");
        assert_eq!(replace(&once, "new").unwrap(), once);
    }

    #[test]
    fn a_missing_marker_is_named() {
        let begin = replace(END, "").unwrap_err().to_string();
        assert_eq!(begin, "TESTING.md has no line `<!-- mutants:begin -->`");
        let end = replace(&[END, BEGIN].concat(), "").unwrap_err().to_string();
        assert_eq!(end, "TESTING.md has no line `<!-- mutants:end -->` after `<!-- mutants:begin -->`");
    }
}
