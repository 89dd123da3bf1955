//! Which jobs systemd has told of, and what they say of people's wishes.
//!
//! A unit that is down looks the same whether its process exited by itself or was
//! stopped by a job that has ended since. So jobs are remembered as they come and
//! go. Pure.
//!
//! Of each watched unit: *quiet* → a job appears (its type is asked) → it is
//! removed, and what it was is judged by its type or, where it ended before it
//! could be asked, by what the unit is then: one that is down, in the invocation
//! that it was in before, was stopped. A stop is remembered until a start.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::unit::{JobId, JobType, UnitState};

/// Ends of jobs that are remembered for whoever queued them and has not heard of
/// their number yet.
const ENDS: usize = 256;
/// Jobs of our own that are remembered as such.
const OWN: usize = 1024;

/// Main processes that are remembered of each unit.
const MAINS: usize = 8;

/// Stands for the job that stopped a unit when there was another daemon; systemd's
/// own numbers begin with 1.
pub(super) const EARLIER: JobId = JobId(0);

/// How a job ended, in systemd's words (`JobRemoved`): `done`, `canceled`,
/// `timeout`, `failed`, `dependency`, `skipped`, …
pub(super) type JobResult = String;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    units: HashMap<String, Unit>,
    own: BTreeSet<JobId>,
    ended: VecDeque<(JobId, JobResult)>,
}

#[derive(Debug, Default)]
struct Unit {
    /// The job that is under way.
    job: Option<(JobId, Option<JobType>)>,
    /// The invocation that the unit was last known in.
    invocation: Vec<u8>,
    /// The job that stopped it.
    stopped: Option<JobId>,
    /// Its last main processes, by pid.
    mains: VecDeque<u32>,
}

impl Unit {
    fn saw(&mut self, state: &UnitState) {
        if let Some(pid) = state.main_pid
            && self.mains.back() != Some(&pid)
        {
            if self.mains.len() == MAINS {
                self.mains.pop_front();
            }
            self.mains.push_back(pid);
        }
    }
}

impl Memory {
    /// From now on this unit is of interest.
    pub(super) fn watch(&mut self, state: &UnitState) {
        let unit = self.units.entry(state.id.clone()).or_default();
        unit.invocation.clone_from(&state.invocation);
        unit.saw(state);
    }

    /// Somebody had stopped the unit in that invocation when an earlier daemon ended;
    /// it has not been started since if it is down and in the same one.
    pub(super) fn recall_stop(&mut self, state: &UnitState, invocation: &[u8]) {
        let same = state.invocation.is_empty() || state.invocation == invocation;
        if let Some(unit) = self.units.get_mut(&state.id)
            && state.is_down()
            && state.job.is_none()
            && same
        {
            unit.stopped.get_or_insert(EARLIER);
        }
    }

    /// Whether that process was the unit's main process lately.
    pub(super) fn was_main(&self, id: &str, pid: u32) -> bool {
        let unit = self.units.get(id);
        unit.is_some_and(|unit| unit.mains.contains(&pid))
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.units.remove(id);
    }

    pub(super) fn is_watched(&self, id: &str) -> bool {
        self.units.contains_key(id)
    }

    /// Whatever happened while nobody listened.
    pub(super) fn missed(&mut self) {
        for unit in self.units.values_mut() {
            unit.job = None;
        }
    }

    /// A job of pmon's own.
    pub(super) fn own(&mut self, id: JobId) {
        if self.own.len() == OWN {
            self.own.pop_first();
        }
        self.own.insert(id);
    }

    pub(super) fn appeared(&mut self, id: &str, job: JobId) {
        if let Some(unit) = self.units.get_mut(id) {
            unit.job = Some((job, None));
        }
    }

    pub(super) fn is_a(&mut self, id: &str, job: JobId, kind: JobType) {
        if let Some(unit) = self.units.get_mut(id)
            && let Some((known, slot)) = &mut unit.job
            && *known == job
        {
            *slot = Some(kind);
        }
    }

    /// A job has come to its end; how, for whoever waits for it.
    pub(super) fn ended(&mut self, job: JobId, result: &str) {
        if self.ended.len() == ENDS {
            self.ended.pop_front();
        }
        self.ended.push_back((job, result.to_owned()));
    }

    /// How that job has ended, if it has.
    pub(super) fn end_of(&self, job: JobId) -> Option<JobResult> {
        let mut ends = self.ended.iter().rev();
        ends.find(|(id, _)| *id == job)
            .map(|(_, result)| result.clone())
    }

    /// What a job has done to its unit, which is in this state now.
    pub(super) fn judge(&mut self, job: JobId, result: &str, state: &UnitState) {
        let Some(unit) = self.units.get_mut(&state.id) else {
            return;
        };
        unit.saw(state);
        let kind = match unit.job.take_if(|(known, _)| *known == job) {
            Some((_, kind)) => kind,
            None => None,
        };
        // An empty one: systemd has forgotten the unit, which it does to those
        // that are down.
        let same = state.invocation.is_empty() || state.invocation == unit.invocation;
        let stopped = match kind {
            Some(JobType::Stop) => result == "done",
            Some(JobType::Start | JobType::Other) => false,
            None => result == "done" && state.is_down() && same,
        };
        if stopped {
            unit.stopped = Some(job);
        } else if kind == Some(JobType::Start) || !same {
            unit.stopped = None;
        }
        if !state.invocation.is_empty() {
            unit.invocation.clone_from(&state.invocation);
        }
    }

