//! The audit and the core together in a simulated world: whatever disagrees is
//! called by its name, and put right in the right order.
//!
//! The world knows the truth of all four: kernel table, user table, pidfile and
//! reality. What should be found is told from that truth, apart from the code
//! that finds it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    time::Duration,
};

use proptest::prelude::*;

use super::discrepancy::{Discrepancy, Registered, compare};
use crate::core::{
    death::{Death, LastSeen, SourceName},
    effect::Effect,
    entity::{EntitySpec, Mode, Origin, Severity, StartMethod, StopPolicy},
    event::{Event, Occasion, Outcome, Sighting, StartEnd},
    evidence::Evidence,
    identity::Identity,
    recovery::{Recovery, Stage},
    time::Time,
};

/// What happens behind the back of every source.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The process dies.
    Dies,
    /// Another one is started, and its pidfile written.
    AnotherStarts,
    /// The pidfile is removed.
    PidfileRemoved,
    /// The pidfile is overwritten with the number of nobody.
    PidfileSpoilt,
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        Just(Fault::Dies),
        Just(Fault::AnotherStarts),
        Just(Fault::PidfileRemoved),
        Just(Fault::PidfileSpoilt),
    ];
    prop::collection::vec(fault, 0..4)
}

struct World {
    spec: EntitySpec,
    recovery: Recovery,
    now: Time,
    alive: BTreeSet<u32>,
    pidfile: Option<u32>,
    user: Option<(Identity, u64)>,
    kernel: BTreeSet<u32>,
    next: u32,
    log: Vec<Effect>,
}

const fn identity(pid: u32) -> Identity {
    Identity {
        pid,
        start_time: pid as u64,
    }
}

/// A number that nobody has.
const NOBODY: u32 = 1;

impl World {
    /// An entity that runs, and of which everything agrees.
    fn healthy() -> Self {
        let spec = EntitySpec {
            name: "probe".to_owned(),
            mode: Mode::Passive,
            severity: Severity::Major,
            restarts: 3,
            interval: Duration::from_secs(1),
            debounce: Duration::from_secs(1),
            startuptime: Duration::from_secs(1),
            start_timeout: Duration::from_secs(1),
            adoption_window: Duration::ZERO,
            pidfile: Some(PathBuf::from("/run/probe.pid")),
            start: StartMethod::Script {
                path: PathBuf::from("/etc/init.d/probe"),
            },
            stop: StopPolicy::KillFirst,
            follow: false,
            quorum: false,
            subfunction: None,
            active: None,
            status: None,
            storm: crate::core::storm::StormPolicy::PMOND,
            dependencies: crate::core::dependency::Dependencies::default(),
            origin: Origin::Operator,
        };
        let now = Time::from_boot_ns(1_000_000_000_000);
        let (recovery, effects) = Recovery::new(&spec, now);
        let mut world = Self {
            spec,
            recovery,
            now,
            alive: BTreeSet::new(),
            pidfile: None,
            user: None,
            kernel: BTreeSet::new(),
            next: 100,
            log: Vec::new(),
        };
        world.start();
        world.carry_out(effects.into());
        world.come_to_rest();
        world.log.clear();
        world
    }

    fn start(&mut self) {
        self.next += 1;
        self.alive.insert(self.next);
        self.pidfile = Some(self.next);
    }

    fn befall(&mut self, fault: Fault) {
        match fault {
            Fault::Dies => {
                if let Some((registered, _)) = self.user {
                    self.alive.remove(&registered.pid);
                }
            }
            Fault::AnotherStarts => self.start(),
            Fault::PidfileRemoved => self.pidfile = None,
            Fault::PidfileSpoilt => self.pidfile = Some(NOBODY),
        }
    }

    fn seen(&self, occasion: Occasion) -> Sighting {
        let outcome = match self.pidfile.filter(|pid| self.alive.contains(pid)) {
            Some(pid) => Outcome::Process(identity(pid)),
            None => Outcome::Nothing {
                reason: "nobody".to_owned(),
            },
        };
        Sighting {
            occasion,
            outcome,
            foreign_script: None,
            unit: None,
        }
    }

    /// From the truth alone.
    fn truth(&self) -> Option<Discrepancy> {
        let (registered, _) = self.user.unwrap();
        let lives = self.alive.contains(&registered.pid);
        let named = self.pidfile.filter(|pid| self.alive.contains(pid));
        match (lives, named) {
            (true, Some(pid)) if pid == registered.pid => None,
            (true, Some(_)) => Some(Discrepancy::Duplicate),
            (true, None) => Some(Discrepancy::StalePidfile),
            (false, Some(_)) => Some(Discrepancy::PidChanged),
            (false, None) => Some(Discrepancy::MissedExit),
        }
    }

