//! Exponential back-off with jitter, for attempts after the alarm.
//!
//! The ladder of pmond comes first: `restarts` attempts, `interval` apart, then
//! the alarm and one more attempt. Only from there on the pauses grow. They begin
//! anew when the entity has been well for `reset_after`, or when an operator
//! asks for something; a recovery that does not last begins nothing anew.

use std::time::Duration;

use super::jitter::{Jitter, WHOLE};

/// How the pauses grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The first pause.
    pub initial: Duration,
    /// Each pause is so many thousandths of the one before; at least 1000.
    pub factor: u32,
    /// The longest pause.
    pub max: Duration,
    /// Each pause is longer or shorter by at most so many thousandths of it.
    pub jitter: u32,
    /// Uptime, after a recovery, with which the pauses begin anew.
    pub reset_after: Duration,
}

impl BackoffPolicy {
    /// The usual one for such a pause between attempts of the ladder.
    #[must_use]
    pub fn after(interval: Duration) -> Self {
        let initial = (interval * 2).max(Duration::from_secs(1));
        Self {
            initial,
            factor: 2 * WHOLE,
            // Kubernetes' CrashLoopBackOff ends at 5 min and is reset after 10.
            max: initial.max(Duration::from_secs(300)),
            jitter: WHOLE / 10,
            reset_after: Duration::from_secs(600),
        }
    }
}

/// Where an entity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    steps: u32,
    jitter: Jitter,
}

impl Backoff {
    /// At the beginning.
    #[must_use]
    pub const fn new(jitter: Jitter) -> Self {
        Self { steps: 0, jitter }
    }

    /// After so many pauses.
    #[must_use]
    pub const fn resumed(self, steps: u32) -> Self {
        Self { steps, ..self }
    }

    /// Pauses since it began anew.
    #[must_use]
    pub const fn steps(&self) -> u32 {
        self.steps
    }

    /// The next pause, never under `least`.
    pub fn next(&mut self, policy: &BackoffPolicy, least: Duration) -> Duration {
        let pause = grown(policy, self.steps);
        self.steps = self.steps.saturating_add(1);
        let spread = self.jitter.spread(pause, policy.jitter);
        spread.min(policy.max).max(least)
    }

    /// Begins anew.
    pub const fn reset(&mut self) {
        self.steps = 0;
    }
}

/// The pause after so many others, without chance.
fn grown(policy: &BackoffPolicy, steps: u32) -> Duration {
    let max = policy.max.as_nanos();
    let mut ns = policy.initial.as_nanos().min(max);
    for _ in 0..steps {
        let next = (ns * u128::from(policy.factor) / u128::from(WHOLE)).min(max);
        if next <= ns {
            break;
        }
        ns = next;
    }
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Time;

    const POLICY: BackoffPolicy = BackoffPolicy {
        initial: Duration::from_secs(10),
        factor: 2000,
        max: Duration::from_secs(100),
        jitter: 0,
        reset_after: Duration::from_secs(600),
    };

    fn pauses(policy: &BackoffPolicy, count: usize) -> Vec<u128> {
        let mut backoff = Backoff::new(Jitter::of("probe", Time::default()));
        (0..count)
            .map(|_| backoff.next(policy, Duration::ZERO).as_millis())
            .collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let expected = [10_000, 20_000, 40_000, 80_000, 100_000, 100_000];
        assert_eq!(pauses(&POLICY, 6), expected);
        let gentle = BackoffPolicy {
            factor: 1500,
            ..POLICY
        };
        assert_eq!(pauses(&gentle, 4), [10_000, 15_000, 22_500, 33_750]);
        let steady = BackoffPolicy {
            factor: 1000,
            ..POLICY
        };
        assert_eq!(pauses(&steady, 3), [10_000; 3]);
    }

    #[test]
    fn the_sequence_with_this_seed_is_this_one() {
        let jittered = BackoffPolicy {
            jitter: 200,
            ..POLICY
        };
        let expected = [8982, 16_161, 43_709, 88_311, 80_680, 100_000];
        assert_eq!(pauses(&jittered, 6), expected);
    }

    #[test]
    fn it_begins_anew_and_is_never_under_the_interval() {
        let mut backoff = Backoff::new(Jitter::of("probe", Time::default()));
        let least = Duration::from_secs(15);
        assert_eq!(backoff.next(&POLICY, least), least);
        assert_eq!(backoff.next(&POLICY, least), Duration::from_secs(20));
        backoff.reset();
        assert_eq!(
            backoff.next(&POLICY, Duration::ZERO),
            Duration::from_secs(10)
        );
    }

    #[test]
    fn huge_numbers_do_no_harm() {
        let mut backoff = Backoff::new(Jitter::of("probe", Time::default()));
        backoff.steps = u32::MAX;
        let huge = BackoffPolicy {
            initial: Duration::from_secs(1),
            factor: u32::MAX,
            max: Duration::MAX,
            jitter: WHOLE,
            ..POLICY
        };
        assert!(backoff.next(&huge, Duration::ZERO) <= Duration::MAX);
        assert_eq!(backoff.steps(), u32::MAX);
    }
}
