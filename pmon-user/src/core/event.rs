//! What can happen to an entity: the core's input alphabet.

use std::{fmt, time::Duration};

use super::{
    death::{Death, Hint, WaitStatus},
    dependency::Standing,
    gate::GateEvent,
    identity::Identity,
    pulse::PulseEvent,
    unit::UnitReport,
};

/// One thing that happened to one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody looked for the entity's process (answer to [`super::effect::Effect::Look`],
    /// a change of the pidfile's directory, or the sweep).
    Seen(Sighting),
    /// The process is in the pid table; a death will be reported.
    Registered {
        /// Who.
        identity: Identity,
        /// The table's name for this registration.
        generation: u64,
    },
    /// The process could not be registered.
    RegisterFailed {
        /// Who.
        identity: Identity,
        /// Why not.
        reason: String,
    },
    /// The process lives, but its death could not be noticed: nothing is left to
    /// watch it with.
    Unwatchable {
        /// Who.
        identity: Identity,
        /// Why.
        reason: String,
    },
    /// A kernel source reported the death; not yet verified.
    Hint(Hint),
    /// The registered process is dead.
    Died(Death),
    /// The registered process went into the background: it exited with status 0
    /// and left a child, which the kernel has watched since it was forked.
    Followed {
        /// The one that exited.
        death: Death,
        /// The child, verified alive.
        child: Identity,
    },
    /// How a process ended whose death was told without that.
    StatusKnown {
        /// Who.
        identity: Identity,
        /// Of which registration.
        generation: u64,
        /// How.
        status: WaitStatus,
    },
    /// A process that had been unregistered to be ended is gone.
    Gone {
        /// Who.
        identity: Identity,
    },
    /// The start command came to an end, in one way or another.
    StartEnded {
        /// Which run.
        run: u64,
        /// How.
        end: StartEnd,
    },
    /// The script of an entity in status mode came to an end.
    ScriptEnded {
        /// Which run.
        run: u64,
        /// How; never [`StartEnd::Running`].
        end: StartEnd,
        /// What it left for the alarm, if that was asked for and could be read.
        failure_text: Option<String>,
    },
    /// An operator asked for something.
    Operator(OperatorRequest),
    /// Something about the gates that it stands before.
    Gate(GateEvent),
    /// What has become of a request of active monitoring.
    Pulse(PulseEvent),
    /// It is the entity's turn to start a successor.
    Turn,
    /// It has to wait for its turn.
    Delayed(Delay),
    /// Its group restarts it, because another member has failed.
    Cycle {
        /// Which group.
        group: String,
    },
    /// A deadline of the entity may have passed.
    Tick,
}

/// What a look at the entity's pidfile (or remembered identity) showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Why somebody looked.
    pub occasion: Occasion,
    /// What there was.
    pub outcome: Outcome,
    /// An init script of this entity is running right now, started by somebody
    /// else: it is about to start or stop the process.
    pub foreign_script: Option<u32>,
    /// What the service manager says of the entity's unit; none without a unit,
    /// where it was not asked, or where it does not answer.
    pub unit: Option<UnitReport>,
}

/// Why somebody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The core asked.
    Asked,
    /// The pidfile has just begun to change, while no process is known: only a
    /// process counts, anything else may be half of the truth.
    PidfileStirred,
    /// The pidfile has changed and come to rest.
    PidfileChanged,
    /// The program was opened, perhaps to be executed, while no process is known:
    /// only a process counts, there may be one yet.
    Executed,
    /// The periodic audit.
    Sweep,
}

/// What a look showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A live process, verified: pidfd open, start time read.
    Process(Identity),
    /// No process: no pidfile, or it names nothing alive, or a stranger.
    Nothing {
        /// For people.
        reason: String,
    },
    /// There is something, and it cannot be told what; nothing may be done to it.
    Unverifiable {
        /// For people.
        reason: String,
    },
}

/// How a start command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartEnd {
    /// It runs and is itself the monitored process.
    Running(Identity),
    /// It exited.
    Exited {
        /// Exit code.
        code: i32,
        /// Last line it printed, where there was one.
        last_line: Option<String>,
    },
    /// A signal ended it.
    Signalled {
        /// Signal number.
        signal: i32,
    },
    /// It ended, and how was told to nobody: an earlier daemon had run it.
    Untold,
    /// It ran past its deadline and its process group was killed.
    TimedOut,
    /// The service manager's job did not do what it should.
    JobFailed {
        /// Why, for people.
        reason: String,
    },
    /// Nothing was started, because somebody else wants something of the unit.
    Yielded {
        /// What that is, for people.
        to: String,
    },
    /// It could not be executed, for instance ETXTBSY or EAGAIN after retries.
    NotExecuted {
        /// For people, with the errno's name.
        reason: String,
    },
}

/// Why an entity has to wait for its turn to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Many are being recovered on this host (`core::budget`).
    Budget {
        /// Those who go before it.
        ahead: usize,
    },
    /// Another entity is started first.
    After {
        /// Which.
        name: String,
    },
    /// An entity that it requires is not up.
    Requires {
        /// Which.
        name: String,
        /// How that one stands.
        standing: Standing,
    },
    /// Its group is restarted, and others are ended first.
    Group {
        /// Which.
        name: String,
    },
}

impl Delay {
    /// Whether the other is no news.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Budget { .. }, Self::Budget { .. }) => true,
            (Self::Requires { name: one, .. }, Self::Requires { name, .. })
            | (Self::After { name: one }, Self::After { name })
            | (Self::Group { name: one }, Self::Group { name }) => one == name,
            (
                Self::Budget { .. }
                | Self::After { .. }
                | Self::Requires { .. }
                | Self::Group { .. },
                _,
            ) => false,
        }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget { ahead } => write!(
                f,
                "for its turn: many are being recovered on this host, {ahead} go before it"
            ),
            Self::After { name } => write!(f, "for `{name}`, which is started first"),
            Self::Requires { name, standing } => {
                write!(f, "for `{name}`, which it requires and which {standing}")
            }
            Self::Group { name } => {
                write!(f, "for its group `{name}`, whose members are ended first")
            }
        }
    }
}

/// What an operator can ask of one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorRequest {
    /// What to do.
    pub action: OperatorAction,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who asked, for instance `uid 0 (pid 4711)`.
    pub by: String,
}

impl OperatorAction {
    /// The verb.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::StopFor { .. } => "stop",
            Self::Hold { .. } => "hold",
            Self::Resume => "resume",
        }
    }
}

/// The operator's verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorAction {
    /// Start a stopped or failed entity.
    Start,
    /// End the process and leave it down.
    Stop,
    /// End the process and start a successor.
    Restart,
    /// End the process and leave it down for some time, as the original pmond does.
    StopFor {
        /// How long; then it is monitored, and recovered, again.
        lasts: Duration,
    },
    /// Take it out of recovery.
    Hold {
        /// How long; until it is resumed when absent.
        lasts: Option<Duration>,
    },
    /// Take it back into recovery.
    Resume,
}
