//! What a canary proves: a child ends with a known status at a known time, and
//! every source that runs must say so.
//!
//! Pure: told what was heard and when. Must stay true: a source is only called
//! silent when the child is known to be dead (its pidfd is readable) and the
//! source had [`PATIENCE`] to tell of it; whatever else goes wrong proves
//! nothing, and is said to prove nothing.

use std::time::Duration;

use crate::core::{
    death::{SourceName, WaitStatus},
    identity::Identity,
    time::Time,
};

/// How long a source may lag behind the pidfd. Hints come within a millisecond;
/// this much is for hosts that are overloaded.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long the child may take to end once it is released.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// By how much a kernel time may be off: the proc connector's is converted from
/// another clock.
const SLACK: Duration = Duration::from_secs(1);

/// What a canary said of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The death came, as it was.
    Passed,
    /// It did not come, or not as it was.
    Missed(String),
    /// The canary proved nothing about it.
    Unclear(String),
}

/// What a source said of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Wait status, where it tells.
    pub status: Option<WaitStatus>,
    /// Kernel time, where it tells.
    pub at: Option<Time>,
}

/// A canary under way.
#[derive(Debug)]
pub struct Watch {
    identity: Identity,
    generation: u64,
    status: WaitStatus,
    released: Time,
    dead: Option<Time>,
    expected: Vec<(SourceName, Option<Verdict>)>,
    /// What the kernel's table says, and its drops at the release.
    in_table: Option<(Heard, Time)>,
    drops: u64,
}

impl Watch {
    /// Of a child that will end with `status`, registered with this generation
    /// and about to be released. `drops` are the records that the kernel's ring
    /// had no room for by now.
    #[must_use]
    pub fn new(
        identity: Identity,
        generation: u64,
        status: WaitStatus,
        sources: &[SourceName],
        drops: u64,
        now: Time,
    ) -> Self {
        Self {
            identity,
            generation,
            status,
            released: now,
            dead: None,
            expected: sources.iter().map(|source| (*source, None)).collect(),
            in_table: None,
            drops,
        }
    }

    /// The child.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Its registration.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// When it was released.
    #[must_use]
    pub const fn released(&self) -> Time {
        self.released
    }

    /// A source told of the child's death.
    pub fn hear(&mut self, source: SourceName, heard: Heard, now: Time) {
        let verdict = self.judge(heard, now);
        self.settle(source, verdict);
    }

    /// The child's pidfd is readable.
    pub fn died(&mut self, now: Time) {
        self.dead.get_or_insert(now);
        self.settle(SourceName::Pidfd, Verdict::Passed);
    }

    /// The kernel's table tells of the death. That is enough only if the ring
    /// had no room for the record.
    pub fn seen_in_table(&mut self, heard: Heard, now: Time) {
        self.in_table.get_or_insert((heard, now));
    }

    /// A source could not be tried, or failed on the way.
    pub fn settle(&mut self, source: SourceName, verdict: Verdict) {
        let expected = self.expected.iter_mut().find(|(name, _)| *name == source);
        if let Some((_, settled)) = expected {
            settled.get_or_insert(verdict);
        }
    }

    fn judge(&self, heard: Heard, now: Time) -> Verdict {
        let Heard { status, at } = heard;
        if let Some(status) = status.filter(|status| *status != self.status) {
            return Verdict::Missed(format!(
                "it told the wait status {:#x} of a death with {:#x}",
                status.0, self.status.0
            ));
        }
        if let Some(at) = at
            && (at + SLACK < self.released || at > now + SLACK)
        {
            return Verdict::Missed(format!(
                "it told a time that is {:?} off",
                self.released.since(at).max(at.since(now))
            ));
        }
        Verdict::Passed
    }

    /// When to ask for the verdicts at the latest.
    #[must_use]
    pub fn due(&self) -> Time {
        match self.dead {
            Some(dead) => dead + PATIENCE,
            None => self.released + LIFETIME,
        }
    }

    /// The verdicts, once each is certain. `drops` as in [`Watch::new`].
    #[must_use]
    pub fn verdicts(&self, drops: u64, now: Time) -> Option<Vec<(SourceName, Verdict)>> {
        let late = now >= self.due();
        self.expected
            .iter()
            .map(|(source, settled)| {
                let verdict = match settled {
                    Some(verdict) => Some(verdict.clone()),
                    None if late => Some(self.too_late(*source, drops)),
                    None => None,
                };
                verdict.map(|verdict| (*source, verdict))
            })
            .collect()
    }

