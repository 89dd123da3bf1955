//! `registrations.json`: what the daemon must know of its entities after a
//! restart. What has changed since it was written is in `changes`.
//!
//! Must stay true: a damaged, foreign or newer file never prevents a start; it
//! is put aside and told. Processes of another boot are dropped on loading,
//! because pid and start time mean nothing there. The file names commands that
//! are run with pmon's rights, so one that others could have written is
//! refused, too.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    atomic::{self, Reach},
    changes,
};
use crate::{
    core::{entity::Severity, identity::Identity, recovery::Quorum},
    look::Remembered,
};

/// Name in the state directory.
pub const FILE: &str = "registrations.json";
/// Where a refused file goes, in place of an earlier one.
const REFUSED: &str = "registrations.json.refused";
/// Of the format; a file of a higher one is refused.
const VERSION: u32 = 1;
/// More is no file of ours: some 300 bytes per entity.
const MAX_BYTES: u64 = 256 << 20;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registrations {
    /// Number of the next incident; numbers are never used twice.
    pub next_incident: u64,
    /// By entity name.
    pub entities: BTreeMap<String, EntityRecord>,
}

/// What is remembered of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityRecord {
    /// Its process, and its pidfile at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Remembered>,
    /// An operator wants it to stay down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StoppedByOperator>,
    /// An operator has taken it out of recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldByOperator>,
    /// It comes from `pmon register`, not from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ad_hoc: Option<AdHoc>,
    /// Processes before this one whose deaths may not be in the journal yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsettled: Vec<Identity>,
    /// A program that was about to be executed after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched: Option<Identity>,
    /// Its alarm, as long as a receiver may believe it to be raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<AlarmRecord>,
    /// Strikes of a quorum member.
    #[serde(default, skip_serializing_if = "Quorum::is_sound")]
    pub quorum: Quorum,
}

/// An alarm that receivers may have heard of. It is kept over boots, as they may
/// be on other hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmRecord {
    /// How bad.
    pub severity: Severity,
    /// When it was raised.
    pub since: Timestamp,
    /// In which incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<u64>,
    /// What a status script said, a part of the alarm's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it was cleared; some receiver may not know yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<Timestamp>,
}

/// Why an entity is to stay down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedByOperator {
    /// Who, for instance `uid 0 (pid 4711)`.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
    /// When it is over by itself; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Why an entity is out of recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldByOperator {
    /// Who, for instance `uid 0 (pid 4711)`.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
    /// When it is over by itself; never when absent.
    pub until: Option<Timestamp>,
}

/// All that makes an ad-hoc entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdHoc {
    /// File that names the process; without it only the remembered process counts.
    pub pidfile: Option<PathBuf>,
    /// Shell command that starts a successor.
    pub restart: Option<String>,
    /// Whether it is followed into the background.
    #[serde(default)]
    pub follow: bool,
    /// Who registered it, for instance `uid 0 (pid 4711)`.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl EntityRecord {
    /// Whether there is nothing to remember.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self {
            process,
            stopped,
            held,
            ad_hoc,
            unsettled,
            launched,
            alarm,
            quorum,
        } = self;
        alarm.is_none()
            && quorum.is_sound()
            && process.is_none()
            && stopped.is_none()
            && held.is_none()
            && ad_hoc.is_none()
            && unsettled.is_empty()
            && launched.is_none()
    }
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
            let problem = match read_file(&directory.join(changes::FILE)) {
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
                    dropped += usize::from(record.process.take().is_some());
                    record.unsettled.clear();
                    record.launched = None;
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
    let Some(text) = read_file(path)? else {
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

/// Reads a file that nobody but us and root could have written.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(atomic::flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("expected a regular file".to_owned());
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        return Err(format!(
            "it belongs to uid {}, expected root or uid {own}",
            metadata.uid()
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!(
            "group or others may write to it (mode {:04o}), expected 0600",
            metadata.mode() & 0o7777
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Err(format!("expected at most {MAX_BYTES} bytes"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(Some(text))
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

    use super::*;
    use crate::look::pidfile::{FileTime, Stamp};

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
                        alarm: Some(AlarmRecord {
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
