//! The flags of entities, conditions and actions. The numbers are those of HAM's
//! interface and overlap, so each kind of object has a type of its own
//! (`ham.md` §1.4.7 and §2).

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Flags of an entity.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct EntityFlags: u32 {
        /// `HENTITYKEEPONDEATH`: it becomes a placeholder when its process has died
        /// and was not restarted.
        const KEEP_ON_DEATH = 0x2;
    }
}

bitflags! {
    /// Flags of a condition.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct ConditionFlags: u32 {
        /// `HREARMAFTERRESTART`: it outlives a restart of its entity.
        const REARM = 0x1;
        /// `HCONDINDEPENDENT`: it has a lane of its own.
        const INDEPENDENT = 0x2;
        /// `HCONDNOWAIT`: its lane is never delayed; wins over `INDEPENDENT`.
        const NO_WAIT = 0x4;
        /// `HCONDOTHER`: what it is without either of the two.
        const OTHER = 0x8;
        /// `HCONDKEEPONEMPTY`: it stays when its last action goes.
        const KEEP_ON_EMPTY = 0x10;
        /// `HCONDSTATEFROMSET`: the state before is a set.
        const FROM_SET = 0x1000;
        /// `HCONDSTATETOSET`: the state after is a set.
        const TO_SET = 0x2000;
        /// `HCONDSTATEFROMINV`: any state before but those.
        const FROM_INVERTED = 0x4000;
        /// `HCONDSTATETOINV`: any state after but those.
        const TO_INVERTED = 0x8000;
    }
}

impl ConditionFlags {
    /// Those that only a condition on a state transition may have.
    pub const OF_STATE: Self = Self::FROM_SET
        .union(Self::TO_SET)
        .union(Self::FROM_INVERTED)
        .union(Self::TO_INVERTED);
}

bitflags! {
    /// Flags of an action.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct ActionFlags: u32 {
        /// `HREARMAFTERRESTART`: it outlives a restart of its entity, if its
        /// condition does.
        const REARM = 0x1;
        /// `HACTIONDONOW`: it is carried out once at the moment it is added, too.
        const DO_NOW = 0x2;
        /// `HACTIONBREAKONFAIL`: when it fails, the rest of the list is left out.
        const BREAK_ON_FAIL = 0x4;
        /// `HACTIONKEEPONFAIL`: it stays although it has failed.
        const KEEP_ON_FAIL = 0x8;
    }
}
