//! Waiting until a file descriptor can be read, inside a tokio runtime.
//!
//! Must stay true: the registered descriptor stays open and the same for as
//! long as the registration lives. That is why it is shared ([`Arc`]) and never
//! handed out for exchange.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor registered with the current runtime's event loop.
#[derive(Debug)]
pub struct Readable {
    registered: AsyncFd<Arc<OwnedFd>>,
}

impl Readable {
    /// Registers a descriptor, which must be in non-blocking mode.
    ///
    /// # Errors
    ///
    /// What `epoll_ctl(2)` says, for instance `EPERM` for a regular file.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its I/O driver enabled.
    pub fn new(fd: Arc<OwnedFd>) -> io::Result<Self> {
        // SAFETY: the `Arc` keeps the descriptor open, an `OwnedFd` never
        // changes its number, and `self` gives no mutable access to either.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self {
            registered: registered?,
        })
    }

    /// Waits until the descriptor is readable and calls `read`, again and again
    /// for as long as that says `WouldBlock`. Safe to cancel: nothing is read
    /// before the last await.
    ///
    /// # Errors
    ///
    /// Those of `read`, and of the runtime when it shuts down.
    pub async fn read<T>(
        &self,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let mut ready = self.registered.readable().await?;
            // An error here says "would block after all".
            if let Ok(result) = ready.try_io(|fd| read(fd.get_ref().as_fd())) {
                return result;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[tokio::test]
    async fn waits_until_there_is_something_to_read() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let readable = Readable::new(Arc::new(reader)).unwrap();
        let read = || {
            readable.read(|fd| {
                let mut bytes = [0; 8];
                let count = rustix::io::read(fd, &mut bytes)?;
                Ok(bytes[..count].to_vec())
            })
        };
        for word in [b"one", b"two"] {
            let early = tokio::time::timeout(Duration::from_millis(20), read()).await;
            assert!(early.is_err());
            rustix::io::write(&writer, word).unwrap();
            assert_eq!(read().await.unwrap(), word);
        }
        drop(writer);
        assert_eq!(read().await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_regular_file_cannot_be_waited_for() {
        let file = tempfile::tempfile().unwrap();
        let error = Readable::new(Arc::new(file.into())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
