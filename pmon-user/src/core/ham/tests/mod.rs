//! HAM's rules in simulated time, section by section of `ham.md`.

#![expect(clippy::unwrap_used, reason = "tests")]

mod heartbeats;
mod lanes;
mod lists;
mod published;
mod restarts;
mod shape;

use std::{path::PathBuf, time::Duration};

use super::{
    Effect, Ham,
    action::{Deed, Receiver},
    condition::{Kind, When},
    flags::{ActionFlags, ConditionFlags, EntityFlags},
    run::RunId,
    tree::Owner,
};
use crate::core::{identity::Identity, time::Time};

const REARM: ActionFlags = ActionFlags::REARM;
const NO_FLAGS: ActionFlags = ActionFlags::empty();

/// A tree, a clock, and what was asked for, in short words.
#[derive(Default)]
struct World {
    ham: Ham,
    now: Time,
    asked: Vec<String>,
    /// Effects that want an answer, the oldest first.
    open: Vec<(RunId, String)>,
    pids: u32,
}

impl World {
    /// With an entity that has a process.
    fn with(entities: &[&str]) -> Self {
        let mut world = Self::default();
        for name in entities {
            let process = world.process();
            let effects = world
                .ham
                .attach(name, process, EntityFlags::empty(), world.now);
            world.take(effects.unwrap());
        }
        world
    }

    fn process(&mut self) -> Identity {
        self.pids += 1;
        Identity {
            pid: 100 + self.pids,
            start_time: u64::from(self.pids),
        }
    }

    fn condition(&mut self, entity: &str, name: &str, kind: Kind, flags: ConditionFlags) {
        let owner = Owner::Entity(entity);
        (self.ham.tree)
            .add_condition(owner, name, When::Kind(kind), flags)
            .unwrap();
    }

    fn action(&mut self, at: (&str, &str), name: &str, deed: Deed, flags: ActionFlags) {
        let owner = Owner::Entity(at.0);
        (self.ham.tree)
            .add_action(owner, at.1, name, deed, flags)
            .unwrap();
        let effects = self.ham.do_now(owner, at.1, name, self.now);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let (word, run) = match effect {
                Effect::Restart { run, entity, .. } => (format!("restart {entity}"), Some(run)),
                Effect::Execute { run, line, .. } => (format!("execute {line}"), Some(run)),
                Effect::Pulse {
                    run, code, value, ..
                } => (format!("pulse {code} {value}"), Some(run)),
                Effect::Signal {
                    run, signal, value, ..
                } => (format!("signal {signal} {value}"), Some(run)),
                Effect::Look { run, path } => (format!("look {}", path.display()), Some(run)),
                Effect::Log { message, .. } => (format!("log {message}"), None),
                Effect::Buried { entity, kept } => {
                    let word = if kept { "kept" } else { "buried" };
                    (format!("{word} {entity}"), None)
                }
            };
            if let Some(run) = run {
                self.open.push((run, word.clone()));
            }
            self.asked.push(word);
        }
    }

    fn die(&mut self, entity: &str) {
        let effects = self.ham.died(entity, false, self.now);
        self.take(effects);
    }

    /// Answers the oldest that begins so.
    fn answer(&mut self, word: &str, well: bool) {
        let at = self
            .open
            .iter()
            .position(|(_, asked)| asked.starts_with(word));
        let (run, asked) = self
            .open
            .remove(at.unwrap_or_else(|| panic!("`{word}` is not open")));
        let effects = if asked.starts_with("look") {
            self.ham.looked(run, well, self.now)
        } else if asked.starts_with("restart") && well {
            let process = self.process();
            self.ham.restarted(run, process, self.now)
        } else {
            self.ham.done(run, well, self.now)
        };
        self.take(effects);
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.ham.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            let effects = self.ham.tick(self.now);
            self.take(effects);
            if self.ham.deadline().is_some_and(|next| next <= self.now) {
                break;
            }
        }
        self.now = until;
        let effects = self.ham.tick(until);
        self.take(effects);
    }

    /// What was asked for since the last time.
    fn asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked)
    }

    /// `condition/action` of all that an entity has.
    fn listing(&self, entity: &str) -> Vec<String> {
        let Some(entity) = self.ham.tree.entity(entity) else {
            return vec!["gone".to_owned()];
        };
        let paths = entity.conditions.iter().flat_map(|condition| {
            let actions = condition.actions.iter();
            let mut paths: Vec<String> = actions
                .map(|action| format!("{}/{}", condition.name, action.name))
                .collect();
            if paths.is_empty() {
                paths.push(format!("{}/", condition.name));
            }
            paths
        });
        paths.collect()
    }
}

fn restart() -> Deed {
    Deed::Restart {
        line: Some("/sbin/service".to_owned()),
    }
}

fn execute(line: &str) -> Deed {
    Deed::Execute {
        line: line.to_owned(),
    }
}

fn delay(ms: u64) -> Deed {
    Deed::Wait {
        path: None,
        delay: Duration::from_millis(ms),
    }
}

fn wait_for(path: &str, ms: u64) -> Deed {
    Deed::Wait {
        path: Some(PathBuf::from(path)),
        delay: Duration::from_millis(ms),
    }
}

fn pulse(code: i8) -> Deed {
    Deed::Pulse {
        to: Receiver {
            process: Identity {
                pid: 7,
                start_time: 7,
            },
            channel: 1,
        },
        code,
        value: 13,
    }
}

fn log(message: &str) -> Deed {
    Deed::Log {
        message: message.to_owned(),
        prefix: false,
        verbosity: 0,
    }
}
