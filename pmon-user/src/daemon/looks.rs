//! Whatever reads pidfiles or `/proc` for the engine: answers to the pid table's
//! inquiries, looks, and the sweep, in this order, on a few blocking threads.
//!
//! A look's states: waiting, at work, then told; or, past its deadline, told as
//! blind and its thread given up (it sits on a disk or mount that hangs); or put
//! off, when there were no descriptors to look with. Must stay true: every look
//! that is asked for is told exactly once, and the number of threads does not
//! depend on the number of looks.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::message::{Inbox, Message};
use crate::{
    core::{
        death::LastSeen,
        event::{Occasion, Outcome, Sighting},
        identity::Identity,
    },
    look::{self, Look, LookRequest},
    table::{EntityName, Inquiry},
};

/// A look that takes longer sits on a disk or mount that hangs.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often deadlines are checked, and what was put off is tried again, while
/// there is something to do.
const CHECK: Duration = Duration::from_millis(250);
/// Threads at work.
const THREADS: usize = 16;
/// Of these for the sweep, which is in no hurry.
const SWEEPERS: usize = 1;
/// Threads that may hang beside those, of the runtime's 64.
const HUNG: usize = 40;
/// Inquiries answered, and looks of a sweep told, in one go.
const BATCH: usize = 64;

/// The way to the threads; clones share them.
#[derive(Clone)]
pub(super) struct Looks {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    inbox: Inbox,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    inquiries: VecDeque<Inquiry>,
    looks: VecDeque<Asked>,
    sweep: VecDeque<Asked>,
    /// Looks that found no descriptors.
    put_off: Vec<(Asked, bool)>,
    /// The last look found none.
    exhausted: bool,
    /// Looks of the sweep that were made and not told yet.
    swept: Vec<(EntityName, Look)>,
    at_work: HashMap<u64, AtWork>,
    next_ticket: u64,
    threads: usize,
    sweepers: usize,
    hung: usize,
    /// Somebody checks the deadlines.
    guarded: bool,
}

/// A look that is wanted.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) entity: EntityName,
    pub(super) request: LookRequest,
}

struct AtWork {
    entity: EntityName,
    occasion: Occasion,
    knew: Option<Identity>,
    since: Instant,
    swept: bool,
}

enum Task {
    Answer(Vec<Inquiry>),
    Look {
        ticket: u64,
        asked: Box<Asked>,
        swept: bool,
    },
}

