//! The outcome of a load: counts and latencies, in total, by class, and by slices of time.

use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::request::Class;

/// The slices of time that a run is recorded in, for the chart.
pub const SLICES: usize = 100;

/// The outcome of a load.
#[derive(Debug)]
pub struct Outcome {
    pub total: Tally,
    /// For each class, in the order of [`Class::ALL`], the requests that were due within the focus of the load.
    pub focus: [Tally; Class::ALL.len()],
    /// Latency in microseconds of all answers: pages, refusals and errors.
    pub answers: Histogram<u64>,
    /// The run in [`SLICES`] equal parts, by when requests were due.
    pub slices: Vec<Slice>,
    /// The longest time between two ticks of the generator, which should be a millisecond.
    pub longest_pause: Duration,
    slice_length: Duration,
    in_focus: Range<Duration>,
}

/// The outcome of some requests.
#[derive(Debug)]
pub struct Tally {
    /// Requests that were due: served + shed + failed.
    pub offered: u64,
    /// Answered with a page.
    pub served: u64,
    /// Answered with 503.
    pub shed: u64,
    pub failed: Failed,
    /// Latency of those that were served, in microseconds.
    pub latency: Histogram<u64>,
}

/// The ways to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Failed {
    /// No connection had a place for it in time.
    pub unsent: u64,
    /// No answer when the drain ended, or its connection was lost.
    pub unanswered: u64,
    /// An answer that is neither the page nor a 503.
    pub errors: u64,
}

impl Failed {
    pub fn total(&self) -> u64 {
        self.unsent + self.unanswered + self.errors
    }
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        let latency = Histogram::new_with_bounds(1, LONGEST, 3)?;
        Ok(Self { offered: 0, served: 0, shed: 0, failed: Failed::default(), latency })
    }

    /// Returns the share of the requests that were served.
    pub fn share_served(&self) -> f64 {
        self.served as f64 / self.offered.max(1) as f64
    }

    fn answer(&mut self, latency: u64, status: u16) {
        match status {
            200 => {
                self.served += 1;
                self.latency.saturating_record(latency);
            }
            503 => self.shed += 1,
            _ => self.failed.errors += 1,
        }
    }

    /// Counts all others as unanswered.
    fn settle(&mut self) {
        let accounted = self.served + self.shed + self.failed.unsent + self.failed.errors;
        self.failed.unanswered = self.offered.saturating_sub(accounted);
    }
}

/// A slice of time.
#[derive(Debug)]
pub struct Slice {
    pub offered: u64,
    pub served: u64,
    pub shed: u64,
    /// For each class the latency of the requests that were served, in microseconds.
    pub latency: [Histogram<u32>; Class::ALL.len()],
}

/// The counts while the load runs.
pub struct Glimpse {
    pub elapsed: Duration,
    pub served: u64,
    pub shed: u64,
    pub failed: u64,
}

/// The histograms reach from a microsecond to an hour; longer times count as an hour.
const LONGEST: u64 = 3_600_000_000;