    fn too_late(&self, source: SourceName, drops: u64) -> Verdict {
        let pid = self.identity.pid;
        match (self.dead, source, self.in_table) {
            (None, _, _) => Verdict::Unclear(format!(
                "the canary ({pid}) did not end within {LIFETIME:?}"
            )),
            (Some(_), SourceName::Ebpf, Some((heard, at))) if drops != self.drops => {
                self.judge(heard, at)
            }
            (Some(_), SourceName::Ebpf | SourceName::ProcConnector | SourceName::Pidfd, _) => {
                Verdict::Missed(format!(
                    "the canary ({pid}) died, and it did not tell within {PATIENCE:?}"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const STATUS: WaitStatus = WaitStatus(42 << 8);
    const ALL: [SourceName; 3] = [
        SourceName::Ebpf,
        SourceName::ProcConnector,
        SourceName::Pidfd,
    ];

    fn at(seconds: u64) -> Time {
        Time::from_boot_ns(seconds * 1_000_000_000)
    }

    fn watch() -> Watch {
        let identity = Identity {
            pid: 7,
            start_time: 1,
        };
        Watch::new(identity, 16, STATUS, &ALL, 3, at(100))
    }

    fn truth() -> Heard {
        Heard {
            status: Some(STATUS),
            at: Some(at(100)),
        }
    }

    fn of(watch: &Watch, drops: u64, now: Time, source: SourceName) -> Verdict {
        let verdicts = watch.verdicts(drops, now).unwrap();
        let found = verdicts.iter().find(|(name, _)| *name == source);
        found.unwrap().1.clone()
    }

    #[test]
    fn all_that_told_have_passed_at_once() {
        let mut watch = watch();
        watch.hear(SourceName::Ebpf, truth(), at(100));
        assert_eq!(watch.verdicts(3, at(101)), None);
        watch.died(at(101));
        assert_eq!(watch.verdicts(3, at(101)), None);
        watch.hear(SourceName::ProcConnector, truth(), at(101));
        let passed = ALL.map(|source| (source, Verdict::Passed)).to_vec();
        assert_eq!(watch.verdicts(3, at(101)), Some(passed));
    }

    #[test]
    fn patience_begins_with_the_pidfd() {
        let mut watch = watch();
        watch.hear(SourceName::Ebpf, truth(), at(100));
        assert_eq!(watch.verdicts(3, at(130)), None, "it may be slow to end");
        watch.died(at(130));
        assert_eq!(watch.due(), at(135));
        assert_eq!(watch.verdicts(3, at(134)), None);
        assert_eq!(of(&watch, 3, at(135), SourceName::Ebpf), Verdict::Passed);
        assert_eq!(of(&watch, 3, at(135), SourceName::Pidfd), Verdict::Passed);
        assert_eq!(
            of(&watch, 3, at(135), SourceName::ProcConnector),
            Verdict::Missed("the canary (7) died, and it did not tell within 5s".to_owned())
        );
    }

    #[test]
    fn a_child_that_does_not_end_proves_nothing() {
        let watch = watch();
        for source in ALL {
            assert_eq!(
                of(&watch, 3, at(160), source),
                Verdict::Unclear("the canary (7) did not end within 60s".to_owned())
            );
        }
    }

    #[test]
    fn a_wrong_status_or_time_is_a_miss_and_an_unknown_one_is_none() {
        let wrong = |heard| {
            let mut watch = watch();
            watch.hear(SourceName::Ebpf, heard, at(103));
            watch.died(at(103));
            of(&watch, 3, at(200), SourceName::Ebpf)
        };
        let status = Some(WaitStatus(9));
        assert_eq!(
            wrong(Heard { status, ..truth() }),
            Verdict::Missed("it told the wait status 0x9 of a death with 0x2a00".to_owned())
        );
        for (told, off) in [(at(90), "10s"), (at(110), "7s")] {
            assert_eq!(
                wrong(Heard {
                    at: Some(told),
                    ..truth()
                }),
                Verdict::Missed(format!("it told a time that is {off} off"))
            );
        }
        let nothing = Heard {
            status: None,
            at: None,
        };
        assert_eq!(wrong(nothing), Verdict::Passed);
    }

    #[test]
    fn a_full_ring_is_no_silence() {
        let mut watch = watch();
        watch.seen_in_table(truth(), at(101));
        watch.died(at(101));
        assert_eq!(of(&watch, 4, at(106), SourceName::Ebpf), Verdict::Passed);
        let silent = of(&watch, 3, at(106), SourceName::Ebpf);
        assert!(matches!(silent, Verdict::Missed(_)), "the ring had room");
    }

    #[test]
    fn what_is_settled_first_stands() {
        let mut watch = watch();
        let why = Verdict::Unclear("the table is full".to_owned());
        watch.settle(SourceName::Ebpf, why.clone());
        watch.hear(SourceName::Ebpf, truth(), at(101));
        watch.died(at(101));
        assert_eq!(of(&watch, 3, at(106), SourceName::Ebpf), why);
    }
}
