//! Models that tell how a cost grows, and the least squares that fit them to what was measured.
//!
//! A model has few coefficients, none of them negative, each with a meaning that one can point at: what an operation
//! does at least, what it does again for each level of an index, what a memory that is further away costs. What counts
//! is the relative error, since the points lie decades apart.

use std::fmt::{self, Display, Formatter};

use crate::machine::Caches;
use crate::table::nanoseconds;

/// One thing that adds to the cost of an operation where there are `n`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Term {
    /// What it always costs.
    Always,
    /// What is done once for all of them.
    Shared,
    /// What is done where somebody else is there.
    Company,
    /// What is done at each level of an index.
    Levels,
    /// What it costs to be beyond the second level of the processor's caches, at so many bytes for each of the `n`.
    BeyondL2(f64),
    /// The same for the third level.
    BeyondL3(f64),
}

impl Term {
    fn at(self, n: f64, caches: Caches) -> f64 {
        // What a cache holds of so many bytes that are used at random.
        let beyond = |size, bytes| f64::max(0.0, 1.0 - size / (bytes * n));
        match self {
            Self::Always => 1.0,
            Self::Shared => 1.0 / n,
            Self::Company => f64::from(n > 1.0),
            Self::Levels => (1.0 + n).log2(),
            Self::BeyondL2(bytes) => beyond(caches.l2, bytes),
            Self::BeyondL3(bytes) => beyond(caches.l3, bytes),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Always => "",
            Self::Shared => " / n",
            Self::Company => " · [n > 1]",
            Self::Levels => " · log₂(1 + n)",
            Self::BeyondL2(_) => " · L2(n)",
            Self::BeyondL3(_) => " · L3(n)",
        }
    }
}

/// A model whose coefficients are known, in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    Sum { terms: Vec<(Term, f64)>, caches: Caches },
    Threads(Threads),
}

/// Threads share the cores, except in the serial part, which only one can be in; who comes after another thread waits
/// for what that one wrote, or for being woken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threads {
    /// What an operation takes where nobody else is there.
    pub alone: f64,
    pub serial: f64,
    pub hand_over: f64,
    pub cores: f64,
}

impl Threads {
    /// Per operation of all `n` threads together.
    fn at(self, n: f64) -> f64 {
        if n > 1.0 { self.work(n) + self.hand_over } else { self.alone }
    }

    fn work(self, n: f64) -> f64 {
        f64::max(self.alone / n.min(self.cores), self.serial)
    }

    /// With a thread on each of so many cores. That the hand-over stays what it is, is an assumption.
    pub fn on(self, cores: f64) -> f64 {
        Self { cores, ..self }.at(cores)
    }

    /// What takes most of the time there.
    pub fn bound_on(self, cores: f64) -> &'static str {
        let parallel = self.alone / cores;
        if self.hand_over > f64::max(parallel, self.serial) {
            "hand-over"
        } else if self.serial >= parallel {
            "serial part"
        } else {
            "number of cores"
        }
    }
}

impl Model {
    pub fn at(&self, n: f64) -> f64 {
        match self {
            Self::Sum { terms, caches } => {
                terms.iter().map(|(term, coefficient)| coefficient * term.at(n, *caches)).sum()
            }
            Self::Threads(threads) => threads.at(n),
        }
    }
}

/// As a formula.
impl Display for Model {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sum { terms, .. } => {
                let terms = terms.iter().map(|&(term, coefficient)| nanoseconds(coefficient) + term.name());
                f.write_str(&terms.collect::<Vec<_>>().join(" + "))
            }
            Self::Threads(Threads { alone, serial, hand_over, cores }) => {
                let [alone, serial, hand_over] = [*alone, *serial, *hand_over].map(nanoseconds);
                write!(f, "{alone} alone, else max({alone} / min(n, {cores}), {serial}) + {hand_over}")
            }
        }
    }
}

/// A model beside the points that it was fitted to.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    pub model: Model,
    /// Relative errors: the root of the mean square, and the greatest.
    pub typical: f64,
    pub greatest: f64,
}

