//! What the running kernel's BTF says about the structs the BPF programs read.
//!
//! rustc emits no CO-RE relocations, so offsets are resolved here and injected
//! as read-only globals. Zero means "not known on this kernel": the program
//! then does without, and [`programs`](super::programs) says what is missing.

use std::{collections::HashMap, fs, io, path::Path};

use btfparse::{
    Error as BtfError, ErrorKind, Offset, Readable, Result as BtfResult, TypeInformation,
    TypeVariant,
};
use pmon_common::{group_dead, oom_argument, pid_numbers};
use thiserror::Error;

use super::namespace::PidNamespace;

/// Where the kernel shows its own type information (CONFIG_DEBUG_INFO_BTF).
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Size of `struct upid`, with which the BPF side steps through `pid.numbers`.
const UPID_BYTES: usize = 16;

/// Declares [`KernelLayout`]: choices, which are resolved one by one, and
/// offsets, each with its struct and the path of the field in it.
macro_rules! kernel_layout {
    (
        choices { $($(#[$choice_doc:meta])* $choice:ident: $choice_global:literal,)* }
        offsets { $($offset:ident: $global:literal = $structure:literal, $path:literal;)* }
    ) => {
        /// What the BPF programs need to know of this kernel.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct KernelLayout {
            $($(#[$choice_doc])* pub $choice: u32,)*
            $(
                #[doc = concat!("Offset of `", $path, "` in `", $structure, "`, 0 when it is not known.")]
                pub $offset: u32,
            )*
        }

        impl KernelLayout {
            fn with_offsets(types: &Types) -> Self {
                Self {
                    $($offset: types.offset($structure, $path),)*
                    ..Self::default()
                }
            }

            /// The names of the programs' globals with their values.
            #[must_use]
            pub fn globals(&self) -> Vec<(&'static str, u32)> {
                let Self { $($choice,)* $($offset,)* } = *self;
                vec![$(($choice_global, $choice),)* $(($global, $offset),)*]
            }
        }
    };
}

kernel_layout! {
    choices {
        /// One of [`group_dead`].
        group_dead: "PMON_GROUP_DEAD",
        /// One of [`oom_argument`].
        oom_argument: "PMON_OOM_ARGUMENT",
        /// One of [`pid_numbers`].
        pid_numbers: "PMON_PID_NUMBERS_KIND",
        /// 1 where there is `bpf_get_current_task_btf` (Linux 5.11).
        current_task: "PMON_CURRENT_TASK",
        /// Inode of our pid namespace, 0 for the initial one.
        namespace: "PMON_NAMESPACE",
        /// Device of that inode, in the kernel's encoding.
        namespace_device: "PMON_NAMESPACE_DEVICE",
    }
    offsets {
        task_exit_code: "PMON_TASK_EXIT_CODE" = "task_struct", "exit_code";
        task_exit_state: "PMON_TASK_EXIT_STATE" = "task_struct", "exit_state";
        task_group_leader: "PMON_TASK_GROUP_LEADER" = "task_struct", "group_leader";
        task_pid: "PMON_TASK_PID" = "task_struct", "pid";
        task_tgid: "PMON_TASK_TGID" = "task_struct", "tgid";
        task_signal: "PMON_TASK_SIGNAL" = "task_struct", "signal";
        task_start_boottime: "PMON_TASK_START_BOOTTIME" = "task_struct", "start_boottime";
        task_sum_exec_runtime: "PMON_TASK_SUM_EXEC_RUNTIME" = "task_struct", "se.sum_exec_runtime";
        signal_live: "PMON_SIGNAL_LIVE" = "signal_struct", "live";
        signal_flags: "PMON_SIGNAL_FLAGS" = "signal_struct", "flags";
        signal_group_exit_code: "PMON_SIGNAL_GROUP_EXIT_CODE" = "signal_struct", "group_exit_code";
        signal_sum_sched_runtime: "PMON_SIGNAL_SUM_SCHED_RUNTIME" = "signal_struct", "sum_sched_runtime";
        signal_maxrss: "PMON_SIGNAL_MAXRSS" = "signal_struct", "maxrss";
        signal_oom_mm: "PMON_SIGNAL_OOM_MM" = "signal_struct", "oom_mm";
        // PIDTYPE_TGID of `include/linux/pid.h` is 1.
        signal_pid: "PMON_SIGNAL_PID" = "signal_struct", "pids[1]";
        siginfo_code: "PMON_SIGINFO_CODE" = "kernel_siginfo", "si_code";
        pid_level: "PMON_PID_LEVEL" = "pid", "level";
        pid_numbers_offset: "PMON_PID_NUMBERS" = "pid", "numbers";
        upid_ns: "PMON_UPID_NS" = "upid", "ns";
        namespace_inum: "PMON_NAMESPACE_INUM" = "pid_namespace", "ns.inum";
    }
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
        let types = Types::new(TypeInformation::new(&bytes).map_err(LayoutError::Parse)?);
        let mut layout = Self::with_offsets(&types);
        layout.group_dead = if types.has_group_dead_argument() {
            group_dead::ARGUMENT
        } else if layout.task_signal != 0 && layout.signal_live != 0 {
            group_dead::SIGNAL_LIVE
        } else {
            group_dead::UNKNOWN
        };
        layout.oom_argument = types.oom_argument();
        layout.pid_numbers = types.pid_numbers();
        layout.current_task = u32::from(types.has_helper("BPF_FUNC_get_current_task_btf"));
        Ok(layout)
    }

    /// For a daemon that lives in this pid namespace.
    #[must_use]
    pub const fn seen_from(self, namespace: PidNamespace) -> Self {
        let (inode, device) = if namespace.is_initial() {
            (0, 0)
        } else {
            (namespace.inode, namespace.device)
        };
        Self {
            namespace: inode,
            namespace_device: device,
            ..self
        }
    }

    /// Whether the programs can tell how a process is called in our pid namespace.
    #[must_use]
    pub const fn tells_keys(&self) -> bool {
        if self.namespace == 0 {
            return true;
        }
        self.task_signal != 0
            && self.signal_pid != 0
            && self.pid_level != 0
            && self.pid_numbers_offset != 0
            && self.upid_ns != 0
            && self.namespace_inum != 0
            && self.pid_numbers != pid_numbers::UNKNOWN
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

/// The kernel's types, its structs and enums by name: other kinds use the same names.
struct Types {
    all: TypeInformation,
    structs: HashMap<String, u32>,
}

impl Types {
    fn new(all: TypeInformation) -> Self {
        let mut structs = HashMap::new();
        for (id, variant) in all.get() {
            if let TypeVariant::Struct(structure) = variant
                && let Some(name) = structure.name()
            {
                structs.entry(name.clone()).or_insert(*id);
            }
        }
        Self { all, structs }
    }

    /// Byte offset of a field, 0 when it is not there or a bit field.
    fn offset(&self, structure: &str, path: &str) -> u32 {
        self.field(structure, path).map_or(0, |(_, offset)| offset)
    }

    /// Type and byte offset of a field.
    fn field(&self, structure: &str, path: &str) -> Option<(u32, u32)> {
        let id = *self.structs.get(structure)?;
        match self.all.offset_of(id, path).ok()? {
            (field, Offset::ByteOffset(bytes)) => Some((field, bytes)),
            (_, Offset::BitOffsetAndSize(..)) => None,
        }
    }

    /// The types of a tracepoint's arguments. Its prototype begins with the
    /// tracepoint's own data.
    fn tracepoint(&self, name: &str) -> Option<Vec<u32>> {
        let typedef = self.all.id_of(&format!("btf_trace_{name}"))?;
        let prototype = self.all.from_id(self.all.pointee_tid(typedef).ok()?)?;
        let TypeVariant::FuncProto(prototype) = prototype else {
            return None;
        };
        let arguments = prototype.parameter_list().iter().skip(1);
        Some(arguments.map(|argument| argument.tid()).collect())
    }

    /// Since Linux 6.16 the second argument is `group_dead`. Found by looking,
    /// not by version: distributions carry backports.
    fn has_group_dead_argument(&self) -> bool {
        self.tracepoint("sched_process_exit")
            .is_some_and(|arguments| arguments.len() == 2)
    }

    /// `mark_victim` told a pid before Linux 6.10, and the task since.
    fn oom_argument(&self) -> u32 {
        let first = self
            .tracepoint("mark_victim")
            .and_then(|arguments| self.all.from_id(*arguments.first()?));
        match first {
            Some(TypeVariant::Ptr(_)) => oom_argument::TASK,
            Some(TypeVariant::Int(_)) => oom_argument::PID,
            _ => oom_argument::UNKNOWN,
        }
    }

    /// How `struct pid` ends, if its elements are as the BPF side expects them.
    fn pid_numbers(&self) -> u32 {
        let upid = self.structs.get("upid");
        let as_expected = upid.and_then(|id| self.all.size_of(*id).ok()) == Some(UPID_BYTES)
            && self.field("upid", "nr").is_some_and(|(_, at)| at == 0);
        let numbers = self
            .field("pid", "numbers")
            .and_then(|(field, _)| self.all.from_id(field));
        match numbers {
            Some(TypeVariant::Array(array)) if as_expected => match array.element_count() {
                0 => pid_numbers::FLEXIBLE,
                _ => pid_numbers::ONE,
            },
            _ => pid_numbers::UNKNOWN,
        }
    }

    /// Whether the kernel has a BPF helper of this name.
    fn has_helper(&self, name: &str) -> bool {
        let helpers = self.all.id_of("bpf_func_id");
        match helpers.and_then(|id| self.all.from_id(id)) {
            Some(TypeVariant::Enum(helpers)) => helpers
                .named_value_list()
                .iter()
                .any(|helper| helper.name == name),
            _ => false,
        }
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
        let inside = layout.seen_from(PidNamespace {
            inode: 7,
            device: 4,
        });
        assert!(layout.tells_keys() && inside.tells_keys());
        for (name, value) in inside.globals() {
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

    #[test]
    fn without_the_kernels_types_only_the_initial_namespace_has_keys() {
        let nothing = KernelLayout::default();
        assert!(nothing.tells_keys());
        let inside = nothing.seen_from(PidNamespace {
            inode: 7,
            device: 4,
        });
        assert!(!inside.tells_keys());
    }
}
