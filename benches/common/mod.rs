//! Code that the benches share: how long they measure, and how each contender gets the same work.
//!
//! A *work* is written once, as a function generic over the contender, and [`compare!`] runs it for each of them in one
//! criterion group, one right after the other: same code, same executor, same minute. Nothing is boxed or called
//! through a table unless the work says so, since one such call costs as much as what is measured here.
//!
//! A group is named `primitive/kind/work`. The report has a list of groups that are on its page (`report/rows.rs`) and
//! measures only those by default, so that a name that changes here changes there too.
#![allow(dead_code, unused_imports, unused_macros)] // No bench needs everything.

pub(crate) mod figures;
pub(crate) mod gate;
pub(crate) mod threads;

use std::env;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

pub(crate) type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Short measurements, since the report repeats whole rounds of them: noise that lasts for seconds spoils one round for
/// every contender alike, and the median over the rounds leaves it out.
pub(crate) fn criterion() -> Criterion {
    criterion_measuring_for(Duration::from_millis(500))
}

/// The same with another time for each measurement: shorter where there are many.
pub(crate) fn criterion_measuring_for(time: Duration) -> Criterion {
    Criterion::default()
        .without_plots()
        .warm_up_time(time.mul_f64(0.4))
        .measurement_time(time)
        .sample_size(20)
        // The report needs the median alone, not the confidence interval that many resamples would sharpen.
        .nresamples(2_000)
        .configure_from_args()
}

/// Whether each work is to be done just once, to see that it can be done: then it need not be large. This is how
/// criterion tells it.
pub(crate) fn testing() -> bool {
    let given = |flag| env::args().any(|argument| argument == flag);
    given("--test") || !given("--bench")
}

/// Numbers in no order, the same for every contender, at the price of a multiplication.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    pub(crate) fn roll(&mut self) -> u32 {
        // Knuth's generator for MMIX; only its upper half is random enough.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Fewer than 2^32.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((u64::from(self.roll()) * limit as u64) >> 32) as usize
    }
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

/// Runs them one after the other. The report sets `STANCHION_ROUND` to the number of earlier rounds, and in each round
/// another contender begins: no contender is always the first on a cold runtime, or always inherits the heap of the same
/// other.
pub(crate) fn take_turns(group: &mut Group<'_>, mut works: Vec<Work<'_>>) {
    let round = env::var("STANCHION_ROUND").ok().and_then(|round| round.parse().ok()).unwrap_or(0_usize);
    let first = round % works.len();
    works.rotate_left(first);
    for work in works {
        work(group);
    }
}
