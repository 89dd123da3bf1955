//! From a followed process that exited with status 0 to the descendant that goes
//! on in its place.
//!
//! States of a handover:
//!
//! * **undecided** — the process is gone, and what the kernel had to say of its
//!   descendants may not all be heard; then the eldest that lives is chosen.
//! * **asked** — another thread looks whether the chosen one lives. If so, it is
//!   told as the one that goes on. If not, it is undecided again.
//! * **over** — somebody goes on; or nobody lives, and the last of those who
//!   outlived the process is told to go on, whose death is told next; or nobody
//!   outlived it, and its own death is told.
//!
//! Must stay true: each ends in exactly one thing that is told; until its
//! successor is remembered, the kernel's entry of the process stays, so that a
//! daemon that is killed meanwhile leaves what its successor needs.

use std::collections::HashMap;

use pmon_common::flag;

use super::{
    Ended, EntityName, Registered, Table,
    checks::{Inquiry, Question},
    entry::{EntryState, Handle},
    followers::{Follower, root_in_entry},
};
use crate::{
    causes::in_full,
    core::{
        death::{Death, LastSeen, SourceName, WaitStatus},
        identity::Identity,
        time::Time,
    },
    look::last_seen,
    sys::{
        clock,
        pidfd::{KnownPid, Reopened, VerifiedPid},
    },
};

/// Handovers under way, by family.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    under_way: HashMap<u64, Handover>,
    /// Those that are undecided.
    undecided: Vec<u64>,
    /// Nothing can be decided before this.
    not_before: Option<Time>,
    /// The family whose process is being taken out of the table just now.
    held: Option<u64>,
    /// There may be something that was not heard.
    unheard: bool,
    /// The families that have just been handed over, by whose they are.
    handed: HashMap<EntityName, u64>,
}

#[derive(Debug)]
struct Handover {
    entity: EntityName,
    death: Death,
    /// It was being ended.
    leaving: bool,
    /// The one that is asked for.
    candidate: Option<u64>,
}

/// A followed process exited, and this one goes on in its place.
#[derive(Debug)]
pub struct Followed {
    /// Whose.
    pub entity: EntityName,
    /// Who exited.
    pub death: Death,
    /// Who goes on.
    pub child: Identity,
    /// The same, verified alive; without it, it has died since, which is told
    /// when it is registered ([`Table::adopt`]).
    pub process: Option<VerifiedPid>,
    /// What was seen of it.
    pub last_seen: LastSeen,
}

/// What a look at a descendant showed.
#[derive(Debug)]
pub(super) enum Candidate {
    /// It lives.
    Alive(VerifiedPid, Box<LastSeen>),
    /// It does not.
    Gone,
    /// It cannot be told, and why.
    Unknown(String),
}

impl Candidate {
    /// Looks. Reads `/proc` of a live process: not for the engine's thread.
    pub(super) fn look(known: KnownPid) -> Self {
        let proven = match known.reopen() {
            Ok(Reopened::Gone) => return Self::Gone,
            Ok(Reopened::Same(process)) => Ok(Some(process)),
            Ok(Reopened::Unproven(unproven)) => unproven.prove().map_err(|error| in_full(&error)),
            Err(errno) => Err(std::io::Error::from(errno).to_string()),
        };
        match proven {
            Ok(Some(process)) => {
                let seen = last_seen::of(process.identity());
                Self::Alive(process, Box::new(seen))
            }
            Ok(None) => Self::Gone,
            Err(reason) => Self::Unknown(reason),
        }
    }
}

impl Handovers {
    /// Whether it is not settled yet what becomes of a family.
    pub(super) fn contains(&self, root: u64) -> bool {
        self.held == Some(root)
            || self.under_way.contains_key(&root)
            || self.handed.values().any(|handed| *handed == root)
    }

    /// When something is to be decided.
    pub(super) fn due(&self) -> Option<Time> {
        (!self.undecided.is_empty()).then(|| self.not_before.unwrap_or_default())
    }

    /// Whether it has to be heard first what happened.
    pub(super) const fn waits(&self) -> bool {
        self.unheard
    }

    pub(super) const fn everything_is_heard(&mut self) {
        self.unheard = false;
    }

