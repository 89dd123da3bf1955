//! How entities are restrained, as far as configuration says: what one level says
//! is laid over the level below it, key by key.
//!
//! From the bottom: what is built in for the dialect
//! ([`StormPolicy::PMOND`], [`StormPolicy::native`]), `[defaults]`, and
//! `[override.NAME]` or the entity itself.

use std::time::Duration;

use crate::core::storm::{BackoffPolicy, FlappingPolicy, IntensityPolicy, StormPolicy};

/// What one level says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StormKeys {
    /// `backoff`.
    pub backoff: Option<Choice<BackoffKeys>>,
    /// `intensity`.
    pub intensity: Option<Choice<IntensityPolicy>>,
    /// `flapping`.
    pub flapping: Option<Choice<FlappingKeys>>,
}

/// Something that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<Keys> {
    /// `"none"`.
    Off,
    /// On, with these particulars.
    On(Keys),
}

/// Of a back-off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackoffKeys {
    /// First pause.
    pub initial: Option<Duration>,
    /// Growth, in thousandths.
    pub factor: Option<u32>,
    /// Longest pause.
    pub max: Option<Duration>,
    /// In thousandths.
    pub jitter: Option<u32>,
    /// Uptime with which it begins anew.
    pub reset_after: Option<Duration>,
}

/// Of the flapping alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlappingKeys {
    /// Falls from health.
    pub deaths: Option<u32>,
    /// Within this time.
    pub within: Option<Duration>,
    /// Health with which it ends.
    pub quiet: Option<Duration>,
}

impl StormKeys {
    /// What this level says, and the earlier one where it says nothing.
    #[must_use]
    pub fn over(self, earlier: Self) -> Self {
        let Self {
            backoff,
            intensity,
            flapping,
        } = self;
        Self {
            backoff: backoff.or(earlier.backoff),
            intensity: intensity.or(earlier.intensity),
            flapping: flapping.or(earlier.flapping),
        }
    }

    /// Laid over a policy, for an entity with this `interval`.
    #[must_use]
    pub fn policy(self, base: StormPolicy, interval: Duration) -> StormPolicy {
        let Self {
            backoff,
            intensity,
            flapping,
        } = self;
        StormPolicy {
            backoff: match backoff {
                None => base.backoff,
                Some(Choice::Off) => None,
                Some(Choice::On(keys)) => Some(
                    keys.policy(
                        base.backoff
                            .unwrap_or_else(|| BackoffPolicy::after(interval)),
                    ),
                ),
            },
            intensity: match intensity {
                None => base.intensity,
                Some(Choice::Off) => None,
                Some(Choice::On(policy)) => Some(policy),
            },
            flapping: match flapping {
                None => base.flapping,
                Some(Choice::Off) => None,
                Some(Choice::On(keys)) => {
                    Some(keys.policy(base.flapping.unwrap_or(FlappingPolicy::DEFAULT)))
                }
            },
        }
    }
}

impl BackoffKeys {
    fn policy(self, base: BackoffPolicy) -> BackoffPolicy {
        let Self {
            initial,
            factor,
            max,
            jitter,
            reset_after,
        } = self;
        let first = initial.unwrap_or(base.initial);
        // Whoever gives only one of them means that one.
        let longest = max.unwrap_or(base.max.max(first));
        BackoffPolicy {
            initial: first.min(longest),
            factor: factor.unwrap_or(base.factor),
            max: longest,
            jitter: jitter.unwrap_or(base.jitter),
            reset_after: reset_after.unwrap_or(base.reset_after),
        }
    }
}

impl FlappingKeys {
    fn policy(self, base: FlappingPolicy) -> FlappingPolicy {
        let Self {
            deaths,
            within,
            quiet,
        } = self;
        FlappingPolicy {
            deaths: deaths.unwrap_or(base.deaths),
            within: within.unwrap_or(base.within),
            quiet: quiet.unwrap_or(base.quiet),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn levels_are_laid_over_one_another_key_by_key() {
        let lower = StormKeys {
            backoff: Some(Choice::Off),
            flapping: Some(Choice::Off),
            ..StormKeys::default()
        };
        let upper = StormKeys {
            backoff: Some(Choice::On(BackoffKeys {
                max: Some(SECOND * 7),
                ..BackoffKeys::default()
            })),
            ..StormKeys::default()
        };
        let policy = upper
            .over(lower)
            .policy(StormPolicy::native(SECOND * 5), SECOND * 5);
        let backoff = policy.backoff.map(|one| (one.initial, one.max));
        assert_eq!(backoff, Some((SECOND * 7, SECOND * 7)));
        assert_eq!(policy.flapping, None);
        assert_eq!(policy.intensity, None);
        // A pmon.d entity gets one only if somebody says so.
        let pmond = StormKeys::default().policy(StormPolicy::PMOND, SECOND * 5);
        assert_eq!(pmond, StormPolicy::PMOND);
        let pmond = upper.policy(StormPolicy::PMOND, SECOND * 2);
        let backoff = pmond.backoff.map(|one| (one.initial, one.max));
        assert_eq!(backoff, Some((SECOND * 4, SECOND * 7)));
    }
}
