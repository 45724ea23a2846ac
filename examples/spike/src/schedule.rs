//! The schedule of a load: it says when each request is due.

use std::ops::Range;
use std::time::Duration;

/// A rate that is calm, climbs by the same factor each second, stays at its peak, and is calm again.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    from: u32,
    to: u32,
    duration: Duration,
}

impl Schedule {
    /// The phases, each with its share of the run.
    pub const PHASES: [(&str, f64); 4] = [("calm", 0.15), ("climb", 0.40), ("peak", 0.25), ("calm", 0.20)];

    /// Rates are in requests a second.
    pub fn new(from: u32, to: u32, duration: Duration) -> Self {
        Self { from, to, duration }
    }

    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Returns the time of the highest rate.
    pub fn peak(&self) -> Range<Duration> {
        let start = Self::PHASES[..2].iter().map(|(_, share)| share).sum();
        self.duration.mul_f64(start)..self.duration.mul_f64(start + Self::PHASES[2].1)
    }

    /// Returns the lowest and the highest rate, in requests a second.
    pub fn rates(&self) -> (u32, u32) {
        (self.from, self.to)
    }

    /// Returns the number of requests of the whole run.
    pub fn total(&self) -> u64 {
        self.requests().iter().sum::<f64>().round() as u64
    }

    /// Returns the time from the start of the run at which a request is due; the first has number 0.
    pub fn due(&self, number: u64) -> Duration {
        let mut number = number as f64;
        let mut start = 0.0;
        for (phase, requests) in self.requests().into_iter().enumerate() {
            let length = self.length(phase);
            if number < requests || phase == 3 {
                // The integral of the rate, solved for the time at which it reaches `number`.
                let (from, to, growth) = (f64::from(self.from), f64::from(self.to), self.growth());
                let time = match phase {
                    1 if growth > 0.0 => length / growth * (number * growth / (from * length)).ln_1p(),
                    2 => number / to,
                    _ => number / from,
                };
                return Duration::from_secs_f64(start + time.min(length));
            }
            number -= requests;
            start += length;
        }
        self.duration
    }

    /// Returns the number of requests of each phase.
    fn requests(&self) -> [f64; 4] {
        let (from, to, growth) = (f64::from(self.from), f64::from(self.to), self.growth());
        let climb = if growth > 0.0 { (to - from) / growth } else { from };
        let mean = [from, climb, to, from];
        std::array::from_fn(|phase| mean[phase] * self.length(phase))
    }

    fn length(&self, phase: usize) -> f64 {
        Self::PHASES[phase].1 * self.duration.as_secs_f64()
    }

    /// The power of e by which the climb multiplies the rate.
    fn growth(&self) -> f64 {
        (f64::from(self.to) / f64::from(self.from)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_asks_for_as_much_as_its_rates_say() {
        for (from, to, seconds) in [(2_000, 100_000, 10_u32), (100, 100, 3), (1, 3, 1), (50, 5_000, 2)] {
            let schedule = Schedule::new(from, to, Duration::from_secs(seconds.into()));
            let growth = (f64::from(to) / f64::from(from)).ln();
            let climb = if growth == 0.0 { f64::from(from) } else { f64::from(to - from) / growth };
            let mean = 0.35 * f64::from(from) + 0.40 * climb + 0.25 * f64::from(to);
            assert_eq!(schedule.total(), (mean * f64::from(seconds)).round() as u64);

            let due: Vec<_> = (0..schedule.total()).map(|number| schedule.due(number)).collect();
            assert!(due.is_sorted());
            assert_eq!(due[0], Duration::ZERO);
            assert!(due[due.len() - 1] <= schedule.duration());
        }
    }

    #[test]
    fn the_schedule_has_the_rates_it_was_given() {
        let schedule = Schedule::new(100, 6_400, Duration::from_secs(100));
        let within = |from: f64, to: f64| {
            let (from, to) = (Duration::from_secs_f64(from), Duration::from_secs_f64(to));
            (0..schedule.total()).filter(|&number| (from..to).contains(&schedule.due(number))).count() as i64
        };
        let close = |count: i64, expected: i64| {
            assert!((count - expected).abs() <= 1 + expected / 1_000, "{count} for {expected}")
        };
        close(within(10.0, 11.0), 100);
        // Half-way through the climb the rate is the geometric mean.
        close(within(34.5, 35.5), 800);
        close(within(60.0, 61.0), 6_400);
        close(within(90.0, 91.0), 100);
    }

    #[test]
    fn the_peak_is_where_the_rate_is_highest() {
        let schedule = Schedule::new(1, 100, Duration::from_secs(100));
        let peak = schedule.peak();
        let millis = |duration: Duration| (duration.as_secs_f64() * 1e3).round() as u64;
        assert_eq!((millis(peak.start), millis(peak.end)), (55_000, 80_000));
    }
}
