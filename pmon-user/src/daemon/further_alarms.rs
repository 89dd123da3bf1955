//! Alarms of an entity beside the one that says that it fails now: of another
//! sort, or cleared under a name that is not the present one's. Pure.
//!
//! Each is *raised* → *cleared*, which some receiver may not know yet → settled
//! and forgotten. Must stay true: one for each sort and name; what is not settled
//! is kept.

use jiff::Timestamp;

use crate::{
    alarm::{
        event::{AlarmKind, instance},
        queue::Closed,
    },
    core::entity::Severity,
    state::record::{AlarmRecord, AlarmSort},
};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FurtherAlarms {
    records: Vec<AlarmRecord>,
    /// Rises with every change.
    revision: u64,
}

impl From<Vec<AlarmRecord>> for FurtherAlarms {
    fn from(records: Vec<AlarmRecord>) -> Self {
        Self {
            records,
            revision: 0,
        }
    }
}

impl FurtherAlarms {
    pub(super) fn records(&self) -> &[AlarmRecord] {
        &self.records
    }

    /// Another one than before: something has changed.
    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    fn find(&self, sort: AlarmSort, text: Option<&str>) -> Option<usize> {
        let named = |one: &AlarmRecord| one.sort == sort && one.text.as_deref() == text;
        self.records.iter().position(named)
    }

    /// The one of that name, if it is raised.
    pub(super) fn raised(&self, sort: AlarmSort, text: Option<&str>) -> Option<&AlarmRecord> {
        let found = self.records.get(self.find(sort, text)?)?;
        found.cleared.is_none().then_some(found)
    }

    /// Since when the one of that sort has been raised, or had been.
    pub(super) fn since(&self, sort: AlarmSort) -> Option<Timestamp> {
        let found = self.records.get(self.find(sort, None)?)?;
        Some(found.since)
    }

    /// It is raised, or raised at another severity; since when.
    pub(super) fn raise(
        &mut self,
        sort: AlarmSort,
        text: Option<&str>,
        severity: Severity,
        incident: Option<u64>,
        at: Timestamp,
    ) -> Timestamp {
        let earlier = self.raised(sort, text);
        let since = earlier.map_or(at, |earlier| earlier.since);
        let incident = earlier.and_then(|earlier| earlier.incident).or(incident);
        self.keep(AlarmRecord {
            sort,
            severity,
            since,
            incident,
            text: text.map(str::to_owned),
            cleared: None,
        });
        since
    }

    /// It is cleared; nothing happens where there is none.
    pub(super) fn clear(&mut self, sort: AlarmSort, text: Option<&str>, at: Timestamp) {
        if let Some(found) = self.find(sort, text)
            && let Some(record) = self.records.get_mut(found)
        {
            record.cleared = Some(at);
            self.revision += 1;
        }
    }

    /// Takes a record in, in place of one of the same name.
    pub(super) fn keep(&mut self, record: AlarmRecord) {
        self.drop_named(record.sort, record.text.as_deref());
        self.records.push(record);
        self.revision += 1;
    }

    /// Forgets the one of that name.
    pub(super) fn drop_named(&mut self, sort: AlarmSort, text: Option<&str>) {
        if let Some(found) = self.find(sort, text) {
            self.records.remove(found);
            self.revision += 1;
        }
    }

    /// Everybody knows that it is over; whether there was one.
    pub(super) fn settle(&mut self, host: &str, closed: &Closed) -> bool {
        let before = self.records.len();
        self.records.retain(|one| !is_that(one, host, closed));
        let settled = self.records.len() < before;
        self.revision += u64::from(settled);
        settled
    }
}

/// Whether that is the end of this alarm.
pub(super) fn is_that(record: &AlarmRecord, host: &str, closed: &Closed) -> bool {
    record.cleared == Some(closed.at)
        && closes(record.sort) == closed.kind
        && instance(host, &closed.entity, record.text.as_deref()) == closed.instance
}

/// What ends an alarm of that sort.
pub(super) const fn closes(sort: AlarmSort) -> AlarmKind {
    match sort {
        AlarmSort::Failure => AlarmKind::Clear,
        AlarmSort::Quorum => AlarmKind::QuorumClear,
        AlarmSort::Flapping => AlarmKind::FlappingClear,
    }
}

/// What begins it.
pub(super) const fn opens(sort: AlarmSort) -> AlarmKind {
    match sort {
        AlarmSort::Failure => AlarmKind::Raise,
        AlarmSort::Quorum => AlarmKind::QuorumFailure,
        AlarmSort::Flapping => AlarmKind::Flapping,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::constant(second, 0)
    }

    fn closed(kind: AlarmKind, text: Option<&str>, second: i64) -> Closed {
        Closed {
            entity: "web".into(),
            kind,
            instance: instance("h", "web", text),
            at: at(second),
        }
    }

    #[test]
    fn each_name_has_an_alarm_of_its_own_until_all_know_of_its_end() {
        let mut further = FurtherAlarms::default();
        let minor = Severity::Minor;
        for text in [None, Some("one"), Some("two")] {
            further.raise(AlarmSort::Failure, text, minor, None, at(1));
        }
        further.raise(AlarmSort::Flapping, None, minor, Some(7), at(2));
        assert_eq!(
            further.raise(AlarmSort::Flapping, None, minor, Some(8), at(3)),
            at(2)
        );
        let flapping = further.raised(AlarmSort::Flapping, None);
        assert_eq!(flapping.map(|one| one.incident), Some(Some(7)));
        further.clear(AlarmSort::Failure, Some("one"), at(4));
        further.clear(AlarmSort::Flapping, None, at(4));
        assert_eq!(further.raised(AlarmSort::Flapping, None), None);

        // Another one's end, and an earlier end.
        let revision = further.revision();
        assert!(!further.settle("h", &closed(AlarmKind::Clear, Some("two"), 4)));
        assert!(!further.settle("h", &closed(AlarmKind::Clear, Some("one"), 3)));
        assert_eq!(further.revision(), revision);
        assert_eq!(further.records().len(), 4);
        assert!(further.settle("h", &closed(AlarmKind::Clear, Some("one"), 4)));
        assert!(further.settle("h", &closed(AlarmKind::FlappingClear, None, 4)));
        assert_ne!(further.revision(), revision);
        let left: Vec<_> = further
            .records()
            .iter()
            .map(|one| one.text.as_deref())
            .collect();
        assert_eq!(left, [None, Some("two")]);
    }
}
