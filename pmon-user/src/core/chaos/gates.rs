//! The simulated host's gates: they open and close as they like, and whoever
//! asked is told what was seen after it asked, a moment later.

use std::time::Duration;

use super::{happening::Happening, world::World};
use crate::core::{
    event::Event,
    gate::{Condition, Flag, GateEvent, Verdict},
    time::Time,
};

/// How long what was seen of the gates may take until something is started: the
/// answer, a look and the turn, each some ten milliseconds here.
const STALE: Duration = Duration::from_secs(1);

/// The gates, where the entity stands before some.
#[derive(Debug)]
pub(super) struct Gates {
    open: bool,
    /// Since when.
    since: Time,
    /// The part of the host that its `subfunction` names is configured.
    configured: bool,
    /// Number of the last question, while it waits for the gates to open.
    waiting: Option<u64>,
    questions: u64,
}

impl Gates {
    pub(super) const fn new(open: bool, configured: bool, now: Time) -> Self {
        Self {
            open,
            since: now,
            configured,
            waiting: None,
            questions: 0,
        }
    }
}

impl World {
    /// Perhaps with gates, which open later at the latest.
    pub(super) fn random_gates(&mut self, now: Time) -> Option<Gates> {
        if !self.random.percent(40) {
            return None;
        }
        let open = self.random.percent(70);
        let configured = self.random.percent(50);
        if !open || !configured {
            let opens = self.random.up_to(Duration::from_secs(120));
            self.later(opens, Happening::GatesTurn(true));
        }
        Some(Gates::new(open, configured, now))
    }

    /// Whether the gates have been closed for so long that it can be known.
    pub(super) fn is_shut(&self) -> bool {
        self.gates
            .as_ref()
            .is_some_and(|gates| !gates.open && self.now.since(gates.since) > STALE)
    }

    /// Puts a new recovery before the gates. Whether it may begin.
    pub(super) fn place_before_gates(&mut self) -> bool {
        let Some(gates) = &mut self.gates else {
            return true;
        };
        gates.waiting = None;
        self.recovery.guard();
        let awaited = self.spec.subfunction.is_some() && !gates.configured;
        let condition = Condition::Flag(Flag::WorkerConfigured);
        let deferred = awaited && self.recovery.defer(&self.spec, condition);
        if deferred {
            self.saw("deferred");
        }
        !deferred
    }

    pub(super) fn ask_gate(&mut self) {
        let Some(gates) = &mut self.gates else {
            return;
        };
        gates.questions += 1;
        gates.waiting = Some(gates.questions);
        let question = gates.questions;
        self.soon(Happening::GatesLookedAt(question));
    }

    pub(super) fn gates_looked_at(&mut self, question: u64) {
        if let Some(gates) = &self.gates {
            let open = gates.open;
            self.soon(Happening::GatesTold(question, open));
        }
    }

    pub(super) fn gates_told(&mut self, question: u64, open: bool) -> Result<(), String> {
        let Some(gates) = &mut self.gates else {
            return Ok(());
        };
        if gates.waiting.is_none_or(|asked| asked > question) {
            return Ok(());
        }
        let verdict = if open {
            gates.waiting = None;
            Verdict::Open
        } else {
            self.saw("kept out by a gate");
            let why = "waiting for `/var/run/.goenabled`".to_owned();
            Verdict::Closed { why }
        };
        self.step(Event::Gate(GateEvent::Verdict(verdict)), None)
    }

    /// They open or close.
    pub(super) fn gates_turn(&mut self, open: bool) -> Result<(), String> {
        let now = self.now;
        let Some(gates) = &mut self.gates else {
            return Ok(());
        };
        if gates.open != open {
            gates.open = open;
            gates.since = now;
            if let Some(question) = gates.waiting {
                self.soon(Happening::GatesLookedAt(question));
            }
        }
        let configured = self.gates.as_mut().is_some_and(|gates| {
            let news = open && !gates.configured;
            gates.configured |= open;
            news
        });
        if configured {
            let pause = self.random.up_to(Duration::from_secs(5));
            let met = Event::Gate(GateEvent::ConditionMet { pause });
            return self.step(met, None);
        }
        Ok(())
    }

    /// The host begins to shut down, or is configured anew, and thinks better of it.
    pub(super) fn shut_gates(&mut self) -> Result<(), String> {
        self.gates_turn(false)?;
        let lasts = self.random.up_to(Duration::from_secs(120));
        self.later(lasts, Happening::GatesTurn(true));
        Ok(())
    }
}
