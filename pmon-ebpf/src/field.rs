//! Fields of kernel structs, at offsets that the daemon resolved from the
//! running kernel's BTF (rustc emits no CO-RE relocations).
//!
//! Every offset is a read-only global; zero means "feature off" and the
//! verifier prunes the branch, so the programs load on a kernel of which
//! nothing is known. Fields are loaded directly through BTF-typed pointers,
//! never with a probe-read helper, which a kernel under
//! `lockdown=confidentiality` refuses. No field that is read lies at offset 0.

use aya_ebpf::Global;

/// The offset of one field.
#[repr(transparent)]
pub(crate) struct Field(Global<u32>);

impl Field {
    /// Off until the daemon says otherwise.
    pub(crate) const fn off() -> Self {
        Self(Global::new(0))
    }

    /// The offset, if it is known.
    #[inline(always)]
    pub(crate) fn offset(&self) -> Option<usize> {
        match self.0.load() {
            0 => None,
            offset => Some(offset as usize),
        }
    }

    /// The field of the struct at `object`; `None` when it is off.
    ///
    /// # Safety
    ///
    /// `object` is a pointer that the verifier knows by the struct's type, and
    /// `T` has the field's size. The verifier refuses anything else; a null or
    /// stale pointer reads as zero.
    #[inline(always)]
    pub(crate) unsafe fn read<T: Copy>(&self, object: *const u8) -> Option<T> {
        let offset = self.offset()?;
        // SAFETY: the caller's promise, checked by the verifier.
        Some(unsafe { object.add(offset).cast::<T>().read_volatile() })
    }
}
