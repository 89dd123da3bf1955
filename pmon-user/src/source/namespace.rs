//! Which namespaces this process lives in, as far as the kernel side must know:
//! it sees every process of the host, and keys its table by the pids that we see.

use std::{fs, io, os::unix::fs::MetadataExt as _};

use rustix::fs::{major, minor};

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`.
const INITIAL: u32 = 0xEFFF_FFFC;
/// Where the kernel's `dev_t` begins its major number (`include/linux/kdev_t.h`).
const MINOR_BITS: u32 = 20;

/// A pid namespace, as nsfs names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidNamespace {
    /// Inode.
    pub inode: u32,
    /// Device of nsfs, in the kernel's own encoding.
    pub device: u32,
}

impl PidNamespace {
    /// The host's.
    pub const INITIAL: Self = Self {
        inode: INITIAL,
        device: 0,
    };

    /// Our own.
    ///
    /// # Errors
    ///
    /// When `/proc` is not there, or not ours.
    pub fn own() -> io::Result<Self> {
        let file = fs::metadata("/proc/self/ns/pid")?;
        let device = file.dev();
        Ok(Self {
            inode: u32::try_from(file.ino()).map_err(io::Error::other)?,
            device: major(device) << MINOR_BITS | minor(device),
        })
    }

    /// Whether its pids are those that the kernel itself uses.
    #[must_use]
    pub const fn is_initial(self) -> bool {
        self.inode == INITIAL
    }
}

/// Whether `/proc` shows start times on another clock than the kernel's own: in
/// a time namespace with an offset. Comparisons must then be left out.
#[must_use]
pub fn boot_time_is_shifted() -> bool {
    shifts_boot_time(&fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default())
}

/// Whether `/proc/PID/timens_offsets` (time_namespaces(7)) has a boot time
/// offset: a line of the clock's name, seconds and nanoseconds.
fn shifts_boot_time(offsets: &str) -> bool {
    offsets
        .lines()
        .filter(|line| line.starts_with("boottime"))
        .flat_map(|line| line.split_whitespace().skip(1))
        .any(|number| number != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_boot_time_offset_counts() {
        let none = "monotonic           0         0\nboottime            0         0\n";
        assert!(!shifts_boot_time(none));
        assert!(!shifts_boot_time(""));
        assert!(!shifts_boot_time("monotonic 5 5\nboottime 0 0\n"));
        for offset in ["boottime 100 0", "boottime 0 7", "boottime -3 0"] {
            assert!(shifts_boot_time(offset), "{offset}");
        }
    }
}
