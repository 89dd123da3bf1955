//! Looking for an entity's process: from a number in a pidfile, or from what is
//! remembered, to a verified process or the reason why there is none.
//!
//! Must stay true: only what [`verify`] has bound to a pidfd and the pidfile
//! still names afterwards is called a process; a stranger never is. Nothing is
//! signalled, written or remembered here, and what follows from a sighting is
//! the core's business. When to look is decided by `audit` and the core.

use std::{cell::Cell, collections::HashSet, path::Path, sync::Arc, thread, time::Duration};

use crate::{
    causes::in_full,
    core::{
        death::LastSeen,
        entity::{EntitySpec, StartMethod},
        event::{Occasion, Outcome, Sighting},
        identity::Identity,
        time::Time,
        unit::UnitReport,
    },
    sys::{
        clock,
        limits::out_of_descriptors,
        pidfd::{VerifiedPid, VerifyError, verify},
    },
    systemd::UnitSeen,
};

pub mod container;
pub mod foreign_script;
pub mod instances;
pub mod last_seen;
pub mod likeness;
pub mod names;
pub mod pidfile;
pub mod stranger;
mod unit;

use likeness::Traits;
use pidfile::{Reading, Stamp, Writer};
pub use stranger::Remembered;
use stranger::{Evidence, Verdict};

/// A pidfile that changes while it is looked at is read this often.
const ROUNDS: u32 = 4;
/// Pause before a pidfile that is being written is read again.
const PAUSE: Duration = Duration::from_millis(10);
/// A pidfile without a pid is taken to be half written when it is younger.
const FRESH: Duration = Duration::from_secs(1);
/// `PF_KTHREAD` of the kernel's `sched.h`, in `/proc/PID/stat` field 9.
const PF_KTHREAD: u32 = 0x0020_0000;

/// What to look for, and what is known already.
#[derive(Clone, Debug)]
pub struct LookRequest {
    /// The entity.
    pub spec: Arc<EntitySpec>,
    /// The process that an earlier look found, in this boot.
    pub known: Option<Remembered>,
    /// Why to look.
    pub occasion: Occasion,
    /// Whether to look for a running init script as well.
    pub check_foreign_script: bool,
    /// Pids of pmon's own running start commands, each the leader of its
    /// process group or session.
    pub own_scripts: Arc<HashSet<u32>>,
    /// What systemd said of the entity's unit, a moment before.
    pub unit: Option<UnitSeen>,
    /// What the dead process was like, where a successor that somebody else has
    /// started is to be known by that; and who is registered already.
    pub former: Option<(Arc<Traits>, Arc<HashSet<u32>>)>,
}

/// What a look showed.
#[derive(Clone, Debug)]
pub struct Look {
    /// For the core.
    pub sighting: Sighting,
    /// The process, exactly when the outcome is [`Outcome::Process`].
    pub process: Option<VerifiedPid>,
    /// The pidfile, where a regular file was read; to be remembered together
    /// with the identity of `process`, and not otherwise.
    pub stamp: Option<Stamp>,
    /// What was seen of that process.
    pub last_seen: LastSeen,
    /// Who the pidfile names instead, if that is certainly a stranger: an init
    /// script that trusts the file would spare, or kill, the wrong process.
    pub stranger: Option<Identity>,
    /// The process that was known when the look was asked for.
    pub knew: Option<Identity>,
    /// There were no descriptors to look with: what it showed means nothing.
    pub exhausted: bool,
    /// The known process, if it is alive although the look did not lead to it:
    /// its pidfile is missing, stale or damaged, or names another process.
    pub known_alive: Option<VerifiedPid>,
    /// Whether the known process is certainly gone.
    pub known_gone: bool,
    /// The number in the pidfile, if nobody has it any more.
    pub names_gone: Option<u32>,
    /// The invocation in which somebody has stopped the unit, if that is so.
    pub unit_stopped: Option<Vec<u8>>,
    /// The unit's main process, if it is alive and another one than was found.
    pub other_main: Option<u32>,
}

