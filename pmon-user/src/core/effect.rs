//! What the core asks for: its output alphabet.
//!
//! Effects of one step are carried out in order. The order of a kill is part of
//! the contract and visible here: [`Effect::Unregister`], then
//! [`Effect::RemovePidfile`], then [`Effect::Signal`].

use super::{entity::Severity, identity::Identity, notice::Notice, time::Time};

/// One thing to do for one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Look for the entity's process; answered by [`super::event::Event::Seen`].
    Look {
        /// Look also whether somebody else runs an init script of the entity.
        foreign_script: bool,
    },
    /// Put a process, seen before, into the pid table.
    Register {
        /// Who.
        identity: Identity,
    },
    /// Take a process out of the pid table. It stays watched until it is gone
    /// or released, and its end is then [`super::event::Event::Gone`], not a death.
    Unregister {
        /// Who.
        identity: Identity,
    },
    /// Stop watching an unregistered process.
    Release {
        /// Who.
        identity: Identity,
    },
    /// Remove the pidfile, only if it still names this process.
    RemovePidfile {
        /// Who.
        identity: Identity,
    },
    /// Signal a verified process through its pidfd.
    Signal {
        /// Who.
        identity: Identity,
        /// Signal number.
        signal: i32,
    },
    /// End what a dead process left behind in its process group.
    EndLeftovers {
        /// Who died.
        identity: Identity,
        /// When we knew of it.
        died: Time,
    },
    /// Run the start method; answered by [`super::event::Event::StartEnded`].
    Start {
        /// With which verb, where the method knows verbs.
        verb: StartVerb,
        /// Number of this run, repeated in the answer, so that the end of an
        /// earlier run cannot be taken for this one's.
        run: u64,
    },
    /// The start method's own way to stop (a systemd unit); answered by the
    /// process's end.
    StopUnit,
    /// Run the script of an entity in status mode; answered by
    /// [`super::event::Event::ScriptEnded`].
    RunScript {
        /// What for.
        task: ScriptTask,
        /// Number of this run, repeated in the answer.
        run: u64,
        /// Read `status_failure_text` at its end.
        failure_text: bool,
    },
    /// End a start command or script that is still running, with its process group.
    CancelStart,
    /// Send the process a request, as soon as its answer could be received;
    /// answered by [`super::pulse::PulseEvent::Sent`] or its opposite.
    RequestPulse {
        /// Number of this request, repeated in whatever is told of it.
        round: u64,
        /// The sequence number that it carries.
        sequence: u32,
    },
    /// Read the answers that have arrived, and tell if there is none to this
    /// request.
    CollectPulse {
        /// Which.
        round: u64,
    },
    /// Ask for a turn to start a successor; answered by
    /// [`super::event::Event::Turn`], at once or after
    /// [`super::event::Event::Delayed`].
    AskTurn,
    /// The turn is over, or no longer wanted.
    ReturnTurn,
    /// It was well, and has failed: members of its group may have to do with that.
    Fell,
    /// Raise, refresh or clear the entity's alarm.
    Alarm(AlarmChange),
    /// The same for the alarm that says that it fails again and again although
    /// each recovery succeeds.
    FlappingAlarm(AlarmChange),
    /// Ask whether the host's gates are open; answered by
    /// [`super::gate::GateEvent::Verdict`].
    AskGate,
    /// Tell the log, the event stream and the incident's timeline.
    Say(Notice),
}

/// What the script of an entity in status mode is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptTask {
    /// To ask for the status: `status_arg`.
    Status,
    /// To start the service: `start_arg`.
    Start,
}

/// Verb for a start method that knows verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartVerb {
    /// Nothing runs: start.
    Start,
    /// Something may be half up: stop and start.
    Restart,
}

impl StartVerb {
    /// As an init script's argument.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart => "restart",
        }
    }
}

/// What happens to the entity's alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmChange {
    /// It is raised at this severity.
    Raise(Severity),
    /// It is still raised; receivers are told again.
    Refresh(Severity),
    /// It is cleared.
    Clear,
}