    fn begin(&mut self, root: u64, entity: EntityName, death: Death, leaving: bool) {
        let handover = Handover {
            entity,
            death,
            leaving,
            candidate: None,
        };
        self.under_way.insert(root, handover);
        self.decide_later(root);
    }

    fn decide_later(&mut self, root: u64) {
        self.undecided.push(root);
        self.unheard = true;
    }
}

impl Table {
    /// Whether it is being found out who goes on in the place of a registration's
    /// process.
    #[must_use]
    pub fn hands_over(&self, generation: u64) -> bool {
        let mut handovers = self.handovers.under_way.values();
        handovers.any(|handover| handover.death.generation == generation)
    }

    /// A process is about to be taken out; whether somebody may go on in its place,
    /// who is kept until that is clear.
    pub(super) fn keep_followers(&mut self, generation: u64) -> bool {
        let Some(entry) = self.entries.get(&generation) else {
            return false;
        };
        let root = entry.root;
        let may_be = match entry.state {
            // There may be some that were not heard of.
            EntryState::Registered => self.follows(&entry.entity),
            EntryState::Leaving => self.followers.of(root).next().is_some(),
            EntryState::Expected => false,
        };
        if may_be {
            self.handovers.held = Some(root);
        }
        may_be
    }

    /// Nobody goes on.
    pub(super) fn give_up_followers(&mut self, root: u64) {
        self.handovers.held = None;
        self.drop_followers(root);
    }

    /// A followed process exited with status 0: from here on it is looked for who
    /// goes on in its place.
    pub(super) fn begin_handover(
        &mut self,
        root: u64,
        entity: EntityName,
        death: Death,
        leaving: bool,
    ) {
        self.handovers.held = None;
        self.handovers.begin(root, entity, death, leaving);
    }

    /// Whether somebody may go on in the place of a process of an earlier daemon,
    /// whose death this is.
    #[must_use]
    pub fn may_have_inherited_followers(&self, entity: &EntityName, death: &Death) -> bool {
        death.status.and_then(WaitStatus::exit_code) == Some(0)
            && self.follows(entity)
            && (self.inherited.get(death.identity.pid))
                .is_some_and(|entry| self.inherited.has_followers(root_in_entry(entry)))
    }

    /// Looks for who that is.
    pub fn begin_inherited_handover(&mut self, entity: &EntityName, death: &Death) {
        if let Some(entry) = self.inherited.get(death.identity.pid) {
            let root = root_in_entry(entry);
            self.inherit_followers(root);
            (self.handovers).begin(root, EntityName::clone(entity), death.clone(), false);
        }
    }

    /// Decides what can be decided.
    pub(super) fn advance_handovers(&mut self, now: Time) -> Vec<Ended> {
        if self.handovers.waits() || self.handovers.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.handovers.not_before = None;
        std::mem::take(&mut self.handovers.undecided)
            .into_iter()
            .filter_map(|root| self.decide(root))
            .collect()
    }

    fn decide(&mut self, root: u64) -> Option<Ended> {
        let handover = self.handovers.under_way.get_mut(&root)?;
        let living = |(_, follower): &(u64, &Follower)| follower.died_at.is_none();
        let eldest = self.followers.of(root).find(living);
        if let Some((generation, eldest)) = eldest {
            handover.candidate = Some(generation);
            let known = KnownPid::of(eldest.identity);
            self.checks.ask(Inquiry {
                generation: root,
                question: Question::GoesOn(known),
            });
            return None;
        }
        let left = handover.death.died_at.unwrap_or(handover.death.detected_at);
        let last = (self.followers.of(root))
            .filter(|(_, it)| it.died_at.is_some_and(|at| at > left))
            .max_by_key(|(generation, it)| (it.died_at, *generation))
            .map(|(_, last)| last.identity);
        let handover = self.handovers.under_way.remove(&root)?;
        match last {
            Some(child) if !handover.leaving => {
                Some(self.hand_over(root, handover, child, None, LastSeen::default()))
            }
            Some(_) | None => {
                self.drop_followers(root);
                Some(if handover.leaving {
                    Ended::Gone(handover.entity, handover.death.identity)
                } else {
                    Ended::Died(handover.entity, handover.death)
                })
            }
        }
    }

