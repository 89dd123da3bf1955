//! bpf(2) as far as the measurement of pmon's own programs needs it: run
//! statistics, and an empty program that shows what these cost by themselves.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};

// Commands and types of `include/uapi/linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_STATS_RUN_TIME: u32 = 0;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// `mov64 r0, 0` and `exit`.
const RETURN_ZERO: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];
const LICENCE: &[u8] = b"GPL\0";

/// Has the kernel keep run statistics of all programs as long as this lives
/// (`BPF_ENABLE_STATS`, Linux 5.8).
#[derive(Debug)]
pub(crate) struct RunStatistics {
    _descriptor: OwnedFd,
}

#[repr(C)]
struct EnableStats {
    kind: u32,
}

impl RunStatistics {
    /// Switches them on.
    ///
    /// # Errors
    ///
    /// `EPERM` without CAP_SYS_ADMIN.
    pub(crate) fn enable() -> io::Result<Self> {
        let attributes = EnableStats {
            kind: BPF_STATS_RUN_TIME,
        };
        // SAFETY: the command reads these attributes, which name no memory.
        let descriptor = unsafe { bpf(BPF_ENABLE_STATS, &attributes) }?;
        Ok(Self {
            _descriptor: descriptor,
        })
    }
}

/// What a program ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// How often.
    pub(crate) count: u64,
    /// Nanoseconds in all.
    pub(crate) ns: u64,
}

/// A program that does nothing, on `raw_tp/sched_process_exit`.
#[derive(Debug)]
pub(crate) struct EmptyProgram {
    program: OwnedFd,
    _link: OwnedFd,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    program: u32,
    padding: u32,
}

impl EmptyProgram {
    /// Loads and attaches it.
    ///
    /// # Errors
    ///
    /// `EPERM` without CAP_BPF and CAP_PERFMON.
    pub(crate) fn attach() -> io::Result<Self> {
        let load = ProgramLoad {
            kind: BPF_PROG_TYPE_RAW_TRACEPOINT,
            instruction_count: RETURN_ZERO.len() as u32,
            instructions: RETURN_ZERO.as_ptr() as u64,
            licence: LICENCE.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buffer: 0,
            kernel_version: 0,
            flags: 0,
            // `BPF_OBJ_NAME_LEN`, the final NUL included.
            name: *b"bench_empty\0\0\0\0\0",
        };
        // SAFETY: instructions and licence are statics of the lengths told.
        let program = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
        let open = RawTracepointOpen {
            name: c"sched_process_exit".as_ptr() as u64,
            program: program.as_raw_fd().cast_unsigned(),
            padding: 0,
        };
        // SAFETY: the name is a static C string.
        let link = unsafe { bpf(BPF_RAW_TRACEPOINT_OPEN, &open) }?;
        Ok(Self {
            program,
            _link: link,
        })
    }

    /// What it ran while there were statistics.
    ///
    /// # Errors
    ///
    /// When `/proc` does not tell.
    pub(crate) fn runs(&self) -> Result<Runs> {
        let path = format!("/proc/self/fdinfo/{}", self.program.as_raw_fd());
        parse_runs(&std::fs::read_to_string(path)?).context("no run statistics in fdinfo")
    }
}

/// `bpf_prog_show_fdinfo` of `kernel/bpf/syscall.c`.
fn parse_runs(fdinfo: &str) -> Option<Runs> {
    let field = |name: &str| -> Option<u64> {
        let line = fdinfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().parse().ok()
    };
    Some(Runs {
        count: field("run_cnt")?,
        ns: field("run_time_ns")?,
    })
}

/// # Safety
///
/// The attributes must be what the command reads, and every address in them
/// valid for what it reads. The command must return a new descriptor.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the size is that of the attributes; the rest is the caller's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn runs_are_read_from_fdinfo() {
        let fdinfo = "pos:\t0\nprog_type:\t17\nrun_time_ns:\t1234\nrun_cnt:\t7\n";
        let expected = Runs { count: 7, ns: 1234 };
        assert_eq!(parse_runs(fdinfo).unwrap(), expected);
        assert_eq!(parse_runs("pos:\t0\n"), None);
    }
}
