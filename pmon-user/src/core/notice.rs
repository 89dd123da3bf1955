//! What the core has to tell people: one typed line of an entity's story.
//!
//! Log lines, the event stream and incident timelines are all made from these,
//! so they cannot disagree. Texts keep pmond's stable tokens (`Registered`,
//! `Unregister`, `Killed`, `Spawn`, `Monitor`, `Stable`, `Recovered`,
//! `Restarted`), each followed by the pid.

use std::{fmt, time::Duration};

use super::{
    death::{Death, Hint, WaitStatus},
    discrepancy::Discrepancy,
    effect::StartVerb,
    entity::Severity,
    event::{Delay, OperatorAction, OperatorRequest},
    evidence::Sender,
    identity::Identity,
};

/// One line of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The process is in the pid table.
    Registered(Identity),
    /// The process was taken out of the pid table.
    Unregistered(Identity),
    /// It could not be registered.
    NotRegistered {
        /// Who.
        identity: Identity,
        /// Why not.
        reason: String,
    },
    /// A kernel source reported the death.
    Hinted(Hint),
    /// The death is verified.
    Died(Death),
    /// How a process had ended, whose death was told without that.
    StatusKnown {
        /// Who.
        identity: Identity,
        /// Of which registration.
        generation: u64,
        /// How.
        status: WaitStatus,
    },
    /// There is no process although there should be one.
    Missing {
        /// What the look showed.
        reason: String,
    },
    /// There is something that cannot be verified; nothing is done to it.
    Unverifiable {
        /// What the look showed.
        reason: String,
    },
    /// A process was signalled.
    Signalled {
        /// Who.
        identity: Identity,
        /// With what.
        signal: i32,
    },
    /// A killed process does not go (state D, most likely).
    Unkillable(Identity),
    /// What a dead process had left behind in its process group was ended.
    Leftovers {
        /// Who died.
        dead: Identity,
        /// Who was there still.
        left: Vec<Identity>,
        /// Whether they are gone now.
        gone: bool,
    },
    /// The start method runs.
    Spawned {
        /// Attempt of this cycle, from 1.
        attempt: u32,
        /// With which verb.
        verb: StartVerb,
    },
    /// The start command ended badly, or is past its deadline.
    StartFailed {
        /// What happened.
        reason: String,
    },
    /// A successor was seen and is being watched.
    Successor {
        /// Who.
        identity: Identity,
        /// Started by somebody else than pmon.
        external: bool,
    },
    /// Another process has taken over although the old one's end was not
    /// reported, or beside it.
    PidChanged {
        /// The one we knew.
        old: Identity,
        /// The one there is now.
        new: Identity,
    },
    /// The process went into the background: its child has taken its place.
    Followed {
        /// The one that exited with status 0.
        old: Identity,
        /// Its child.
        new: Identity,
    },
    /// The start window closed well; the successor must now stay alive.
    Monitoring(Identity),
    /// An attempt failed.
    AttemptFailed {
        /// Why.
        reason: String,
        /// When the next one begins, from now.
        next_in: Duration,
    },
    /// The successor has stayed alive long enough.
    Stable(Identity),
    /// The entity is healthy again.
    Recovered(Identity),
    /// An operator's restart is complete.
    Restarted(Identity),
    /// No (further) automatic recovery; an operator is needed.
    GaveUp {
        /// Why.
        reason: String,
    },
    /// An operator asked for something.
    Operator(OperatorRequest),
    /// The entity was stopped by an operator and is down.
    Stopped,
    /// An operator's stop was for some time only, and that is over.
    StopExpired,
    /// Taken out of recovery by an operator.
    Held {
        /// For how long; until it is resumed when absent.
        lasts: Option<Duration>,
    },
    /// Back in recovery.
    Resumed {
        /// By time, not by request.
        expired: bool,
    },
    /// Somebody else is starting or stopping the entity; wait for the result.
    Waiting {
        /// The pid of the foreign script.
        script: u32,
    },
    /// Nothing is done for the time being, because of what the host is doing.
    Gated {
        /// What is waited for.
        why: String,
    },
    /// The service manager, or somebody through it, is at work on the unit.
    Yielding {
        /// What it does.
        what: String,
    },
    /// Somebody stopped the unit through the service manager, and it is down.
    StoppedElsewhere {
        /// At whose hands.
        by: String,
    },
    /// The adoption window is open: a successor that somebody else starts is
    /// waited for.
    AwaitingSuccessor {
        /// For how long.
        window: Duration,
    },
    /// Processes beside the registered one are instances of the entity as well.
    DuplicateInstance {
        /// The registered one.
        main: Identity,
        /// The others, each with what ties it to the entity.
        others: Vec<(Identity, String)>,
    },
    /// There is one instance again, the registered one, or none at all.
    DuplicateCleared(Option<Identity>),
    /// After a recovery, or an operator's restart: there is one instance.
    OneInstance(Identity),
    /// A request of active monitoring has come to nothing, not for the first
    /// time in a row.
    PulseMissed {
        /// Who was asked.
        identity: Identity,
        /// Misses in a row.
        misses: u32,
        /// Why this one is a miss.
        why: String,
    },
    /// It missed so many requests in a row that it has failed.
    Unanswered {
        /// Who was asked.
        identity: Identity,
        /// Misses in a row.
        misses: u32,
    },
    /// After a failure it must answer so many requests to count as recovered.
    AwaitingAnswers {
        /// Who is asked.
        identity: Identity,
        /// How many.
        wanted: u64,
    },
    /// The audit found that the pid table and the host disagree, and what was
    /// done about it.
    Audited {
        /// In which way.
        discrepancy: Discrepancy,
        /// What was seen.
        seen: String,
        /// What was done, in order; empty when nothing was.
        done: Vec<String>,
    },
    /// A script says that the service is well: for the first time, or again.
    StatusGood,
    /// A script says that the service is not well, or could not say anything.
    StatusBad {
        /// How it ended.
        reason: String,
    },
    /// What an operator asked for is not done.
    Refused {
        /// What that was.
        request: OperatorRequest,
        /// Why not.
        why: String,
    },
    /// First failure of a cycle (pmond's LOG event).
    FirstFailure,
    /// The alarm is raised.
    AlarmRaised(Severity),
    /// The alarm is still raised.
    AlarmRefreshed(Severity),
    /// The alarm is cleared.
    AlarmCleared,
    /// It fails again and again although each recovery succeeds.
    Flapping {
        /// Falls from health.
        deaths: u32,
        /// Within this time.
        within: Duration,
    },
    /// It still does.
    StillFlapping {
        /// For so long.
        lasts: Duration,
    },
    /// It has been well for long enough.
    FlappingEnded,
    /// It is restarted because another member of its group has failed.
    Cycled {
        /// Which group.
        group: String,
    },
    /// It does not wait any longer for one that is to be started first.
    WaitedInVain {
        /// For whom.
        name: String,
    },
    /// The plan to restart its group is over, without one that could not be ended in
    /// time.
    GroupInVain {
        /// Which group.
        group: String,
        /// Who has not gone.
        name: String,
    },
    /// An attempt is due and has to wait.
    Delayed {
        /// Why.
        why: Delay,
    },
    /// It still has to.
    StillDelayed {
        /// Why.
        why: Delay,
        /// For so long.
        waited: Duration,
    },
    /// A quorum member has its first strike.
    QuorumFailure,
    /// It has its second: the host should not go on.
    QuorumUnrecoverable,
    /// It has none any more.
    QuorumCleared,
}

