//! The elements of a BPF array as memory that is shared with the kernel
//! (`BPF_F_MMAPABLE`, Linux 5.5).

use std::{
    os::fd::AsFd,
    ptr,
    sync::atomic::{AtomicU8, Ordering, fence},
};

use rustix::{
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// The bytes of all elements, one after the other.
#[derive(Debug)]
pub struct SharedArray {
    bytes: &'static [AtomicU8],
}

impl SharedArray {
    /// Maps an array whose elements have `length` bytes together.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a shorter array, `EPERM` for one that cannot be written or
    /// was not made for this.
    pub fn map(array: impl AsFd, length: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED,
                array,
                0,
            )
        }?;
        // SAFETY: the kernel has mapped `length` bytes, which it doesn't do
        // beyond the array's end (`array_map_mmap` of `kernel/bpf/arraymap.c`).
        // They are reached through atomics only, stay mapped until the drop, and
        // the slice never leaves this value.
        let bytes = unsafe { std::slice::from_raw_parts(start.cast::<AtomicU8>(), length) };
        Ok(Self { bytes })
    }

    /// Sets a byte to 1, before anything that this thread does next. Beyond the
    /// end nothing happens.
    pub fn raise(&self, index: usize) {
        if let Some(byte) = self.bytes.get(index) {
            byte.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }

    /// A byte; `None` beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<u8> {
        Some(self.bytes.get(index)?.load(Ordering::Relaxed))
    }
}

impl Drop for SharedArray {
    fn drop(&mut self) {
        let start = self.bytes.as_ptr().cast_mut().cast();
        // SAFETY: the mapping that `map` made, to which nothing refers any more.
        // That it fails leaves it mapped, which does no harm.
        let _unmapped = unsafe { munmap(start, self.bytes.len()) };
    }
}
