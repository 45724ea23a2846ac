//! Writes all mutants of a file into one text, each behind a switch that the environment throws when a process starts.

use std::ops::Range;

use crate::derive::{Change, Mutant};

/// The bits of the chosen mutant's number, each a variable that is set or not. Asking for one that is not set, or empty,
/// allocates nothing, and there are tests that count allocations.
pub const BITS: [&str; 12] = [
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
    "STANCHION_MUTANT_10",
    "STANCHION_MUTANT_11",
];

/// The number of no mutant: with it, each that is reached writes its number into the file that [`REACHED`] names.
pub const RECORD: usize = (1 << BITS.len()) - 1;
pub const REACHED: &str = "STANCHION_MUTANTS_REACHED";

/// A text with mutants, and where each of them ended up in it.
pub struct Switched {
    pub text: String,
    pub ranges: Vec<(Range<usize>, usize)>,
}

impl Mutant {
    /// The text in its place if it is the only mutant.
    pub fn replacement(&self, text: &str) -> String {
        let old = &text[self.range.clone()];
        match &self.change {
            Change::Delete => String::new(),
            Change::Negate => format!("!({old})"),
            Change::Fix(value) => value.to_string(),
            Change::Replace(new) => new.clone(),
        }
    }

    /// The texts before and after its range. Other mutants inside the range are unaffected.
    fn around(&self, number: usize) -> (String, String) {
        let chosen = format!("crate::mutant({number})");
        match &self.change {
            Change::Delete => (format!("if !{chosen} {{ "), " }".into()),
            Change::Negate => ("((".into(), format!(") != {chosen})")),
            // The operand is evaluated all the same: it may do something.
            Change::Fix(true) => ("((".into(), format!(") || {chosen})")),
            Change::Fix(false) => ("((".into(), format!(") && !{chosen})")),
            Change::Replace(new) => (format!("(if {chosen} {{ {new} }} else {{ "), " })".into()),
        }
    }
}

/// The text of a file with all of `mutants`, which are by number.
pub fn switched(text: &str, mutants: &[(usize, &Mutant)]) -> Switched {
    // From the outside in. Of two with one range either may be the outer one.
    let mut mutants = mutants.to_vec();
    mutants.sort_by_key(|(_, mutant)| (mutant.range.start, std::cmp::Reverse(mutant.range.end)));
    let mut insertions = Vec::new();
    for (order, &(number, mutant)) in mutants.iter().enumerate() {
        let order = order as isize;
        let (before, after) = mutant.around(number);
        insertions.push((mutant.range.start, 1, order, number, before));
        insertions.push((mutant.range.end, 0, -order, number, after));
    }
    // Where one ends and the next begins, the end comes first.
    insertions.sort_by_key(|&(at, opens, order, ..)| (at, opens, order));
    let mut switched = Switched { text: String::new(), ranges: Vec::new() };
    let mut copied = 0;
    let mut open = Vec::new();
    for (at, opens, _, number, inserted) in insertions {
        switched.text += &text[copied..at];
        copied = at;
        if opens == 1 {
            open.push(switched.text.len());
        }
        switched.text += &inserted;
        if opens == 0 {
            let start = open.pop().expect("mutants are nested");
            switched.ranges.push((start..switched.text.len(), number));
        }
    }
    switched.text += &text[copied..];
    switched
}

/// The function that a switched library asks, to be appended to its root.
pub fn question() -> String {
    format!(
        r#"
#[doc(hidden)]
#[inline(never)]
pub fn mutant(number: usize) -> bool {{
    use std::sync::atomic::AtomicBool;
    static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    static REACHED: [AtomicBool; {RECORD}] = [const {{ AtomicBool::new(false) }}; {RECORD}];
    let chosen = *CHOSEN.get_or_init(|| {{
        let is_set = |&(_, name): &(usize, &str)| std::env::var_os(name).is_some();
        {BITS:?}.into_iter().enumerate().filter(is_set).map(|(bit, _)| 1 << bit).sum()
    }});
    if chosen == {RECORD} && !REACHED[number].swap(true, std::sync::atomic::Ordering::Relaxed) {{
        use std::io::Write;
        let file = std::env::var_os({REACHED:?}).expect("where to write");
        let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
        file.and_then(|mut file| file.write_all(format!("{{number}}\n").as_bytes())).expect("it can be written");
    }}
    chosen == number
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive;

    fn all(text: &str) -> String {
        let (mutants, _) = derive::of_file("src/a.rs", Vec::new(), text).unwrap();
        let numbered: Vec<_> = (1..).zip(&mutants).collect();
        let switched = switched(text, &numbered);
        assert_eq!(switched.ranges.len(), mutants.len());
        for (range, number) in &switched.ranges {
            assert!(switched.text[range.clone()].contains(&format!("mutant({number})")));
        }
        switched.text
    }

    #[test]
    fn all_mutants_stand_in_one_text() {
        assert_eq!(all("fn f() { a(); }"), "fn f() { if !crate::mutant(1) { a(); } }");
        assert_eq!(
            all("fn f() { if a && b < 1 { c(d) } }"),
            "fn f() { if ((a) || crate::mutant(1)) && \
             (((if crate::mutant(3) { b <= 1 } else { b < 1 })) || crate::mutant(2)) \
             { if !crate::mutant(4) { c(d) } } }"
        );
        assert_eq!(
            all("fn f() { a.swap(1, Ordering::AcqRel); }"),
            "fn f() { if !crate::mutant(1) { a.swap(1, (if crate::mutant(2) { Ordering::Acquire } else { \
             (if crate::mutant(3) { Ordering::Release } else { Ordering::AcqRel }) })); } }"
        );
        assert_eq!(all("fn f() -> bool { !a }"), "fn f() -> bool { ((!a) != crate::mutant(1)) }");
    }

    #[test]
    fn what_is_switched_parses_and_is_as_before_without_a_choice() {
        let text = "fn f() { while a.is_empty() || !b { match c { D if e == f => g(), _ => h.i += 1 } } }";
        let switched = all(text);
        assert!(syn::parse_file(&switched).is_ok(), "{switched}");
    }

    #[test]
    fn one_alone_replaces_what_it_changes() {
        let text = "const A: u8 = 3;";
        let (mutants, _) = derive::of_file("src/a.rs", Vec::new(), text).unwrap();
        assert_eq!(mutants[0].replacement(text), "(3) + 1");
    }
}
