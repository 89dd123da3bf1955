//! A unit's main process, as systemd tells it: where no pidfile leads to the
//! entity's process, and as a second opinion where one does.

use super::{LookRequest, names, nothing, unverifiable};
use crate::{
    core::{
        entity::StartMethod,
        event::{Occasion, Outcome},
    },
    sys::pidfd::{VerifiedPid, verify},
};

/// What was found, or else the unit's main process; and that process's pid, if it
/// is alive and another one than was found.
///
/// Without a pidfile the main process is the entity's. With one it is only if it
/// bears the entity's name, or if the process that is gone was the main process
/// before: what the pidfile named may have been a worker of it, whose death would be
/// overlooked otherwise.
pub(super) fn or_main_process(
    found: Result<VerifiedPid, Outcome>,
    request: &LookRequest,
) -> (Result<VerifiedPid, Outcome>, Option<u32>) {
    if request.unit.is_none()
        && request.spec.pidfile.is_none()
        && request.occasion == Occasion::Asked
        && matches!(request.spec.start, StartMethod::Unit { .. })
        && matches!(found, Err(Outcome::Nothing { .. }))
    {
        // Nothing is started beside a process that may be there.
        let reason = "systemd does not say which process is the unit's".to_owned();
        return (Err(unverifiable(reason)), None);
    }
    let Some((unit, pid)) = request
        .unit
        .as_ref()
        .and_then(|unit| Some((unit, unit.main_pid?)))
    else {
        return (found, None);
    };
    if matches!(&found, Ok(process) if process.identity().pid == pid) {
        return (found, None);
    }
    let is_in_unit = |process: &VerifiedPid| {
        // systemd may count pids of another namespace than ours.
        belongs_to(pid, &unit.id) && !process.is_dead()
    };
    let Some(main) = verify(pid).ok().filter(is_in_unit) else {
        return (found, None);
    };
    match (found, &request.spec.pidfile) {
        (Ok(process), Some(_)) => (Ok(process), Some(pid)),
        // What is remembered, without a pidfile: the unit has moved on.
        (Ok(_), None) | (Err(Outcome::Nothing { .. }), None) => (Ok(main), None),
        (Err(Outcome::Nothing { reason }), Some(_)) => {
            let (entity, process) = (names::of_entity(&request.spec), names::of_process(pid));
            if unit.is_successor || names::agree(&entity, &process) {
                (Ok(main), None)
            } else {
                let reason = format!("{reason}; its unit's main process is {pid}");
                (Err(nothing(reason)), None)
            }
        }
        (Err(other), _) => (Err(other), Some(pid)),
    }
}

/// Whether the process is in the unit's cgroup, or in one below it.
fn belongs_to(pid: u32, unit: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
        return false;
    };
    text.lines()
        .any(|line| line.split('/').any(|component| component == unit))
}
