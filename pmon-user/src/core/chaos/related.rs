//! Several entities on one host that have to do with one another: whoever wants a turn
//! asks the relations and the budget, as in the daemon, and members of a group are
//! restarted together.
//!
//! Must stay true, whatever happens: an automatic start has had a moment since it was
//! asked for in which everybody that it requires was up and nobody that it comes after
//! was on the way; and nothing of a group is started while a process still runs that the
//! group's failure should have ended. Both are judged here without asking the gate.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    gates::Gates,
    random::Random,
    spec,
    world::{Turns, Word, World},
};
use crate::core::{
    budget::{Budget, Limits},
    dependency::{
        Dependencies, Group, Name, Standing, Strategy,
        gate::{Blocker, Gate, Order, PATIENCE},
        graph::Graph,
        plan::GATHERING,
    },
    event::{Delay, Event, OperatorAction},
    identity::Identity,
    recovery::Stage,
    time::Time,
};

/// A turn that is asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    since: Time,
    /// There was a moment in which it might have been given.
    free: bool,
    /// When it was.
    given: Option<Time>,
}

/// Members of the group that fail within a moment, or while others are ended for that.
#[derive(Debug, Default)]
struct Burst {
    /// When the last of them did.
    last: Time,
    fallen: BTreeSet<Name>,
    /// Who lived and is to be ended for it, and since when.
    doomed: Vec<(Name, Identity, Time)>,
}

/// The host.
#[derive(Debug)]
pub(super) struct Related {
    pub(super) worlds: BTreeMap<Name, World>,
    pub(super) random: Random,
    now: Time,
    gate: Gate,
    budget: Budget<Name>,
    standings: BTreeMap<Name, Standing>,
    asked: BTreeMap<Name, Asked>,
    burst: Burst,
    /// When closed gates open again.
    opens: Option<Time>,
}

fn dependencies(random: &mut Random, index: usize, names: &[String]) -> Dependencies {
    let before = &names[..index];
    let mut dependencies = Dependencies::default();
    for name in before {
        match random.below(6) {
            0 => dependencies.after.push(name.clone()),
            1 => dependencies.requires.push(name.clone()),
            _ => {}
        }
    }
    dependencies
}

