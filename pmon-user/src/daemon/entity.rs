//! One entity inside the engine: its configuration, its recovery, its incidents.

use std::sync::Arc;

use jiff::Timestamp;

use super::{further_alarms::FurtherAlarms, instances::Instances};

use crate::{
    core::{
        dependency::Standing,
        discrepancy::Discrepancy,
        entity::{EntitySpec, Severity},
        event::Occasion,
        identity::Identity,
        incident::Incidents,
        recovery::{Quorum, Recovery, StormMark},
        time::Time,
    },
    look::{LookRequest, Remembered},
    pulse::correspondence::{Faults, Strays},
    state::record::{
        AdHoc, AlarmRecord, EntityRecord, HeldByOperator, StoppedByOperator, UnitStop,
    },
    view::incident::IncidentView,
};

/// Everything the engine holds of one entity.
pub struct Entity {
    /// Configuration.
    pub spec: Arc<EntitySpec>,
    /// State machine.
    pub recovery: Recovery,
    /// Incidents.
    pub incidents: Incidents,
    /// The last process that was registered, with its pidfile as it was then.
    pub known: Option<Remembered>,
    /// Why only the pidfd watches the process, when that is so.
    pub pidfd_only: Option<String>,
    /// How it stands for others, as they were last told.
    pub standing: Standing,
    /// Whom systemd holds for the main process beside whom the pidfile names, as told
    /// last.
    pub other_main: Option<(Identity, u32)>,
    /// Executions of its program are waited for.
    pub awaits_execution: bool,
    /// The deadline that is in the engine's schedule.
    pub scheduled: Option<Time>,
    /// The start command that may be at work, as far as it is on record.
    pub starting: Option<Identity>,
    /// In what somebody has stopped its unit, while it is stopped.
    pub unit_stop: Option<UnitStop>,
    /// The last thing an executor could not do for it.
    pub last_trouble: Option<String>,
    /// The last process that was ended because an operator asked for something:
    /// what, and who that was.
    pub ended_for: Option<(Identity, String)>,
    /// Who stopped it, while it is stopped.
    pub stopped_by: Option<StoppedByOperator>,
    /// Who took it out of recovery, while it is held.
    pub held_by: Option<HeldByOperator>,
    /// How it was registered, if no file describes it.
    pub ad_hoc: Option<AdHoc>,
    /// Who died, other than the known process, and may not be in the journal yet.
    pub unsettled: Vec<Identity>,
    /// Processes that the kernel watched for an earlier daemon, until the first
    /// look has shown what became of them.
    pub inherited: Vec<Identity>,
    /// The incident that was under way when an earlier daemon ended.
    pub continued: Option<IncidentView>,
    /// What was wrong with answers of its process, and on their port.
    pub tally: Tally,
    /// How many of it there are.
    pub instances: Instances,
    /// Its alarm, as receivers may believe it to be.
    pub alarm: Option<AlarmRecord>,
    /// Its other alarms.
    pub further_alarms: FurtherAlarms,
    /// What the last sweep found in disagreement, and with whom registered.
    pub disagreement: Option<(Discrepancy, Option<Identity>)>,
    /// What the record was made of that was last given away to be remembered.
    pub remembered: Option<RecordOf>,
}

/// Answers that were of no use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// In the entity's name.
    pub faults: Faults,
    /// On the whole host.
    pub strays: Strays,
}

/// Everything in an entity's record that changes, cheap to compare: after each
/// step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordOf {
    process: Option<Remembered>,
    starting: Option<Identity>,
    storm: StormMark,
    answers: bool,
    unit_is_stopped: bool,
    /// When the operator stopped it.
    stopped: Option<Timestamp>,
    /// How bad, since when, and when it was cleared.
    alarm: Option<(Severity, Timestamp, Option<Timestamp>)>,
    /// Which of the other alarms.
    further_alarms: u64,
    quorum: Quorum,
    /// Since and until when an operator holds it.
    held: Option<(Timestamp, Option<Timestamp>)>,
}

impl Entity {
    /// A newly configured one.
    #[must_use]
    pub fn new(spec: Arc<EntitySpec>, recovery: Recovery, record: EntityRecord) -> Self {
        let EntityRecord {
            process,
            stopped,
            held,
            ad_hoc,
            mut unsettled,
            launched,
            starting,
            // The recovery's.
            storm: _,
            answers: _,
            unit_stop,
            alarm,
            further_alarms,
            // The recovery's.
            quorum: _,
        } = record;
        // The last one that may have become its process.
        let known = match launched {
            Some(identity) if process.is_none_or(|process| process.identity != identity) => {
                unsettled.extend(process.map(|process| process.identity));
                Some(Remembered {
                    identity,
                    stamp: None,
                })
            }
            Some(_) | None => process,
        };
        Self {
            spec,
            recovery,
            incidents: Incidents::default(),
            known,
            pidfd_only: None,
            standing: Standing::Unknown,
            other_main: None,
            awaits_execution: false,
            scheduled: None,
            starting,
            unit_stop,
            last_trouble: None,
            ended_for: None,
            stopped_by: stopped,
            held_by: held,
            ad_hoc,
            unsettled,
            inherited: Vec::new(),
            continued: None,
            tally: Tally::default(),
            instances: Instances::default(),
            alarm,
            further_alarms: further_alarms.into(),
            disagreement: None,
            remembered: None,
        }
    }

    /// What to look for.
    #[must_use]
    pub fn look_request(&self, occasion: Occasion, foreign_script: bool) -> LookRequest {
        LookRequest {
            spec: Arc::clone(&self.spec),
            known: self.known,
            occasion,
            check_foreign_script: foreign_script,
            own_scripts: Arc::default(),
            unit: None,
            former: None,
        }
    }

    /// What is to survive the daemon.
    #[must_use]
    pub fn memory(&self) -> EntityRecord {
        EntityRecord {
            process: self.known,
            stopped: self.stopped().cloned(),
            held: self.held().cloned(),
            ad_hoc: self.ad_hoc.clone(),
            // As long as it is the known one it is remembered as that.
            unsettled: self
                .unsettled
                .iter()
                .copied()
                .filter(|dead| self.known.is_none_or(|known| known.identity != *dead))
                .collect(),
            // Kept where the record is.
            launched: None,
            starting: self.starting,
            storm: self.recovery.storm_record(),
            answers: self.recovery.has_answered(),
            unit_stop: self.unit_stop.clone(),
            alarm: self.alarm.clone(),
            further_alarms: self.further_alarms.records().to_vec(),
            quorum: self.recovery.quorum(),
        }
    }

    /// The same, as it is given away now.
    #[must_use]
    pub fn memory_now(&mut self) -> Arc<EntityRecord> {
        self.remembered = Some(self.record_of());
        Arc::new(self.memory())
    }

    /// What that is made of.
    #[must_use]
    pub fn record_of(&self) -> RecordOf {
        RecordOf {
            process: self.known,
            starting: self.starting,
            storm: self.recovery.storm_mark(),
            answers: self.recovery.has_answered(),
            unit_is_stopped: self.unit_stop.is_some(),
            stopped: self.stopped().map(|stopped| stopped.at),
            alarm: (self.alarm.as_ref()).map(|alarm| (alarm.severity, alarm.since, alarm.cleared)),
            further_alarms: self.further_alarms.revision(),
            quorum: self.recovery.quorum(),
            held: self.held().map(|held| (held.at, held.until)),
        }
    }
}
