//! How many pidfds the table may hold.
//!
//! Up to the budget every registration keeps a pidfd of its own. Beyond it the
//! kernel's entry watches, and a pidfd is opened when it is needed: while a
//! registration is being made, to verify a death, to signal. Those come out of
//! a reserve.

/// Left to everything that is no pidfd, at least: sockets, pipes of start
/// commands, looks, files being written.
const OTHER: usize = 256;
/// The same as a part of all open files, and its upper end.
const OTHER_PART: usize = 16;
const OTHER_MOST: usize = 4096;
/// Kept for pidfds that are opened on demand, as a part of all pidfds.
const ON_DEMAND_PART: usize = 16;
/// Without a limit: the kernel's own default of `fs.nr_open`.
const UNLIMITED: usize = 1 << 20;

/// Numbers of pidfds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Registrations that keep one.
    pub own: usize,
    /// Further ones that are opened for a while.
    pub on_demand: usize,
}

impl Budget {
    /// No end.
    pub const UNLIMITED: Self = Self {
        own: usize::MAX,
        on_demand: 0,
    };

    /// What may be used of so many open files; `own` as it is configured.
    #[must_use]
    pub fn of(open_files: Option<u64>, own: Option<usize>) -> Self {
        let files = open_files.map_or(UNLIMITED, |files| {
            usize::try_from(files).unwrap_or(UNLIMITED).min(UNLIMITED)
        });
        let other = (files / OTHER_PART).clamp(OTHER, OTHER_MOST).min(files / 2);
        let pidfds = files - other;
        let on_demand = (pidfds / ON_DEMAND_PART).max(1);
        let most = pidfds - on_demand.min(pidfds);
        Self {
            own: own.map_or(most, |own| own.min(most)),
            on_demand,
        }
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.own.saturating_add(self.on_demand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_for_everything_else() {
        for files in [0, 1, 3, 64, 256, 1024, 20_000, 1 << 20, u64::MAX] {
            let budget = Budget::of(Some(files), None);
            let files = usize::try_from(files).unwrap_or(usize::MAX);
            assert!(budget.own <= files, "{files}: {budget:?}");
            if files >= 1024 {
                assert!(budget.total() + OTHER <= files, "{files}: {budget:?}");
                assert!(
                    budget.own >= files / 2 || files > UNLIMITED,
                    "{files}: {budget:?}"
                );
            }
        }
        assert_eq!(
            Budget::of(Some(20_000), None),
            Budget {
                own: 17_579,
                on_demand: 1171
            }
        );
        assert_eq!(Budget::of(None, None), Budget::of(Some(u64::MAX), None));
    }

    #[test]
    fn what_is_configured_is_an_upper_limit() {
        assert_eq!(Budget::of(Some(20_000), Some(10)).own, 10);
        assert_eq!(Budget::of(Some(20_000), Some(50_000)).own, 17_579);
    }
}
