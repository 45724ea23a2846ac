//! What every bench shares: how long it measures, and how a work is put to all contenders.
//!
//! A *work* is written once, as a function generic over the contender, and [`compare!`] runs it for each of them in one
//! criterion group, one right after the other: same code, same executor, same minute. Nothing is boxed or called
//! through a table unless the work says so, since one such call costs as much as what is measured here.
//!
//! A group is named `primitive/kind/work`, and the report makes its tables and charts of the three parts. The kinds are
//! called so that their alphabetical order is a good order to read: `free`, `queue`, `runtime`, `storm`.

pub(crate) mod gate;

use std::env;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

pub(crate) type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Short measurements, since the report repeats whole rounds of them: noise that lasts for seconds spoils one round for
/// every contender alike, and the median over the rounds leaves it out.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20)
        // The report needs the median alone, not the confidence interval that many resamples would sharpen.
        .nresamples(2_000)
        .configure_from_args()
}

/// `compare!(criterion, "name", [A, B], |group, Contender| work::<Contender>(group))` makes the criterion group `name`
/// and runs the work in it with `Contender` standing for `A`, then for `B`.
macro_rules! compare {
    ($criterion:expr, $name:expr, [$($contender:ty),+ $(,)?], |$group:ident, $Contender:ident| $work:expr) => {{
        let works: Vec<$crate::common::Work<'_>> = vec![$({
            type $Contender = $contender;
            Box::new(|$group| $work)
        }),+];
        $crate::common::take_turns(&mut $criterion.benchmark_group($name), works);
    }};
}
pub(crate) use compare;

/// A work with the contender filled in. The box is around the whole benchmark, not inside what is measured.
pub(crate) type Work<'a> = Box<dyn Fn(&mut Group<'_>) + 'a>;

/// Runs them one after the other. The report says in `STANCHION_ROUND` how often it has done so before, and each time
/// another contender begins: to be the first on a cold runtime, or to inherit the heap of some other, is luck that
/// nobody shall have every time.
pub(crate) fn take_turns(group: &mut Group<'_>, mut works: Vec<Work<'_>>) {
    let round = env::var("STANCHION_ROUND").ok().and_then(|round| round.parse().ok()).unwrap_or(0_usize);
    let first = round % works.len();
    works.rotate_left(first);
    for work in works {
        work(group);
    }
}
