//! What goes into the engine thread and what comes out of it.
//!
//! The engine never blocks: everything that could is asked for as [`Work`] and
//! comes back as a [`Message`].

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use aya_log::EbpfLogger;
use tokio::sync::oneshot;

use super::{
    canary::Hatched,
    kernel_views::Snapshot,
    logging::KernelLines,
    selection::{SourceWork, Started},
};
use crate::{
    alarm::{event::AlarmEvent, queue::Closed},
    audit::Due,
    compat::{
        inbox::{Outcome, datagram::Command},
        starlingx::{gates, petting::Proof},
    },
    config::{Loaded, plan::Wanted},
    control::backend::{Refusal, RegisterRequest},
    core::{
        death::{LastSeen, SourceName, WaitStatus},
        entity::StartMethod,
        event::{OperatorAction, StartEnd},
        identity::Identity,
        notice::Notice,
        time::Time,
    },
    effect::{Job, Passage, Role},
    look::{
        Look, LookRequest,
        instances::{Census, Counted},
    },
    pulse::endpoint,
    source::{
        ebpf::{Plan, Replaced, Replacement},
        selection,
    },
    state::{
        atomic::Reach,
        record::{EntityRecord, UnitStop},
    },
    sys::{pidfd::VerifiedPid, wake::Wake},
    systemd,
    table::{Answer, EntityName, Inquiry},
    view::{
        diagnosis::ReloadView,
        entity::{EntityView, ExplainView, ShowView},
        incident::IncidentView,
        status::StatusView,
    },
};

/// Into the engine.
pub enum Message {
    /// A look has been made.
    Looked {
        /// For whom.
        entity: EntityName,
        /// What it showed.
        look: Look,
    },
    /// Looks of the sweep have been made.
    Swept(Vec<(EntityName, Look)>),
    /// Looks have to wait for descriptors, or are tried again.
    Descriptors {
        /// There are none.
        exhausted: bool,
    },
    /// A program waits to be executed.
    Launching {
        /// For whom.
        entity: EntityName,
        /// Who will execute it.
        process: VerifiedPid,
        /// As what.
        role: Role,
        /// To be opened when that is on record.
        passage: Passage,
    },
    /// A start command ended, or runs as the process itself.
    StartEnded {
        /// Whose.
        entity: EntityName,
        /// Number of the run.
        run: u64,
        /// How.
        end: StartEnd,
        /// The process, with [`StartEnd::Running`].
        process: Option<VerifiedPid>,
        /// What was seen of it.
        last_seen: LastSeen,
    },
    /// The script of an entity in status mode ended.
    ScriptEnded {
        /// Whose.
        entity: EntityName,
        /// Number of the run.
        run: u64,
        /// How.
        end: StartEnd,
        /// What it left for the alarm.
        failure_text: Option<String>,
    },
    /// A process that pmon itself had started was reaped.
    Reaped {
        /// Whose.
        entity: EntityName,
        /// Who.
        process: Identity,
        /// How it ended.
        status: WaitStatus,
    },
    /// An executor did something; people are told.
    Executed {
        /// For whom.
        entity: EntityName,
        /// What.
        notice: Notice,
    },
    /// Something did not work; people are told.
    Trouble {
        /// With whom.
        entity: EntityName,
        /// What.
        what: String,
    },
    /// Every receiver knows that an alarm was cleared.
    AlarmSettled(Closed),
    /// A death is in the journal.
    Settled {
        /// Whose.
        entity: EntityName,
        /// Who died.
        identity: Identity,
    },
    /// What was asked with [`Work::Inquire`].
    Answered(Vec<Answer>),
    /// Instances were counted.
    Counted(Vec<Counted>),
    /// It is time to count the instances of these again.
    CountAgain(Vec<EntityName>),
    /// The audit says where to look.
    Audit(Due),
    /// A canary waits to be registered and released, or why there is none.
    Canary(Result<Hatched, String>),
    /// The gates of the host were looked at.
    Gates(gates::Report),
    /// Is anybody there? For whoever tells others that the engine works.
    Alive(Proof),
    /// What has become of a request of active monitoring, or of its port.
    Pulse(endpoint::Report),
    /// What people should know of units.
    Units(systemd::Facts),
    /// A source was started, or why not.
    Source(Result<Started, (SourceName, String)>),
    /// Something that pmon does beside watching does not work in this run.
    Degraded(String),
    /// The control service asks.
    Request(Request),
    /// End the loop.
    Stop,
}

/// A question, with the place for its answer.
pub enum Request {
    /// State of these entities, all when empty.
    Status(Vec<String>, Reply<StatusView>),
    /// One in detail.
    Show(String, Reply<ShowView>),
    /// An operator's action.
    Operate {
        /// On whom.
        name: String,
        /// What.
        action: OperatorAction,
        /// Why.
        reason: Option<String>,
        /// By whom.
        by: String,
        /// Answered once accepted.
        reply: Reply<EntityView>,
    },
    /// A command of the original's datagrams.
    Command {
        /// What.
        command: Command,
        /// When a stop is over.
        stop_lasts: Duration,
        /// By whom.
        by: String,
        /// What came of it.
        reply: Reply<Outcome>,
    },
    /// An ad-hoc entity.
    Register {
        /// What.
        request: RegisterRequest,
        /// The process, where the request names a pid.
        process: Option<Identity>,
        /// By whom.
        by: String,
        /// Its state.
        reply: Reply<EntityView>,
    },
    /// Forget an ad-hoc entity.
    Unregister {
        /// Whom.
        name: String,
        /// By whom.
        by: String,
        /// Answered when done.
        reply: Reply<()>,
    },
    /// Why it is as it is.
    Explain(String, Reply<ExplainView>),
    /// A configuration to put into force, or to plan only.
    Reload(Box<Loaded>, Wanted, Reply<ReloadView>),
    /// Programs, links, maps, pins.
    Bpf(Reply<Snapshot>),
    /// What other programs have to be loaded against, and whether those in force
    /// log.
    PlanPrograms(Reply<(Plan, bool)>),
    /// Other programs take the place of those in force; the latter, and the log of
    /// the former if they have one.
    ReplacePrograms(
        Box<Replacement>,
        Reply<(Replaced, Option<EbpfLogger<KernelLines>>)>,
    ),
    /// Whether deaths would be seen while there is no daemon.
    MayHandOver(Reply<()>),
    /// Incidents under way; of one entity when a name is given.
    OpenIncidents(Option<String>, Reply<Vec<IncidentView>>),
}

