//! The canary under way, as the table hears of it.
//!
//! It is registered like everything else; what the sources tell of it is noted
//! here before the table asks whether it is news, because a source may tell of
//! it after its pidfd has.

use std::time::Duration;

use pmon_common::{Event, flag, kind};

use super::Table;
use crate::{
    core::{
        death::{SourceName, WaitStatus},
        time::Time,
    },
    source::{
        canary::{Heard, Verdict, Watch},
        connector::ExitHeard,
    },
    sys::clock,
};

impl Table {
    /// Listens for the death of a registered child.
    pub fn watch_canary(&mut self, watch: Watch) {
        self.canary = Some(watch);
    }

    /// When [`Table::canary_verdicts`] knows all at the latest; `None` while no
    /// canary is out.
    #[must_use]
    pub fn canary_due(&self) -> Option<Time> {
        self.canary.as_ref().map(Watch::due)
    }

    /// What the canary proved, once that is certain; it is over then.
    pub fn canary_verdicts(&mut self, now: Time) -> Option<Vec<(SourceName, Verdict)>> {
        let drops = self.ring_drops();
        let verdicts = self.canary.as_ref()?.verdicts(drops, now)?;
        self.canary = None;
        Some(verdicts)
    }

    /// Records that the kernel's ring had no room for.
    #[must_use]
    pub fn ring_drops(&self) -> u64 {
        self.kernel().map_or(0, |kernel| kernel.stats().drops)
    }

    /// Whether this is the one that is out. It counts for nothing else.
    #[must_use]
    pub fn is_canary(&self, generation: u64) -> bool {
        let canary = self.canary.as_ref();
        canary.is_some_and(|canary| canary.generation() == generation)
    }

    /// The canary proves nothing about a source, unless that has told already.
    pub fn lost_to_canary(&mut self, source: SourceName, why: &str) {
        if let Some(canary) = &mut self.canary {
            canary.settle(source, Verdict::Unclear(why.to_owned()));
        }
    }

    /// A record of the ring, whatever it is about.
    pub(super) fn canary_in_ring(&mut self, event: &Event) {
        if let Some(canary) = &mut self.canary
            && event.kind == kind::EXIT
            && canary.generation() == event.generation
            && canary.identity().pid == event.tgid
        {
            let known = event.flags & flag::EXIT_CODE_KNOWN != 0;
            let heard = Heard {
                status: known.then_some(WaitStatus(event.exit_code)),
                at: Some(Time::from_boot_ns(event.at)),
            };
            canary.hear(SourceName::Ebpf, heard, clock::now());
        }
    }

    /// An exit that the proc connector told, whatever it is about.
    pub(super) fn canary_in_connector(&mut self, exit: &ExitHeard) {
        /// Times are carried over from another clock; an earlier owner of the
        /// pid was gone long before.
        const SLACK: Duration = Duration::from_millis(1);
        if let Some(canary) = &mut self.canary
            && canary.identity().pid == exit.tgid
            && exit.pid == exit.tgid
            && exit.at + SLACK >= canary.released()
        {
            let heard = Heard {
                status: Some(exit.status),
                at: Some(exit.at),
            };
            canary.hear(SourceName::ProcConnector, heard, clock::now());
        }
    }

    /// A death that was read in the kernel's table.
    pub(super) fn canary_in_table(
        &mut self,
        generation: u64,
        at: Time,
        status: Option<WaitStatus>,
    ) {
        if let Some(canary) = self.canary_of(generation) {
            let at = Some(at);
            canary.seen_in_table(Heard { status, at }, clock::now());
        }
    }

    /// A pidfd that is readable.
    pub(super) fn canary_died(&mut self, generation: u64) {
        if let Some(canary) = self.canary_of(generation) {
            canary.died(clock::now());
        }
    }

    fn canary_of(&mut self, generation: u64) -> Option<&mut Watch> {
        self.canary
            .as_mut()
            .filter(|canary| canary.generation() == generation)
    }
}
