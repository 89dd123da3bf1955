//! Lanes: whose turn it is.
//!
//! Must stay true: a lane's first run is the one that is carried out; the others
//! begin in the order in which they came, also two runs of the same condition
//! (D04).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    action::ActionId,
    condition::ConditionId,
    flags::ConditionFlags,
    run::{Run, RunId},
};

/// Which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LaneKey {
    /// Of everything with `HCONDNOWAIT`.
    NoWait,
    /// Of everything with neither flag.
    Other,
    /// Of one condition with `HCONDINDEPENDENT`.
    Own(ConditionId),
    /// Of one action with `HACTIONDONOW` that was just added (D08).
    Now(ActionId),
}

impl LaneKey {
    /// The lane of a condition.
    #[must_use]
    pub const fn of(condition: ConditionId, flags: ConditionFlags) -> Self {
        if flags.contains(ConditionFlags::NO_WAIT) {
            Self::NoWait
        } else if flags.contains(ConditionFlags::INDEPENDENT) {
            Self::Own(condition)
        } else {
            Self::Other
        }
    }
}

/// All lanes that have something to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lanes {
    lanes: Vec<(LaneKey, VecDeque<Run>)>,
}

impl Lanes {
    fn position(&self, key: LaneKey) -> Result<usize, usize> {
        self.lanes.binary_search_by_key(&key, |(key, _)| *key)
    }

    /// Takes its place behind the others.
    pub fn push(&mut self, key: LaneKey, run: Run) {
        match self.position(key) {
            Ok(at) => {
                if let Some((_, lane)) = self.lanes.get_mut(at) {
                    lane.push_back(run);
                }
            }
            Err(at) => self.lanes.insert(at, (key, VecDeque::from([run]))),
        }
    }

    /// The run whose turn it is.
    pub fn first(&mut self, key: LaneKey) -> Option<&mut Run> {
        let at = self.position(key).ok()?;
        self.lanes.get_mut(at)?.1.front_mut()
    }

    /// The first run is over.
    pub fn pop(&mut self, key: LaneKey) -> Option<Run> {
        let at = self.position(key).ok()?;
        let lane = &mut self.lanes.get_mut(at)?.1;
        let run = lane.pop_front();
        if lane.is_empty() {
            self.lanes.remove(at);
        }
        run
    }

    /// Which lane carries out this run now.
    #[must_use]
    pub fn lane_of(&self, run: RunId) -> Option<LaneKey> {
        self.firsts()
            .find(|(_, first)| first.id == run)
            .map(|(key, _)| key)
    }

    /// The runs whose turn it is.
    pub fn firsts(&self) -> impl Iterator<Item = (LaneKey, &Run)> {
        (self.lanes.iter()).filter_map(|(key, lane)| lane.front().map(|run| (*key, run)))
    }

    /// Runs that are under way or wait for their turn.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|(_, lane)| lane.len()).sum()
    }

    /// Whether nothing is to be done.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// How many runs each lane has, as `pmon tree` shows it.
    #[must_use]
    pub fn lengths(&self) -> BTreeMap<LaneKey, usize> {
        (self.lanes.iter())
            .map(|(key, lane)| (*key, lane.len()))
            .collect()
    }
}
