//! Reading a BPF hash map many entries at a time (`BPF_MAP_LOOKUP_BATCH` of
//! bpf(2), Linux 5.6), which aya does not offer.
//!
//! The kernel walks the map bucket by bucket and gives each bucket as a whole:
//! an entry that is there all the time is given once, whatever is inserted or
//! removed meanwhile.

use std::os::fd::{AsFd, AsRawFd as _};

use aya::Pod;
use rustix::io::Errno;

/// `BPF_MAP_LOOKUP_BATCH` of `include/uapi/linux/bpf.h`.
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
/// Entries asked for at once. More than any bucket holds.
pub const BATCH: usize = 4096;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Where a walk through a map stands; the default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(Option<u32>);

/// Appends the next entries to `keys` and `values`; whether there may be more.
///
/// # Errors
///
/// `EINVAL` where the kernel cannot do it for this map; `ENOSPC` when a bucket
/// holds more than [`BATCH`] entries, `EPERM` without CAP_BPF.
pub fn read<K: Pod, V: Pod>(
    map: impl AsFd,
    cursor: &mut Cursor,
    keys: &mut Vec<K>,
    values: &mut Vec<V>,
) -> Result<bool, Errno> {
    keys.reserve(BATCH);
    values.reserve(BATCH);
    let Cursor(position) = *cursor;
    let before = position.unwrap_or_default();
    let mut after = 0_u32;
    let mut attributes = Attributes {
        in_batch: position.map_or(0, |_| std::ptr::from_ref(&before) as u64),
        out_batch: std::ptr::from_mut(&mut after) as u64,
        keys: keys.spare_capacity_mut().as_mut_ptr() as u64,
        values: values.spare_capacity_mut().as_mut_ptr() as u64,
        count: BATCH as u32,
        map_fd: map.as_fd().as_raw_fd().cast_unsigned(),
        ..Attributes::default()
    };
    // SAFETY: every address points to memory that lives across the call: the
    // tokens are a `u32` each, as hash maps want them, and the spare capacity
    // was reserved for `count` keys and values of the sizes that aya checked
    // against the map's when it was opened. The length is the structure's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_LOOKUP_BATCH,
            std::ptr::from_mut(&mut attributes),
            size_of::<Attributes>(),
        )
    };
    let more = if result == 0 {
        true
    } else {
        // `ENOENT`: this was the rest.
        match Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(Errno::NOENT) => false,
            Some(errno) => return Err(errno),
            None => return Err(Errno::IO),
        }
    };
    let count = usize::try_from(attributes.count).map_or(0, |count| count.min(BATCH));
    // SAFETY: the kernel has written `count` keys and values, at most as many
    // as were reserved; any bit pattern is valid for `Pod`.
    unsafe {
        keys.set_len(keys.len() + count);
        values.set_len(values.len() + count);
    }
    *cursor = Cursor(Some(after));
    Ok(more)
}
