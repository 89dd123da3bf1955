//! Is the process that a pidfile names the one that wrote it?
//!
//! A number outlives its process: after a crash, or a reboot with a pidfile on
//! disk, it may name a stranger. The decision is a pure function of what was
//! seen; its rules, first match wins:
//!
//! 1. It is the process known already (same pid, same start): accepted.
//! 2. Same pid as the known process, other start, and nobody has touched the
//!    pidfile in between: a stranger for certain.
//! 3. It started clearly after the pidfile was written, and nothing about its
//!    names fits: a stranger. Where a name fits, the wall clock may have been
//!    stepped, or something rewrites its time stamps: accepted.
//! 4. Somebody other than root or pmon's own user could have written the
//!    pidfile, it names a process of a third user, and nothing about its names
//!    fits: not trusted, because a signal sent on its word would carry pmon's
//!    rights.
//! 5. Otherwise accepted.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::pidfile::{Stamp, Writer};
use crate::core::identity::Identity;

/// A process may start this much after its pidfile was written and still count:
/// start times have a resolution of 10 ms, and the wall clock is slewed.
pub const START_SLACK: Duration = Duration::from_secs(2);

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The live process that the pidfile names.
    pub found: Identity,
    /// When it started, by the wall clock as it stands now.
    pub started: Timestamp,
    /// Its effective user, where that can be read.
    pub uid: Option<u32>,
    /// One of its names is one of the entity's.
    pub names_agree: bool,
    /// The pidfile.
    pub stamp: Stamp,
    /// Who could have written the pidfile.
    pub writer: Writer,
    /// The entity's last known process and the pidfile at that time.
    pub known: Option<&'a Remembered>,
    /// pmon's own effective user.
    pub own_uid: u32,
}

/// The process that an entity was last seen to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Who.
    pub identity: Identity,
    /// The pidfile when it named that process, where there is one.
    pub stamp: Option<Stamp>,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the entity's process.
    Accepted,
    /// It is somebody else's; the entity has none.
    Stranger {
        /// For people.
        reason: String,
    },
    /// It cannot be told; nothing may be done to it.
    Untrusted {
        /// For people.
        reason: String,
    },
}

/// Judges by the rules above.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let Evidence {
        found,
        started,
        uid,
        names_agree,
        stamp,
        writer,
        known,
        own_uid,
    } = *evidence;
    if let Some(known) = known {
        if known.identity == found {
            return Verdict::Accepted;
        }
        if known.identity.pid == found.pid && known.stamp == Some(stamp) {
            return Verdict::Stranger {
                reason: format!(
                    "pid {} has been reused: the pidfile was written for {}, and {found} is a stranger",
                    found.pid, known.identity
                ),
            };
        }
    }
    let written = stamp.mtime.timestamp();
    let started_late = written
        .checked_add(START_SLACK)
        .is_ok_and(|latest| started > latest);
    if started_late && !names_agree {
        return Verdict::Stranger {
            reason: format!(
                "pid {} is a stranger: it started at {started:.3}, after the pidfile was written \
                 at {written:.3}, and nothing about its name fits",
                found.pid
            ),
        };
    }
    let own = |user: u32| user == 0 || user == own_uid;
    let untrusted_writer = writer.everybody || (!own(writer.uid) && uid != Some(writer.uid));
    if untrusted_writer && !names_agree {
        return Verdict::Untrusted {
            reason: if writer.everybody {
                format!(
                    "everybody may write to the pidfile, and nothing about the name of pid {} fits",
                    found.pid
                )
            } else {
                format!(
                    "the pidfile belongs to uid {}, but pid {} does not, and nothing about its \
                     name fits",
                    writer.uid, found.pid
                )
            },
        };
    }
    Verdict::Accepted
}

#[cfg(test)]
mod tests {
    use super::{super::pidfile::FileTime, *};

    const FOUND: Identity = Identity {
        pid: 100,
        start_time: 5000,
    };
    /// Wall-clock second in which the pidfile was written.
    const WRITTEN: i64 = 1_000_000;

    fn stamp(ino: u64) -> Stamp {
        let time = FileTime {
            seconds: WRITTEN,
            nanoseconds: 0,
        };
        Stamp {
            dev: 1,
            ino,
            size: 4,
            mtime: time,
            ctime: time,
        }
    }

