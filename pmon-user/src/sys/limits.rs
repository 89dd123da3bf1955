//! The limit of open files: as high as it may be for the daemon, as it was for
//! the programs that it starts.

use std::sync::OnceLock;

use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// What this process was started with.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Raises this process's soft limit of open files to the hard one; how many it
/// may open then, `None` without a limit.
///
/// # Errors
///
/// When the kernel refuses; the limit is what it was.
pub fn raise_open_files() -> Result<Option<u64>, Errno> {
    let inherited = *INHERITED.get_or_init(|| getrlimit(Resource::Nofile));
    let raised = Rlimit {
        current: inherited.maximum,
        maximum: inherited.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(raised.current)
}

/// Open files that this process may have; `None` without a limit.
#[must_use]
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether no file can be opened at present, by this process or by any.
#[must_use]
pub fn out_of_descriptors() -> bool {
    matches!(
        eventfd(0, EventfdFlags::CLOEXEC),
        Err(Errno::MFILE | Errno::NFILE)
    )
}

/// Gives a forked child the limit that pmon was started with: many programs
/// that use select(2) do not survive a large one. Makes system calls only.
pub(super) fn restore_open_files() {
    if let Some(inherited) = INHERITED.get() {
        // Lowering the soft limit is always permitted (setrlimit(2)).
        let _ = setrlimit(Resource::Nofile, *inherited);
    }
}
