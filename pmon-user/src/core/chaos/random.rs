//! Random numbers that a seed determines: the same seed is the same story.

use std::time::Duration;

use crate::core::splitmix::SplitMix64;

/// The number that it was made from is printed when something goes wrong.
#[derive(Clone, Debug)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// A number below `bound`.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.0.next() % bound
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
