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

use tokio::sync::mpsc::UnboundedSender;

use super::{
    canary::Leash,
    entity::Entity,
    inheritance::Inheritance,
    message::{Message, Work},
    steps::Found,
};
use crate::{
    audit::{
        Due,
        discrepancy::{Discrepancies, Discrepancy, Registered as Compared, compare},
    },
    core::{
        death::{Death, Hint, LastSeen, SourceName, WaitStatus},
        effect::Effect,
        entity::EntitySpec,
        event::{Event, Occasion, Outcome},
        evidence::SignalOrigin,
        identity::Identity,
        recovery::Registered,
        time::Time,
    },
    effect::Job,
    look::Look,
    source::{
        connector::Connector,
        ebpf::Ebpf,
        selection::{self, Selection},
    },
    sys::{clock, epoll::Epoll, wake::Wake},
    table::{Ended, EntityName, FIRST_GENERATION, FromConnector, Reconciled, Table},
};

/// Epoll token of the ring buffer.
const RING: u64 = 0;
/// Epoll token of the inbox.
const INBOX: u64 = 1;
/// Epoll token of the proc connector.
const CONNECTOR: u64 = 2;

/// Exits, mostly of strangers, that are heard before somebody else has a turn.
const EXITS_AT_ONCE: usize = 1024;

/// Messages handled before the kernel is listened to again.
const MESSAGES: usize = 64;
/// Looks of a sweep that are asked for in one go.
const SLICE: usize = 1024;

