//! The table in TESTING.md: one row for each file, as its mutants' last runs left it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- mutants:begin -->\n";
const END: &str = "<!-- mutants:end -->";
const HEAD: &str =
    "| file | mutants | caught by a test | caught by a model | equivalent | survive |\n|---|--:|--:|--:|--:|--:|\n";

/// The fates of a file's mutants.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub tests: usize,
    pub models: usize,
    pub equivalent: usize,
    pub survive: usize,
}

impl Counts {
    pub fn total(&self) -> usize {
        self.tests + self.models + self.equivalent + self.survive
    }

    fn row(&self, name: &str) -> String {
        let Self { tests, models, equivalent, survive } = self;
        format!("| {name} | {} | {tests} | {models} | {equivalent} | {survive} |\n", self.total())
    }

    fn parse(row: &str) -> Option<(String, Self)> {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, _, tests, models, equivalent, survive, _] = cells[..] else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        let number = |cell: &str| cell.parse().ok();
        let counts = Self {
            tests: number(tests)?,
            models: number(models)?,
            equivalent: number(equivalent)?,
            survive: number(survive)?,
        };
        Some((name, counts))
    }
}

/// Returns the page with the rows of `new`. The rows of other files stay as long as `is_file`.
pub fn updated(page: &str, new: BTreeMap<String, Counts>, is_file: impl Fn(&str) -> bool) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("TESTING.md has no line {BEGIN}"))?;
    let (table, after) = rest.split_once(END).with_context(|| format!("TESTING.md has no line {END}"))?;
    let mut rows: BTreeMap<String, Counts> = table.lines().filter_map(Counts::parse).collect();
    rows.extend(new);
    rows.retain(|file, _| is_file(file));
    let mut sum = Counts::default();
    let mut table = HEAD.to_owned();
    for (file, counts) in &rows {
        table += &counts.row(&format!("`{file}`"));
        sum.tests += counts.tests;
        sum.models += counts.models;
        sum.equivalent += counts.equivalent;
        sum.survive += counts.survive;
    }
    table += &sum.row("all");
    Ok([before, BEGIN, &table, END, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_replaced_and_the_others_stay() {
        let counts = |tests| Counts { tests, models: 2, equivalent: 1, survive: 0 };
        let page = format!("a\n{BEGIN}{END}\nb");
        let new = |names: &[(&str, usize)]| names.iter().map(|&(name, n)| (name.to_owned(), counts(n))).collect();
        let page = updated(&page, new(&[("src/a.rs", 3), ("src/b.rs", 4), ("src/c.rs", 5)]), |_| true).unwrap();
        let page = updated(&page, new(&[("src/b.rs", 7)]), |file| file != "src/c.rs").unwrap();
        let rows =
            "| `src/a.rs` | 6 | 3 | 2 | 1 | 0 |\n| `src/b.rs` | 10 | 7 | 2 | 1 | 0 |\n| all | 16 | 10 | 4 | 2 | 0 |\n";
        assert_eq!(page, format!("a\n{BEGIN}{HEAD}{rows}{END}\nb"));
        assert!(updated("a", BTreeMap::new(), |_| true).is_err());
    }
}
