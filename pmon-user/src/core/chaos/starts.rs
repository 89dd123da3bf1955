//! Start methods: they fail, hang, fork twice, come late, and start programs that
//! die soon.

use super::{happening::Happening, units::Unit, world::World};
use crate::core::{
    death::WaitStatus,
    effect::Effect,
    entity::StartMethod,
    event::{Event, StartEnd},
    identity::Identity,
    time::Time,
};

impl World {
    /// The start method is run, and does what start methods do.
    pub(super) fn start(&mut self, run: u64) {
        let foreground = matches!(&self.spec.start, StartMethod::Command(c) if !c.daemonizes);
        let luck = if self.calm { 0 } else { self.random.below(100) };
        let exited = |code| StartEnd::Exited {
            code,
            last_line: None,
        };
        let window = self.spec.startuptime;
        let unit = self.units.is_some();
        if let Some(units) = &mut self.units
            && units.unit == Unit::Stopped
        {
            // Whoever stopped it is not asked any more.
            units.unit = Unit::Down;
        }
        match luck {
            _ if self.unit_is_taken() => {
                self.saw("gave way to a job");
                let to = "a conflicting job".to_owned();
                self.start_ends(run, StartEnd::Yielded { to }, None);
            }
            90.. if unit => {
                // systemd ends it at a deadline of its own.
                let reason = "ended as `timeout`".to_owned();
                let end = StartEnd::JobFailed { reason };
                let ended = Happening::Tell(Event::StartEnded { run, end }, None);
                self.later(self.spec.start_timeout * 2, ended);
            }
            90.. => {}
            85..90 if unit => {
                let to = "a conflicting job".to_owned();
                self.start_ends(run, StartEnd::Yielded { to }, None);
            }
            80..90 => self.start_ends(run, exited(1), None),
            70..80 if foreground => {
                let reason = "ETXTBSY".to_owned();
                self.start_ends(run, StartEnd::NotExecuted { reason }, None);
            }
            _ if foreground => {
                let identity = self.new_identity();
                self.processes.insert(identity);
                self.pidfile = Some(identity);
                // On record before it executes anything.
                self.known = Some(identity);
                let died = self.perhaps_doomed(identity, luck);
                if self.spec.follow && self.random.percent(50) {
                    let delay = self.random.up_to(window);
                    self.later(delay, Happening::IntoBackground(identity));
                }
                self.start_ends(run, StartEnd::Running(identity), Some(identity));
                self.note(|_| format!("({}) runs, doomed: {died}", identity.pid));
            }
            60..80 if self.meddlers => {
                // Late: perhaps when it is not expected any more.
                self.meddled = true;
                let identity = self.new_identity();
                let late = self.random.up_to(window * 3);
                self.later(late, Happening::Appear(identity, Some(run)));
                self.start_ends(run, exited(0), None);
            }
            50..60 => {
                // Forks twice: the pidfile names the first, then the second.
                let (first, second) = (self.new_identity(), self.new_identity());
                let delay = self.random.up_to(window / 2);
                self.later(delay, Happening::Appear(first, Some(run)));
                self.later(delay * 2, Happening::Die(first, WaitStatus(0)));
                self.later(delay * 2, Happening::Appear(second, Some(run)));
                self.start_ends(run, exited(0), None);
            }
            _ => {
                let identity = self.new_identity();
                let delay = self.random.up_to(window / 2);
                self.later(delay, Happening::Appear(identity, Some(run)));
                self.perhaps_doomed(identity, luck);
                self.start_ends(run, exited(0), None);
            }
        }
    }

    fn perhaps_doomed(&mut self, identity: Identity, luck: u64) -> bool {
        let doomed = luck >= 35;
        if doomed {
            let longest = self.spec.startuptime + self.spec.debounce * 2;
            let lives = self.random.up_to(longest);
            self.later(
                lives + self.spec.startuptime / 2,
                Happening::Die(identity, WaitStatus(11)),
            );
        }
        doomed
    }

    fn start_ends(&mut self, run: u64, end: StartEnd, found: Option<Identity>) {
        let delay = self.random.up_to(self.spec.startuptime);
        let delay = if found.is_some() { delay / 100 } else { delay };
        self.later(
            delay,
            Happening::Tell(Event::StartEnded { run, end }, found),
        );
    }

    /// The running start command ends with its process group.
    pub(super) fn cancel_start(&mut self) {
        let ran = self.queue.values().find_map(|happening| match happening {
            Happening::Tell(Event::StartEnded { .. }, found) => *found,
            _ => None,
        });
        if let Some(identity) = ran {
            self.die(identity, WaitStatus(9));
        }
        self.lane.retain(|job| !matches!(job, Effect::Start { .. }));
        self.queue.retain(|_, happening| match happening {
            Happening::Tell(Event::StartEnded { .. }, None) | Happening::Appear(_, Some(_)) => {
                false
            }
            Happening::Tell(..)
            | Happening::Look(_)
            | Happening::Work
            | Happening::Appear(_, None)
            | Happening::Die(..)
            | Happening::IntoBackground(_)
            | Happening::Released(..)
            | Happening::HandedOver(_)
            | Happening::ForeignScriptEnds(_)
            | Happening::ScriptEnds(..)
            | Happening::GatesLookedAt(_)
            | Happening::GatesTold(..)
            | Happening::GatesTurn(_)
            | Happening::UnitWork(_) => true,
        });
    }

    /// When the start command that is at work ends.
    pub(super) fn start_at_work(&self) -> Option<Time> {
        self.queue.iter().find_map(|((at, _), happening)| {
            matches!(happening, Happening::Tell(Event::StartEnded { .. }, _)).then_some(*at)
        })
    }

    /// Whether a process that it has started is out of everybody's sight still.
    pub(super) fn is_on_its_way(&self) -> bool {
        let mut queued = self.queue.values();
        queued.any(|happening| matches!(happening, Happening::Appear(_, Some(_))))
    }
}
