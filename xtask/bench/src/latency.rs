//! From single latencies to the figures of the table.

use serde::Serialize;

/// One death as one observer saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Nanoseconds from the last instruction until the observer knew.
    pub(crate) ns: u64,
    /// Whether the victim died on the CPU on which the observer ran.
    pub(crate) same_cpu: bool,
}

/// Figures of one row, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Number of deaths.
    pub(crate) n: usize,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Figures {
    /// `None` without samples. Percentiles are samples (nearest rank), not
    /// interpolated.
    pub(crate) fn of(latencies: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut sorted: Vec<u64> = latencies.into_iter().collect();
        sorted.sort_unstable();
        Some(Self {
            n: sorted.len(),
            min: microseconds(*sorted.first()?),
            p50: microseconds(percentile(&sorted, 50)?),
            p90: microseconds(percentile(&sorted, 90)?),
            p99: microseconds(percentile(&sorted, 99)?),
            max: microseconds(*sorted.last()?),
        })
    }
}

/// The smallest value that at least `percent` of all values do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "latencies are far below 2^53 ns, 104 days"
)]
fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let figures = Figures::of((1..=200).rev().map(|n| n * 1_000)).unwrap();
        let expected = Figures {
            n: 200,
            min: 1.0,
            p50: 100.0,
            p90: 180.0,
            p99: 198.0,
            max: 200.0,
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn one_sample_is_every_figure() {
        let figures = Figures::of([1_500]).unwrap();
        assert!([figures.min, figures.p50, figures.p99, figures.max] == [1.5; 4]);
        assert_eq!(Figures::of([]), None);
    }
}