/// What was measured: how many there were, and nanoseconds.
pub type Point = (f64, f64);

impl Fit {
    fn new(model: Model, points: &[Point]) -> Self {
        let errors = || points.iter().map(|&(n, time)| model.at(n) / time - 1.0);
        let square = errors().map(|error| error * error).sum::<f64>() / points.len() as f64;
        let greatest = errors().map(f64::abs).fold(0.0, f64::max);
        Self { typical: square.sqrt(), greatest, model }
    }

    /// With those of the terms that explain the points best, but fewer of them than there are points; `None` if there
    /// are not even two.
    pub fn sum(points: &[Point], terms: &[Term], caches: Caches) -> Option<Self> {
        let mut best: Option<Self> = None;
        for chosen in 1..1_u32 << terms.len() {
            let chosen: Vec<Term> =
                (0..terms.len()).filter(|index| chosen & (1 << index) != 0).map(|index| terms[index]).collect();
            if chosen.len() >= points.len() {
                continue;
            }
            // Divided by the time, so that the errors are relative.
            let row = |&(n, time): &Point| chosen.iter().map(|term| term.at(n, caches) / time).collect();
            let Some(coefficients) = least_squares(&points.iter().map(row).collect::<Vec<_>>()) else { continue };
            if coefficients.iter().any(|&coefficient| coefficient < 0.0) {
                continue;
            }
            let fit = Self::new(Model::Sum { terms: chosen.into_iter().zip(coefficients).collect(), caches }, points);
            // The terms come in the order of their importance: of equals the first is the simpler one.
            if best.as_ref().is_none_or(|best| fit.typical < best.typical - 1e-9) {
                best = Some(fit);
            }
        }
        best
    }

    /// The hand-over is what is left to be explained; `None` without a point for one thread and another for more.
    pub fn threads(points: &[Point], serial: f64, cores: f64) -> Option<Self> {
        let &(_, alone) = points.iter().find(|&&(n, _)| n == 1.0)?;
        let mut threads = Threads { alone, serial, hand_over: 0.0, cores };
        let (mut left, mut weights) = (0.0, 0.0);
        for &(n, time) in points.iter().filter(|&&(n, _)| n > 1.0) {
            left += (time - threads.work(n)) / (time * time);
            weights += 1.0 / (time * time);
        }
        if weights == 0.0 {
            return None;
        }
        threads.hand_over = f64::max(0.0, left / weights);
        Some(Self::new(Model::Threads(threads), points))
    }
}

