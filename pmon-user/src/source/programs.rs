//! Our programs on their tracepoints.
//!
//! Must stay true: without an exit program there is no source; every other
//! program only adds to what is told of a death, and its absence is told. A
//! program is not attached where it lacks what it needs of the kernel's types.

use aya::{
    Btf, EbpfLoader,
    programs::{BtfTracePoint, Program, ProgramError, RawTracePoint, links::FdLink},
};
use pmon_common::{
    EXEC_PROGRAM, EXIT_PROGRAM, EXIT_RAW_PROGRAM, FORK_PROGRAM, OOM_PROGRAM, SIGNAL_PROGRAM,
    SIGNAL_RAW_PROGRAM, oom_argument,
};

use super::{
    btf::KernelLayout,
    ebpf::SourceError,
    namespace::{PidNamespace, boot_time_is_shifted},
};
use crate::causes::in_full;

/// The map of the kernel side's own log, and the ring's size when it is off:
/// the smallest that the kernel allows.
const LOG_MAP: &str = "AYA_LOGS";
/// Nothing is logged; the verifier removes what would.
const LOG_OFF: &u8 = &0;

/// What the programs are loaded with.
#[derive(Clone, Debug)]
pub struct Selection {
    /// What is known of this kernel.
    pub layout: KernelLayout,
    /// Why the kernel's types cannot be used, when that is so.
    pub without_types: Option<String>,
    /// Whether the kernel side logs what it does.
    pub log: bool,
    /// Programs to do without, as if the kernel refused them.
    pub passed_over: Vec<&'static str>,
}

impl Selection {
    /// The best that this kernel allows, in the namespaces of this process.
    #[must_use]
    pub fn of_this_host() -> Self {
        let selection = match KernelLayout::of_running_kernel() {
            Ok(layout) => Self {
                layout,
                without_types: None,
                log: false,
                passed_over: Vec::new(),
            },
            Err(error) => Self::without_types(in_full(&error)),
        };
        selection.for_this_process()
    }

    /// Nothing of the kernel's types is used: what a kernel without BTF leaves.
    #[must_use]
    pub fn without_types(reason: String) -> Self {
        let nothing = Self {
            layout: KernelLayout::default(),
            without_types: Some(reason),
            log: false,
            passed_over: Vec::new(),
        };
        nothing.for_this_process()
    }

    fn for_this_process(self) -> Self {
        let namespace = PidNamespace::own().unwrap_or(PidNamespace::INITIAL);
        let mut layout = self.layout.seen_from(namespace);
        if boot_time_is_shifted() {
            layout.task_start_boottime = 0;
        }
        Self { layout, ..self }
    }

    /// The programs' globals, to be lent to [`Selection::configure`].
    pub(super) fn globals(&self) -> Vec<(&'static str, u32)> {
        self.layout.globals()
    }

    /// Tells the loader what the programs are to know.
    pub(super) fn configure<'a>(
        &self,
        loader: &mut EbpfLoader<'a>,
        globals: &'a [(&'static str, u32)],
    ) {
        for (name, value) in globals {
            loader.override_global(name, value, true);
        }
        if !self.log {
            loader.override_global(aya_log::LEVEL, LOG_OFF, false);
            loader.map_max_entries(LOG_MAP, page_bytes());
        }
    }
}

fn page_bytes() -> u32 {
    u32::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// A program that is attached as long as this exists.
#[derive(Debug)]
pub struct ProgramLink {
    /// Its name.
    pub program: &'static str,
    /// The tracepoint with the kind of its program, as in an ELF section's name.
    pub tracepoint: &'static str,
    /// Detaches when dropped.
    pub link: FdLink,
}

/// A program that this kernel, or our privileges, do not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingProgram {
    /// Its name.
    pub program: &'static str,
    /// Why.
    pub reason: String,
}

/// All programs that could be attached.
pub(super) struct Attached {
    /// The exit program first.
    pub(super) links: Vec<ProgramLink>,
    /// The others.
    pub(super) missing: Vec<MissingProgram>,
}

/// A program that only adds to what is told.
struct Optional {
    program: &'static str,
    /// Another form of it, tried where the kernel refuses the first.
    instead: Option<&'static str>,
    tracepoint: &'static str,
    /// What it needs that is not there.
    lacks: fn(&KernelLayout) -> Option<&'static str>,
}

/// In the order in which they are attached.
const OPTIONAL: [Optional; 4] = [
    Optional {
        program: SIGNAL_PROGRAM,
        instead: Some(SIGNAL_RAW_PROGRAM),
        tracepoint: "tp_btf/signal_generate",
        lacks: |layout| {
            let known = layout.task_tgid != 0 && layout.siginfo_code != 0;
            (!known).then_some("`task_struct.tgid` or `kernel_siginfo.si_code`")
        },
    },
    Optional {
        program: OOM_PROGRAM,
        instead: None,
        tracepoint: "tp_btf/mark_victim",
        lacks: |layout| match layout.oom_argument {
            oom_argument::TASK => None,
            oom_argument::PID if layout.namespace == 0 => None,
            oom_argument::PID => {
                Some("the victim's pid in this pid namespace (its exit tells it all the same)")
            }
            _ => Some("the arguments of `mark_victim`"),
        },
    },
    Optional {
        program: FORK_PROGRAM,
        instead: None,
        tracepoint: "tp_btf/sched_process_fork",
        lacks: |layout| {
            if layout.task_start_boottime == 0 || layout.task_group_leader == 0 {
                Some("start times, which a shifted time namespace or the kernel's BTF withholds")
            } else {
                let known = layout.task_tgid != 0 && layout.task_pid != 0;
                (!known).then_some("`task_struct.pid` or `task_struct.tgid`")
            }
        },
    },
    Optional {
        program: EXEC_PROGRAM,
        instead: None,
        tracepoint: "tp_btf/sched_process_exec",
        lacks: |_| None,
    },
];

