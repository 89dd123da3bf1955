//! Which sources run, and which of them are to be believed.
//!
//! The pidfds are under all of them and always run. Of the kernel sources the
//! better one is eBPF, the other the proc connector. Each is in one of these
//! states:
//!
//! * **Off**: it does not run, because of the configuration (`source = …`),
//!   because a better one is healthy (it stands by), or because it could not be
//!   started;
//! * **Unproven**: it runs, and no canary has shown yet that it works;
//! * **Healthy**: its last canary came through;
//! * **Silent**: it runs, but missed its canary;
//! * **Lost**: it went away: its socket died, its program was detached.
//!
//! A canary is sent out when a source has been started and then once in every
//! interval. With none healthy, the best one that has not failed yet is started
//! at once. At every interval those that failed and are better than what is
//! healthy are started anew; when one of them passes its canary, the worse ones
//! are stopped. Silent ones that hear their canary again are healthy again.
//!
//! Pure: events and time in, [`Action`]s out. Must stay true: a source is never
//! started twice at a time, and people are told of a failure once, and of its
//! end once.

mod event;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::{
    event::{Action, Event, Notice},
    state::{Off, Source, State},
};
use super::canary::Verdict;
use crate::{
    config::settings::SourceChoice,
    core::{death::SourceName, time::Time},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canary {
    /// None is out; the next one is sent then.
    Next(Time),
    /// One is out; another is wanted when it is back.
    Out { again: bool },
}

/// See the module.
#[derive(Debug)]
pub struct Selection {
    interval: Duration,
    /// The kernel sources, the better one first, and the pidfds.
    sources: [Source; 3],
    canary: Canary,
    /// Before the first canary everything was tried a moment ago.
    first: bool,
    no_canary: Option<String>,
}

impl Selection {
    /// Nothing runs yet but the pidfds; [`Selection::begin`] says what is to be
    /// started. Canaries are sent once in `interval`.
    #[must_use]
    pub fn new(choice: SourceChoice, interval: Duration, now: Time) -> Self {
        let source = |name, wanted| Source {
            name,
            state: match (name, wanted) {
                (SourceName::Pidfd, _) => State::Unproven,
                (SourceName::Ebpf | SourceName::ProcConnector, true) => State::Off(Off::StandsBy),
                (SourceName::Ebpf | SourceName::ProcConnector, false) => {
                    State::Off(Off::Unwanted(chosen(choice).to_owned()))
                }
            },
            starting: false,
            verdict: None,
            passed: None,
            told: false,
        };
        let (ebpf, connector) = match choice {
            SourceChoice::Auto => (true, true),
            SourceChoice::Ebpf => (true, false),
            SourceChoice::ProcConnector => (false, true),
            SourceChoice::Pidfd => (false, false),
        };
        Self {
            interval,
            sources: [
                source(SourceName::Ebpf, ebpf),
                source(SourceName::ProcConnector, connector),
                source(SourceName::Pidfd, true),
            ],
            canary: Canary::Next(now),
            first: true,
            no_canary: None,
        }
    }

    /// What is to be done at first.
    #[must_use]
    pub fn begin(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.settle(&mut actions);
        actions
    }

    /// All sources, the best one first.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// One source.
    #[must_use]
    pub fn source(&self, name: SourceName) -> &Source {
        &self.sources[index(name)]
    }

    /// When [`Event::Tick`] is due; `None` while a canary is out.
    #[must_use]
    pub const fn due(&self) -> Option<Time> {
        match self.canary {
            Canary::Next(due) => Some(due),
            Canary::Out { .. } => None,
        }
    }

    /// The best kernel source that is healthy.
    #[must_use]
    pub fn healthy(&self) -> Option<SourceName> {
        let best = self
            .kernel()
            .find(|source| source.state == State::Healthy)?;
        Some(best.name)
    }

    /// What is wrong, in one line each.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let healthy = self.healthy();
        let mut problems: Vec<String> = self
            .better_than(healthy)
            .filter_map(|source| {
                let problem = match &source.state {
                    State::Off(Off::Unwanted(why)) => return unwanted(why),
                    state => state.problem()?,
                };
                Some(format!(
                    "{} is {}: {problem}",
                    source.name.as_str(),
                    source.state.as_str()
                ))
            })
            .collect();
        problems.dedup();
        let running = self
            .kernel()
            .any(|source| matches!(source.state, State::Healthy | State::Unproven));
        if !problems.is_empty() {
            let by = match healthy {
                Some(SourceName::ProcConnector) => "the proc connector",
                Some(SourceName::Ebpf | SourceName::Pidfd) | None if running => {
                    "a source that is not proven yet"
                }
                Some(SourceName::Ebpf | SourceName::Pidfd) | None => "pidfds only",
            };
            lines.push(format!(
                "deaths are reported by {by}: {}",
                problems.join("; ")
            ));
        }
        if let Some(problem) = self.source(SourceName::Pidfd).state.problem() {
            lines.push(format!("pidfds are not to be relied on: {problem}"));
        }
        if let Some(why) = &self.no_canary {
            lines.push(format!("the sources cannot be tried: no canary: {why}"));
        }
        lines
    }

    /// Carries the machine on.
    #[must_use]
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Started(name) => {
                let source = self.source_mut(name);
                source.starting = false;
                source.state = State::Unproven;
                self.hatch(&mut actions);
            }
            Event::NotStarted(name, reason) => {
                let source = self.source_mut(name);
                source.starting = false;
                source.state = State::Off(Off::Failed(reason));
                // Why was told by whoever tried; that it works is to be told.
                source.told = true;
            }
            Event::Lost(name, reason) => self.fail(name, State::Lost(reason), &mut actions),
            Event::Canary(verdicts) => {
                self.no_canary = None;
                for (name, verdict) in verdicts {
                    self.judge(name, verdict, now, &mut actions);
                }
                self.canary_is_back(now, &mut actions);
            }
            Event::NoCanary(why) => {
                self.no_canary = Some(why);
                self.canary_is_back(now, &mut actions);
            }
            Event::Tick => {
                if self.due().is_some_and(|due| due <= now) {
                    if !self.first {
                        self.start_anew(&mut actions);
                    }
                    self.hatch(&mut actions);
                }
            }
        }
        self.settle(&mut actions);
        actions
    }

    fn judge(&mut self, name: SourceName, verdict: Verdict, now: Time, actions: &mut Vec<Action>) {
        let source = self.source_mut(name);
        // One that was stopped or lost meanwhile is beyond a verdict.
        if !matches!(
            source.state,
            State::Unproven | State::Healthy | State::Silent(_)
        ) {
            return;
        }
        source.verdict = Some(verdict.clone());
        match verdict {
            Verdict::Passed => {
                let first = source.passed.is_none();
                source.passed = Some(now);
                source.state = State::Healthy;
                if std::mem::take(&mut source.told) {
                    actions.push(Action::Tell(Notice::Recovered(name)));
                } else if first {
                    actions.push(Action::Tell(Notice::Proven(name)));
                }
            }
            Verdict::Missed(reason) => self.fail(name, State::Silent(reason), actions),
            Verdict::Unclear(_) => {}
        }
    }

    fn fail(&mut self, name: SourceName, state: State, actions: &mut Vec<Action>) {
        let reason = state.problem().unwrap_or_default().to_owned();
        self.source_mut(name).state = state;
        if !std::mem::replace(&mut self.source_mut(name).told, true) {
            let instead = self.successor();
            actions.push(Action::Tell(Notice::Failed {
                source: name,
                reason,
                instead,
            }));
        }
    }

    /// The best that can be had: what works, or else what was not tried yet.
    fn successor(&self) -> SourceName {
        let hopeful = |source: &&Source| {
            matches!(
                source.state,
                State::Healthy | State::Unproven | State::Off(Off::StandsBy)
            )
        };
        self.kernel()
            .find(hopeful)
            .map_or(SourceName::Pidfd, |source| source.name)
    }

    fn hatch(&mut self, actions: &mut Vec<Action>) {
        self.first = false;
        match &mut self.canary {
            Canary::Next(_) => {
                self.canary = Canary::Out { again: false };
                actions.push(Action::Hatch);
            }
            Canary::Out { again } => *again = true,
        }
    }

    fn canary_is_back(&mut self, now: Time, actions: &mut Vec<Action>) {
        let again = matches!(self.canary, Canary::Out { again: true });
        self.canary = Canary::Next(now + self.interval);
        // Not after a failure to hatch: that would spin.
        if again && self.no_canary.is_none() {
            self.hatch(actions);
        }
    }

    /// What failed and is better than what is healthy gets another chance.
    fn start_anew(&mut self, actions: &mut Vec<Action>) {
        let healthy = self.healthy();
        let failed: Vec<SourceName> = self
            .better_than(healthy)
            .filter(|source| source.state.problem().is_some() && !source.starting)
            .map(|source| source.name)
            .collect();
        for name in failed {
            self.start(name, actions);
        }
    }

    fn start(&mut self, name: SourceName, actions: &mut Vec<Action>) {
        self.source_mut(name).starting = true;
        actions.push(Action::Start(name));
    }

    /// Stops what is not needed, starts what is.
    fn settle(&mut self, actions: &mut Vec<Action>) {
        match self.healthy() {
            Some(best) => {
                let worse: Vec<SourceName> = self
                    .kernel()
                    .skip_while(|source| source.name != best)
                    .skip(1)
                    .filter(|source| {
                        matches!(
                            source.state,
                            State::Unproven | State::Healthy | State::Silent(_)
                        )
                    })
                    .map(|source| source.name)
                    .collect();
                for name in worse {
                    let source = self.source_mut(name);
                    source.state = State::Off(Off::StandsBy);
                    source.told = false;
                    actions.push(Action::Stop(name));
                }
            }
            None => {
                // The first that is being tried, or can be.
                let next = self.kernel().find(|source| {
                    source.starting
                        || matches!(source.state, State::Unproven | State::Off(Off::StandsBy))
                });
                if let Some(next) = next
                    && next.state == State::Off(Off::StandsBy)
                    && !next.starting
                {
                    let name = next.name;
                    self.start(name, actions);
                }
            }
        }
    }

    fn kernel(&self) -> impl Iterator<Item = &Source> {
        self.sources
            .iter()
            .filter(|source| source.name != SourceName::Pidfd)
    }

    fn better_than(&self, healthy: Option<SourceName>) -> impl Iterator<Item = &Source> {
        self.kernel()
            .take_while(move |source| Some(source.name) != healthy)
    }

    fn source_mut(&mut self, name: SourceName) -> &mut Source {
        &mut self.sources[index(name)]
    }
}

const fn index(name: SourceName) -> usize {
    match name {
        SourceName::Ebpf => 0,
        SourceName::ProcConnector => 1,
        SourceName::Pidfd => 2,
    }
}

/// The configuration's words for a choice.
const fn chosen(choice: SourceChoice) -> &'static str {
    match choice {
        SourceChoice::Auto => "`source = auto`",
        SourceChoice::Ebpf => "`source = ebpf`",
        SourceChoice::ProcConnector => "`source = proc-connector`",
        SourceChoice::Pidfd => PIDFD,
    }
}

const PIDFD: &str = "`source = pidfd`";

/// Only the choice of pidfds alone is worth a line: somebody may have forgotten it.
fn unwanted(why: &str) -> Option<String> {
    (why == PIDFD).then(|| why.to_owned())
}