impl Outcome {
    /// Creates the outcome of a load of this duration. Requests that are due within `focus` are counted by class, too.
    pub fn new(duration: Duration, focus: Range<Duration>) -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 2);
        let slice =
            || Ok(Slice { offered: 0, served: 0, shed: 0, latency: [histogram()?, histogram()?, histogram()?] });
        Ok(Self {
            total: Tally::new()?,
            focus: [Tally::new()?, Tally::new()?, Tally::new()?],
            answers: Histogram::new_with_bounds(1, LONGEST, 3)?,
            slices: (0..SLICES).map(|_| slice()).collect::<anyhow::Result<_>>()?,
            longest_pause: Duration::ZERO,
            slice_length: duration / SLICES as u32,
            in_focus: focus,
        })
    }

    fn slice(&mut self, due: Duration) -> &mut Slice {
        let slice = (due.as_secs_f64() / self.slice_length.as_secs_f64()) as usize;
        &mut self.slices[slice.min(SLICES - 1)]
    }

    /// Returns the tallies that count a request.
    fn tallies(&mut self, class: Class, due: Duration) -> impl Iterator<Item = &mut Tally> {
        let focus = self.in_focus.contains(&due).then_some(&mut self.focus[class as usize]);
        std::iter::once(&mut self.total).chain(focus)
    }

    pub fn offer(&mut self, class: Class, due: Duration) {
        self.tallies(class, due).for_each(|tally| tally.offered += 1);
        self.slice(due).offered += 1;
    }

    pub fn answer(&mut self, class: Class, due: Duration, now: Duration, status: u16) {
        let latency = now.saturating_sub(due).as_micros().try_into().unwrap_or(u64::MAX);
        self.answers.saturating_record(latency);
        self.tallies(class, due).for_each(|tally| tally.answer(latency, status));
        let slice = self.slice(due);
        match status {
            200 => {
                slice.served += 1;
                slice.latency[class as usize].saturating_record(latency);
            }
            503 => slice.shed += 1,
            _ => {}
        }
    }

    pub fn fail_unsent(&mut self, class: Class, due: Duration) {
        self.tallies(class, due).for_each(|tally| tally.failed.unsent += 1);
    }

    pub fn settle(&mut self) {
        self.total.settle();
        self.focus.iter_mut().for_each(Tally::settle);
    }

    pub fn glimpse(&self, elapsed: Duration) -> Glimpse {
        Glimpse { elapsed, served: self.total.served, shed: self.total.shed, failed: self.total.failed.total() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(milliseconds: u64, focus: Range<u64>) -> anyhow::Result<Outcome> {
        let at = Duration::from_millis;
        Outcome::new(at(milliseconds), at(focus.start)..at(focus.end))
    }

    #[test]
    fn every_request_ends_up_somewhere() -> anyhow::Result<()> {
        let at = Duration::from_millis;
        let mut outcome = outcome(1_000, 0..1_000)?;
        for due in [0, 5, 5, 990, 995, 999] {
            outcome.offer(Class::Free, at(due));
        }
        outcome.answer(Class::Free, at(0), at(2), 200);
        outcome.answer(Class::Free, at(5), at(9), 503);
        outcome.answer(Class::Free, at(5), at(8), 500);
        outcome.fail_unsent(Class::Free, at(990));
        outcome.answer(Class::Free, at(995), at(1_995), 200);
        outcome.settle();
        for tally in [&outcome.total, &outcome.focus[Class::Free as usize]] {
            assert_eq!((tally.offered, tally.served, tally.shed), (6, 2, 1));
            assert_eq!(tally.failed, Failed { unsent: 1, unanswered: 1, errors: 1 });
        }
        assert_eq!((outcome.slices[0].offered, outcome.slices[99].offered), (3, 3));
        assert_eq!((outcome.slices[0].served, outcome.slices[99].served), (1, 1));
        assert_eq!((outcome.slices[0].shed, outcome.slices[99].shed), (1, 0));
        Ok(())
    }

    #[test]
    fn requests_in_the_focus_are_counted_by_class() -> anyhow::Result<()> {
        let at = Duration::from_millis;
        let mut outcome = outcome(1_000, 400..600)?;
        for (due, class) in [(399, Class::Free), (400, Class::Free), (599, Class::Health), (600, Class::Health)] {
            outcome.offer(class, at(due));
            outcome.answer(class, at(due), at(due + 7), 200);
        }
        outcome.settle();
        assert_eq!(outcome.total.served, 4);
        assert_eq!(Class::ALL.map(|class| outcome.focus[class as usize].offered), [1, 0, 1]);
        assert_eq!(outcome.focus[Class::Health as usize].latency.max() / 100, 70);
        Ok(())
    }

    #[test]
    fn percentiles_are_of_what_was_recorded() -> anyhow::Result<()> {
        let mut outcome = outcome(1_000, 0..1_000)?;
        for milliseconds in 1..=1_000 {
            outcome.answer(Class::Free, Duration::ZERO, Duration::from_millis(milliseconds), 200);
        }
        let close = |value: u64, milliseconds: u64| value.abs_diff(milliseconds * 1_000) <= milliseconds;
        let latency = &outcome.total.latency;
        assert!(close(latency.value_at_quantile(0.5), 500));
        assert!(close(latency.value_at_quantile(0.99), 990));
        assert!(close(latency.max(), 1_000));
        Ok(())
    }
}
