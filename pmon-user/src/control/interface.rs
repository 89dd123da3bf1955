//! What can be asked over the control socket: the closed list of verbs, and the
//! shapes of their parameters and replies.
//!
//! The interface description that clients can ask for is made from these types
//! (see [`super::description`]); there is no second list to keep in step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::Access;
use crate::view::{entity::EntityView, event::EventView, incident::IncidentView};

/// Name of the Varlink interface.
pub const INTERFACE: &str = "io.pmon.Monitor";

/// The verbs of [`INTERFACE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The daemon and its entities.
    Status,
    /// The entities alone.
    List,
    /// One entity in detail.
    Show,
    /// Start a stopped or failed entity.
    Start,
    /// End a process and leave it down.
    Stop,
    /// End a process and start a successor.
    Restart,
    /// Take an entity out of recovery.
    Hold,
    /// Take it back.
    Resume,
    /// Monitor a process that no file describes.
    Register,
    /// Forget such an entity.
    Unregister,
    /// Every event from now on.
    Events,
    /// The last events.
    RecentEvents,
    /// Incidents.
    History,
    /// Why an entity is in its state.
    Explain,
    /// Put the configuration into force again.
    Reload,
    /// End, for another daemon to take over.
    Handoff,
    /// Every prerequisite.
    Doctor,
    /// The kernel side.
    BpfShow,
    /// The kernel side's own log.
    BpfLog,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Status,
        Self::List,
        Self::Show,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Hold,
        Self::Resume,
        Self::Register,
        Self::Unregister,
        Self::Events,
        Self::RecentEvents,
        Self::History,
        Self::Explain,
        Self::Reload,
        Self::Handoff,
        Self::Doctor,
        Self::BpfShow,
        Self::BpfLog,
    ];

    /// Method name within [`INTERFACE`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "Status",
            Self::List => "List",
            Self::Show => "Show",
            Self::Start => "Start",
            Self::Stop => "Stop",
            Self::Restart => "Restart",
            Self::Hold => "Hold",
            Self::Resume => "Resume",
            Self::Register => "Register",
            Self::Unregister => "Unregister",
            Self::Events => "Events",
            Self::RecentEvents => "RecentEvents",
            Self::History => "History",
            Self::Explain => "Explain",
            Self::Reload => "Reload",
            Self::Handoff => "Handoff",
            Self::Doctor => "Doctor",
            Self::BpfShow => "BpfShow",
            Self::BpfLog => "BpfLog",
        }
    }

    /// The verb of that method name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }

    /// What it needs.
    #[must_use]
    pub const fn access(self) -> Access {
        match self {
            Self::Status
            | Self::List
            | Self::Show
            | Self::Events
            | Self::RecentEvents
            | Self::History
            | Self::Explain
            | Self::Doctor
            | Self::BpfShow => Access::Read,
            Self::Start
            | Self::Stop
            | Self::Restart
            | Self::Hold
            | Self::Resume
            | Self::Register
            | Self::Unregister
            | Self::Reload
            | Self::BpfLog => Access::Write,
            Self::Handoff => Access::Own,
        }
    }

    /// One line of documentation.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Self::Status => "The daemon and its entities; all of them unless names are given.",
            Self::List => "The entities alone; all of them unless names are given.",
            Self::Show => "One entity: state, configuration as understood, last incidents.",
            Self::Start => "Start a stopped or failed entity; returns once that is accepted.",
            Self::Stop => "End the process and leave it down; returns once that is accepted.",
            Self::Restart => {
                "End the process and start a successor; returns once that is accepted."
            }
            Self::Hold => {
                "Take an entity out of recovery, for `seconds` or until it is resumed: its process \
                 stays registered and its death is told, and nothing is started or ended."
            }
            Self::Resume => "Take a held entity back into recovery.",
            Self::Register => "Monitor a live process that no configuration file describes.",
            Self::Unregister => "Forget a registered entity; its process is left alone.",
            Self::Events => {
                "The last `recent` events and then every further one; needs `more`. With `early`, \
                 deaths are also told before they are verified. A reader that is too slow is told \
                 how many events it lost and stays connected."
            }
            Self::RecentEvents => "The last `recent` events, oldest first.",
            Self::History => "Incidents, newest first; of all entities unless a name is given.",
            Self::Explain => "Why an entity is in its state, and what would happen if it died now.",
            Self::Reload => {
                "Read the configuration again and put it into force, as a whole or not at all; with \
                 `plan`, only say what that would change."
            }
            Self::Handoff => {
                "End, leaving programs and maps in the kernel and every process as they are, so \
                 that another daemon can take over; returns once that is accepted."
            }
            Self::Doctor => "Every prerequisite, with the exact fix.",
            Self::BpfShow => {
                "Programs, links, maps and pins in the kernel. With `seconds`, runs are counted \
                 for so long, at most 20; the kernel's statistics are on only meanwhile."
            }
            Self::BpfLog => {
                "Have the kernel side log what it does, line by line into the daemon's log, or \
                 not. No death is missed meanwhile. Off again when the daemon restarts."
            }
        }
    }
}

