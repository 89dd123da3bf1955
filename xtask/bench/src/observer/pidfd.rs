//! pidfd and epoll: what one does without a kernel program. Beside the others
//! on their own terms, and as most programs do it, under the normal policy.

use anyhow::Result;
use pmon_user::{
    core::time::Time,
    sys::{clock, pidfd::VerifiedPid},
};

use super::{
    Row,
    post::{Source, Watch},
};

/// A pidfd in epoll; `NORMAL` when its thread has no real-time priority while
/// the others have.
#[derive(Default)]
pub(crate) struct Pidfd<const NORMAL: bool> {
    process: Option<VerifiedPid>,
}

impl<const NORMAL: bool> Source for Pidfd<NORMAL> {
    const ROW: Row = if NORMAL { Row::PidfdNormal } else { Row::Pidfd };

    fn watch(&mut self, process: VerifiedPid, epoll: &Watch<'_>) -> Result<()> {
        epoll.add(process.pidfd())?;
        self.process = Some(process);
        Ok(())
    }

    fn heard(&mut self) -> Option<Time> {
        let at = clock::now();
        // Closing the only copy takes it out of the epoll instance; it would
        // stay readable otherwise.
        drop(self.process.take()?);
        Some(at)
    }

    fn forget(&mut self, epoll: &Watch<'_>) -> Result<()> {
        if let Some(process) = self.process.take() {
            epoll.remove(process.pidfd())?;
        }
        Ok(())
    }
}