/// Looks for the entity's process. Blocks for some 100 µs, and up to 40 ms
/// while a pidfile is being written: not for the loop.
#[must_use]
pub fn look(request: &LookRequest) -> Look {
    let mut names_gone = None;
    let exhausted = Cell::new(false);
    let Found {
        result,
        stamp,
        stranger,
    } = match &request.spec.pidfile {
        Some(path) => by_pidfile(path, |pid, stamp, writer| {
            let found = by_pid(pid, stamp, writer, request, &exhausted);
            names_gone = matches!(&found, Err(Misled { gone: true, .. })).then_some(pid);
            found
        }),
        None => match by_memory(request.known.as_ref(), &exhausted) {
            Found {
                result: Ok(process),
                ..
            } => Found {
                result: Ok(process),
                stamp: None,
                stranger: None,
            },
            nobody => by_likeness(request, &exhausted).unwrap_or(nobody),
        },
    };
    let (result, main_pid) = unit::or_main_process(result, request);
    let (process, outcome) = match result {
        Ok(process) => {
            let identity = process.identity();
            (Some(process), Outcome::Process(identity))
        }
        Err(outcome) => (None, outcome),
    };
    let found = process.as_ref().map(VerifiedPid::identity);
    let (known_alive, known_gone) = match &request.known {
        Some(known) if Some(known.identity) != found => verify_known(known.identity, &exhausted),
        Some(_) | None => (None, false),
    };
    let outcome = mention(outcome, known_alive.as_ref());
    let foreign_script = match &request.spec.start {
        StartMethod::Script { path } if request.check_foreign_script => {
            foreign_script::find(&foreign_script::Search {
                script: path.clone(),
                own: Arc::clone(&request.own_scripts),
                except: found
                    .iter()
                    .chain(request.known.iter().map(|known| &known.identity))
                    .map(|identity| identity.pid)
                    .collect(),
                max_age: request.spec.start_timeout.max(request.spec.startuptime),
            })
        }
        StartMethod::Script { .. }
        | StartMethod::Unit { .. }
        | StartMethod::Command(_)
        | StartMethod::None { .. } => None,
    };
    Look {
        sighting: Sighting {
            occasion: request.occasion,
            outcome,
            foreign_script,
            unit: request.unit.as_ref().map(|unit| unit.report.clone()),
        },
        last_seen: found.map(last_seen::of).unwrap_or_default(),
        process,
        stamp,
        stranger,
        knew: request.known.map(|known| known.identity),
        // The pidfile, too, may have been unreadable for want of descriptors.
        exhausted: exhausted.get() || (found.is_none() && out_of_descriptors()),
        known_alive,
        known_gone,
        names_gone,
        other_main: main_pid,
        unit_stopped: request.unit.as_ref().and_then(|unit| {
            let stopped = matches!(unit.report, UnitReport::Stopped { .. });
            stopped.then(|| unit.invocation.clone())
        }),
    }
}

/// Notes when it fails for want of descriptors.
fn try_verify(pid: u32, exhausted: &Cell<bool>) -> Result<VerifiedPid, VerifyError> {
    verify(pid).inspect_err(|error| {
        if error.is_exhaustion() {
            exhausted.set(true);
        }
    })
}

/// A process, or the outcome that says why not.
struct Found {
    result: Result<VerifiedPid, Outcome>,
    stamp: Option<Stamp>,
    stranger: Option<Identity>,
}

/// Why the number in a pidfile leads to no process of the entity.
struct Misled {
    outcome: Outcome,
    /// Whom it leads to instead.
    stranger: Option<Identity>,
    /// Nobody has that number.
    gone: bool,
}

impl From<Outcome> for Misled {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            stranger: None,
            gone: false,
        }
    }
}

impl Found {
    const fn no(outcome: Outcome, stamp: Option<Stamp>) -> Self {
        Self {
            result: Err(outcome),
            stamp,
            stranger: None,
        }
    }
}

const fn nothing(reason: String) -> Outcome {
    Outcome::Nothing { reason }
}

const fn unverifiable(reason: String) -> Outcome {
    Outcome::Unverifiable { reason }
}

