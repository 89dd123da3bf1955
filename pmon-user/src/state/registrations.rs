//! `registrations.json`: what the daemon must know of its entities after a
//! restart. What has changed since it was written is in `changes`.
//!
//! Must stay true: a damaged, foreign or newer file never prevents a start; it
//! is put aside and told. Processes of another boot are dropped on loading,
//! because pid and start time mean nothing there. One that others could have
//! written is refused, too.

use std::{collections::BTreeMap, fs, io, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    atomic::{self, Reach},
    changes,
    record::EntityRecord,
    trusted,
};

/// Name in the state directory.
pub const FILE: &str = "registrations.json";
/// Where a refused file goes, in place of an earlier one.
const REFUSED: &str = "registrations.json.refused";
/// Of the format; a file of a higher one is refused.
const VERSION: u32 = 1;
/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registrations {
    /// Number of the next incident; numbers are never used twice.
    pub next_incident: u64,
    /// By entity name.
    pub entities: BTreeMap<String, EntityRecord>,
}

/// The file's content.
#[derive(Deserialize)]
struct Document {
    boot_id: String,
    /// Named by the changes that follow; there was none once.
    #[serde(default)]
    id: u64,
    #[serde(flatten)]
    registrations: Registrations,
}

/// The same, to be written.
#[derive(Serialize)]
struct Written<Entities: Serialize> {
    version: u32,
    boot_id: String,
    written_at: Timestamp,
    id: u64,
    next_incident: u64,
    entities: Entities,
}

/// What loading gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What is remembered; empty where there was nothing to load.
    pub registrations: Registrations,
    /// Processes of another boot that were dropped.
    pub dropped: usize,
    /// Why the file was refused, and where it is now.
    pub problem: Option<String>,
}

/// Loads the file from the state directory. Never fails: see [`Loaded::problem`].
#[must_use]
pub fn load(directory: &Path) -> Loaded {
    load_for(directory, &boot_id().unwrap_or_default())
}

/// Loads what a daemon that was killed left in its run directory, in this boot;
/// otherwise what is in the state directory.
#[must_use]
pub fn load_newest(run_directory: &Path, state_directory: &Path) -> Loaded {
    let boot = boot_id().unwrap_or_default();
    match read(&run_directory.join(FILE)) {
        Ok(Some(document)) if !boot.is_empty() && document.boot_id == boot => {
            load_for(run_directory, &boot)
        }
        // Nothing, or of no use: it is replaced with the next save.
        Ok(_) | Err(_) => load_for(state_directory, &boot),
    }
}

fn load_for(directory: &Path, boot: &str) -> Loaded {
    let path = directory.join(FILE);
    match read(&path) {
        Ok(None) => Loaded::default(),
        Ok(Some(document)) => {
            let Document {
                boot_id,
                id,
                mut registrations,
            } = document;
            let problem = match trusted::read(&directory.join(changes::FILE)) {
                Ok(None) => None,
                Ok(Some(text)) => changes::apply(&text, id, &mut registrations),
                Err(reason) => Some(format!(
                    "`{}` is disregarded: {reason}",
                    directory.join(changes::FILE).display()
                )),
            };
            let mut dropped = 0;
            // Not knowing the boot is as good as another one.
            if boot.is_empty() || boot_id != boot {
                for record in registrations.entities.values_mut() {
                    dropped += usize::from(record.forget_boot());
                }
            }
            registrations
                .entities
                .retain(|_, record| !record.is_empty());
            Loaded {
                registrations,
                dropped,
                problem,
            }
        }
        Err(reason) => {
            let aside = directory.join(REFUSED);
            let moved = match fs::rename(&path, &aside) {
                Ok(()) => format!("it is now `{}`", aside.display()),
                Err(error) => format!("and it cannot be put aside: {error}"),
            };
            Loaded {
                problem: Some(format!(
                    "`{}` is refused: {reason}; {moved}",
                    path.display()
                )),
                ..Loaded::default()
            }
        }
    }
}

/// Reads the snapshot; the error is for people.
fn read(path: &Path) -> Result<Option<Document>, String> {
    let Some(text) = trusted::read(path)? else {
        return Ok(None);
    };
    // The version first: a newer file may look different otherwise.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("it has version {version}, expected {VERSION}"));
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| error.to_string())
}