    /// The job of somebody else that has stopped the unit, which is in this
    /// state now.
    pub(super) fn stopped(&mut self, state: &UnitState) -> Option<JobId> {
        let unit = self.units.get_mut(&state.id)?;
        unit.saw(state);
        let started = !state.invocation.is_empty() && state.invocation != unit.invocation;
        if started || state.active == "active" {
            unit.stopped = None;
        }
        if !state.invocation.is_empty() {
            unit.invocation.clone_from(&state.invocation);
        }
        unit.stopped.filter(|job| !self.own.contains(job))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::unit::tests::unit, *};

    const ID: &str = "web.service";
    const JOB: JobId = JobId(7);

    fn watching() -> Memory {
        let mut memory = Memory::default();
        memory.watch(&unit("active", "running"));
        memory
    }

    #[test]
    fn a_stop_job_is_remembered_until_the_unit_is_up_again() {
        let mut memory = watching();
        memory.appeared(ID, JOB);
        memory.is_a(ID, JOB, JobType::Stop);
        memory.judge(JOB, "done", &unit("failed", "failed"));
        assert_eq!(memory.stopped(&unit("failed", "failed")), Some(JOB));
        assert_eq!(memory.stopped(&unit("failed", "failed")), Some(JOB));
        assert_eq!(memory.stopped(&unit("active", "running")), None);
        assert_eq!(memory.stopped(&unit("failed", "failed")), None);
    }

    #[test]
    fn a_job_too_fast_to_be_asked_is_judged_by_what_it_left() {
        let mut memory = watching();
        memory.appeared(ID, JOB);
        memory.judge(JOB, "done", &unit("inactive", "dead"));
        assert_eq!(memory.stopped(&unit("inactive", "dead")), Some(JOB));

        // A start whose process has died at once.
        let mut memory = watching();
        memory.appeared(ID, JOB);
        let mut dead = unit("failed", "failed");
        dead.invocation = vec![2];
        memory.judge(JOB, "done", &dead);
        assert_eq!(memory.stopped(&dead), None);

        // A reload.
        let mut memory = watching();
        memory.appeared(ID, JOB);
        memory.judge(JOB, "done", &unit("active", "running"));
        assert_eq!(memory.stopped(&unit("failed", "failed")), None);
    }

    #[test]
    fn a_unit_that_systemd_has_forgotten_was_stopped_all_the_same() {
        let mut memory = watching();
        memory.appeared(ID, JOB);
        let mut forgotten = unit("inactive", "dead");
        forgotten.invocation = Vec::new();
        memory.judge(JOB, "done", &forgotten);
        assert_eq!(memory.stopped(&forgotten), Some(JOB));
    }

    #[test]
    fn a_stop_that_was_cancelled_or_is_our_own_is_nobodys_wish() {
        let mut memory = watching();
        memory.appeared(ID, JOB);
        memory.is_a(ID, JOB, JobType::Stop);
        memory.judge(JOB, "canceled", &unit("active", "running"));
        assert_eq!(memory.stopped(&unit("failed", "failed")), None);

        let mut memory = watching();
        memory.appeared(ID, JOB);
        memory.is_a(ID, JOB, JobType::Stop);
        memory.judge(JOB, "done", &unit("inactive", "dead"));
        memory.own(JOB);
        assert_eq!(memory.stopped(&unit("inactive", "dead")), None);
    }

    #[test]
    fn a_start_and_a_crash_after_a_stop_are_no_stop() {
        let mut memory = watching();
        memory.appeared(ID, JOB);
        memory.is_a(ID, JOB, JobType::Stop);
        memory.judge(JOB, "done", &unit("inactive", "dead"));
        let mut crashed = unit("failed", "failed");
        crashed.invocation = vec![2];
        assert_eq!(memory.stopped(&crashed), None);
    }

    #[test]
    fn a_stop_that_an_earlier_daemon_saw_counts_until_the_unit_is_started() {
        let dead = unit("inactive", "dead");
        let mut forgotten = dead.clone();
        forgotten.invocation = Vec::new();
        for state in [&dead, &forgotten] {
            let mut memory = Memory::default();
            memory.watch(state);
            memory.recall_stop(state, &dead.invocation);
            assert_eq!(memory.stopped(state), Some(EARLIER));
            assert_eq!(memory.stopped(&unit("active", "running")), None);
            assert_eq!(memory.stopped(state), None);
        }
        // Started, and crashed, while there was no daemon; or up.
        let mut crashed = unit("failed", "failed");
        crashed.invocation = vec![2];
        for state in [crashed, unit("active", "running")] {
            let mut memory = Memory::default();
            memory.watch(&state);
            memory.recall_stop(&state, &dead.invocation);
            assert_eq!(memory.stopped(&state), None);
        }
    }

    #[test]
    fn ends_are_found_by_their_job() {
        let mut memory = Memory::default();
        memory.ended(JOB, "done");
        memory.ended(JobId(8), "failed");
        assert_eq!(memory.end_of(JOB).as_deref(), Some("done"));
        assert_eq!(memory.end_of(JobId(9)), None);
    }
}