    fn known(pid: u32, start_time: u64, ino: Option<u64>) -> Remembered {
        Remembered {
            identity: Identity { pid, start_time },
            stamp: ino.map(stamp),
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Short {
        Accepted,
        Reused,
        Late,
        Untrusted,
    }

    fn judged(evidence: &Evidence<'_>) -> Short {
        match judge(evidence) {
            Verdict::Accepted => Short::Accepted,
            Verdict::Stranger { reason } if reason.contains("has been reused") => Short::Reused,
            Verdict::Stranger { .. } => Short::Late,
            Verdict::Untrusted { .. } => Short::Untrusted,
        }
    }

    /// Every combination of: what is known × when it started × names.
    #[test]
    fn times_and_what_is_known_decide() {
        use Short::{Accepted, Late, Reused};
        let nobody = None;
        let itself = Some(known(100, 5000, Some(1)));
        let itself_other_file = Some(known(100, 5000, Some(2)));
        let reused = Some(known(100, 4000, Some(1)));
        let reused_rewritten = Some(known(100, 4000, Some(2)));
        let reused_no_stamp = Some(known(100, 4000, None));
        let other_pid = Some(known(99, 4000, Some(1)));
        // Seconds from the pidfile's time to the start:  -60  +2  +3 s
        // with names that disagree, then the same with names that agree.
        for (known, disagreeing, agreeing) in [
            (nobody, [Accepted, Accepted, Late], [Accepted; 3]),
            (itself, [Accepted; 3], [Accepted; 3]),
            (itself_other_file, [Accepted; 3], [Accepted; 3]),
            (reused, [Reused; 3], [Reused; 3]),
            (reused_rewritten, [Accepted, Accepted, Late], [Accepted; 3]),
            (reused_no_stamp, [Accepted, Accepted, Late], [Accepted; 3]),
            (other_pid, [Accepted, Accepted, Late], [Accepted; 3]),
        ] {
            for (names_agree, row) in [(false, disagreeing), (true, agreeing)] {
                for (after, expected) in [-60, 2, 3].into_iter().zip(row) {
                    let evidence = Evidence {
                        found: FOUND,
                        started: Timestamp::constant(WRITTEN + after, 0),
                        uid: Some(0),
                        names_agree,
                        stamp: stamp(1),
                        writer: Writer {
                            uid: 0,
                            everybody: false,
                        },
                        known: known.as_ref(),
                        own_uid: 0,
                    };
                    assert_eq!(judged(&evidence), expected, "{evidence:?}");
                }
            }
        }
    }

    #[test]
    fn a_pidfile_that_others_can_write_needs_a_name_that_fits() {
        use Short::{Accepted, Untrusted};
        // owner, o+w, process's user, own user: without and with a fitting name
        for (owner, everybody, uid, own_uid, expected) in [
            (0, false, Some(33), 0, Accepted),
            (0, false, None, 0, Accepted),
            (33, false, Some(33), 0, Accepted),
            (33, false, Some(0), 0, Untrusted),
            (33, false, None, 0, Untrusted),
            (33, true, Some(33), 0, Untrusted),
            (0, true, Some(0), 0, Untrusted),
            (1000, false, Some(0), 1000, Accepted),
        ] {
            for names_agree in [false, true] {
                let evidence = Evidence {
                    found: FOUND,
                    started: Timestamp::constant(WRITTEN, 0),
                    uid,
                    names_agree,
                    stamp: stamp(1),
                    writer: Writer {
                        uid: owner,
                        everybody,
                    },
                    known: None,
                    own_uid,
                };
                let expected = if names_agree { &Accepted } else { &expected };
                assert_eq!(&judged(&evidence), expected, "{evidence:?}");
            }
        }
    }

    #[test]
    fn a_late_stranger_is_told_with_both_times() {
        let evidence = Evidence {
            found: FOUND,
            started: Timestamp::constant(WRITTEN + 10, 0),
            uid: None,
            names_agree: false,
            stamp: stamp(1),
            writer: Writer {
                uid: 0,
                everybody: false,
            },
            known: None,
            own_uid: 0,
        };
        assert_eq!(
            judge(&evidence),
            Verdict::Stranger {
                reason: "pid 100 is a stranger: it started at 1970-01-12T13:46:50.000Z, after the \
                         pidfile was written at 1970-01-12T13:46:40.000Z, and nothing about its \
                         name fits"
                    .to_owned()
            }
        );
    }
}