impl Looks {
    pub(super) fn new(inbox: Inbox, runtime: Handle) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                inbox,
                runtime,
            }),
        }
    }

    /// Answers the table's inquiries, before anything else.
    pub(super) fn inquire(&self, inquiries: Vec<Inquiry>) {
        self.add(|state| state.inquiries.extend(inquiries));
    }

    /// Looks for an entity's process.
    pub(super) fn look(&self, asked: Asked) {
        self.add(|state| state.looks.push_back(asked));
    }

    /// The same for a slice of a sweep.
    pub(super) fn sweep(&self, asked: Vec<Asked>) {
        self.add(|state| state.sweep.extend(asked));
    }

    fn add(&self, add: impl FnOnce(&mut State)) {
        let mut state = self.shared.lock();
        add(&mut state);
        self.shared.employ(&mut state);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has enough threads at work, and somebody who guards them.
    fn employ(self: &Arc<Self>, state: &mut State) {
        let wanted = state.wanted();
        while state.threads < wanted {
            state.threads += 1;
            let shared = Arc::clone(self);
            self.runtime.spawn_blocking(move || shared.work());
        }
        if !state.guarded && !state.is_idle() {
            state.guarded = true;
            let shared = Arc::clone(self);
            self.runtime.spawn(async move {
                loop {
                    tokio::time::sleep(CHECK).await;
                    if !shared.guard() {
                        return;
                    }
                }
            });
        }
    }

    /// One thread's work, until there is none.
    fn work(self: Arc<Self>) {
        loop {
            let task = {
                let mut state = self.lock();
                match state.take() {
                    Some(task) => task,
                    None => {
                        state.threads -= 1;
                        return;
                    }
                }
            };
            match task {
                Task::Answer(inquiries) => {
                    let answers = inquiries.into_iter().map(Inquiry::answer).collect();
                    self.inbox.send(Message::Answered(answers));
                }
                Task::Look {
                    ticket,
                    asked,
                    swept,
                } => {
                    let look = look::look(&asked.request);
                    if !self.looked(ticket, *asked, look, swept) {
                        return;
                    }
                }
            }
        }
    }

    /// Tells a look; whether this thread goes on.
    fn looked(&self, ticket: u64, asked: Asked, look: Look, swept: bool) -> bool {
        let Asked { entity, request } = asked;
        let mut state = self.lock();
        if state.at_work.remove(&ticket).is_none() {
            // It was told as blind, and this thread as hung.
            state.hung -= 1;
            return false;
        }
        if swept {
            state.sweepers -= 1;
        }
        if look.exhausted != state.exhausted {
            state.exhausted = look.exhausted;
            let exhausted = look.exhausted;
            self.inbox.send(Message::Descriptors { exhausted });
        }
        if look.exhausted {
            state.put_off.push((Asked { entity, request }, swept));
        } else if swept {
            state.swept.push((entity, look));
            if state.swept.len() >= BATCH || state.is_swept() {
                self.tell_swept(&mut state);
            }
        } else {
            self.inbox.send(Message::Looked { entity, look });
        }
        true
    }

    fn tell_swept(&self, state: &mut State) {
        let looks = std::mem::take(&mut state.swept);
        if !looks.is_empty() {
            self.inbox.send(Message::Swept(looks));
        }
    }

    /// Gives up what is past its deadline, and tries again what was put off;
    /// whether there is anything to guard.
    fn guard(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let overdue: Vec<u64> = state
            .at_work
            .iter()
            .filter(|(_, work)| now.duration_since(work.since) >= DEADLINE)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in overdue {
            if let Some(work) = state.at_work.remove(&ticket) {
                state.threads -= 1;
                state.hung += 1;
                if work.swept {
                    state.sweepers -= 1;
                }
                let AtWork {
                    entity,
                    occasion,
                    knew,
                    since: _,
                    swept,
                } = work;
                self.tell_blind(&mut state, entity, occasion, knew, swept);
            }
        }
        if state.hung >= HUNG && state.threads == 0 {
            let looks = std::mem::take(&mut state.looks);
            let sweep = std::mem::take(&mut state.sweep);
            let all = (looks.into_iter().map(|asked| (asked, false)))
                .chain(sweep.into_iter().map(|asked| (asked, true)));
            for (Asked { entity, request }, swept) in all {
                let knew = request.known.map(|known| known.identity);
                self.tell_blind(&mut state, entity, request.occasion, knew, swept);
            }
        }
        if state.is_swept() {
            self.tell_swept(&mut state);
        }
        for (asked, swept) in std::mem::take(&mut state.put_off) {
            if swept {
                state.sweep.push_back(asked);
            } else {
                state.looks.push_back(asked);
            }
        }
        self.employ(&mut state);
        state.guarded = !state.is_idle();
        state.guarded
    }

    fn tell_blind(
        &self,
        state: &mut State,
        entity: EntityName,
        occasion: Occasion,
        knew: Option<Identity>,
        swept: bool,
    ) {
        let reason = format!("its pidfile could not be read within {DEADLINE:?}");
        let look = blind(occasion, knew, reason);
        if swept {
            state.swept.push((entity, look));
        } else {
            self.inbox.send(Message::Looked { entity, look });
        }
    }
}

impl State {
    fn take(&mut self) -> Option<Task> {
        if !self.inquiries.is_empty() {
            let count = self.inquiries.len().min(BATCH);
            return Some(Task::Answer(self.inquiries.drain(..count).collect()));
        }
        let (asked, swept) = match self.looks.pop_front() {
            Some(asked) => (asked, false),
            None if self.sweepers < SWEEPERS => (self.sweep.pop_front()?, true),
            None => return None,
        };
        if swept {
            self.sweepers += 1;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let work = AtWork {
            entity: EntityName::clone(&asked.entity),
            occasion: asked.request.occasion,
            knew: asked.request.known.map(|known| known.identity),
            since: Instant::now(),
            swept,
        };
        self.at_work.insert(ticket, work);
        Some(Task::Look {
            ticket,
            asked: Box::new(asked),
            swept,
        })
    }

    /// Threads that would have something to do.
    fn wanted(&self) -> usize {
        let inquiries = self.inquiries.len().div_ceil(BATCH);
        let sweep = self.sweep.len().min(SWEEPERS);
        let wanted = inquiries + self.looks.len() + sweep;
        let room = (THREADS + HUNG).saturating_sub(self.hung);
        (self.at_work.len() + wanted).min(THREADS).min(room)
    }

    fn is_idle(&self) -> bool {
        self.at_work.is_empty()
            && self.looks.is_empty()
            && self.sweep.is_empty()
            && self.put_off.is_empty()
            && self.swept.is_empty()
            && self.inquiries.is_empty()
    }

    /// Nothing more of the sweep is to be waited for.
    fn is_swept(&self) -> bool {
        self.sweep.is_empty() && self.sweepers == 0
    }
}

fn blind(occasion: Occasion, knew: Option<Identity>, reason: String) -> Look {
    Look {
        sighting: Sighting {
            occasion,
            outcome: Outcome::Unverifiable { reason },
            foreign_script: None,
            unit: None,
        },
        process: None,
        last_seen: LastSeen::default(),
        stamp: None,
        stranger: None,
        knew,
        exhausted: false,
        known_alive: None,
        known_gone: false,
        names_gone: None,
        unit_stopped: None,
        other_main: None,
    }
}
