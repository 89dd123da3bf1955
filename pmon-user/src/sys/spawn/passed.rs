//! Descriptors that a program gets beside 0 to 2, from number 3 on, with
//! `LISTEN_PID` (sd_listen_fds(3)).
//!
//! Between fork and execve nothing tells which numbers std's own descriptors
//! have, for instance the pipe through which it learns of a failed execve. So
//! the numbers that are to be passed are set aside once, before there is anything
//! else, and whatever is opened later has others. Must stay true: a number that
//! was not set aside is never overwritten.

use std::{
    ffi::{CString, c_char},
    fs::File,
    io,
    mem::ManuallyDrop,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd},
    sync::OnceLock,
};

use rustix::{
    io::{DupFlags, Errno, FdFlags, dup2, dup3, fcntl_dupfd_cloexec, fcntl_getfd},
    process::getpid,
};

/// Descriptors that can be passed to a program, beside 0 to 2.
pub const MAX_PASSED: usize = 16;

/// The first number, `SD_LISTEN_FDS_START` (sd_listen_fds(3)).
const FIRST: RawFd = 3;
/// The first number that is nobody's.
const END: RawFd = FIRST + 16;
const _: () = assert!(MAX_PASSED == 16, "`END` lies behind them all");

/// The numbers that were set aside, as descriptors of `/dev/null`.
static ASIDE: OnceLock<Vec<OwnedFd>> = OnceLock::new();

/// Sets the numbers aside for good. To be called first, while there is one
/// thread; what this process was given under these numbers stays open under
/// others. A number that is in use by this process itself is not set aside, and
/// nothing can be passed under it.
///
/// # Errors
///
/// Those of open(2) and dup(2).
pub fn set_descriptors_aside() -> io::Result<()> {
    if ASIDE.get().is_some() {
        return Ok(());
    }
    // Not under one of the numbers itself.
    let null = fcntl_dupfd_cloexec(File::open("/dev/null")?, END)?;
    let mut aside = Vec::with_capacity(MAX_PASSED);
    for number in FIRST..END {
        // SAFETY: used for fcntl(2), which is refused if the number is not open.
        let there = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl_getfd(there) {
            // All that is opened in here has the flag.
            Ok(flags) if flags.contains(FdFlags::CLOEXEC) => continue,
            // It came with the process: somebody may rely on its being open.
            Ok(_) => {
                // For as long as the process lives.
                let _open = fcntl_dupfd_cloexec(there, END)?.into_raw_fd();
            }
            Err(Errno::BADF) => {}
            Err(errno) => return Err(errno.into()),
        }
        // SAFETY: nobody owns the number, as it was free or inherited; there is
        // no other thread that could have taken it since.
        let mut place = unsafe { OwnedFd::from_raw_fd(number) };
        if let Err(errno) = dup3(&null, &mut place, DupFlags::CLOEXEC) {
            let _nobodys = place.into_raw_fd();
            return Err(errno.into());
        }
        aside.push(place);
    }
    // Only one thread is here, so it is not set yet.
    let _ = ASIDE.set(aside);
    Ok(())
}

/// Descriptors on their way into a child.
pub(super) struct Passed {
    /// Under numbers from [`END`] on, so that none is overwritten before its turn.
    sources: Vec<OwnedFd>,
    variable: Vec<u8>,
}

/// Name of the variable, as `LISTEN_PID=`.
const VARIABLE: &[u8] = b"LISTEN_PID=";
/// Digits of a pid, which fits into 22 bits (`PID_MAX_LIMIT`), with room to spare.
const DIGITS: usize = 10;

impl Passed {
    /// Prepares them; `None` when there are none. EBUSY where the numbers have
    /// not been set aside.
    pub(super) fn new(descriptors: &[OwnedFd]) -> io::Result<Option<Self>> {
        if descriptors.is_empty() {
            return Ok(None);
        }
        let aside = ASIDE.get().map_or(&[][..], Vec::as_slice);
        let is_aside = |number| aside.iter().any(|one| one.as_raw_fd() == number);
        let mut numbers = (FIRST..END).take(descriptors.len());
        if descriptors.len() > MAX_PASSED || !numbers.all(is_aside) {
            return Err(Errno::BUSY.into());
        }
        Ok(Some(Self::of(
            descriptors
                .iter()
                .map(|descriptor| fcntl_dupfd_cloexec(descriptor, END))
                .collect::<Result<_, _>>()?,
        )))
    }

    fn of(sources: Vec<OwnedFd>) -> Self {
        let mut variable = Vec::with_capacity(VARIABLE.len() + DIGITS + 1);
        variable.extend_from_slice(VARIABLE);
        Self { sources, variable }
    }

    /// Runs in the child: puts them where the program expects them.
    pub(super) fn place(&self) -> Result<(), Errno> {
        for (number, source) in (FIRST..END).zip(&self.sources) {
            // SAFETY: the number was set aside, and is only written to here, in
            // the child's own table of descriptors; nothing is closed by it.
            let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            // Without the close-on-exec flag.
            dup2(source, &mut place)?;
        }
        Ok(())
    }

    /// Runs in the child: `LISTEN_PID`, with its own pid, as a C string that
    /// lives as long as this.
    pub(super) fn variable(&mut self) -> *const c_char {
        let mut digits = [0; DIGITS];
        let mut pid = getpid().as_raw_nonzero().get().unsigned_abs();
        let mut used = 0;
        for digit in digits.iter_mut().rev() {
            // A remainder of 10 fits into a byte.
            *digit = b'0' + u8::try_from(pid % 10).unwrap_or(0);
            pid /= 10;
            used += 1;
            if pid == 0 {
                break;
            }
        }
        // Within the capacity reserved before fork: nothing is allocated.
        self.variable.truncate(VARIABLE.len());
        self.variable
            .extend_from_slice(digits.get(DIGITS - used..).unwrap_or_default());
        self.variable.push(0);
        self.variable.as_ptr().cast()
    }
}

/// The variables that describe passed descriptors, except for `LISTEN_PID`,
/// which only the child can know.
#[must_use]
pub fn variables<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> [CString; 2] {
    let count = names.len();
    let names: Vec<&str> = names.collect();
    [
        format!("LISTEN_FDS={count}"),
        format!("LISTEN_FDNAMES={}", names.join(":")),
    ]
    .map(|text| CString::new(text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::ffi::CStr;

    use super::*;

    #[test]
    fn the_variable_has_the_pid_and_no_leading_zero() {
        let mut passed = Passed::of(Vec::new());
        for _ in 0..2 {
            let text = passed.variable();
            // SAFETY: it ends with a NUL byte and `passed` is alive.
            let text = unsafe { CStr::from_ptr(text) };
            let expected = format!("LISTEN_PID={}", std::process::id());
            assert_eq!(text.to_str().unwrap(), expected);
        }
    }

    #[test]
    fn names_are_separated_by_colons() {
        let [count, names] = variables(["a", "b"].into_iter());
        assert_eq!(count.to_str().unwrap(), "LISTEN_FDS=2");
        assert_eq!(names.to_str().unwrap(), "LISTEN_FDNAMES=a:b");
    }
}
