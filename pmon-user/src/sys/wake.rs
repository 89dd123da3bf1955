//! A wake-up call for a thread that waits in epoll: eventfd(2).

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
};

/// Clones wake the same sleeper.
#[derive(Clone, Debug)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    /// A new one.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> Result<Self, Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(eventfd(0, flags)?)))
    }

    /// Wakes the sleeper, now or when it next goes to sleep.
    pub fn call(&self) {
        // Only EAGAIN is possible: the counter is full, so the sleeper is awake.
        let _awake_already = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// The sleeper has heard.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // Only EAGAIN is possible: nobody called.
        let _nobody_called = rustix::io::read(&self.0, &mut count);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
