//! The host's health in two values, for whoever must know it at any moment: a
//! watchdog's thread, which may wait for nobody.
//!
//! Must stay true: neither reading nor writing waits for a lock or allocates
//! under one. It is written by the engine in the step in which it changes,
//! before any receiver is told.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::core::entity::Severity;

/// Shared by everybody who asks; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HostHealth(Arc<ArcSwap<Health>>);

/// The host's health at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// A quorum member that has used up its strikes: the host should not go on
    /// (spec/pmond.md §2.7). One is named, there may be more.
    pub unrecoverable: Option<Arc<str>>,
    /// The worst severity of an alarm that degrades the host: major or critical.
    pub degraded: Option<Severity>,
}

impl HostHealth {
    /// What it is now.
    #[must_use]
    pub fn read(&self) -> Arc<Health> {
        self.0.load_full()
    }

    /// What it is from now on.
    pub fn write(&self, health: Health) {
        self.0.store(Arc::new(health));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_it_sees_every_change() {
        let health = HostHealth::default();
        let watchdog = health.clone();
        let earlier = watchdog.read();
        let bad = Health {
            unrecoverable: Some("sm".into()),
            degraded: Some(Severity::Critical),
        };
        health.write(bad.clone());
        assert_eq!(*watchdog.read(), bad);
        assert_eq!(*earlier, Health::default());
        health.write(Health::default());
        assert_eq!(*watchdog.read(), Health::default());
    }
}
