//! Our programs on their tracepoints.
//!
//! Must stay true: without the exit program there is no source; every other
//! program only adds to what is told of a death, and its absence is told.

use aya::{
    Btf,
    programs::{BtfTracePoint, links::FdLink},
};
use pmon_common::EXIT_PROGRAM;

use super::ebpf::SourceError;

/// A program that is attached as long as this exists.
#[derive(Debug)]
pub struct ProgramLink {
    /// Its name.
    pub program: &'static str,
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

/// Loads and attaches every program. May be called again for new links.
///
/// # Errors
///
/// When the exit program cannot be had.
pub(super) fn attach_all(object: &mut aya::Ebpf, btf: &Btf) -> Result<Attached, SourceError> {
    let link = attach(object, EXIT_PROGRAM, "sched_process_exit", btf)?;
    Ok(Attached {
        links: vec![ProgramLink {
            program: EXIT_PROGRAM,
            link,
        }],
        missing: Vec::new(),
    })
}

/// Another link of a program that is attached already.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn attach_again(
    object: &mut aya::Ebpf,
    name: &'static str,
) -> Result<ProgramLink, SourceError> {
    let failed = |what| move |source| SourceError::Program { name, what, source };
    let program: &mut BtfTracePoint = object
        .program_mut(name)
        .ok_or(SourceError::Missing { name })?
        .try_into()
        .map_err(failed("find"))?;
    let id = program.attach().map_err(failed("attach"))?;
    let link = program.take_link(id).map_err(failed("attach"))?;
    Ok(ProgramLink {
        program: name,
        link: link.into(),
    })
}

fn attach(
    object: &mut aya::Ebpf,
    name: &'static str,
    tracepoint: &str,
    btf: &Btf,
) -> Result<FdLink, SourceError> {
    let failed = |what| move |source| SourceError::Program { name, what, source };
    let program: &mut BtfTracePoint = object
        .program_mut(name)
        .ok_or(SourceError::Missing { name })?
        .try_into()
        .map_err(failed("find"))?;
    if program.fd().is_err() {
        program.load(tracepoint, btf).map_err(failed("load"))?;
    }
    let id = program.attach().map_err(failed("attach"))?;
    let link = program.take_link(id).map_err(failed("attach"))?;
    Ok(link.into())
}