impl Notice {
    /// Stable snake-case name of the kind of notice, for JSON and the journal.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Registered(_) => "registered",
            Self::Unregistered(_) => "unregistered",
            Self::NotRegistered { .. } => "not_registered",
            Self::Hinted(_) => "hint",
            Self::Died(_) => "died",
            Self::StatusKnown { .. } => "status_known",
            Self::Missing { .. } => "missing",
            Self::Unverifiable { .. } => "unverifiable",
            Self::Signalled { .. } => "signalled",
            Self::Unkillable(_) => "unkillable",
            Self::Leftovers { .. } => "leftovers",
            Self::Spawned { .. } => "spawned",
            Self::StartFailed { .. } => "start_failed",
            Self::Successor { .. } => "successor",
            Self::PidChanged { .. } => "pid_changed",
            Self::Followed { .. } => "followed",
            Self::Monitoring(_) => "monitoring",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::Stable(_) => "stable",
            Self::Recovered(_) => "recovered",
            Self::Restarted(_) => "restarted",
            Self::GaveUp { .. } => "gave_up",
            Self::Operator(_) => "operator",
            Self::Stopped => "stopped",
            Self::StopExpired => "stop_expired",
            Self::Held { .. } => "held",
            Self::Resumed { .. } => "resumed",
            Self::Waiting { .. } => "waiting",
            Self::Gated { .. } => "gated",
            Self::Yielding { .. } => "yielding",
            Self::StoppedElsewhere { .. } => "stopped_elsewhere",
            Self::AwaitingSuccessor { .. } => "awaiting_successor",
            Self::DuplicateInstance { .. } => "duplicate_instance",
            Self::DuplicateCleared(_) => "duplicate_cleared",
            Self::OneInstance(_) => "one_instance",
            Self::PulseMissed { .. } => "pulse_missed",
            Self::Unanswered { .. } => "unanswered",
            Self::AwaitingAnswers { .. } => "awaiting_answers",
            Self::Audited { .. } => "audit",
            Self::StatusGood => "status_good",
            Self::StatusBad { .. } => "status_bad",
            Self::Refused { .. } => "refused",
            Self::FirstFailure => "first_failure",
            Self::AlarmRaised(_) => "alarm_raised",
            Self::AlarmRefreshed(_) => "alarm_refreshed",
            Self::AlarmCleared => "alarm_cleared",
            Self::Flapping { .. } => "flapping",
            Self::StillFlapping { .. } => "still_flapping",
            Self::FlappingEnded => "flapping_ended",
            Self::Cycled { .. } => "cycled",
            Self::WaitedInVain { .. } => "waited_in_vain",
            Self::GroupInVain { .. } => "group_in_vain",
            Self::Delayed { .. } => "delayed",
            Self::StillDelayed { .. } => "still_delayed",
            Self::QuorumFailure => "quorum_failure",
            Self::QuorumUnrecoverable => "quorum_unrecoverable",
            Self::QuorumCleared => "quorum_cleared",
        }
    }
}

