//! Giving memory back.

/// Has the allocator return what it holds free. Worth it once, after the
/// kernel's BTF has been parsed: that takes some 60 MB for a moment.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) has no preconditions and is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}