/// Where an answer goes; the asker may have gone away.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Out of the engine.
pub enum Work {
    /// Look for an entity's process.
    Look {
        /// Whose.
        entity: EntityName,
        /// Where.
        request: Box<LookRequest>,
    },
    /// Questions of the pid table.
    Inquire(Vec<Inquiry>),
    /// Something for the entity's lane.
    Job {
        /// Whose.
        entity: EntityName,
        /// What.
        job: Job,
    },
    /// Something for the endpoint of active monitoring.
    Pulse(endpoint::Order),
    /// Look at the gates of the host; answered by [`Message::Gates`].
    AskGate(u64),
    /// Count instances; answered by [`Message::Counted`].
    Count(Census),
    /// Say in a moment that these are to be counted again.
    CountAgain(Vec<EntityName>),
    /// Hatch a canary.
    Hatch,
    /// Start or stop a source.
    Source(SourceWork),
    /// The entity is gone.
    Forget(EntityName),
    /// Something to tell people.
    Tell(Told),
    /// An incident was closed.
    Closed(Box<IncidentView>),
    /// An incident has begun without a death, and is to survive the daemon.
    Opened(Box<IncidentView>),
    /// An incident has one more death; answered by [`Message::Settled`].
    Died {
        /// Whose.
        entity: EntityName,
        /// The incident as it is now.
        incident: Box<IncidentView>,
        /// Who died.
        identity: Identity,
    },
    /// A program is about to be executed for an entity.
    Launched {
        /// For whom.
        entity: EntityName,
        /// Who will be it.
        identity: Identity,
        /// To be opened when that is on record.
        passage: Passage,
    },
    /// A process has taken another's place; answered by [`Message::Settled`] when
    /// that is on record.
    HandedOver {
        /// Whose.
        entity: EntityName,
        /// What is remembered of it now.
        memory: Arc<EntityRecord>,
        /// Who had the place before.
        identity: Identity,
    },
    /// What should survive the daemon has changed.
    Remember(EntityName, Arc<EntityRecord>),
    /// The same, and somebody waits until it is on record.
    Record {
        /// Whose.
        entity: EntityName,
        /// What is remembered of it now.
        memory: Arc<EntityRecord>,
        /// How far it has to be written.
        reach: Reach,
        /// Called then, or when that takes too long; never on the engine's thread.
        then: Then,
    },
    /// Who starts an entity's process from now on: its unit may be of interest.
    /// It is down because somebody stopped that invocation of it, as far as is
    /// remembered.
    Unit(EntityName, StartMethod, Option<UnitStop>),
    /// Receivers of alarms are to be told, once it is on record.
    Alarm {
        /// Whose.
        entity: EntityName,
        /// What is remembered of it now.
        memory: Arc<EntityRecord>,
        /// What they are told.
        events: Vec<AlarmEvent>,
    },
    /// An entity's pidfile is to be watched from now on; none when it has none.
    Watch(EntityName, Option<std::path::PathBuf>),
    /// While an entity is missing that no pidfile tells of: its program, of whose
    /// executions is to be told; none when it is not missing any more.
    AwaitExecution(EntityName, Option<std::path::PathBuf>),
    /// Look for the processes of these entities, for the sweep.
    Sweep(Vec<(EntityName, LookRequest)>),
}

/// Whether something is on record now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRecord {
    /// It is.
    Yes,
    /// Not within reasonable time; it may be later.
    NotYet,
}

/// For whoever waits until something is on record.
pub type Then = Box<dyn FnOnce(OnRecord) + Send>;

/// One notice on its way to people.
#[derive(Debug)]
pub struct Told {
    /// When.
    pub at: Time,
    /// Whose; the daemon's own when absent.
    pub entity: Option<EntityName>,
    /// Which incident.
    pub incident: Option<u64>,
    /// What.
    pub what: Tale,
}

/// A notice of the core, or trouble of an executor.
#[derive(Debug)]
pub enum Tale {
    /// From the core.
    Notice(Notice),
    /// From an executor or the table.
    Trouble(String),
    /// Of a source.
    Source(selection::Notice),
}

/// The way into the engine.
#[derive(Clone)]
pub struct Inbox {
    sender: mpsc::Sender<Message>,
    wake: Wake,
}

impl Inbox {
    /// A way in, and the end that the engine reads.
    #[must_use]
    pub fn new(wake: Wake) -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel();
        (Self { sender, wake }, receiver)
    }

    /// Never blocks. A message to an engine that has ended is lost.
    pub fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            self.wake.call();
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    ///
    /// The engine's refusal, or [`Refusal::TimedOut`] when it does not answer.
    pub async fn ask<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request + Send,
    ) -> Result<T, Refusal> {
        /// Far beyond what the engine, which never blocks, needs.
        const SECONDS: u64 = 10;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Request(request(reply)));
        let deadline = Duration::from_secs(SECONDS);
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::TimedOut { seconds: SECONDS }),
        }
    }
}
