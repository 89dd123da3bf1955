//! The daemon is killed, and another one goes on with what is remembered.

use std::time::Duration;

use super::{happening::Happening, world::World};
use crate::core::{
    death::WaitStatus,
    effect::Effect,
    entity::StartMethod,
    event::Event,
    identity::Identity,
    recovery::{AfterHold, AfterStop, Stage},
};

impl World {
    /// Another one begins after a while.
    pub(super) fn restart_daemon(&mut self) -> Result<(), String> {
        self.note(|_| "the daemon is killed".to_owned());
        // Between a pidfile's removal and the signal: the process lives on,
        // known from what is remembered.
        self.meddled |= matches!(self.recovery.stage(), Stage::Stopping { .. });
        let stays_down = matches!(
            self.recovery.stage(),
            Stage::Stopped
                | Stage::Stopping {
                    then: AfterStop::StayDown,
                    ..
                }
                | Stage::Held {
                    then: AfterHold::StayDown,
                    ..
                }
        );
        let failed = self.recovery.is_failed();
        let alarm = self.recovery.alarm().zip(self.recovery.alarm_since());
        let quorum = self.recovery.quorum();
        let entry = self.known.and_then(|known| {
            let handover = self.handovers.get(&known);
            let generation = handover.map(|handover| handover.generation);
            let generation = generation.or_else(|| self.entries.get(&known).copied())?;
            Some((known, generation))
        });
        self.lose_what_was_the_daemons();
        self.be_without_daemon();
        self.rules.begin_anew();
        let (recovery, looks) = self.resume_wishes(stays_down);
        self.recovery = recovery;
        let looks = self.place_before_gates() && looks;
        if failed && *self.recovery.stage() != Stage::Stopped {
            self.recovery.resume();
        }
        let effects = self
            .recovery
            .resume_alarm(&self.spec, alarm, quorum, self.now);
        self.carry_out(effects, None)?;
        if let Some((identity, generation)) = entry
            && !self.exists(identity)
        {
            return self.inherit(identity, generation);
        }
        if looks {
            let foreign_script = true;
            return self.carry_out(vec![Effect::Look { foreign_script }], None);
        }
        Ok(())
    }

    /// For a while, in which processes die and are released.
    fn be_without_daemon(&mut self) {
        let away = self.random.up_to(Duration::from_secs(2));
        self.now = self.now + away;
        if self.random.percent(20)
            && let Some(known) = self.known.filter(|known| self.processes.remove(known))
        {
            self.note(|_| format!("({}) dies unseen", known.pid));
            if self.processes.is_empty() {
                self.unit_has_lost();
            }
        }
        let now = self.now;
        let dying = &mut self.dying;
        self.queue.retain(|(at, _), happening| match happening {
            Happening::Released(identity, _) if *at <= now => {
                dying.remove(identity);
                false
            }
            _ => true,
        });
    }

    fn lose_what_was_the_daemons(&mut self) {
        self.entries.clear();
        self.handovers.clear();
        self.lane.clear();
        self.leaving.clear();
        self.script = None;
        // A script that was at work goes on and is found as one; other start
        // commands end with the service's cgroup.
        let script = matches!(self.spec.start, StartMethod::Script { .. });
        let at_work = self.start_at_work();
        self.meddled |= at_work.is_none() && self.is_on_its_way();
        if let Some(ends) = at_work.filter(|_| script) {
            self.foreign_script = true;
            let ends = ends.since(self.now);
            self.later(ends, Happening::ForeignScriptEnds(false));
        }
        self.queue.retain(|_, happening| match happening {
            Happening::Appear(_, run) => script || run.is_none(),
            other => !other.is_the_daemons(),
        });
    }

    /// The process died while there was no daemon, or just before.
    fn inherit(&mut self, identity: Identity, generation: u64) -> Result<(), String> {
        let heir = self.heir(identity);
        let death = self.death(identity, generation, Some(WaitStatus(9)));
        if !self.recovery.recall(identity, generation) {
            // Nobody knows the child.
            self.meddled |= heir.is_some();
            self.recovery.record(death, self.now);
            return Ok(());
        }
        self.saw("inherited a death");
        self.rules.saw(Some(identity));
        self.rules.recall(identity);
        match heir {
            Some(child) => self.step(Event::Followed { death, child }, Some(child)),
            None => self.step(Event::Died(death), None),
        }
    }
}