/// A sweep under way.
#[derive(Default)]
struct Sweeping {
    left: Vec<EntityName>,
    /// Looks that were asked for and have not been told.
    under_way: usize,
}

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
    wake: Wake,
    inbox: mpsc::Receiver<Message>,
    pub(super) work: UnboundedSender<Work>,
    pub(super) schedule: BTreeSet<(Time, EntityName)>,
    /// Which sources are to be believed.
    pub(super) selection: Selection,
    /// The canary that is out.
    pub(super) canary: Option<Leash>,
    tokens: Vec<u64>,
    /// Effects that wait until a process can be told apart.
    pub(super) deferred: Vec<(EntityName, Arc<EntitySpec>, Effect)>,
    sweeping: Option<Sweeping>,
    /// Looks have to wait for descriptors.
    pub(super) exhausted: bool,
    /// There may be more in the inbox.
    more: bool,
    stopping: bool,
    pub(super) inheritance: Inheritance,
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
    /// Entities that cannot be monitored.
    pub unmonitored: Vec<crate::config::Unmonitored>,
    /// Rises with every configuration put into force.
    pub config_generation: u64,
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
        work: UnboundedSender<Work>,
        next_incident: u64,
    ) -> Result<Self, rustix::io::Errno> {
        let epoll = Epoll::new()?;
        epoll.add(&wake, INBOX)?;
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
            exhausted: false,
            more: false,
            stopping: false,
            inheritance: Inheritance::default(),
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
        self.tick_sources();
        self.inquire();
    }

    /// Verifies what is due, and looks for deaths behind drops.
    fn tick_table(&mut self) {
        let now = clock::now();
        if self.table.next_due().is_none_or(|due| now < due) {
            return;
        }
        self.hear_of_drops();
        for ended in self.table.tick(now, &self.epoll) {
            self.process_ended(ended);
        }
        self.carry_out_deferred();
    }

    fn inquire(&mut self) {
        let inquiries = self.table.take_inquiries();
        if !inquiries.is_empty() {
            self.hand_out(Work::Inquire(inquiries));
        }
    }

    /// Waits for the kernel and handles everything it has said by then.
    pub(super) fn receive(&mut self, mut timeout: Option<Duration>) {
        let mut tokens = std::mem::take(&mut self.tokens);
        loop {
            tokens.clear();
            if let Err(error) = self.epoll.wait(timeout, &mut tokens) {
                // Only a programming error gets here; do not spin on it.
                tracing::error!(%error, "epoll");
                std::thread::sleep(Duration::from_millis(10));
            }
            if tokens.contains(&RING) {
                self.drain_ring();
            }
            // A pidfd becomes readable a moment before the connector tells.
            if tokens
                .iter()
                .any(|token| *token == CONNECTOR || *token >= FIRST_GENERATION)
            {
                self.hear_connector();
            }
            for token in &tokens {
                if *token >= FIRST_GENERATION {
                    self.pidfd_readable(*token);
                }
            }
            if tokens.contains(&INBOX) {
                self.wake.clear();
            }
            if tokens.len() < Epoll::BATCH {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        self.tokens = tokens;
    }

    pub(super) fn drain_ring(&mut self) {
        while let Some((entity, hint)) = self.table.next_hint() {
            self.ring_events += u64::from(!self.table.is_canary(hint.generation));
            self.hinted(&entity, hint);
        }
        self.hear_of_drops();
    }

    fn hear_of_drops(&mut self) {
        for (entity, hint) in self.table.hints_behind_drops() {
            self.hinted(&entity, hint);
        }
    }

    pub(super) fn hinted(&mut self, entity: &EntityName, hint: Hint) {
        let generation = hint.generation;
        self.happen(entity, Event::Hint(hint), clock::now());
        if self.table.is_on_demand(generation) {
            self.pidfd_readable(generation);
        }
    }

    /// Whether everything was heard; what is left for later wakes the thread again.
    pub(super) fn hear_connector(&mut self) -> bool {
        for _ in 0..EXITS_AT_ONCE {
            match self.table.next_from_connector() {
                None => return true,
                Some(FromConnector::Exit(hints)) => {
                    for (entity, hint) in hints {
                        self.happen(&entity, Event::Hint(hint), clock::now());
                    }
                }
                Some(FromConnector::Overrun) => self.resync(),
                Some(FromConnector::Broken(errno)) => self.connector_broke(errno),
            }
        }
        false
    }

    /// Without the connector the others go on.
    fn connector_broke(&mut self, errno: rustix::io::Errno) {
        drop(self.take_source(SourceName::ProcConnector));
        self.resync();
        let reason = format!("its socket failed: {}", std::io::Error::from(errno));
        self.source_event(selection::Event::Lost(SourceName::ProcConnector, reason));
    }

    /// A source may have missed deaths: all processes are looked at.
    pub(super) fn resync(&mut self) {
        for ended in self.table.resync(&self.epoll) {
            self.process_ended(ended);
        }
    }

    fn pidfd_readable(&mut self, generation: u64) {
        if let Some(ended) = self.table.ended(generation, &self.epoll) {
            self.process_ended(ended);
        }
    }

    fn process_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Died(entity, mut death) => {
                self.explain_own_signal(&mut death);
                if !self.entities.contains_key(&entity) {
                    // A canary's, which nobody puts on record.
                    self.table.on_record(death.identity);
                }
                self.happen(&entity, Event::Died(death), clock::now());
            }
            Ended::Gone(entity, identity) => {
                self.happen(&entity, Event::Gone { identity }, clock::now());
            }
            Ended::StatusKnown {
                entity,
                identity,
                generation,
                status,
            } => {
                let known = Event::StatusKnown {
                    identity,
                    generation,
                    status,
                };
                self.happen(&entity, known, clock::now());
            }
        }
    }

    /// A child of ours was reaped: its death has not been told yet, or it has been
    /// and may have gone without a status.
    fn reaped(&mut self, entity: &EntityName, process: Identity, status: WaitStatus) {
        self.table.reaped(process, status);
        let told = self
            .entities
            .get(entity)
            .and_then(|entity| entity.recovery.last_death())
            .filter(|death| death.identity == process && death.status.is_none());
        if let Some(death) = told {
            let known = Event::StatusKnown {
                identity: process,
                generation: death.generation,
                status,
            };
            self.happen(entity, known, clock::now());
        }
    }

    /// Where pmon itself sent the last signal, for another entity that watches
    /// the same process: on whose behalf.
    fn explain_own_signal(&self, death: &mut Death) {
        let identity = death.identity;
        if let Some(sent) = &mut death.evidence.last_signal
            && let SignalOrigin::Pmon { why, .. } = &mut sent.origin
        {
            let mut asked = self
                .entities
                .values()
                .filter_map(|one| one.ended_for.as_ref());
            *why = asked
                .find(|(ended, _)| *ended == identity)
                .map(|(_, why)| why.clone());
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
                }
                Message::Reaped {
                    entity,
                    process,
                    status,
                } => self.reaped(&entity, process, status),
                Message::Executed { entity, notice } => self.tell(&entity, notice, clock::now()),
                Message::Trouble { entity, what } => self.trouble(&entity, what),
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
                Message::Audit(Due::Changed(entity)) => {
                    self.look(&entity, Occasion::PidfileChanged, false);
                }
                Message::Audit(Due::Sweep(_)) => self.sweep(),
                Message::Canary(hatched) => self.canary_hatched(hatched),
                Message::Source(started) => self.source_started(started),
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
            self.hand_out(Work::Look {
                entity: Arc::clone(name),
                request: Box::new(entity.look_request(occasion, foreign_script)),
            });
        }
    }

    /// Begins a sweep, unless one is under way: that takes longer than the
    /// audit's interval only where something hangs.
    fn sweep(&mut self) {
        if self.sweeping.is_some() {
            return;
        }
        self.sweeps += 1;
        self.last_sweep = Some(clock::now());
        self.check_pins();
        self.table.begin_comparison();
        self.sweeping = Some(Sweeping {
            left: self.entities.keys().cloned().collect(),
            under_way: 0,
        });
        self.sweep_on();
    }

    /// The next slice of a sweep: some entries of the kernel's table, some looks.
    fn sweep_on(&mut self) {
        let compared = self.table.compare_some(&self.epoll);
        let compared = compared.map(|reconciled| self.reconciled(&reconciled));
        let Some(sweeping) = &mut self.sweeping else {
            return;
        };
        let mut slice = Vec::new();
        while slice.len() < SLICE
            && let Some(name) = sweeping.left.pop()
        {
            if let Some(entity) = self.entities.get(&name) {
                slice.push((name, entity.look_request(Occasion::Sweep, false)));
            }
        }
        sweeping.under_way = slice.len();
        match (slice.is_empty(), compared) {
            (false, _) => self.hand_out(Work::Sweep(slice)),
            (true, Some(())) => self.sweep_on(),
            (true, None) => self.sweeping = None,
        }
    }

    fn swept(&mut self, looks: Vec<(EntityName, Look)>) {
        let count = looks.len();
        for (entity, look) in looks {
            self.looked(&entity, look);
        }
        if let Some(sweeping) = &mut self.sweeping {
            sweeping.under_way = sweeping.under_way.saturating_sub(count);
            if sweeping.under_way == 0 {
                self.sweep_on();
            }
        }
    }

    /// What was wrong with the kernel's table.
    fn reconciled(&mut self, reconciled: &Reconciled) {
        let Reconciled { orphans, altered } = reconciled;
        for _ in 0..*orphans {
            self.discrepancies.count(Discrepancy::OrphanRegistration);
        }
        for name in altered {
            self.discrepancies.count(Discrepancy::AlteredRegistration);
            self.trouble(name, format!("audit: {}", Discrepancy::AlteredRegistration));
        }
    }

    fn looked(&mut self, name: &EntityName, look: Look) {
        if !self.inherit(name, &look) {
            self.saw(name, look);
        }
        self.has_inherited(name);
    }

    fn saw(&mut self, name: &EntityName, look: Look) {
        let Look {
            mut sighting,
            mut process,
            stamp,
            mut last_seen,
            stranger,
            knew,
            exhausted: _,
            known_alive,
            known_gone: _,
            names_gone: _,
        } = look;
        if sighting.occasion == Occasion::Sweep {
            self.audit(name, &sighting, knew);
        }
        // A death that is known to the kernel comes before what was seen since.
        if let Some(current) = self.current(name)
            && sighting.outcome != Outcome::Process(current.identity)
            && let Some(generation) = current.generation
            && !self.table.is_alive(generation)
        {
            self.drain_ring();
            self.pidfd_readable(generation);
        }
        if let (Some(identity), Some(entity)) = (stranger, self.entities.get(name))
            && let Some(path) = &entity.spec.pidfile
        {
            self.hand_out(Work::Job {
                entity: Arc::clone(name),
                job: Job::RemovePidfile {
                    path: path.clone(),
                    identity,
                },
            });
        }
        if process.is_none() && sighting.occasion == Occasion::Asked {
            // A lost pidfile is no reason to start a second instance.
            process = known_alive.filter(|alive| !alive.is_dead());
            if let Some(alive) = &process {
                sighting.outcome = Outcome::Process(alive.identity());
                last_seen = LastSeen::default();
            }
        }
        if let Outcome::Process(identity) = sighting.outcome
            && let Some(entity) = self.entities.get_mut(name)
            && let Some(known) = &mut entity.known
            && known.identity == identity
            && stamp.is_some()
        {
            known.stamp = stamp;
        }
        if let Some(current) = self.current(name)
            && sighting.outcome == Outcome::Process(current.identity)
            && let Some(generation) = current.generation
        {
            self.table.note(generation, last_seen.clone());
        }
        let found = Found {
            process,
            stamp,
            last_seen,
        };
        self.happen_with(name, Event::Seen(sighting), Some(&found));
    }

    fn current(&self, name: &EntityName) -> Option<Registered> {
        self.entities.get(name)?.recovery.current()
    }

    /// Counts what events should have told and did not.
    fn audit(
        &mut self,
        name: &EntityName,
        sighting: &crate::core::event::Sighting,
        knew: Option<Identity>,
    ) {
        let Some(entity) = self.entities.get(name) else {
            return;
        };
        if entity.recovery.is_failed() || entity.recovery.deadline().is_some() {
            return;
        }
        let known = entity.recovery.current().and_then(|current| {
            let generation = current.generation?;
            let seen = sighting.outcome == Outcome::Process(current.identity);
            Some(Compared {
                identity: current.identity,
                alive: seen || self.table.is_alive(generation),
            })
        });
        if let Some(discrepancy) = compare(known, knew, sighting) {
            self.discrepancies.count(discrepancy);
            self.trouble(name, format!("audit: {discrepancy}"));
        }
    }
}
