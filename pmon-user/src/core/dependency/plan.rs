//! The restart of a group as one plan: members that fail within a moment make
//! one plan, not several.
//!
//! * *Gathering* — a member has failed; others may follow in the same burst.
//!   Nobody of the group is started.
//! * *Stopping* — those who have not failed and are to be restarted are ended, one
//!   after the other, in reverse order. Still nobody is started. Who fails
//!   meanwhile joins in.
//! * Over — everybody may be started, each after those before it, which is the
//!   gate's business.
//!
//! Must stay true: nobody is ended twice in a plan, nor who failed in it (a
//! successor that somebody else has started already is as good); a plan ends, if
//! need be without those that cannot be ended.

use std::{collections::BTreeSet, time::Duration};

use super::{Group, Name, Standing, Strategy};
use crate::core::time::Time;

/// What dies of one cause (an OOM, a lost disk, `killall`) dies within this time.
pub const GATHERING: Duration = Duration::from_millis(100);
/// Longer than any stop policy's usual patience, and systemd's 90 s.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    group: Group,
    fallen: BTreeSet<Name>,
    ended: BTreeSet<Name>,
    /// Who is being ended.
    ending: Option<Name>,
    /// Until when others may join in; none once that is over.
    gathers_until: Option<Time>,
    until: Time,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until time passes or a standing changes.
    Wait,
    /// This one is to be ended, and started again when it is its turn.
    End(Name),
    /// Everybody may be started.
    Over,
    /// The same, although this one has not gone in time.
    InVain(Name),
}

impl Plan {
    /// A member has failed. None where nobody else has to do with that.
    #[must_use]
    pub fn new(group: &Group, fallen: Name, now: Time) -> Option<Self> {
        match group.strategy {
            Strategy::One => None,
            Strategy::All | Strategy::Rest => Some(Self {
                group: group.clone(),
                fallen: BTreeSet::from([fallen]),
                ended: BTreeSet::new(),
                ending: None,
                gathers_until: Some(now + GATHERING),
                until: now + PATIENCE,
            }),
        }
    }

    /// Another one has failed.
    pub fn fell(&mut self, name: Name) {
        self.fallen.insert(name);
    }

    /// Who has failed in it.
    pub fn fallen(&self) -> impl Iterator<Item = &Name> {
        self.fallen.iter()
    }

    /// When time alone moves it on.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.gathers_until.unwrap_or(self.until)
    }

    /// What comes next.
    pub fn advance(&mut self, now: Time, standing: impl Fn(&str) -> Standing) -> Next {
        if self.gathers_until.is_some_and(|until| now < until) {
            return Next::Wait;
        }
        self.gathers_until = None;
        if now >= self.until {
            return self.ending.take().map_or(Next::Over, Next::InVain);
        }
        if let Some(ending) = &self.ending
            && standing(ending) == Standing::Ending
        {
            return Next::Wait;
        }
        self.ending = None;
        while let Some(name) = self.last_to_end() {
            self.ended.insert(Name::clone(&name));
            match standing(&name) {
                Standing::Up | Standing::UnderWay => {
                    self.ending = Some(Name::clone(&name));
                    return Next::End(name);
                }
                // Already on its way out; who comes before it waits for that.
                Standing::Ending => {
                    self.ending = Some(name);
                    return Next::Wait;
                }
                Standing::Failing | Standing::Resting | Standing::Unknown => {}
            }
        }
        Next::Over
    }

    /// The last one in order that is still to be ended.
    fn last_to_end(&self) -> Option<Name> {
        let members = &self.group.members;
        let fallen = |member: &&String| self.fallen.contains(member.as_str());
        let first = match self.group.strategy {
            Strategy::One => members.len(),
            Strategy::All => 0,
            Strategy::Rest => members.iter().position(|one| fallen(&one))?,
        };
        let left = members.iter().skip(first).rev();
        let mut left =
            left.filter(|member| !fallen(member) && !self.ended.contains(member.as_str()));
        left.next().map(|member| Name::from(member.as_str()))
    }
}

#[cfg(test)]
#[path = "tests/plan.rs"]
mod tests;
