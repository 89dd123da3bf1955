//! An epoll instance whose events carry a token of our own.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
};

/// Watches descriptors for readability, level-triggered.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// Events given in one go; the rest stays ready.
    pub const BATCH: usize = 256;

    /// A new instance.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> Result<Self, Errno> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { fd })
    }

    /// Watches a descriptor; its events carry `token`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` (`/proc/sys/fs/epoll/max_user_watches`), `ENOMEM`, `EEXIST`.
    pub fn add(&self, fd: impl AsFd, token: u64) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.fd, fd, data, epoll::EventFlags::IN)
    }

    /// Watches a descriptor for its hangup only: of a pidfd, that the process has
    /// been reaped (Linux 6.9 and later). Its events carry `token`.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    pub fn add_for_hangup(&self, fd: impl AsFd, token: u64) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token);
        // EPOLLHUP is always reported (epoll_ctl(2)).
        epoll::add(&self.fd, fd, data, epoll::EventFlags::empty())
    }

    /// Stops watching a descriptor. Must come before the last copy of it is
    /// closed, or events would go on.
    pub fn remove(&self, fd: impl AsFd) {
        if let Err(error) = epoll::delete(&self.fd, fd) {
            tracing::debug!(%error, "epoll: not watched");
        }
    }

    /// Waits for events and appends their tokens; `None` waits for ever.
    ///
    /// # Errors
    ///
    /// Only programming errors (`EBADF`, `EINVAL`); a signal ends the wait early.
    pub fn wait(&self, timeout: Option<Duration>, tokens: &mut Vec<u64>) -> Result<(), Errno> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut events = Vec::with_capacity(Self::BATCH);
        match epoll::wait(&self.fd, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        tokens.extend(events.iter().map(|event: &epoll::Event| event.data.u64()));
        Ok(())
    }
}