    /// As the daemon does it: compared, a death that is known is told first,
    /// then what was seen.
    fn sweep(&mut self) -> Option<Discrepancy> {
        let sighting = self.seen(Occasion::Sweep);
        let known = self.user.map(|(identity, _)| Registered {
            identity,
            alive: self.alive.contains(&identity.pid),
        });
        let found = compare(known, known.map(|known| known.identity), &sighting);
        if let (
            Some(Registered {
                identity,
                alive: false,
            }),
            Some((_, generation)),
        ) = (known, self.user)
        {
            let death = Death {
                identity,
                generation,
                died_at: None,
                detected_at: self.now,
                detected_by: SourceName::Pidfd,
                confirmed_at: self.now,
                status: None,
                evidence: Evidence::default(),
                last_seen: LastSeen::default(),
            };
            self.happen(Event::Died(death));
        }
        self.happen(Event::Seen(sighting));
        self.come_to_rest();
        found
    }

    fn happen(&mut self, event: Event) {
        let effects = self.recovery.step(&self.spec, event, self.now);
        self.carry_out(effects.into());
    }

    fn carry_out(&mut self, mut effects: VecDeque<Effect>) {
        while let Some(effect) = effects.pop_front() {
            self.log.push(effect.clone());
            let answer = match effect {
                Effect::Look { .. } => Event::Seen(self.seen(Occasion::Asked)),
                Effect::Register { identity } if self.alive.contains(&identity.pid) => {
                    let generation = u64::from(identity.pid);
                    self.user = Some((identity, generation));
                    self.kernel.insert(identity.pid);
                    Event::Registered {
                        identity,
                        generation,
                    }
                }
                Effect::Register { identity } => Event::RegisterFailed {
                    identity,
                    reason: "gone".to_owned(),
                },
                Effect::Unregister { identity } => {
                    self.kernel.remove(&identity.pid);
                    self.user.take_if(|(registered, _)| *registered == identity);
                    continue;
                }
                Effect::RemovePidfile { identity } => {
                    self.pidfile.take_if(|pid| *pid == identity.pid);
                    continue;
                }
                Effect::Start { run, .. } => {
                    self.start();
                    Event::StartEnded {
                        run,
                        end: StartEnd::Exited {
                            code: 0,
                            last_line: None,
                        },
                    }
                }
                Effect::Signal { identity, .. } => {
                    self.alive.remove(&identity.pid);
                    Event::Gone { identity }
                }
                Effect::AskTurn => Event::Turn,
                _ => continue,
            };
            effects.extend(self.recovery.step(&self.spec, answer, self.now));
        }
    }

    fn come_to_rest(&mut self) {
        for _ in 0..100 {
            let Some(due) = self.recovery.stage().deadline() else {
                return;
            };
            self.now = self.now.max(due);
            self.happen(Event::Tick);
        }
    }

    fn position(&self, wanted: impl Fn(&Effect) -> bool) -> Option<usize> {
        self.log.iter().position(wanted)
    }
}

proptest! {
    #[test]
    fn what_disagrees_is_named_and_put_right(faults in faults()) {
        let mut world = World::healthy();
        prop_assert_eq!(world.truth(), None);
        let before = world.user.unwrap().0;
        for fault in faults {
            world.befall(fault);
        }
        let truth = world.truth();
        let lived = world.alive.clone();
        prop_assert_eq!(world.sweep(), truth);

        // At rest, with one that lives and is in both tables.
        prop_assert_eq!(world.recovery.stage(), &Stage::Manage);
        let (registered, _) = world.user.unwrap();
        prop_assert!(world.alive.contains(&registered.pid));
        prop_assert_eq!(&world.kernel, &BTreeSet::from([registered.pid]));
        prop_assert_eq!(world.recovery.current().unwrap().identity, registered);

        // In the right order, and nothing too much.
        let started = world.position(|effect| matches!(effect, Effect::Start { .. }));
        prop_assert_eq!(started.is_some(), truth == Some(Discrepancy::MissedExit));
        let signalled = world.position(|effect| matches!(effect, Effect::Signal { .. }));
        prop_assert_eq!(signalled, None, "nobody is ended by the audit");
        if registered == before {
            prop_assert!(lived.contains(&before.pid));
        } else {
            let gone = Effect::Unregister { identity: before };
            let unregistered = world.position(|effect| *effect == gone).unwrap();
            let next = Effect::Register { identity: registered };
            let taken = world.position(|effect| *effect == next).unwrap();
            prop_assert!(unregistered < taken, "{:?}", world.log);
        }

        // And they agree, but for a pidfile that is its process's to write.
        let left = world.truth();
        let lasts = truth == Some(Discrepancy::StalePidfile);
        prop_assert_eq!(left, truth.filter(|_| lasts));
        prop_assert_eq!(world.sweep(), left);
    }
}
