//! Which start commands are at work now: a look that searches for somebody
//! else's init script must not take one of them for it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Pids of start commands, each the leader of a session of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct AtWork(Arc<Mutex<HashSet<u32>>>);

/// One of them; dropped when it has ended.
#[derive(Debug)]
pub(super) struct Entered {
    all: AtWork,
    pid: u32,
}

impl AtWork {
    /// This one is at work until the answer is dropped.
    pub(super) fn enter(&self, pid: u32) -> Entered {
        self.lock().insert(pid);
        Entered {
            all: self.clone(),
            pid,
        }
    }

    /// All of them.
    pub(super) fn pids(&self) -> HashSet<u32> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.all.lock().remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_at_work_until_it_has_ended() {
        let all = AtWork::default();
        let first = all.enter(1);
        let second = all.enter(2);
        assert_eq!(all.pids(), HashSet::from([1, 2]));
        drop(first);
        assert_eq!(all.pids(), HashSet::from([2]));
        drop(second);
        assert_eq!(all.pids(), HashSet::new());
    }
}
