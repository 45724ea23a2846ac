//! Figures that no time of an operation can show: objects created, the longest wait. They are measured once in each round,
//! for each contender. The report finds them where criterion saves that round.
//!
//! A name is `primitive/kind/work` here too. Of each figure, less is better.

use std::path::PathBuf;
use std::{env, fs};

use regex::Regex;

use super::testing;

/// A name with its unit, and a value.
pub(crate) type Figure = (&'static str, f64);

/// `figures!("name", [A, B], |Contender| work::<Contender>())`: like `compare!`, for a work that measures itself.
macro_rules! figures {
    ($name:expr, [$($contender:ty),+ $(,)?], |$Contender:ident| $work:expr) => {{
        $({
            type $Contender = $contender;
            $crate::common::figures::tell($name, <$Contender as $crate::common::gate::Gate>::NAME, || Vec::from($work));
        })+
    }};
}
pub(crate) use figures;

/// Measures, prints and saves, unless criterion's filter excludes it.
pub(crate) fn tell(group: &str, contender: &str, measure: impl FnOnce() -> Vec<Figure>) {
    let (filter, baseline) = arguments();
    if filter.is_some_and(|filter| !filter.is_match(&format!("{group}/{contender}"))) {
        return;
    }
    let figures = measure();
    let told: Vec<String> = figures.iter().map(|(name, value)| format!("{value:.2} {name}")).collect();
    println!("{group}/{contender}\n{:24}figures: {}", "", told.join(", "));
    if let (Some(home), Some(baseline), false) = (env::var_os("CRITERION_HOME"), baseline, testing()) {
        let folder = PathBuf::from(home).join(group.replace('/', "_")).join(contender).join(baseline);
        // Names are plain words, so that Rust's quotes are JSON's. The fields are called as criterion calls its own.
        let figures: Vec<String> = figures.iter().map(|(name, value)| format!("[{name:?}, {value:?}]")).collect();
        let json = format!(
            "{{ \"group_id\": {group:?}, \"function_id\": {contender:?}, \"figures\": [{}] }}\n",
            figures.join(", ")
        );
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("figures.json"), json));
        written.unwrap_or_else(|error| panic!("cannot write into {}: {error}", folder.display()));
    }
}

/// The filter and the baseline that criterion was given, which it does not disclose. Flags with values are written with
/// `=`.
fn arguments() -> (Option<Regex>, Option<String>) {
    let filter = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let filter = filter.map(|filter| Regex::new(&filter).expect("criterion accepts this filter"));
    let baseline = env::args().find_map(|argument| argument.strip_prefix("--save-baseline=").map(str::to_owned));
    (filter, baseline)
}
