//! Something else in the place of an open descriptor. For tests of what happens
//! when a descriptor fails.

use std::os::fd::{AsFd, AsRawFd as _};

use rustix::io::Errno;

/// Makes the number of `place` stand for what `by` refers to.
///
/// # Errors
///
/// What dup2(2) says.
pub fn exchange(place: impl AsFd, by: impl AsFd) -> Result<(), Errno> {
    let (place, by) = (place.as_fd().as_raw_fd(), by.as_fd().as_raw_fd());
    // SAFETY: both are open, and `place` stays open and owned by whom it was.
    if unsafe { libc::dup2(by, place) } < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}
