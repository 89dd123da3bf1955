//! What keeps strangers from the table: one byte for some neighbouring keys
//! ([`FILTER_KEYS_BITS`]).
//!
//! Must stay true: a byte is set before a key of its is inserted and never
//! cleared, so it needs no atomic operation, and what is in doubt is looked up.

use pmon_common::{FILTER_ELEMENT_BYTES, FILTER_KEYS_BITS, Tgid};

use crate::maps::FILTER;

/// The byte of a key, as element and index.
#[inline(always)]
fn place(tgid: Tgid) -> (u32, usize) {
    let byte = tgid >> FILTER_KEYS_BITS;
    let bytes = FILTER_ELEMENT_BYTES as u32;
    (byte / bytes, (byte % bytes) as usize)
}

/// Whether the table may have this key.
#[inline(always)]
pub(crate) fn admits(tgid: Tgid) -> bool {
    let (element, index) = place(tgid);
    FILTER.get_ptr(element).is_none_or(|bytes| {
        // SAFETY: within the element, as the verifier checks.
        unsafe { bytes.cast::<u8>().add(index).read_volatile() != 0 }
    })
}

/// The table is about to have this key.
#[inline(always)]
pub(crate) fn admit(tgid: Tgid) {
    let (element, index) = place(tgid);
    if let Some(bytes) = FILTER.get_ptr_mut(element) {
        // SAFETY: as in `admits`.
        unsafe { bytes.cast::<u8>().add(index).write_volatile(1) };
    }
}
