//! Verification on demand: is a process that we hold no pidfd of still there?
//!
//! A registration without a pidfd of its own goes through these states:
//!
//! * **held, unsettled** — just registered (or repaired): the kernel's entry is
//!   there, but the last thread's exit may have been told before it was. Another
//!   thread asks `/proc` whether some thread of the process still runs; until
//!   the answer is yes, the pidfd is kept.
//! * **on demand** — the pidfd is closed; the kernel's entry tells of the death.
//! * **due** — there is reason to look: the kernel told a death, the process is
//!   to be signalled, or everything is to be verified once more. A pidfd is
//!   opened. None can be: it is dead. One of another process: it is dead. One
//!   of the same: it is still dying, and that pidfd is watched until it is
//!   readable. Before Linux 6.9 only `/proc` says which, on another thread.
//!
//! Must stay true: nothing in here takes a kernel's word for a death; what
//! cannot be verified for want of descriptors stays due and is tried again.

use std::{collections::VecDeque, time::Duration};

use rustix::io::Errno;

use super::{
    Ended, Table,
    entry::{EntryState, Handle},
    handover::Candidate,
};
use crate::{
    causes::in_full,
    core::{identity::Identity, time::Time},
    sys::{
        clock,
        epoll::Epoll,
        pidfd::{KnownPid, Reopened, Unproven, VerifiedPid},
    },
};

/// Verifications that are carried out in one go, between other things.
const SLICE: usize = 256;
/// Pause before what could not be verified is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// What is to be verified, and what is in the way.
#[derive(Default)]
pub(super) struct Checks {
    /// Generations, in the order in which there was reason to look.
    due: VecDeque<u64>,
    /// When what could not be verified is tried again.
    retry_at: Option<Time>,
    /// Why pidfds cannot be opened at present.
    obstacle: Option<String>,
    /// For another thread.
    inquiries: Vec<Inquiry>,
}

/// A question that only `/proc` answers.
#[derive(Debug)]
pub struct Inquiry {
    pub(super) generation: u64,
    pub(super) question: Question,
}

#[derive(Debug)]
pub(super) enum Question {
    /// Does a thread of it still run?
    Runs(VerifiedPid),
    /// Is it the process that was registered?
    IsSame(Unproven),
    /// Does it live, to go on in the place of the generation's process?
    GoesOn(KnownPid),
}

/// The answer to an [`Inquiry`].
#[derive(Debug)]
pub struct Answer {
    generation: u64,
    finding: Finding,
}

#[derive(Debug)]
enum Finding {
    Runs(KnownPid),
    /// It is dead, or dying.
    Ends,
    Same(VerifiedPid),
    Gone,
    Unknown(String),
    Candidate(Candidate),
}

/// A process that is to be signalled.
#[derive(Debug)]
pub enum Reach {
    /// This is it.
    Process(VerifiedPid),
    /// It is not registered, or gone.
    Gone,
    /// It cannot be told yet; ask again after the next [`Table::tick`] or answer.
    Later,
}

impl Checks {
    pub(super) fn ask(&mut self, inquiry: Inquiry) {
        self.inquiries.push(inquiry);
    }

    pub(super) fn can_open(&mut self) {
        self.obstacle = None;
    }

    /// When to try again.
    pub(super) fn cannot_open_because(&mut self, reason: String) -> Time {
        self.obstacle = Some(reason);
        clock::now() + RETRY
    }
}

impl Inquiry {
    /// Finds the answer. Reads `/proc` of a live process: not for the engine's
    /// thread.
    #[must_use]
    pub fn answer(self) -> Answer {
        let Self {
            generation,
            question,
        } = self;
        let finding = match question {
            Question::Runs(process) if process.is_running() => Finding::Runs(process.known()),
            Question::Runs(_) => Finding::Ends,
            Question::GoesOn(known) => Finding::Candidate(Candidate::look(known)),
            Question::IsSame(unproven) => match unproven.prove() {
                Ok(Some(process)) => Finding::Same(process),
                Ok(None) => Finding::Gone,
                Err(error) => Finding::Unknown(in_full(&error)),
            },
        };
        Answer {
            generation,
            finding,
        }
    }
}

