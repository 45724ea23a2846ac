//! What no time per operation can tell: connections opened, the longest wait. Such figures are measured once per round
//! and contender. The report finds them where criterion keeps the results of that round.
//!
//! A group is named `primitive/kind/work` here too; all works of a kind tell the same figures.

use std::path::PathBuf;
use std::{env, fs};

use super::testing;

/// What it is, with its unit, and how much.
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

pub(crate) fn tell(group: &str, contender: &str, measure: impl FnOnce() -> Vec<Figure>) {
    let Arguments { filter, baseline } = Arguments::read();
    if filter.is_some_and(|filter| !format!("{group}/{contender}").contains(&filter)) {
        return;
    }
    let figures = measure();
    let told: Vec<String> = figures.iter().map(|(name, value)| format!("{value:.2} {name}")).collect();
    println!("{group}/{contender}\n{:24}figures: {}", "", told.join(", "));
    if let (Some(home), Some(baseline), false) = (env::var_os("CRITERION_HOME"), baseline, testing()) {
        let folder = PathBuf::from(home).join(group.replace('/', "_")).join(contender).join(baseline);
        // Names are plain words, so that Rust's quotes are JSON's.
        let figures: Vec<String> = figures.iter().map(|(name, value)| format!("[{name:?}, {value:?}]")).collect();
        let json = format!(
            "{{ \"group\": {group:?}, \"contender\": {contender:?}, \"figures\": [{}] }}\n",
            figures.join(", ")
        );
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("figures.json"), json));
        written.unwrap_or_else(|error| panic!("cannot write into {}: {error}", folder.display()));
    }
}

/// Criterion keeps what it was told to itself. A filter is a regular expression to it; here it has to stand in the name
/// as it is.
struct Arguments {
    filter: Option<String>,
    baseline: Option<String>,
}

impl Arguments {
    fn read() -> Self {
        let (mut filter, mut baseline) = (None, None);
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            if argument == "--save-baseline" {
                baseline = arguments.next();
            } else if !argument.starts_with('-') {
                filter = Some(argument);
            }
        }
        Self { filter, baseline }
    }
}
