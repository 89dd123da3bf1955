//! The engine: one thread that receives deaths, steps the core, and hands out
//! what is to be done.
//!
//! It runs under SCHED_FIFO where permitted and owns the pid table and all
//! entities. Must stay true: it never blocks (no file of unknown kind, no
//! socket, no lock held across I/O); within one wake-up it drains the ring and
//! the proc connector before it looks at pidfds, and the pidfds before the inbox,
//! so that what the kernel said first is heard first; without events or deadlines
//! it sleeps.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{
    alarms::Alarms,
    auditing::Deeds,
    canary::Leash,
    entity::Entity,
    gates::Gates,
    hands::Hands,
    inheritance::Inheritance,
    instances::Counting,
    message::{Message, Work},
    steps::Found,
    sweep::Sweeping,
};
use crate::{
    alarm::health::HostHealth,
    audit::{Due, discrepancy::Discrepancies},
    core::{
        budget::{Budget, Limits},
        dependency::gate::Gate,
        effect::Effect,
        entity::EntitySpec,
        event::{Event, Occasion},
        time::Time,
    },
    source::{connector::Connector, ebpf::Ebpf, selection::Selection},
    sys::{clock, epoll::Epoll, wake::Wake},
    systemd,
    table::{EntityName, Table},
};

/// Epoll token of the ring buffer.
pub(super) const RING: u64 = 0;
/// Epoll token of the inbox.
pub(super) const INBOX: u64 = 1;
/// Epoll token of the proc connector.
pub(super) const CONNECTOR: u64 = 2;

/// Messages handled before the kernel is listened to again.
const MESSAGES: usize = 64;

/// The engine's state. Everything in here belongs to its thread.
pub struct Engine {
    pub(super) table: Table,
    pub(super) entities: HashMap<EntityName, Entity>,
    pub(super) facts: Facts,
    pub(super) discrepancies: Discrepancies,
    pub(super) sweeps: u64,
    pub(super) last_sweep: Option<Time>,
    pub(super) ring_events: u64,
    pub(super) next_incident: u64,
    pub(super) epoll: Epoll,
    pub(super) wake: Wake,
    inbox: mpsc::Receiver<Message>,
    pub(super) work: Hands,
    pub(super) schedule: BTreeSet<(Time, EntityName)>,
    /// Which sources are to be believed.
    pub(super) selection: Selection,
    /// The canary that is out.
    pub(super) canary: Option<Leash>,
    pub(super) tokens: Vec<u64>,
    /// Effects that wait until a process can be told apart.
    pub(super) deferred: Vec<(EntityName, Arc<EntitySpec>, Effect)>,
    pub(super) sweeping: Option<Sweeping>,
    /// What is being done about a disagreement.
    pub(super) deeds: Option<Deeds>,
    /// Which instances are to be counted.
    pub(super) counting: Counting,
    /// Looks have to wait for descriptors.
    pub(super) exhausted: bool,
    /// Why nobody can be asked in active mode.
    pub(super) unheard: Option<String>,
    /// Who may start a successor now.
    pub(super) budget: Budget<EntityName>,
    /// Who waits for other entities.
    pub(super) gate: Gate,
    /// There may be more in the inbox.
    more: bool,
    stopping: bool,
    pub(super) inheritance: Inheritance,
    pub(super) gates: Gates,
    /// What is raised, and what is not known to be cleared everywhere.
    pub(super) alarms: Alarms,
}

/// What the daemon knows of itself, for `status`.
#[derive(Default)]
pub struct Facts {
    /// Host name.
    pub host: String,
    /// Boot id.
    pub boot_id: String,
    /// When the daemon started.
    pub started: Time,
    /// Scheduling of this thread, for people.
    pub scheduling: String,
    /// Control socket.
    pub socket: String,
    /// Degraded conditions that were known at the start.
    pub degraded: Vec<String>,
    /// What is wrong with the configuration in force.
    pub findings: Vec<String>,
    /// Why the configuration on disk is not the one in force.
    pub refused_configuration: Option<String>,
    /// Entities that cannot be monitored.
    pub unmonitored: Vec<crate::config::Unmonitored>,
    /// What systemd has told of units.
    pub units: systemd::Facts,
    /// Whether it stands in for pmond on a StarlingX host.
    pub starlingx: bool,
    /// Rises with every configuration put into force.
    pub config_generation: u64,
    /// What others may ask of the host at any moment.
    pub health: HostHealth,
}

impl Engine {
    /// An engine without entities.
    ///
    /// # Errors
    ///
    /// When epoll cannot watch the ring or the inbox.
    pub fn new(
        table: Table,
        selection: Selection,
        facts: Facts,
        wake: Wake,
        inbox: mpsc::Receiver<Message>,
        work: Hands,
        next_incident: u64,
    ) -> Result<Self, rustix::io::Errno> {
        let epoll = Epoll::new()?;
        epoll.add(&wake, INBOX)?;
        let alarms = Alarms::new(facts.health.clone());
        let engine = Self {
            table,
            entities: HashMap::new(),
            facts,
            discrepancies: Discrepancies::default(),
            sweeps: 0,
            last_sweep: None,
            ring_events: 0,
            next_incident,
            epoll,
            wake,
            inbox,
            work,
            schedule: BTreeSet::new(),
            selection,
            canary: None,
            tokens: Vec::new(),
            deferred: Vec::new(),
            sweeping: None,
            deeds: None,
            counting: Counting::default(),
            exhausted: false,
            unheard: None,
            budget: Budget::new(Limits::default()),
            gate: Gate::default(),
            more: false,
            stopping: false,
            inheritance: Inheritance::default(),
            gates: Gates::default(),
            alarms,
        };
        if let Some(kernel) = engine.table.kernel() {
            engine.watch_ring(kernel)?;
        }
        if let Some(connector) = engine.table.connector() {
            engine.watch_connector(connector)?;
        }
        Ok(engine)
    }

