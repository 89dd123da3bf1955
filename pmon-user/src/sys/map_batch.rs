//! Many entries of the kernel's table with one system call (`BPF_MAP_LOOKUP_BATCH`,
//! Linux 5.6: older than the ring buffer, so it is there wherever we are).

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use pmon_common::{Registration, Tgid};

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd` in `include/uapi/linux/bpf.h`.
const LOOKUP_BATCH: libc::c_long = 24;
/// Entries asked for at once at first; a bucket of the hash must fit.
const AT_ONCE: usize = 1024;

/// The `batch` part of `union bpf_attr`.
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// All entries of the hash map of registrations. Those that are inserted or
/// removed meanwhile may or may not be among them; none is there twice.
///
/// # Errors
///
/// What the kernel said.
pub fn registrations(map: BorrowedFd<'_>) -> io::Result<Vec<(Tgid, Registration)>> {
    let mut found = Vec::new();
    let mut keys: Vec<Tgid> = vec![0; AT_ONCE];
    let mut values = vec![Registration::default(); AT_ONCE];
    let mut position: Option<u32> = None;
    loop {
        let mut next = 0_u32;
        let mut attributes = Attributes {
            in_batch: position
                .as_ref()
                .map_or(0, |at| std::ptr::from_ref(at) as u64),
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(keys.len()).map_err(io::Error::other)?,
            map_fd: u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?,
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the attributes have the kernel's layout; `keys` and `values`
        // have room for `count` elements of the map's sizes, and a position in
        // a hash is a u32. Everything outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LOOKUP_BATCH,
                std::ptr::from_mut(&mut attributes),
                size_of::<Attributes>(),
            )
        };
        let error = (result < 0).then(io::Error::last_os_error);
        let errno = error.as_ref().and_then(io::Error::raw_os_error);
        if errno == Some(libc::ENOSPC) {
            // A bucket longer than what we asked for; nothing was passed over.
            let more = keys.len() * 2;
            keys.resize(more, 0);
            values.resize(more, Registration::default());
            continue;
        }
        if let Some(error) = error
            && errno != Some(libc::ENOENT)
        {
            return Err(error);
        }
        let count = attributes.count as usize;
        found.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
        if errno == Some(libc::ENOENT) {
            return Ok(found);
        }
        position = Some(next);
    }
}