impl Related {
    pub(super) fn new(seed: u64, tells: bool) -> Self {
        let mut random = Random::new(seed);
        let count = 3 + usize::try_from(random.below(4)).unwrap();
        let names: Vec<String> = (0..count).map(|index| format!("entity{index}")).collect();
        let first = usize::try_from(random.below(2)).unwrap();
        let group = Group {
            name: "group".to_owned(),
            strategy: *random.one_of(&[Strategy::One, Strategy::All, Strategy::Rest]),
            members: names[first..count.min(first + 4)].to_vec(),
        };
        let gated = random.percent(40);
        let mut worlds = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            let mut spec = spec::related(&mut random, name);
            spec.dependencies = dependencies(&mut random, index, &names);
            if group.members.contains(name) {
                spec.dependencies.group = Some(group.clone());
            }
            let own = Random::new(random.below(u64::MAX));
            let mut world = World::new(spec, own, tells, |_, now| {
                gated.then(|| Gates::new(true, true, now))
            });
            world.turns = Turns::Related(Vec::new());
            worlds.insert(Name::from(name.as_str()), world);
        }
        let mut gate = Gate::default();
        gate.set_graph(Graph::of(worlds.iter().map(|(name, world)| {
            (&**name, world.spec.severity, &world.spec.dependencies)
        })));
        let limits = Limits {
            at_once: 1 + u32::try_from(random.below(3)).unwrap(),
            starts: 1 + u32::try_from(random.below(5)).unwrap(),
            within: Duration::from_secs(1),
        };
        let now = worlds.values().map(|world| world.now).min().unwrap();
        Self {
            worlds,
            random,
            now,
            gate,
            budget: Budget::new(limits),
            standings: BTreeMap::new(),
            asked: BTreeMap::new(),
            burst: Burst::default(),
            opens: None,
        }
    }

    fn world(&mut self, name: &Name) -> &mut World {
        let now = self.now;
        let world = self.worlds.get_mut(name).unwrap();
        world.now = world.now.max(now);
        world
    }

    /// Lets time pass for all of them.
    pub(super) fn run_for(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.now + duration;
        loop {
            let next = (self.worlds.iter())
                .filter_map(|(name, world)| Some((world.due()?, Name::clone(name))))
                .min();
            let turns = self.gate.due().into_iter().chain(self.budget.due()).min();
            let next_at = next.as_ref().map(|(at, _)| *at);
            let Some(due) = [next_at, turns, self.opens].into_iter().flatten().min() else {
                break;
            };
            if due > end {
                break;
            }
            self.now = self.now.max(due);
            if self.opens.is_some_and(|at| at <= self.now) {
                self.opens = None;
                self.turn_gates(true)?;
            } else if turns.is_some_and(|at| at <= self.now) {
                self.give_turns()?;
            } else if let Some((_, name)) = next {
                self.world(&name).advance()?;
                self.hear(&name)?;
            }
        }
        self.now = end;
        for world in self.worlds.values_mut() {
            world.now = world.now.max(end);
        }
        Ok(())
    }

    fn turn_gates(&mut self, open: bool) -> Result<(), String> {
        let names: Vec<Name> = self.worlds.keys().cloned().collect();
        for name in names {
            self.world(&name).gates_turn(open)?;
            self.hear(&name)?;
        }
        Ok(())
    }

    fn step(&mut self, name: &Name, event: Event) -> Result<(), String> {
        if event == Event::Turn
            && let Some(asked) = self.asked.get_mut(name)
        {
            asked.given = Some(self.now);
        }
        self.world(name).step(event, None)
    }

    fn standing(&self, name: &str) -> Standing {
        let world = self.worlds.get(name);
        world.map_or(Standing::Unknown, |world| world.recovery.standing())
    }

    /// What an entity has said in its last steps.
    fn hear(&mut self, name: &Name) -> Result<(), String> {
        let mut words: VecDeque<Word> = self.words_of(name);
        while let Some(word) = words.pop_front() {
            match word {
                Word::AsksTurn => {
                    let since = self.now;
                    let asked = Asked {
                        since,
                        free: false,
                        given: None,
                    };
                    self.asked.insert(Name::clone(name), asked);
                    self.judge();
                    let event = self.ask_turn(name);
                    self.step(name, event)?;
                    words.extend(self.words_of(name));
                }
                Word::ReturnsTurn => {
                    self.asked.remove(name);
                    self.gate.leave(name);
                    self.budget.give_back(name);
                }
                Word::Fell => {
                    self.gate.fell(name, self.now);
                    self.doom(name);
                }
                Word::Starts { manual } => self.check_start(name, manual)?,
            }
        }
        let standing = self.standing(name);
        if self.standings.insert(Name::clone(name), standing) != Some(standing) {
            self.gate.changed(name);
        }
        self.judge();
        Ok(())
    }

    fn words_of(&mut self, name: &Name) -> VecDeque<Word> {
        match &mut self.world(name).turns {
            Turns::Related(words) => words.drain(..).collect(),
            Turns::Chance => VecDeque::new(),
        }
    }

    fn ask_gate(&mut self, name: &Name) -> Option<Blocker> {
        let worlds = &self.worlds;
        let standing = |other: &str| {
            let world = worlds.get(other);
            world.map_or(Standing::Unknown, |world| world.recovery.standing())
        };
        self.gate.ask(name, self.now, standing)
    }

    /// As `daemon::turns`.
    fn ask_turn(&mut self, name: &Name) -> Event {
        match self.ask_gate(name) {
            Some(blocker) => {
                let delay = self.delay(&blocker);
                self.world(name).saw("waited for others");
                Event::Delayed(delay)
            }
            None => self.ask_budget(name),
        }
    }

    fn ask_budget(&mut self, name: &Name) -> Event {
        let severity = self.world(name).spec.severity;
        let urgency = self.gate.urgency(name).unwrap_or(severity);
        if self.budget.ask(Name::clone(name), urgency, self.now) {
            return Event::Turn;
        }
        self.world(name).saw("waited for the budget");
        let ahead = self.budget.ahead_of(name).unwrap_or(0);
        Event::Delayed(Delay::Budget { ahead })
    }

    fn delay(&self, blocker: &Blocker) -> Delay {
        match blocker {
            Blocker::After(name) => Delay::After {
                name: name.to_string(),
            },
            Blocker::Required(name) => Delay::Requires {
                standing: self.standing(name),
                name: name.to_string(),
            },
            Blocker::Group(name) => Delay::Group {
                name: name.to_string(),
            },
        }
    }

    fn give_turns(&mut self) -> Result<(), String> {
        let worlds = &self.worlds;
        let standing = |other: &str| {
            let world = worlds.get(other);
            world.map_or(Standing::Unknown, |world| world.recovery.standing())
        };
        let orders = self.gate.advance(self.now, standing);
        for order in orders {
            let (name, event) = match order {
                Order::LetThrough { name, in_vain: _ } => {
                    let event = self.ask_budget(&name);
                    (name, event)
                }
                Order::Wait { name, blocker } => {
                    let event = Event::Delayed(self.delay(&blocker));
                    (name, event)
                }
                Order::End { name, group } => {
                    self.world(&name).saw("ended for its group");
                    let group = group.to_string();
                    (name, Event::Cycle { group })
                }
                // For people only.
                Order::GroupInVain { .. } => continue,
            };
            self.step(&name, event)?;
            self.hear(&name)?;
        }
        for name in self.budget.grant(self.now) {
            let blocker = self.ask_gate(&name);
            let event = match blocker {
                None => Event::Turn,
                Some(blocker) => {
                    self.budget.give_back(&name);
                    Event::Delayed(self.delay(&blocker))
                }
            };
            self.step(&name, event)?;
            self.hear(&name)?;
        }
        Ok(())
    }

    /// Whether those who wait might be started now.
    fn judge(&mut self) {
        let now = self.now;
        let mut free = Vec::new();
        for (name, asked) in &self.asked {
            let dependencies = &self.worlds[name].spec.dependencies;
            let required = dependencies
                .requires
                .iter()
                .all(|other| matches!(self.standing(other), Standing::Up | Standing::Unknown));
            let former = dependencies.group.iter().filter_map(|group| {
                let index = group.members.iter().position(|it| **it == **name)?;
                group.members.get(index.checked_sub(1)?)
            });
            let patient = now.since(asked.since) < PATIENCE;
            let in_order = dependencies.after.iter().chain(former).all(|other| {
                let on_its_way =
                    matches!(self.standing(other), Standing::UnderWay | Standing::Ending);
                !(patient && on_its_way)
            });
            if required && in_order {
                free.push(Name::clone(name));
            }
        }
        for name in free {
            if let Some(asked) = self.asked.get_mut(&name) {
                asked.free = true;
            }
        }
        let worlds = &self.worlds;
        (self.burst.doomed).retain(|(name, identity, _)| is_doomed(&worlds[name], *identity));
    }

    /// One has failed, which others are to be ended for.
    fn doom(&mut self, fallen: &Name) {
        let Some(group) = self.worlds[fallen].spec.dependencies.group.clone() else {
            return;
        };
        let index = group.members.iter().position(|it| **it == **fallen);
        let first = match group.strategy {
            Strategy::One => return,
            Strategy::All => 0,
            Strategy::Rest => index.unwrap_or(0),
        };
        let ending = |name: &String| {
            let before = self.standings.get(name.as_str());
            before == Some(&Standing::Ending) || self.standing(name) == Standing::Ending
        };
        let lasts = self.now.since(self.burst.last) < GATHERING
            || !self.burst.doomed.is_empty()
            || group.members.iter().any(ending);
        if !lasts {
            self.burst = Burst::default();
        }
        self.burst.last = self.now;
        self.burst.fallen.insert(Name::clone(fallen));
        let fallen = &self.burst.fallen;
        self.burst
            .doomed
            .retain(|(name, ..)| !fallen.contains(name));
        for member in &group.members[first..] {
            let name = Name::from(member.as_str());
            let world = &self.worlds[&name];
            if !fallen.contains(&name)
                && let Some(current) = world.recovery.current()
                && is_doomed(world, current.identity)
            {
                self.burst.doomed.push((name, current.identity, self.now));
            }
        }
    }

    fn check_start(&mut self, name: &Name, manual: bool) -> Result<(), String> {
        if manual {
            return Ok(());
        }
        let asked = self.asked.get(name).filter(|asked| asked.free);
        let Some(given) = asked.and_then(|asked| asked.given) else {
            return Err(format!("`{name}` is started before those it comes after"));
        };
        if self.worlds[name].spec.dependencies.group.is_none() {
            return Ok(());
        }
        // A start that was on its way already goes on.
        let stands = |(other, _, since): &&(Name, Identity, Time)| other != name && *since <= given;
        match self.burst.doomed.iter().find(stands) {
            Some((other, identity, _)) => Err(format!(
                "`{name}` is started while {identity} of `{other}` is still to be ended"
            )),
            None => Ok(()),
        }
    }

    /// What has happened to all of them, in its order.
    pub(super) fn story(&self) -> String {
        let mut lines: Vec<(u64, String)> = Vec::new();
        for (name, world) in &self.worlds {
            for line in &world.story {
                let at = line.split(' ').next().and_then(|at| at.parse().ok());
                lines.push((at.unwrap_or(0), format!("{line} [{name}]")));
            }
        }
        lines.sort_by_key(|(at, _)| *at);
        let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        lines.join("\n")
    }

    fn any(&mut self) -> Name {
        let names: Vec<Name> = self.worlds.keys().cloned().collect();
        Name::clone(self.random.one_of(&names))
    }

    /// One thing that goes wrong, or somebody's intervention.
    pub(super) fn provoke(&mut self) -> Result<(), String> {
        let name = self.any();
        match self.random.below(20) {
            0..9 => self.world(&name).kill(),
            9..12 => {
                // Of one cause.
                let names: Vec<Name> = self.worlds.keys().cloned().collect();
                for name in names {
                    if self.random.percent(60) {
                        self.world(&name).kill();
                    }
                }
            }
            12 | 13 => self.world(&name).restart_by_hand(),
            14 | 15 => self.world(&name).operate(OperatorAction::Restart)?,
            16 => {
                let lasts = self.random.up_to(Duration::from_secs(200));
                let action = OperatorAction::StopFor { lasts };
                self.world(&name).operate(action)?;
            }
            17 => self.world(&name).operate(OperatorAction::Start)?,
            18 => {
                let lasts = Some(self.random.up_to(Duration::from_secs(200)));
                let action = OperatorAction::Hold { lasts };
                self.world(&name).operate(action)?;
            }
            _ => {
                self.turn_gates(false)?;
                let lasts = self.random.up_to(Duration::from_secs(120));
                self.opens = Some(self.now + lasts);
            }
        }
        self.hear(&name)
    }

    /// From now on everything goes well, for long.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        self.opens = None;
        for world in self.worlds.values_mut() {
            world.calm = true;
        }
        self.turn_gates(true)?;
        for _ in 0..16 {
            for world in self.worlds.values_mut() {
                world.sweep();
            }
            self.run_for(Duration::from_secs(30))?;
        }
        for (name, world) in &self.worlds {
            world
                .check_rest()
                .map_err(|what| format!("`{name}`: {what}"))?;
        }
        Ok(())
    }
}

/// Whether the process runs and may be ended for its group.
fn is_doomed(world: &World, identity: Identity) -> bool {
    let recovery = &world.recovery;
    let rests = matches!(recovery.stage(), Stage::Manage | Stage::Monitor { .. });
    let current = recovery.current();
    let runs = world.processes.contains(&identity);
    runs && rests && !recovery.is_manual() && current.is_some_and(|it| it.identity == identity)
}
