//! How unevenly popular keys load the shards of a cache: more cores do not make the busiest shard faster.

/// The share of all requests that the busiest shard gets, if a key of rank `r` is asked for in proportion to `r` to the
/// power of minus `exponent`, and each key belongs to any of the shards by chance: the mean over many such chances.
pub fn busiest_share(keys: usize, exponent: f64, shards: usize) -> f64 {
    const CHANCES: usize = 200;

    let weights: Vec<f64> = (1..=keys).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    let mut dice = SplitMix(0);
    let busiest = || {
        let mut loads = vec![0.0; shards];
        for weight in &weights {
            loads[(dice.next() % shards as u64) as usize] += weight;
        }
        loads.into_iter().fold(0.0, f64::max) / total
    };
    std::iter::repeat_with(busiest).take(CHANCES).sum::<f64>() / CHANCES as f64
}

/// Numbers in no order, always the same.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_gets_everything_and_one_key_goes_to_one_shard() {
        assert_eq!(busiest_share(1_000, 0.99, 1), 1.0);
        assert_eq!(busiest_share(1, 0.99, 16), 1.0);
    }

    #[test]
    fn many_equal_keys_spread_evenly() {
        let share = busiest_share(100_000, 0.0, 16);
        assert!((1.0 / 16.0..1.05 / 16.0).contains(&share), "{share}");
    }

    #[test]
    fn the_most_popular_key_and_its_part_of_the_rest_are_the_least() {
        let keys = 10_000;
        let most_popular = 1.0 / (1..=keys).map(|rank| (rank as f64).powf(-0.99)).sum::<f64>();
        let least = most_popular + (1.0 - most_popular) / 16.0;
        let share = busiest_share(keys, 0.99, 16);
        assert!((0.98 * least..1.5 * least).contains(&share), "{share}, at least {least}");
        assert_eq!(share, busiest_share(keys, 0.99, 16));
    }
}