    /// Has the proc connector wake this thread.
    pub(super) fn watch_connector(&self, connector: &Connector) -> Result<(), rustix::io::Errno> {
        self.epoll.add(connector.fd(), CONNECTOR)
    }

    /// Has a kernel source wake this thread.
    pub(super) fn watch_ring(&self, kernel: &Ebpf) -> Result<(), rustix::io::Errno> {
        self.epoll.add(kernel.ring_fd(), RING)
    }

    /// Runs until told to stop; gives back the table for an orderly end.
    pub fn run(mut self) -> Table {
        while !self.stopping {
            self.turn();
        }
        self.table
    }

    /// One wake-up.
    fn turn(&mut self) {
        let next = self.schedule.first().map(|(due, _)| *due);
        let next = next.into_iter().chain(self.table.next_due());
        let next = next.chain(self.turns_due());
        let next = next.chain(self.sources_due()).min();
        let timeout = if self.more {
            Some(Duration::ZERO)
        } else {
            next.map(|due| due.since(clock::now()))
        };
        self.receive(timeout);
        self.tick_table();
        self.read_inbox();
        self.tick_due();
        self.give_turns();
        self.tick_sources();
        self.inquire();
        self.count_instances();
    }

    fn inquire(&mut self) {
        let inquiries = self.table.take_inquiries();
        if !inquiries.is_empty() {
            self.hand_out(Work::Inquire(inquiries));
        }
    }

    fn read_inbox(&mut self) {
        for _ in 0..MESSAGES {
            let Ok(message) = self.inbox.try_recv() else {
                self.more = false;
                return;
            };
            match message {
                Message::Looked { entity, look } => self.looked(&entity, look),
                Message::Swept(looks) => self.swept(looks),
                Message::Descriptors { exhausted } => self.exhausted = exhausted,
                Message::Launching {
                    entity,
                    process,
                    role,
                    passage,
                } => self.launching(entity, process, role, passage),
                Message::StartEnded {
                    entity,
                    run,
                    end,
                    process,
                    last_seen,
                } => {
                    let found = Found {
                        process,
                        stamp: None,
                        last_seen,
                    };
                    self.happen_with(&entity, Event::StartEnded { run, end }, Some(&found));
                    self.table.expect_no_more(&entity);
                }
                Message::ScriptEnded {
                    entity,
                    run,
                    end,
                    failure_text,
                } => {
                    let event = Event::ScriptEnded {
                        run,
                        end,
                        failure_text,
                    };
                    self.happen(&entity, event, clock::now());
                }
                Message::Reaped {
                    entity,
                    process,
                    status,
                } => self.reaped(&entity, process, status),
                Message::Executed { entity, notice } => self.tell(&entity, notice, clock::now()),
                Message::Trouble { entity, what } => self.trouble(&entity, what),
                Message::AlarmSettled(closed) => self.alarm_settled(&closed),
                Message::Settled { entity, identity } => {
                    self.table.on_record(identity);
                    if let Some(entity) = self.entities.get_mut(&entity) {
                        entity.unsettled.retain(|dead| *dead != identity);
                    }
                }
                Message::Answered(answers) => {
                    for answer in answers {
                        if let Some(ended) = self.table.answered(answer, &self.epoll) {
                            self.process_ended(ended);
                        }
                    }
                    self.carry_out_deferred();
                }
                Message::Audit(Due::Stirred(entity)) => self.stirred(&entity),
                Message::Audit(Due::Changed(entity)) => {
                    self.look(&entity, Occasion::PidfileChanged, false);
                }
                Message::Audit(Due::Executed(entity)) => self.executed(&entity),
                Message::Audit(Due::Sweep(_)) => self.sweep(),
                Message::Counted(counted) => self.counted(counted),
                Message::CountAgain(names) => self.count_again(names),
                Message::Canary(hatched) => self.canary_hatched(hatched),
                Message::Gates(report) => self.gates_seen(report),
                Message::Alive(proof) => proof.give(),
                Message::Pulse(report) => self.pulse_reported(report),
                Message::Source(started) => self.source_started(started),
                Message::Units(facts) => self.facts.units = facts,
                Message::Degraded(why) => self.facts.degraded.push(why),
                Message::Request(request) => self.answer(request),
                Message::Stop => self.stopping = true,
            }
        }
        self.more = true;
    }

    fn tick_due(&mut self) {
        let now = clock::now();
        while let Some((due, entity)) = self.schedule.first().cloned() {
            if due > now {
                return;
            }
            self.happen(&entity, Event::Tick, now);
            // An entity that left its deadline where it was would be ticked
            // for ever.
            if self.schedule.contains(&(due, Arc::clone(&entity))) {
                self.schedule.remove(&(due, entity));
            }
        }
    }

    pub(super) fn look(&self, name: &EntityName, occasion: Occasion, foreign_script: bool) {
        if let Some(entity) = self.entities.get(name) {
            let mut request = entity.look_request(occasion, foreign_script);
            if entity.spec.pidfile.is_none()
                && (entity.recovery.is_adopting() || occasion == Occasion::Executed)
                && let Some(traits) = &entity.instances.traits
            {
                request.former = Some((Arc::clone(traits), self.registered_pids()));
            }
            self.hand_out(Work::Look {
                entity: Arc::clone(name),
                request: Box::new(request),
            });
        }
    }
}