impl Table {
    /// Questions for another thread, which come back through [`Table::answered`].
    pub fn take_inquiries(&mut self) -> Vec<Inquiry> {
        std::mem::take(&mut self.checks.inquiries)
    }

    /// When [`Table::tick`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let check = if self.checks.due.is_empty() {
            None
        } else {
            self.checks.retry_at.or(Some(Time::default()))
        };
        let scan = self.drops.scan_at();
        // A walk comes first.
        let waits = self.handovers.waits() && scan.is_some();
        let handover = self.handovers.due().filter(|_| !waits);
        [check, scan, handover].into_iter().flatten().min()
    }

    /// Why deaths and signals have to wait at present.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let reason = self.checks.obstacle.as_ref()?;
        Some(format!(
            "pidfds cannot be opened: {reason}; {} verifications are tried again",
            self.checks.due.len()
        ))
    }

    /// For when a source may have lost deaths: looks at every pidfd that is held
    /// and tells the ends that were not told yet; everything else is due to be
    /// verified.
    pub fn resync(&mut self, epoll: &Epoll) -> Vec<Ended> {
        let mut dead = Vec::new();
        for (generation, entry) in &mut self.entries {
            match entry.held() {
                Some(process) if process.is_dead() => dead.push(*generation),
                Some(_) => {}
                None if entry.is_due => {}
                None => {
                    entry.is_due = true;
                    self.checks.due.push_back(*generation);
                }
            }
        }
        self.drops.look_again();
        // In the order of registration.
        dead.sort_unstable();
        dead.into_iter()
            .filter_map(|generation| self.ended(generation, epoll))
            .collect()
    }

    /// Verifies some of what is due, and decides who goes on in somebody's place.
    pub fn tick(&mut self, now: Time, epoll: &Epoll) -> Vec<Ended> {
        let mut ended = self.advance_handovers(now);
        if self.checks.retry_at.is_some_and(|at| now < at) {
            return ended;
        }
        self.checks.retry_at = None;
        for _ in 0..SLICE {
            let Some(generation) = self.checks.due.pop_front() else {
                break;
            };
            if let Some(entry) = self.entries.get_mut(&generation) {
                entry.is_due = false;
            }
            ended.extend(self.ended(generation, epoll));
            if self.checks.retry_at.is_some() {
                break;
            }
        }
        ended
    }

    /// The handle for signalling a process that is registered or being ended.
    pub fn process(&mut self, identity: Identity, epoll: &Epoll) -> Reach {
        let found = self
            .generations(identity.pid)
            .iter()
            .copied()
            .find(|generation| {
                let entry = self.entries.get(generation);
                entry.is_some_and(|entry| entry.identity == identity)
            });
        let Some(generation) = found else {
            return Reach::Gone;
        };
        if self.is_gone(generation, epoll) == Some(true) {
            // Its end is told by whoever asks next.
            self.check_soon(generation);
            return Reach::Gone;
        }
        match self.entries.get(&generation).and_then(|entry| entry.held()) {
            Some(process) => Reach::Process(process.clone()),
            None => Reach::Later,
        }
    }

    /// Puts a generation among those that are due.
    pub(super) fn check_soon(&mut self, generation: u64) {
        if let Some(entry) = self.entries.get_mut(&generation)
            && !std::mem::replace(&mut entry.is_due, true)
        {
            self.checks.due.push_back(generation);
        }
    }

    /// A pidfd was closed: what waits for one can go on.
    pub(super) fn pidfd_closed(&mut self) {
        self.held = self.held.saturating_sub(1);
        if self.checks.obstacle.is_none() {
            self.checks.retry_at = None;
        }
    }

    /// Whether a process is dead with all that it held released. With a pidfd
    /// that says so, or by opening one; that one is kept and watched while the
    /// process is dying. `None`: it cannot be told now, and is due again.
    pub(super) fn is_gone(&mut self, generation: u64, epoll: &Epoll) -> Option<bool> {
        let known = match &self.entries.get(&generation)?.handle {
            Handle::Held(process) => return Some(process.is_dead()),
            Handle::OnDemand(known) => *known,
        };
        match known.reopen() {
            Ok(Reopened::Gone) => {
                self.checks.obstacle = None;
                Some(true)
            }
            Ok(_) if self.held >= self.budget.total() => {
                // It is there; who it is can wait until others are gone.
                self.try_again(generation);
                None
            }
            Ok(Reopened::Same(process)) => {
                self.checks.obstacle = None;
                self.hold(generation, process, epoll)
            }
            Ok(Reopened::Unproven(unproven)) => {
                self.checks.obstacle = None;
                self.checks.inquiries.push(Inquiry {
                    generation,
                    question: Question::IsSame(unproven),
                });
                None
            }
            Err(errno) => {
                self.cannot_open(generation, errno);
                None
            }
        }
    }

    fn cannot_open(&mut self, generation: u64, errno: Errno) {
        self.checks.obstacle = Some(std::io::Error::from(errno).to_string());
        self.try_again(generation);
    }

    fn try_again(&mut self, generation: u64) {
        self.check_soon(generation);
        self.checks.retry_at = Some(clock::now() + RETRY);
    }

    /// Watches a pidfd that was opened on demand. Never says "gone": it was
    /// alive a moment ago, and epoll tells the rest.
    fn hold(&mut self, generation: u64, process: VerifiedPid, epoll: &Epoll) -> Option<bool> {
        if let Err(errno) = epoll.add(process.pidfd(), generation) {
            self.cannot_open(generation, errno);
            return None;
        }
        let entry = self.entries.get_mut(&generation)?;
        let dying = entry.died_at.is_some() || entry.state == EntryState::Leaving;
        entry.handle = Handle::Held(process);
        self.held += 1;
        if !dying {
            self.settle(generation);
        }
        Some(false)
    }

    /// Has a pidfd beyond the budget closed once the kernel is sure to tell of
    /// the death.
    pub(super) fn settle(&mut self, generation: u64) {
        if self.held <= self.budget.own || !self.can_do_without_pidfds() {
            return;
        }
        let Some(entry) = self.entries.get(&generation) else {
            return;
        };
        if let (Some(process), true) = (entry.held(), entry.in_kernel) {
            self.checks.inquiries.push(Inquiry {
                generation,
                question: Question::Runs(process.clone()),
            });
        }
    }

    /// An inquiry was answered.
    pub fn answered(&mut self, answer: Answer, epoll: &Epoll) -> Option<Ended> {
        let Answer {
            generation,
            finding,
        } = answer;
        match finding {
            Finding::Runs(known) => {
                self.let_go(generation, known, epoll);
                None
            }
            // Its pidfd is watched.
            Finding::Ends => None,
            Finding::Same(process) => {
                let entry = self.entries.get(&generation)?;
                if entry.held().is_none() && entry.identity == process.identity() {
                    self.hold(generation, process, epoll);
                }
                None
            }
            Finding::Gone => self
                .entries
                .get(&generation)?
                .held()
                .is_none()
                .then(|| self.died(generation, epoll))?,
            Finding::Candidate(candidate) => self.candidate_seen(generation, candidate),
            Finding::Unknown(reason) => {
                self.entries.get(&generation)?;
                self.checks.obstacle = Some(reason);
                self.try_again(generation);
                None
            }
        }
    }

    /// Closes a pidfd beyond the budget.
    fn let_go(&mut self, generation: u64, known: KnownPid, epoll: &Epoll) {
        // A canary tries the pidfds, too.
        let wanted = self.held <= self.budget.own
            || !self.can_do_without_pidfds()
            || self.is_canary(generation);
        let Some(entry) = self.entries.get_mut(&generation) else {
            return;
        };
        let stays = wanted
            || !entry.in_kernel
            || entry.died_at.is_some()
            || entry.state == EntryState::Leaving
            || entry.identity != known.identity();
        if let (Handle::Held(process), false) = (&entry.handle, stays) {
            epoll.remove(process.pidfd());
            entry.handle = Handle::OnDemand(known);
            self.pidfd_closed();
        }
    }
}
