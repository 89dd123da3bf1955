//! Chance without a source of it: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014),
//! seeded from the entity's name and the time it was configured at.
//!
//! Entities of one host, and one entity on many hosts, must not move in step;
//! nothing else is asked of it, least of all secrecy.

use std::time::Duration;

use crate::core::time::Time;

/// Parts of one in which jitter is counted.
pub const WHOLE: u32 = 1000;

/// The generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter(u64);

impl Jitter {
    /// Of an entity that was configured at this time.
    #[must_use]
    pub fn of(name: &str, configured: Time) -> Self {
        // FNV-1a, 64 bits.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash ^ configured.as_boot_ns())
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `duration`, made longer or shorter by at most so many thousandths of it.
    pub fn spread(&mut self, duration: Duration, thousandths: u32) -> Duration {
        let chance = self.next();
        let thousandths = thousandths.min(WHOLE);
        let ns = duration.as_nanos();
        let span = ns * u128::from(thousandths) / u128::from(WHOLE);
        // 0 to 2 * span, evenly: the top 32 bits are enough.
        let offset = 2 * span * u128::from(chance >> 32) / u128::from(u32::MAX);
        let ns = ns - span + offset;
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_sequences_and_others_do_not() {
        let sequence = |name: &str, at| {
            let mut jitter = Jitter::of(name, Time::from_boot_ns(at));
            [(); 4].map(|()| jitter.spread(Duration::from_secs(10), 200))
        };
        assert_eq!(sequence("a", 1), sequence("a", 1));
        assert_ne!(sequence("a", 1), sequence("b", 1), "another entity");
        assert_ne!(sequence("a", 1), sequence("a", 2), "another host");
    }

    #[test]
    fn the_reference_sequence_of_the_generator_comes_out() {
        // With the seed 1234567, as published with the algorithm.
        let mut jitter = Jitter(1_234_567);
        assert_eq!(jitter.next(), 6_457_827_717_110_365_317);
        assert_eq!(jitter.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn it_spreads_to_both_sides_and_no_farther() {
        let mut jitter = Jitter::of("x", Time::default());
        let spread: Vec<_> = (0..1000)
            .map(|_| jitter.spread(Duration::from_secs(10), 200))
            .collect();
        assert!(spread.iter().all(|one| one.as_secs_f64() >= 8.0));
        assert!(spread.iter().all(|one| one.as_secs_f64() <= 12.0));
        let under = spread.iter().filter(|one| one.as_secs_f64() < 10.0).count();
        assert!((400..600).contains(&under), "{under}");
        let exact = jitter.spread(Duration::from_secs(10), 0);
        assert_eq!(exact, Duration::from_secs(10));
    }
}