/// Parameters of [`Verb::Status`] and [`Verb::List`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamesParameters {
    /// The entities asked for; all of them when absent or empty.
    pub names: Option<Vec<String>>,
}

/// Parameters of [`Verb::Show`], [`Verb::Explain`] and [`Verb::Unregister`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameParameters {
    /// The entity.
    pub name: String,
}

/// Parameters of [`Verb::Start`], [`Verb::Stop`], [`Verb::Restart`] and
/// [`Verb::Resume`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperateParameters {
    /// The entity.
    pub name: String,
    /// Why, for the history.
    pub reason: Option<String>,
}

/// Longest hold with an end, in seconds: a year. What is to last longer has none.
pub const MAX_HOLD: u64 = 366 * 24 * 3600;

/// Parameters of [`Verb::Hold`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldParameters {
    /// The entity.
    pub name: String,
    /// For how long; until it is resumed when absent.
    pub seconds: Option<u64>,
    /// Why, for the history.
    pub reason: Option<String>,
}

/// Parameters of [`Verb::Register`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterParameters {
    /// Name of the new entity.
    pub name: String,
    /// Process id; this or `pidfile`.
    pub pid: Option<u32>,
    /// Absolute path of the file that names the process; this or `pid`.
    pub pidfile: Option<String>,
    /// Shell command that starts a successor.
    pub restart: Option<String>,
    /// When it exits with status 0, a living process that descends from it takes
    /// its place; only with `pid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}

/// Parameters of [`Verb::Events`] and [`Verb::RecentEvents`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsParameters {
    /// How many of the last events to begin with; none when absent.
    pub recent: Option<u32>,
    /// Also send early events: deaths that a kernel source reports, before they are
    /// verified. They are not sent when absent.
    pub early: Option<bool>,
}

impl EventsParameters {
    /// So many of the last events, and no early ones.
    #[must_use]
    pub const fn recent(count: u32) -> Self {
        Self {
            recent: Some(count),
            early: None,
        }
    }

    /// The same with or without early events.
    #[must_use]
    pub const fn with_early(self, early: bool) -> Self {
        Self {
            early: Some(early),
            ..self
        }
    }
}

/// Parameters of [`Verb::History`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryParameters {
    /// The entity; all of them when absent.
    pub name: Option<String>,
}

/// Longest time for which runs are counted, in seconds: counting costs every BPF
/// program on the host some nanoseconds a run, and the answer is due before
/// the daemon is called late.
pub const MAX_COUNTING: u32 = 20;

/// Parameters of [`Verb::BpfShow`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BpfShowParameters {
    /// For how many seconds runs are counted; not at all when absent or 0.
    pub seconds: Option<u32>,
}

/// Parameters of [`Verb::BpfLog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BpfLogParameters {
    /// Whether it is to be on.
    pub on: bool,
}

/// Parameters of [`Verb::Reload`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadParameters {
    /// Only say what it would change; it is put into force when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<bool>,
}

/// No parameters, or nothing to reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Reply of [`Verb::List`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntitiesReply {
    /// The entities.
    pub entities: Vec<EntityView>,
}

/// Reply of the verbs that act on one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntityReply {
    /// The entity as it is after the request was accepted.
    pub entity: EntityView,
}

/// One reply of [`Verb::Events`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventReply {
    /// The event; absent in a reply that only reports a loss.
    pub event: Option<EventView>,
    /// How many events this reader lost before this one because it was too slow.
    pub lost: Option<u64>,
}

/// Reply of [`Verb::RecentEvents`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventsReply {
    /// The events, oldest first.
    pub events: Vec<EventView>,
}

/// Reply of [`Verb::History`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentsReply {
    /// The incidents, newest first.
    pub incidents: Vec<IncidentView>,
}
