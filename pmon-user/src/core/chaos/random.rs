//! Random numbers that a seed determines: the same seed is the same story.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood, 2014): a full-period generator whose whole
/// state is the one number that is printed when something goes wrong.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True in so many of a hundred cases.
    pub(super) const fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// A duration up to `longest`, short ones more often: small and large orders
    /// of magnitude are equally likely, so that events meet in every order.
    pub(super) fn up_to(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        let magnitude = self.below(u64::from(longest.ilog2()) + 1);
        Duration::from_micros(self.below((2u64 << magnitude).min(longest) + 1))
    }

    pub(super) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let index = usize::try_from(self.below(choices.len() as u64)).unwrap_or(0);
        &choices[index]
    }
}