/// The coefficients with which the columns come closest to 1 in all rows; `None` if the columns depend on each other.
fn least_squares(rows: &[Vec<f64>]) -> Option<Vec<f64>> {
    let count = rows.first()?.len();
    // The normal equations, the right side in the last column.
    let product = |i: usize, j: usize| rows.iter().map(|row| row[i] * row.get(j).unwrap_or(&1.0)).sum::<f64>();
    let mut equations: Vec<Vec<f64>> = (0..count).map(|i| (0..=count).map(|j| product(i, j)).collect()).collect();
    for i in 0..count {
        // They are symmetric and positive, so that no rows need to be exchanged.
        if equations[i][i] <= 1e-9 * product(i, i) {
            return None;
        }
        let equation = equations[i].clone();
        for other in (0..count).filter(|&other| other != i) {
            let factor = equations[other][i] / equation[i];
            for (value, subtrahend) in equations[other].iter_mut().zip(&equation) {
                *value -= factor * subtrahend;
            }
        }
    }
    Some((0..count).map(|i| equations[i][count] / equations[i][i]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHES: Caches = Caches { l2: 1e6, l3: 3e7 };
    const DECADES: [f64; 6] = [1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

    fn points(time: impl Fn(f64) -> f64) -> Vec<Point> {
        DECADES.map(|n| (n, time(n))).to_vec()
    }

    fn close(measured: f64, expected: f64) {
        assert!((measured - expected).abs() <= 1e-6 * expected, "{measured} instead of {expected}");
    }

    #[test]
    fn a_known_sum_is_found() {
        let all = [Term::Always, Term::Shared, Term::Levels, Term::BeyondL2(100.0), Term::BeyondL3(100.0)];
        let expected = [(all[0], 80.0), (all[2], 7.0), (all[4], 55.0)];
        let time = |n: f64| 80.0 + 7.0 * (1.0 + n).log2() + 55.0 * f64::max(0.0, 1.0 - 3e7 / (100.0 * n));
        let fit = Fit::sum(&points(time), &all, CACHES).unwrap();
        assert!(fit.typical < 1e-9 && fit.greatest < 1e-9, "{fit:?}");
        let Model::Sum { terms, .. } = &fit.model else { panic!("{fit:?}") };
        assert_eq!(terms.len(), expected.len(), "{terms:?}");
        for ((term, coefficient), (expected_term, expected)) in terms.iter().zip(expected) {
            assert_eq!(*term, expected_term);
            close(*coefficient, expected);
        }
        close(fit.model.at(1e7), time(1e7));
        assert_eq!(fit.model.to_string(), "80.0 + 7.0 · log₂(1 + n) + 55.0 · L3(n)");
    }

    #[test]
    fn nothing_costs_less_than_nothing() {
        // It falls, which no term but the shared one allows, and that not as far.
        let fit = Fit::sum(&points(|n| 1_000.0 - 100.0 * n.log10()), &[Term::Always, Term::Levels], CACHES).unwrap();
        let Model::Sum { terms, .. } = &fit.model else { panic!("{fit:?}") };
        assert!(matches!(terms[..], [(Term::Always, coefficient)] if coefficient > 400.0), "{terms:?}");
        assert!(fit.greatest > fit.typical && fit.typical > 0.1, "{fit:?}");
    }

    #[test]
    fn points_that_are_too_few_prove_nothing() {
        let all = [Term::Always, Term::Shared, Term::Company];
        assert_eq!(Fit::sum(&[(1.0, 5.0)], &all, CACHES), None);
        let fit = Fit::sum(&[(1.0, 5.0), (2.0, 7.0)], &all, CACHES).unwrap();
        assert!(matches!(fit.model, Model::Sum { terms, .. } if terms.len() == 1));
        assert_eq!(Fit::threads(&[(1.0, 5.0)], 5.0, 2.0), None);
        assert_eq!(Fit::threads(&[(2.0, 5.0), (4.0, 5.0)], 5.0, 2.0), None);
    }

    #[test]
    fn errors_are_relative() {
        // 10 % above and below, whatever the size.
        let fit = Fit::sum(&[(1.0, 90.0), (2.0, 110.0), (3.0, 100.0)], &[Term::Always], CACHES).unwrap();
        assert!((0.05..0.12).contains(&fit.typical) && (0.08..0.13).contains(&fit.greatest), "{fit:?}");
    }

    #[test]
    fn one_lock_does_not_grow() {
        let points = [(1.0, 20.0), (2.0, 50.0), (4.0, 50.0), (8.0, 50.0)];
        let fit = Fit::threads(&points, 20.0, 2.0).unwrap();
        let Model::Threads(threads) = fit.model else { panic!("{fit:?}") };
        close(threads.hand_over, 30.0);
        assert!(fit.greatest < 1e-9);
        close(threads.on(16.0), 50.0);
        assert_eq!(threads.bound_on(16.0), "hand-over");
        assert_eq!(fit.model.to_string(), "20.0 alone, else max(20.0 / min(n, 2), 20.0) + 30.0");
    }

    #[test]
    fn what_is_parallel_grows_up_to_the_serial_part() {
        let points = [(1.0, 1_000.0), (2.0, 500.0), (4.0, 500.0)];
        let Model::Threads(threads) = Fit::threads(&points, 100.0, 2.0).unwrap().model else { unreachable!() };
        assert_eq!(threads.hand_over, 0.0);
        assert_eq!([4.0, 8.0, 16.0].map(|cores| threads.on(cores)), [250.0, 125.0, 100.0]);
        assert_eq!([8.0, 16.0].map(|cores| threads.bound_on(cores)), ["number of cores", "serial part"]);
    }
}
