//! The proc connector in the table: which of its exits are deaths, and what to
//! do when it lost some.
//!
//! Must stay true: an exit is only a reason to look at the pidfd; a death that
//! another source has told of is no news. After an overrun everything is
//! unknown, and every pidfd is looked at.

use std::sync::Arc;

use rustix::io::Errno;

use super::{EntityName, EntryState, Table};
use crate::{
    core::death::{Hint, SourceName},
    source::connector::{Connector, ExitHeard, Heard},
    sys::{clock, pidfd::VerifiedPid},
};

/// What the connector says, as far as it concerns the table.
#[derive(Debug)]
pub enum FromConnector {
    /// A thread exited: the deaths that this tells first, mostly none; several
    /// when several entities watch one process.
    Exit(Vec<(EntityName, Hint)>),
    /// Something was lost; [`Table::resync`] is due.
    Overrun,
    /// It will say nothing more.
    Broken(Errno),
}

impl Table {
    /// Puts a connector to use, or out of use; gives back the one before. What
    /// died before may be known to none: [`Table::resync`] is due. Its descriptor
    /// is the caller's to watch.
    pub const fn set_connector(&mut self, connector: Option<Connector>) -> Option<Connector> {
        std::mem::replace(&mut self.connector, connector)
    }

    /// The connector in use.
    #[must_use]
    pub const fn connector(&self) -> Option<&Connector> {
        self.connector.as_ref()
    }

    /// Deaths that the connector told first.
    #[must_use]
    pub const fn connector_events(&self) -> u64 {
        self.connector_events
    }

    /// What the connector says next; `None` when it is silent.
    pub fn next_from_connector(&mut self) -> Option<FromConnector> {
        match self.connector.as_mut()?.next()? {
            Heard::Exit(exit) => Some(FromConnector::Exit(self.thread_exited(&exit))),
            Heard::Overrun => {
                self.lost_to_canary(SourceName::ProcConnector, "it lost events meanwhile");
                Some(FromConnector::Overrun)
            }
            Heard::Broken(errno) => Some(FromConnector::Broken(errno)),
        }
    }

    fn thread_exited(&mut self, exit: &ExitHeard) -> Vec<(EntityName, Hint)> {
        self.canary_in_connector(exit);
        let mut hints = Vec::new();
        for generation in self.generations(exit.tgid).to_vec() {
            let counts = u64::from(!self.is_canary(generation));
            let Some(entry) = self.entries.get_mut(&generation) else {
                continue;
            };
            if entry.state != EntryState::Registered {
                continue;
            }
            let is_held = entry.held().is_some();
            let is_dead = entry.held().is_some_and(VerifiedPid::is_dead);
            entry.threads.heard(exit, is_dead);
            if !is_held {
                self.check_soon(generation);
                continue;
            }
            if !is_dead || entry.first.is_some() {
                continue;
            }
            entry.first = Some((SourceName::ProcConnector, clock::now()));
            self.connector_events += counts;
            hints.push((
                Arc::clone(&entry.entity),
                Hint {
                    identity: entry.identity,
                    generation,
                    source: SourceName::ProcConnector,
                    died_at: entry.threads.died_at(),
                    status: entry.threads.status(),
                    last_thread: false,
                },
            ));
        }
        hints
    }
}