impl Notice {
    /// The process it is about.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        match self {
            Self::Registered(identity)
            | Self::Unregistered(identity)
            | Self::NotRegistered { identity, .. }
            | Self::Signalled { identity, .. }
            | Self::Unkillable(identity)
            | Self::Successor { identity, .. }
            | Self::PidChanged { new: identity, .. }
            | Self::Followed { new: identity, .. }
            | Self::Leftovers { dead: identity, .. }
            | Self::StatusKnown { identity, .. }
            | Self::PulseMissed { identity, .. }
            | Self::Unanswered { identity, .. }
            | Self::AwaitingAnswers { identity, .. }
            | Self::DuplicateInstance { main: identity, .. }
            | Self::DuplicateCleared(Some(identity))
            | Self::OneInstance(identity)
            | Self::Monitoring(identity)
            | Self::Stable(identity)
            | Self::Recovered(identity)
            | Self::Restarted(identity) => Some(identity.pid),
            Self::Hinted(hint) => Some(hint.identity.pid),
            Self::Died(death) => Some(death.identity.pid),
            Self::Missing { .. }
            | Self::Unverifiable { .. }
            | Self::Spawned { .. }
            | Self::StartFailed { .. }
            | Self::AttemptFailed { .. }
            | Self::GaveUp { .. }
            | Self::Operator(_)
            | Self::Stopped
            | Self::StopExpired
            | Self::Held { .. }
            | Self::Resumed { .. }
            | Self::Waiting { .. }
            | Self::Gated { .. }
            | Self::Yielding { .. }
            | Self::StoppedElsewhere { .. }
            | Self::AwaitingSuccessor { .. }
            | Self::DuplicateCleared(None)
            | Self::Audited { .. }
            | Self::StatusGood
            | Self::StatusBad { .. }
            | Self::Refused { .. }
            | Self::FirstFailure
            | Self::AlarmRaised(_)
            | Self::AlarmRefreshed(_)
            | Self::AlarmCleared
            | Self::Flapping { .. }
            | Self::StillFlapping { .. }
            | Self::FlappingEnded
            | Self::Cycled { .. }
            | Self::WaitedInVain { .. }
            | Self::GroupInVain { .. }
            | Self::Delayed { .. }
            | Self::StillDelayed { .. }
            | Self::QuorumFailure
            | Self::QuorumUnrecoverable
            | Self::QuorumCleared => None,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered(identity) => write!(f, "Registered ({})", identity.pid),
            Self::Unregistered(identity) => write!(f, "Unregister ({})", identity.pid),
            Self::NotRegistered { identity, reason } => {
                write!(f, "could not register ({}): {reason}", identity.pid)
            }
            Self::Hinted(hint) => write!(
                f,
                "{} reports the death of ({})",
                hint.source.as_str(),
                hint.identity.pid
            ),
            Self::Died(death) => write!(f, "Died ({}): {}", death.identity.pid, Ending(death)),
            Self::StatusKnown {
                identity,
                generation: _,
                status,
            } => write!(f, "({}) had ended with {status}", identity.pid),
            Self::Missing { reason } => write!(f, "not running: {reason}"),
            Self::Unverifiable { reason } => write!(f, "cannot be verified: {reason}"),
            Self::Signalled { identity, signal } => {
                write!(f, "Killed ({}) with signal {signal}", identity.pid)
            }
            Self::Unkillable(identity) => {
                write!(f, "({}) does not die of SIGKILL", identity.pid)
            }
            Self::Leftovers { dead, left, gone } => {
                let left: Vec<_> = left.iter().map(|one| format!("({})", one.pid)).collect();
                write!(
                    f,
                    "({}) had left {} of its process group behind: {}",
                    dead.pid,
                    left.join(", "),
                    if *gone { "ended" } else { "they do not go" }
                )
            }
            Self::Spawned { attempt, verb } => {
                write!(f, "Spawn: attempt {attempt}, {}", verb.as_str())
            }
            Self::StartFailed { reason } => write!(f, "start command: {reason}"),
            Self::Successor {
                identity,
                external: false,
            } => write!(f, "successor ({}) is running", identity.pid),
            Self::Successor {
                identity,
                external: true,
            } => write!(f, "({}) was started by somebody else", identity.pid),
            Self::PidChanged { old, new } => {
                write!(f, "pid changed from ({}) to ({})", old.pid, new.pid)
            }
            Self::Followed { old, new } => {
                write!(f, "({}) went into the background as ({})", old.pid, new.pid)
            }
            Self::Monitoring(identity) => write!(f, "Monitor ({})", identity.pid),
            Self::AttemptFailed { reason, next_in } => {
                write!(f, "attempt failed: {reason}; next in {next_in:?}")
            }
            Self::Stable(identity) => write!(f, "Stable ({})", identity.pid),
            Self::Recovered(identity) => write!(f, "Recovered ({})", identity.pid),
            Self::Restarted(identity) => write!(f, "Restarted ({})", identity.pid),
            Self::GaveUp { reason } => write!(f, "no automatic recovery: {reason}"),
            Self::Operator(request) => {
                write!(
                    f,
                    "{} asked for by {}",
                    capitalised(request.action),
                    request.by
                )?;
                match &request.reason {
                    Some(reason) => write!(f, ": {reason}"),
                    None => Ok(()),
                }
            }
            Self::Stopped => f.write_str("stopped by operator"),
            Self::StopExpired => f.write_str("the stop is over; monitored again"),
            Self::Held { lasts: None } => f.write_str("held: taken out of recovery"),
            Self::Held { lasts: Some(lasts) } => {
                write!(f, "held: taken out of recovery for {lasts:?}")
            }
            Self::Resumed { expired: false } => f.write_str("resumed: back in recovery"),
            Self::Resumed { expired: true } => f.write_str("the hold is over: back in recovery"),
            Self::Waiting { script } => {
                write!(f, "init script ({script}) is at work; waiting for it")
            }
            Self::Gated { why } => write!(f, "left alone: {why}"),
            Self::Yielding { what } => write!(f, "gives way to {what}"),
            Self::StoppedElsewhere { by } => write!(f, "stopped by {by}"),
            Self::AwaitingSuccessor { window } => {
                write!(f, "waiting {window:?} for a successor of somebody else's")
            }
            Self::DuplicateInstance { main, others } => {
                let named: Vec<_> = others
                    .iter()
                    .map(|(other, tie)| format!("({}), {tie}", other.pid))
                    .collect();
                let pids: Vec<_> = others
                    .iter()
                    .map(|(other, _)| other.pid.to_string())
                    .collect();
                write!(
                    f,
                    "minor alarm raised: duplicate instance: ({}) is monitored, and beside it runs \
                     {}; end what is too much: `kill {}`",
                    main.pid,
                    named.join("; "),
                    pids.join(" ")
                )
            }
            Self::DuplicateCleared(Some(main)) => write!(
                f,
                "duplicate instance alarm cleared: ({}) is the only one",
                main.pid
            ),
            Self::DuplicateCleared(None) => {
                f.write_str("duplicate instance alarm cleared: none is monitored")
            }
            Self::OneInstance(main) => write!(f, "({}) is the only instance", main.pid),
            Self::PulseMissed {
                identity,
                misses,
                why,
            } => write!(
                f,
                "({}) missed {misses} requests in a row: {why}",
                identity.pid
            ),
            Self::Unanswered { identity, misses } => write!(
                f,
                "({}) has failed: it missed {misses} requests in a row",
                identity.pid
            ),
            Self::AwaitingAnswers { identity, wanted } => {
                write!(f, "({}) must answer {wanted} requests", identity.pid)
            }
            Self::Audited {
                discrepancy,
                seen,
                done,
            } => {
                write!(f, "audit: {discrepancy}: {seen}; ")?;
                if done.is_empty() {
                    f.write_str("nothing had to be done")
                } else {
                    write!(f, "done: {}", done.join(", "))
                }
            }
            Self::StatusGood => f.write_str("the status is good"),
            Self::StatusBad { reason } => write!(f, "the status is bad: the script {reason}"),
            Self::Refused { request, why } => write!(
                f,
                "{:?} asked for by {} is not done: {why}",
                request.action, request.by
            ),
            Self::FirstFailure => f.write_str("is down; recovery begins"),
            Self::AlarmRaised(severity) => write!(f, "{severity} alarm raised"),
            Self::AlarmRefreshed(severity) => write!(f, "{severity} alarm still raised"),
            Self::AlarmCleared => f.write_str("alarm cleared"),
            Self::Flapping { deaths, within } => write!(
                f,
                "is flapping: it failed {deaths} times within {within:?}, each time after a recovery"
            ),
            Self::StillFlapping { lasts } => {
                write!(f, "is still flapping, for {} s", lasts.as_secs())
            }
            Self::FlappingEnded => f.write_str("is no longer flapping"),
            Self::Cycled { group } => write!(
                f,
                "is restarted, because another member of its group `{group}` has failed"
            ),
            Self::WaitedInVain { name } => {
                write!(f, "does not wait for `{name}` any longer")
            }
            Self::GroupInVain { group, name } => write!(
                f,
                "`{name}`, a member of its group `{group}`, could not be ended in time; it is \
                 started all the same"
            ),
            Self::Delayed { why } => write!(f, "recovery waits {why}"),
            Self::StillDelayed { why, waited } => {
                write!(f, "recovery has waited {} s {why}", waited.as_secs())
            }
            Self::QuorumFailure => f.write_str("quorum failure"),
            Self::QuorumUnrecoverable => {
                f.write_str("quorum failure, unrecoverable: the host should not go on")
            }
            Self::QuorumCleared => f.write_str("quorum failure cleared"),
        }
    }
}

const fn capitalised(action: OperatorAction) -> &'static str {
    match action {
        OperatorAction::Start => "Start",
        OperatorAction::Stop | OperatorAction::StopFor { .. } => "Stop",
        OperatorAction::Restart => "Restart",
        OperatorAction::Hold { .. } => "Hold",
        OperatorAction::Resume => "Resume",
    }
}

/// How a process ended, and at whose hands, in one line.
struct Ending<'a>(&'a Death);

impl fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(death) = self;
        match death.status {
            Some(status) => status.fmt(f)?,
            None => f.write_str("cause unknown")?,
        }
        if death.is_oom_kill() {
            return f.write_str(", chosen by the OOM killer");
        }
        if let Some(Sender { pid, uid, comm }) = death.killer() {
            f.write_str(" from ")?;
            if let Some(comm) = comm {
                write!(f, "`{comm}` ")?;
            }
            match pid {
                Some(pid) => write!(f, "(pid {pid}, uid {uid})")?,
                None => write!(f, "(uid {uid}, outside of the pid namespace)")?,
            }
        }
        Ok(())
    }
}