/// The process if it is alive, and whether it is certainly gone: neither where
/// that cannot be told.
fn verify_known(identity: Identity, exhausted: &Cell<bool>) -> (Option<VerifiedPid>, bool) {
    match try_verify(identity.pid, exhausted) {
        Ok(process) if process.identity() == identity => (Some(process), false),
        // That number is somebody else's now.
        Ok(_) | Err(VerifyError::NoProcess { .. } | VerifyError::NotALeader { .. }) => (None, true),
        Err(VerifyError::Open { .. } | VerifyError::StartTime { .. }) => (None, false),
    }
}

fn mention(outcome: Outcome, known_alive: Option<&VerifiedPid>) -> Outcome {
    let Some(alive) = known_alive else {
        return outcome;
    };
    let say = |reason| format!("{reason}; {} is still alive", alive.identity());
    match outcome {
        Outcome::Process(identity) => Outcome::Process(identity),
        Outcome::Nothing { reason } => nothing(say(reason)),
        Outcome::Unverifiable { reason } => unverifiable(say(reason)),
    }
}

/// An entity without a pidfile has the process it was known to have, or none.
fn by_memory(known: Option<&Remembered>, exhausted: &Cell<bool>) -> Found {
    let result = match known {
        None => Err(nothing("no pidfile, and no process is known".to_owned())),
        Some(known) => match try_verify(known.identity.pid, exhausted) {
            Ok(process) if process.identity() == known.identity => Ok(process),
            Ok(process) => Err(nothing(format!(
                "{} is gone, its pid is now a stranger's ({})",
                known.identity,
                process.identity()
            ))),
            // That number is a thread of a stranger now.
            Err(VerifyError::NoProcess { .. } | VerifyError::NotALeader { .. }) => {
                Err(nothing(format!("{} is gone", known.identity)))
            }
            Err(error @ (VerifyError::Open { .. } | VerifyError::StartTime { .. })) => {
                Err(unverifiable(in_full(&error)))
            }
        },
    };
    Found {
        result,
        stamp: None,
        stranger: None,
    }
}

/// A successor that somebody else has started for an entity without a pidfile.
fn by_likeness(request: &LookRequest, exhausted: &Cell<bool>) -> Option<Found> {
    let (former, registered) = request.former.as_ref()?;
    let successor = instances::successor(&request.spec, former, registered)?;
    let process = try_verify(successor.pid, exhausted).ok()?;
    (process.identity() == successor).then_some(Found {
        result: Ok(process),
        stamp: None,
        stranger: None,
    })
}

/// Reads the pidfile and follows its number, until the pidfile has been the
/// same before and after.
fn by_pidfile(
    path: &Path,
    follow: impl FnMut(u32, Stamp, Writer) -> Result<VerifiedPid, Misled>,
) -> Found {
    by_pidfile_with_pauses(path, || thread::sleep(PAUSE), follow)
}

fn by_pidfile_with_pauses(
    path: &Path,
    mut pause: impl FnMut(),
    mut follow: impl FnMut(u32, Stamp, Writer) -> Result<VerifiedPid, Misled>,
) -> Found {
    for round in 1..=ROUNDS {
        let reading = pidfile::read(path);
        let (pid, stamp, writer) = match reading {
            Reading::Pid { pid, stamp, writer } => (pid, stamp, writer),
            Reading::Absent => {
                let reason = format!("no pidfile `{}`", path.display());
                return Found::no(nothing(reason), None);
            }
            Reading::Refused { reason } => return Found::no(unverifiable(reason), None),
            Reading::Junk { stamp, reason } => {
                if round < ROUNDS && is_fresh(stamp) {
                    pause();
                    continue;
                }
                return Found::no(nothing(reason), Some(stamp));
            }
        };
        let result = follow(pid, stamp, writer);
        // What was found counts only if the pidfile said so all the time.
        match pidfile::read(path) {
            Reading::Pid {
                pid: pid_now,
                stamp: stamp_now,
                writer: _,
            } if (pid_now, stamp_now) == (pid, stamp) => {
                let stranger = result.as_ref().err().and_then(|misled| misled.stranger);
                return Found {
                    result: result.map_err(|misled| misled.outcome),
                    stamp: Some(stamp),
                    stranger,
                };
            }
            // Removed meanwhile: the next round says so, there is nothing to
            // wait for while the entity is down.
            Reading::Absent => {}
            Reading::Pid { .. } | Reading::Junk { .. } | Reading::Refused { .. } => pause(),
        }
    }
    let reason = format!(
        "pidfile `{}` changed {ROUNDS} times while it was looked at",
        path.display()
    );
    Found::no(unverifiable(reason), None)
}