/// Loads and attaches every program. May be called again for new links.
///
/// # Errors
///
/// When no exit program can be had.
pub(super) fn attach_all(
    object: &mut aya::Ebpf,
    btf: Option<&Btf>,
    selection: &Selection,
) -> Result<Attached, SourceError> {
    let Selection {
        layout,
        without_types,
        log: _,
        passed_over,
    } = selection;
    let attach = |object: &mut aya::Ebpf, name, tracepoint, btf| {
        if passed_over.contains(&name) {
            Err(SourceError::PassedOver { name })
        } else {
            attach(object, name, tracepoint, btf)
        }
    };
    let types = match (btf, without_types) {
        (_, Some(reason)) => Err(reason.clone()),
        (None, None) => Err("the kernel's BTF cannot be read".to_owned()),
        (Some(_), None) if !layout.tells_keys() => Err(
            "the kernel's BTF does not tell how processes are called in this pid namespace"
                .to_owned(),
        ),
        (Some(btf), None) => Ok(btf),
    };
    let mut attached = Attached {
        links: Vec::new(),
        missing: Vec::new(),
    };
    let exit = match &types {
        Ok(btf) => attach(object, EXIT_PROGRAM, "tp_btf/sched_process_exit", btf)
            .map_err(|error| refusal(&error)),
        Err(reason) => Err(reason.clone()),
    };
    match exit {
        Ok(link) => attached.links.push(link),
        Err(reason) => {
            attached.links.push(attach_raw(object)?);
            attached.missing.push(MissingProgram {
                program: EXIT_PROGRAM,
                reason,
            });
        }
    }
    for optional in &OPTIONAL {
        let Optional {
            program,
            instead,
            tracepoint,
            lacks,
        } = *optional;
        let link = match (&types, lacks(layout)) {
            (Err(reason), _) => Err(reason.clone()),
            (Ok(_), Some(what)) => Err(format!("it needs {what}")),
            (Ok(btf), None) => attach(object, program, tracepoint, btf)
                .or_else(|refused| match instead {
                    Some(other) => {
                        tracing::debug!(refused = in_full(&refused), "trying `{other}` instead");
                        attach(object, other, tracepoint, btf)
                    }
                    None => Err(refused),
                })
                .map_err(|error| refusal(&error)),
        };
        match link {
            Ok(link) => attached.links.push(link),
            Err(reason) => attached.missing.push(MissingProgram { program, reason }),
        }
    }
    Ok(attached)
}

/// Why a program is missing, in a line. What the verifier says of one is pages
/// long, and goes to the log.
fn refusal(error: &SourceError) -> String {
    match error {
        SourceError::Program {
            name,
            what,
            source: ProgramError::LoadError { io_error, .. },
        } => {
            tracing::debug!(error = in_full(error), "the verifier refused");
            format!("cannot {what} the program `{name}`: {io_error}")
        }
        _ => in_full(error),
    }
}

/// Another link of a program that is attached already.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn attach_again(
    object: &mut aya::Ebpf,
    name: &'static str,
    tracepoint: &'static str,
) -> Result<ProgramLink, SourceError> {
    let failed = |source| SourceError::Program {
        name,
        what: "attach",
        source,
    };
    let link = match object.program_mut(name) {
        Some(Program::BtfTracePoint(program)) => {
            let id = program.attach().map_err(failed)?;
            program.take_link(id).map_err(failed)?.into()
        }
        Some(Program::RawTracePoint(program)) => {
            let bare = tracepoint.trim_start_matches("raw_tp/");
            let id = program.attach(bare).map_err(failed)?;
            program.take_link(id).map_err(failed)?.into()
        }
        Some(_) | None => return Err(SourceError::Missing { name }),
    };
    Ok(ProgramLink {
        program: name,
        tracepoint,
        link,
    })
}

fn attach(
    object: &mut aya::Ebpf,
    name: &'static str,
    tracepoint: &'static str,
    btf: &Btf,
) -> Result<ProgramLink, SourceError> {
    let failed = |what| move |source| SourceError::Program { name, what, source };
    let program: &mut BtfTracePoint = object
        .program_mut(name)
        .ok_or(SourceError::Missing { name })?
        .try_into()
        .map_err(failed("find"))?;
    if program.fd().is_err() {
        let bare = tracepoint.trim_start_matches("tp_btf/");
        program.load(bare, btf).map_err(failed("load"))?;
    }
    let id = program.attach().map_err(failed("attach"))?;
    let link = program.take_link(id).map_err(failed("attach"))?;
    Ok(ProgramLink {
        program: name,
        tracepoint,
        link: link.into(),
    })
}

/// The exit program that needs no types.
fn attach_raw(object: &mut aya::Ebpf) -> Result<ProgramLink, SourceError> {
    let name = EXIT_RAW_PROGRAM;
    let failed = |what| move |source| SourceError::Program { name, what, source };
    let program: &mut RawTracePoint = object
        .program_mut(name)
        .ok_or(SourceError::Missing { name })?
        .try_into()
        .map_err(failed("find"))?;
    if program.fd().is_err() {
        program.load().map_err(failed("load"))?;
    }
    let id = program
        .attach("sched_process_exit")
        .map_err(failed("attach"))?;
    let link = program.take_link(id).map_err(failed("attach"))?;
    Ok(ProgramLink {
        program: name,
        tracepoint: "raw_tp/sched_process_exit",
        link: link.into(),
    })
}
