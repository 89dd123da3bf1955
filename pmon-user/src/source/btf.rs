//! What the running kernel's BTF says about the structs the BPF program reads.
//!
//! rustc emits no CO-RE relocations, so offsets are resolved here and injected
//! as read-only globals. Zero means "not known on this kernel": the program
//! then does without.

use std::{fs, io, path::Path};

use btfparse::{
    Error as BtfError, ErrorKind, Offset, Readable, Result as BtfResult, TypeInformation,
    TypeVariant,
};
use pmon_common::group_dead;
use thiserror::Error;

/// Where the kernel shows its own type information (CONFIG_DEBUG_INFO_BTF).
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the BPF program needs to know of this kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelLayout {
    /// One of [`group_dead`].
    pub group_dead: u32,
    /// Offset of `task_struct.exit_code`.
    pub task_exit_code: u32,
    /// Offset of `task_struct.group_leader`.
    pub task_group_leader: u32,
    /// Offset of `task_struct.signal`.
    pub task_signal: u32,
    /// Offset of `task_struct.start_boottime`.
    pub task_start_boottime: u32,
    /// Offset of `signal_struct.live`.
    pub signal_live: u32,
    /// Offset of `signal_struct.flags`.
    pub signal_flags: u32,
    /// Offset of `signal_struct.group_exit_code`.
    pub signal_group_exit_code: u32,
}

/// Why the layout could not be read.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// No BTF.
    #[error("cannot read `{VMLINUX_BTF}`; the kernel needs CONFIG_DEBUG_INFO_BTF=y")]
    Read(#[source] io::Error),
    /// Not understood.
    #[error("cannot parse `{VMLINUX_BTF}`: {0:?}")]
    Parse(BtfError),
}

/// The file's bytes, as the parser wants them.
struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> BtfResult<()> {
        let source = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..)?.get(..buffer.len()))
            .ok_or_else(|| BtfError::new(ErrorKind::IOError, "read past the end"))?;
        buffer.copy_from_slice(source);
        Ok(())
    }
}

impl KernelLayout {
    /// Reads the layout of the running kernel.
    ///
    /// # Errors
    ///
    /// When there is no BTF or it cannot be parsed. A field that is not there
    /// is no error.
    pub fn of_running_kernel() -> Result<Self, LayoutError> {
        Self::from_file(Path::new(VMLINUX_BTF))
    }

    fn from_file(path: &Path) -> Result<Self, LayoutError> {
        let bytes = Bytes(fs::read(path).map_err(LayoutError::Read)?);
        let types = TypeInformation::new(&bytes).map_err(LayoutError::Parse)?;
        let task = |field| offset(&types, "task_struct", field);
        let signal = |field| offset(&types, "signal_struct", field);
        let mut layout = Self {
            group_dead: group_dead::UNKNOWN,
            task_exit_code: task("exit_code"),
            task_group_leader: task("group_leader"),
            task_signal: task("signal"),
            task_start_boottime: task("start_boottime"),
            signal_live: signal("live"),
            signal_flags: signal("flags"),
            signal_group_exit_code: signal("group_exit_code"),
        };
        layout.group_dead = if exit_tracepoint_tells_group_dead(&types) {
            group_dead::ARGUMENT
        } else if layout.task_signal != 0 && layout.signal_live != 0 {
            group_dead::SIGNAL_LIVE
        } else {
            group_dead::UNKNOWN
        };
        Ok(layout)
    }

    /// The names of the program's globals with their values.
    #[must_use]
    pub fn globals(&self) -> [(&'static str, u32); 8] {
        let Self {
            group_dead,
            task_exit_code,
            task_group_leader,
            task_signal,
            task_start_boottime,
            signal_live,
            signal_flags,
            signal_group_exit_code,
        } = *self;
        [
            ("PMON_GROUP_DEAD", group_dead),
            ("PMON_TASK_EXIT_CODE", task_exit_code),
            ("PMON_TASK_GROUP_LEADER", task_group_leader),
            ("PMON_TASK_SIGNAL", task_signal),
            ("PMON_TASK_START_BOOTTIME", task_start_boottime),
            ("PMON_SIGNAL_LIVE", signal_live),
            ("PMON_SIGNAL_FLAGS", signal_flags),
            ("PMON_SIGNAL_GROUP_EXIT_CODE", signal_group_exit_code),
        ]
    }

    /// How a group death is recognised, for people.
    #[must_use]
    pub fn group_dead_method(&self) -> &'static str {
        match self.group_dead {
            group_dead::ARGUMENT => "argument of the tracepoint",
            group_dead::SIGNAL_LIVE => "signal_struct.live",
            _ => "unknown: every thread's exit is checked on the pidfd",
        }
    }
}

/// Byte offset of a field, 0 when it is not there or a bit field.
fn offset(types: &TypeInformation, structure: &str, field: &str) -> u32 {
    types
        .id_of(structure)
        .and_then(|id| types.offset_of(id, field).ok())
        .and_then(|(_, offset)| match offset {
            Offset::ByteOffset(bytes) => Some(bytes),
            Offset::BitOffsetAndSize(..) => None,
        })
        .unwrap_or(0)
}

/// Since Linux 6.16 the tracepoint's second argument is `group_dead`; its
/// prototype then has three parameters, the first being the tracepoint's data.
/// Found by looking, not by version: distributions carry backports.
fn exit_tracepoint_tells_group_dead(types: &TypeInformation) -> bool {
    let prototype = types
        .id_of("btf_trace_sched_process_exit")
        .and_then(|typedef| types.pointee_tid(typedef).ok())
        .and_then(|id| types.from_id(id));
    match prototype {
        Some(TypeVariant::FuncProto(prototype)) => prototype.parameter_list().len() == 3,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_running_kernel_is_understood() {
        if !Path::new(VMLINUX_BTF).exists() {
            println!("SKIP: no `{VMLINUX_BTF}`");
            return;
        }
        let layout = KernelLayout::of_running_kernel().unwrap();
        assert_ne!(layout.group_dead, group_dead::UNKNOWN);
        for (name, value) in layout.globals() {
            assert_ne!(value, 0, "{name}");
        }
    }

    #[test]
    fn a_missing_or_broken_file_is_an_error() {
        let missing = KernelLayout::from_file(Path::new("/nonexistent"));
        assert!(matches!(missing, Err(LayoutError::Read(_))));
        let broken = KernelLayout::from_file(Path::new("/proc/self/status"));
        assert!(matches!(broken, Err(LayoutError::Parse(_))));
    }
}