/// Changed so lately that somebody may still be writing to it.
fn is_fresh(stamp: Stamp) -> bool {
    let age = jiff::Timestamp::now().duration_since(stamp.mtime.timestamp());
    age.unsigned_abs() < FRESH
}

/// Follows the number that a pidfile holds.
fn by_pid(
    pid: u32,
    stamp: Stamp,
    writer: Writer,
    request: &LookRequest,
    exhausted: &Cell<bool>,
) -> Result<VerifiedPid, Misled> {
    let (spec, known) = (&*request.spec, request.known.as_ref());
    let process = match try_verify(pid, exhausted) {
        Ok(process) => process,
        Err(VerifyError::NoProcess { pid }) => {
            return Err(Misled {
                gone: true,
                ..nothing(format!("the pidfile names {pid}, which is gone")).into()
            });
        }
        Err(VerifyError::NotALeader { pid }) => return Err(thread_named(pid, spec).into()),
        Err(error @ (VerifyError::Open { .. } | VerifyError::StartTime { .. })) => {
            return Err(unverifiable(in_full(&error)).into());
        }
    };
    let entity = names::of_entity(spec);
    let found = process.identity();
    let verdict = stranger::judge(&Evidence {
        found,
        started: clock::wall(Time::from_start_ticks(found.start_time)),
        uid: status_of(pid).map(|status| status.euid),
        names_agree: names::agree(&entity, &names::of_process(pid)),
        stamp,
        writer,
        known,
        own_uid: rustix::process::geteuid().as_raw(),
    });
    let never = never_accepted(pid);
    // Alive still, so all that was read above was read from this process.
    if process.is_dead() {
        return Err(nothing(format!("{found} died while it was looked at")).into());
    }
    match (verdict, never) {
        (Verdict::Stranger { reason }, _) => Err(Misled {
            outcome: nothing(reason),
            stranger: Some(found),
            gone: false,
        }),
        (Verdict::Untrusted { reason }, _) => Err(unverifiable(reason).into()),
        (Verdict::Accepted, Some(what)) => {
            Err(unverifiable(format!("the pidfile names {pid}, which is {what}")).into())
        }
        (Verdict::Accepted, None) => Ok(process),
    }
}

/// The number is a thread's. Numbers of threads and processes come from one
/// pool, so most likely the pidfile is stale and a stranger's thread has the
/// number now: nothing. But a daemon that wrote `gettid()` is running, and a
/// second one must not be started beside it.
fn thread_named(tid: u32, spec: &EntitySpec) -> Outcome {
    let leader = status_of(tid).and_then(|status| u32::try_from(status.tgid).ok());
    let Some(leader) = leader else {
        return nothing(format!("the pidfile names {tid}, which is gone"));
    };
    if names::agree(&names::of_entity(spec), &names::of_process(leader)) {
        unverifiable(format!(
            "the pidfile names {tid}, a thread of process {leader}, expected the process itself"
        ))
    } else {
        nothing(format!(
            "the pidfile names {tid}, which is now a thread of a stranger ({leader})"
        ))
    }
}

/// Processes that are nobody's to monitor, whatever a pidfile or an operator
/// says: they must never be signalled.
#[must_use]
pub fn never_accepted(pid: u32) -> Option<&'static str> {
    if pid == 1 {
        return Some("init");
    }
    if pid == std::process::id() {
        return Some("pmon itself");
    }
    let flags = i32::try_from(pid)
        .ok()
        .and_then(|pid| procfs::process::Process::new(pid).ok())
        .and_then(|process| process.stat().ok())
        .map(|stat| stat.flags)?;
    (flags & PF_KTHREAD != 0).then_some("a kernel thread")
}

fn status_of(pid: u32) -> Option<procfs::process::Status> {
    let pid = i32::try_from(pid).ok()?;
    procfs::process::Process::new(pid).ok()?.status().ok()
}

#[cfg(test)]
mod tests;
