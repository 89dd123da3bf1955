//! Chance without a source of it: `splitmix`, seeded from the entity's name and the time it was configured at.
//!
//! Entities of one host, and one entity on many hosts, must not move in step;
//! nothing else is asked of it, least of all secrecy.

use std::time::Duration;

use crate::core::{splitmix::SplitMix64, time::Time};

/// Parts of one in which jitter is counted.
pub const WHOLE: u32 = 1000;

/// The generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter(SplitMix64);

impl Jitter {
    /// Of an entity that was configured at this time.
    #[must_use]
    pub fn of(name: &str, configured: Time) -> Self {
        // FNV-1a, 64 bits.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(SplitMix64::new(hash ^ configured.as_boot_ns()))
    }

    /// `duration`, made longer or shorter by at most so many thousandths of it.
    pub fn spread(&mut self, duration: Duration, thousandths: u32) -> Duration {
        let chance = self.0.next();
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