/// Writes the file into a directory, as a whole and as far as `reach`; its id,
/// and its length in bytes.
pub(super) fn write<'a>(
    directory: &Path,
    next_incident: u64,
    entities: impl Iterator<Item = (&'a str, &'a EntityRecord)> + Clone,
    reach: Reach,
) -> io::Result<(u64, u64)> {
    struct Entities<I>(I);
    impl<'a, I: Iterator<Item = (&'a str, &'a EntityRecord)> + Clone> Serialize for Entities<I> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.clone())
        }
    }
    let written_at = Timestamp::now();
    // No two snapshots of one host are written in the same nanosecond.
    let id = written_at.as_nanosecond() as u64;
    let mut text = serde_json::to_vec(&Written {
        version: VERSION,
        boot_id: boot_id().unwrap_or_default(),
        written_at,
        id,
        next_incident,
        entities: Entities(entities),
    })?;
    text.push(b'\n');
    atomic::replace(directory, FILE, &text, reach)?;
    Ok((id, text.len() as u64))
}

/// Removes the files from a directory where they have served their time.
pub fn remove(directory: &Path) {
    for name in [FILE, changes::FILE] {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, path = %path.display(), "cannot be removed"),
        }
    }
}

/// Identifies the running kernel's boot (random(4)), where `/proc` shows it.
#[must_use]
pub fn boot_id() -> Option<String> {
    procfs::sys::kernel::random::boot_id().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::{
        super::record::{
            AdHoc, AlarmRecord, AlarmSort, HeldByOperator, StoppedByOperator, UnitStop,
        },
        *,
    };
    use crate::{
        core::{
            entity::Severity, identity::Identity, recovery::Quorum, storm::record::StormRecord,
            time::Time,
        },
        look::{
            Remembered,
            pidfile::{FileTime, Stamp},
        },
    };

    fn example() -> Registrations {
        let time = FileTime {
            seconds: 1,
            nanoseconds: 2,
        };
        let process = Remembered {
            identity: Identity {
                pid: 7,
                start_time: 8,
            },
            stamp: Some(Stamp {
                dev: 1,
                ino: u64::MAX,
                size: 2,
                mtime: time,
                ctime: time,
            }),
        };
        let at = Timestamp::constant(1_700_000_000, 0);
        Registrations {
            next_incident: 42,
            entities: BTreeMap::from([
                (
                    "running".to_owned(),
                    EntityRecord {
                        process: Some(process),
                        ..EntityRecord::default()
                    },
                ),
                (
                    "stopped".to_owned(),
                    EntityRecord {
                        stopped: Some(StoppedByOperator {
                            by: "uid 0 (pid 1)".to_owned(),
                            reason: Some("upgrade \"x\"".to_owned()),
                            at,
                            until: None,
                        }),
                        held: Some(HeldByOperator {
                            by: "uid 0 (pid 2)".to_owned(),
                            reason: None,
                            at,
                            until: Some(Timestamp::constant(1_700_001_800, 0)),
                        }),
                        further_alarms: vec![AlarmRecord {
                            sort: AlarmSort::Flapping,
                            severity: Severity::Minor,
                            since: at,
                            incident: None,
                            text: None,
                            cleared: None,
                        }],
                        alarm: Some(AlarmRecord {
                            sort: AlarmSort::Failure,
                            severity: Severity::Major,
                            since: at,
                            incident: Some(41),
                            text: Some("osd.0 is down".to_owned()),
                            cleared: Some(at),
                        }),
                        quorum: Quorum::Failure,
                        ..EntityRecord::default()
                    },
                ),
                (
                    "ad-hoc".to_owned(),
                    EntityRecord {
                        process: Some(process),
                        ad_hoc: Some(AdHoc {
                            pidfile: Some("/run/x.pid".into()),
                            restart: Some("x --start".to_owned()),
                            follow: true,
                            by: "uid 0 (pid 1)".to_owned(),
                            at,
                        }),
                        starting: Some(process.identity),
                        storm: Some(StormRecord {
                            attempts: 2,
                            next_attempt: Some(Time::from_boot_ns(5)),
                            ..StormRecord::default()
                        }),
                        answers: true,
                        unit_stop: Some(UnitStop {
                            invocation: vec![1, 2],
                        }),
                        unsettled: vec![Identity {
                            pid: 5,
                            start_time: 6,
                        }],
                        ..EntityRecord::default()
                    },
                ),
            ]),
        }
    }

    fn save(directory: &Path, registrations: &Registrations, reach: Reach) -> io::Result<()> {
        let Registrations {
            next_incident,
            entities,
        } = registrations;
        let entities = entities.iter().map(|(name, record)| (&**name, record));
        write(directory, *next_incident, entities, reach).map(drop)
    }

    fn refused(directory: &Path) -> String {
        let loaded = load(directory);
        assert_eq!(loaded.registrations, Registrations::default());
        assert!(!directory.join(FILE).exists());
        assert!(fs::symlink_metadata(directory.join(REFUSED)).is_ok());
        loaded.problem.unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(directory.path()), Loaded::default());
        save(directory.path(), &example(), Reach::Disk).unwrap();
        let loaded = load(directory.path());
        assert_eq!(loaded.problem, None);
        assert_eq!(loaded.dropped, 0);
        assert_eq!(loaded.registrations, example());
    }

    /// As the first version of this file was written.
    #[test]
    fn what_an_earlier_version_wrote_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let boot = boot_id().unwrap();
        let text = format!(
            r#"{{"version":1,"boot_id":"{boot}","written_at":"2023-11-14T22:13:20Z","id":3,
            "next_incident":42,"entities":{{"web":{{
            "process":{{"identity":{{"pid":7,"start_time":8}},"stamp":null}},
            "alarm":{{"severity":"major","since":"2023-11-14T22:13:20Z","text":"x"}}}}}}}}"#
        );
        let path = directory.path().join(FILE);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let loaded = load(directory.path());
        assert_eq!(loaded.problem, None);
        let web = &loaded.registrations.entities["web"];
        let alarm = web.alarm.as_ref().unwrap();
        assert_eq!(alarm.sort, AlarmSort::Failure);
        assert_eq!(alarm.text.as_deref(), Some("x"));
        assert_eq!(web.process.map(|it| it.identity.pid), Some(7));
        assert_eq!(
            (&web.storm, web.starting, web.answers),
            (&None, None, false)
        );
        assert!(web.further_alarms.is_empty() && web.unit_stop.is_none());
    }

    #[test]
    fn processes_of_another_boot_are_dropped_and_the_rest_stays() {
        let directory = tempfile::tempdir().unwrap();
        save(directory.path(), &example(), Reach::Disk).unwrap();
        for boot in ["another", ""] {
            let loaded = load_for(directory.path(), boot);
            assert_eq!(loaded.dropped, 2);
            assert_eq!(loaded.registrations.next_incident, 42);
            let names: Vec<_> = loaded.registrations.entities.keys().collect();
            assert_eq!(names, ["ad-hoc", "stopped"]);
            let ad_hoc = &loaded.registrations.entities["ad-hoc"];
            assert_eq!(ad_hoc.process, None);
            // Nothing else that means something in that boot only.
            let forgotten = EntityRecord {
                ad_hoc: ad_hoc.ad_hoc.clone(),
                ..EntityRecord::default()
            };
            assert_eq!(*ad_hoc, forgotten);
            assert_eq!(ad_hoc.ad_hoc, example().entities["ad-hoc"].ad_hoc);
        }
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        save(directory.path(), &example(), Reach::Disk).unwrap();
        let whole = fs::read(&path).unwrap();
        for (content, expected) in [
            (&whole[..whole.len() / 2], "EOF while parsing"),
            (b"", "EOF while parsing"),
            (b"\0\xff\0", "expected value at line 1 column 1"),
            (b"{\"version\": 2}", "it has version 2, expected 1"),
            (b"{\"version\": 1}", "missing field `boot_id`"),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let problem = refused(directory.path());
            assert!(problem.contains(expected), "{problem}");
            assert_eq!(fs::read(directory.path().join(REFUSED)).unwrap(), content);
        }
        save(directory.path(), &example(), Reach::Disk).unwrap();
        assert_eq!(load(directory.path()).problem, None);
    }

    #[test]
    fn what_others_could_have_written_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        save(directory.path(), &example(), Reach::Disk).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(refused(directory.path()).contains("(mode 0666), expected 0600"));
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(refused(directory.path()).contains("symbolic link"));
        if rustix::process::geteuid().is_root() {
            save(directory.path(), &example(), Reach::Disk).unwrap();
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert!(refused(directory.path()).contains("it belongs to uid 65534"));
        }
    }
}
