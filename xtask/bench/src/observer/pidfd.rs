//! pidfd and epoll: what one does without a kernel program.

use anyhow::Result;
use pmon_user::{
    core::time::Time,
    sys::{clock, pidfd::VerifiedPid},
};

use super::{
    Row,
    post::{Source, Watch},
};

/// A pidfd in epoll.
#[derive(Default)]
pub(crate) struct Pidfd {
    process: Option<VerifiedPid>,
}

impl Source for Pidfd {
    const ROW: Row = Row::Pidfd;

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