    /// The chosen one was looked at.
    pub(super) fn candidate_seen(&mut self, root: u64, seen: Candidate) -> Option<Ended> {
        let handover = self.handovers.under_way.get_mut(&root)?;
        let candidate = handover.candidate.take()?;
        match (seen, self.followers.get(candidate).copied()) {
            (Candidate::Alive(process, last_seen), Some(follower))
                if follower.died_at.is_none() && follower.identity == process.identity() =>
            {
                self.checks.can_open();
                let handover = self.handovers.under_way.remove(&root)?;
                let child = follower.identity;
                return Some(self.hand_over(root, handover, child, Some(process), *last_seen));
            }
            (Candidate::Gone, Some(follower)) => {
                let pid = follower.identity.pid;
                let entry = self.kernel.as_ref().and_then(|kernel| kernel.get(pid));
                let died_at = entry
                    .filter(|it| it.generation == candidate && it.flags & flag::DEAD != 0)
                    .map(|entry| Time::from_boot_ns(entry.died_at));
                (self.followers).died(candidate, died_at.unwrap_or_else(clock::now));
            }
            (Candidate::Unknown(reason), _) => {
                self.handovers.not_before = Some(self.checks.cannot_open_because(reason));
            }
            // It died since, or is somebody's own process by now.
            (Candidate::Alive(..) | Candidate::Gone, _) => {}
        }
        self.handovers.decide_later(root);
        None
    }

    /// A [`Followed`] was dealt with: unless its child is registered now, the
    /// family is at an end.
    pub fn followed(&mut self, entity: &EntityName, child: Identity) {
        let Some(root) = self.handovers.handed.remove(entity) else {
            return;
        };
        // Those who died before need not be kept any more.
        self.drops.look_at_count(clock::now());
        let head = self.generation_of(entity, child, EntryState::Registered);
        let head = head.and_then(|generation| self.entries.get(&generation));
        if head.is_none_or(|head| head.root != root) {
            tracing::debug!("`{entity}` has no use for {child}");
            self.drop_followers(root);
        }
    }

    /// Registers a descendant that has died since it took a place, so that its
    /// death is told as any other.
    pub fn adopt(&mut self, entity: &EntityName, child: Identity) -> Option<Registered> {
        let generation = self.followers.generation_of(child)?;
        let Follower { root, .. } = self.followers.remove(generation)?;
        let is_there = self.kernel.as_ref().is_some_and(|kernel| {
            (kernel.get(child.pid)).is_some_and(|found| found.generation == generation)
        });
        let handle = Handle::OnDemand(KnownPid::of(child));
        self.enter(
            entity,
            child,
            handle,
            LastSeen::default(),
            (generation, root),
        );
        if let Some(entry) = self.entries.get_mut(&generation) {
            entry.in_kernel = is_there;
            entry.first = Some((SourceName::Ebpf, clock::now()));
        }
        self.check_soon(generation);
        Some(Registered {
            generation,
            pidfd_only: None,
        })
    }

    /// Nobody is interested any more in who goes on.
    pub(super) fn forget_handovers(&mut self, entity: &EntityName) {
        let roots: Vec<u64> = (self.handovers.under_way.iter())
            .filter(|(_, handover)| handover.entity == *entity)
            .map(|(root, _)| *root)
            .collect();
        self.handovers.handed.remove(entity);
        for root in roots {
            if let Some(handover) = self.handovers.under_way.remove(&root) {
                self.drop_followers(root);
                self.on_record(handover.death.identity);
            }
        }
    }

    fn hand_over(
        &mut self,
        root: u64,
        handover: Handover,
        child: Identity,
        process: Option<VerifiedPid>,
        last_seen: LastSeen,
    ) -> Ended {
        let Handover {
            entity,
            death,
            leaving: _,
            candidate: _,
        } = handover;
        let handed = &mut self.handovers.handed;
        handed.insert(EntityName::clone(&entity), root);
        Ended::Followed(Box::new(Followed {
            entity,
            death,
            child,
            process,
            last_seen,
        }))
    }

    /// The family that a follower brings along when this entity registers it:
    /// its own, if it is the one who goes on there.
    pub(super) fn family_brought(&self, entity: &EntityName, root: u64) -> Option<u64> {
        let handed = self.handovers.handed.get(entity).copied();
        handed.filter(|family| *family == root)
    }
}
