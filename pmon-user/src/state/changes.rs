//! Registrations as they change: the writing thread's own copy, a snapshot of it
//! on disk, and the changes since.
//!
//! `registrations.json` is the snapshot, `registrations.changes` one line of
//! JSON for each change after it, under a first line that names the snapshot.
//! Must stay true: a change costs its own size, however many entities there
//! are; changes that follow another snapshot than the one that is there are
//! disregarded, so a crash between the two files loses nothing; whatever fails
//! is made good by a new snapshot.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::{
    Then,
    atomic::{self, Reach},
    record::EntityRecord,
    registrations::{self, Registrations},
};
use crate::core::identity::Identity;

/// Name in the directory.
pub const FILE: &str = "registrations.changes";
/// Changes that are worth a new snapshot: this many bytes, or as many as the
/// snapshot has.
const COMPACT_BYTES: u64 = 256 << 10;

/// One thing to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What is to be remembered of an entity; nothing any more when `None`.
    Entity(Arc<str>, Option<Arc<EntityRecord>>),
    /// A program is about to be executed for an entity.
    Launched(Arc<str>, Identity),
    /// Number of the next incident, if it is higher than the one known.
    NextIncident(u64),
}

/// Changes that are not on disk, the newest of each kind.
#[derive(Default)]
pub(super) struct Unsaved {
    next_incident: Option<u64>,
    entities: HashMap<Arc<str>, Option<Arc<EntityRecord>>>,
    /// After what `entities` says.
    launched: HashMap<Arc<str>, Identity>,
    /// Who waits for these.
    waiting: Vec<Then>,
}

impl fmt::Debug for Unsaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsaved")
            .field("next_incident", &self.next_incident)
            .field("entities", &self.entities)
            .field("launched", &self.launched)
            .field("waiting", &self.waiting.len())
            .finish()
    }
}

impl Unsaved {
    pub(super) fn add(&mut self, change: Change) {
        match change {
            Change::Entity(name, record) => {
                let registered = |record: &Arc<EntityRecord>| {
                    let process = record.process.map(|process| process.identity);
                    process == self.launched.get(&name).copied()
                };
                if record.as_ref().is_none_or(registered) {
                    self.launched.remove(&name);
                }
                self.entities.insert(name, record);
            }
            Change::Launched(name, identity) => {
                self.launched.insert(name, identity);
            }
            Change::NextIncident(number) => {
                self.next_incident = self.next_incident.max(Some(number));
            }
        }
    }

    pub(super) fn add_then(&mut self, change: Change, then: Then) {
        self.add(change);
        self.waiting.push(then);
    }

    /// Whether somebody waits for it.
    pub(super) const fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn take_waiting(&mut self) -> Vec<Then> {
        std::mem::take(&mut self.waiting)
    }

    fn is_empty(&self) -> bool {
        self.next_incident.is_none()
            && self.entities.is_empty()
            && self.launched.is_empty()
            && self.waiting.is_empty()
    }
}

/// Everything that is to be remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    next_incident: u64,
    entities: BTreeMap<Arc<str>, Arc<EntityRecord>>,
}

impl From<Registrations> for Memory {
    fn from(registrations: Registrations) -> Self {
        let Registrations {
            next_incident,
            entities,
        } = registrations;
        Self {
            next_incident,
            entities: entities
                .into_iter()
                .map(|(name, record)| (Arc::from(name), Arc::new(record)))
                .collect(),
        }
    }
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    /// `id` of the snapshot.
    follows: u64,
}

/// One of the others.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<Name, Record> {
    NextIncident(u64),
    Put(Name, Record),
    Remove(Name),
    Launched(Name, Identity),
}

/// The files of one directory, and what they are made from.
#[derive(Debug)]
pub(super) struct Saved {
    memory: Memory,
    /// The changes' file of a snapshot that this daemon wrote; `None`: a new
    /// snapshot is due.
    changes: Option<Changes>,
}

#[derive(Debug)]
struct Changes {
    file: File,
    bytes: u64,
    snapshot_bytes: u64,
}

impl Saved {
    pub(super) fn new(registrations: Registrations) -> Self {
        Self {
            memory: registrations.into(),
            changes: None,
        }
    }

    /// Whether there is something to write.
    pub(super) fn is_behind(&self, unsaved: &Unsaved) -> bool {
        !unsaved.is_empty()
    }

    /// Takes changes over, as lines to be written.
    pub(super) fn take_over(&mut self, unsaved: Unsaved) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        let Unsaved {
            next_incident,
            entities,
            launched,
            waiting: _,
        } = unsaved;
        if let Some(number) = next_incident {
            self.memory.next_incident = self.memory.next_incident.max(number);
            write_line(&mut lines, &Line::<&str, ()>::NextIncident(number))?;
        }
        for (name, record) in entities {
            match record {
                Some(record) => {
                    write_line(&mut lines, &Line::Put(&*name, &*record))?;
                    let before = self.memory.entities.get(&name);
                    let record = match launched_still(before.map(|it| &**it), &record) {
                        None => record,
                        launched => Arc::new(EntityRecord {
                            launched,
                            ..EntityRecord::clone(&record)
                        }),
                    };
                    self.memory.entities.insert(name, record);
                }
                None => {
                    write_line(&mut lines, &Line::<&str, ()>::Remove(&*name))?;
                    self.memory.entities.remove(&name);
                }
            }
        }
        for (name, identity) in launched {
            write_line(&mut lines, &Line::<&str, ()>::Launched(&*name, identity))?;
            let record = self.memory.entities.entry(name).or_default();
            Arc::make_mut(record).launched = Some(identity);
        }
        Ok(lines)
    }

    /// Writes changes, or everything. When this fails, the next time it is
    /// everything.
    pub(super) fn write(
        &mut self,
        directory: &Path,
        lines: io::Result<Vec<u8>>,
        reach: Reach,
    ) -> io::Result<()> {
        let changes = self.changes.take();
        super::create(directory)?;
        let lines = lines?;
        match changes {
            Some(mut changes) if changes.is_in_force(directory) => {
                changes.file.write_all(&lines)?;
                if reach == Reach::Disk {
                    changes.file.sync_data()?;
                }
                changes.bytes += lines.len() as u64;
                self.changes = Some(changes);
                Ok(())
            }
            Some(_) | None => self.write_snapshot(directory, reach),
        }
    }

    fn write_snapshot(&mut self, directory: &Path, reach: Reach) -> io::Result<()> {
        let Memory {
            next_incident,
            entities,
        } = &self.memory;
        let entities = entities.iter().map(|(name, record)| (&**name, &**record));
        let (id, snapshot_bytes) =
            registrations::write(directory, *next_incident, entities, reach)?;
        let mut header = Vec::new();
        write_line(&mut header, &Header { follows: id })?;
        atomic::replace(directory, FILE, &header, reach)?;
        let file = OpenOptions::new()
            .append(true)
            .custom_flags(atomic::flags(OFlags::NOFOLLOW))
            .open(directory.join(FILE))?;
        self.changes = Some(Changes {
            file,
            bytes: 0,
            snapshot_bytes,
        });
        Ok(())
    }
}

impl Changes {
    /// Whether the next change goes here: the files are still those that we
    /// wrote, and not too long.
    fn is_in_force(&self, directory: &Path) -> bool {
        let inode = |metadata: io::Result<fs::Metadata>| {
            metadata
                .ok()
                .map(|metadata| (metadata.dev(), metadata.ino()))
        };
        let ours = inode(self.file.metadata());
        self.bytes <= COMPACT_BYTES.max(self.snapshot_bytes)
            && ours.is_some()
            && ours == inode(fs::symlink_metadata(directory.join(FILE)))
            && directory.join(registrations::FILE).exists()
    }
}

fn write_line(text: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *text, value)?;
    text.push(b'\n');
    Ok(())
}

/// What was about to be executed, as long as the entity has no other process
/// than it had then.
fn launched_still(before: Option<&EntityRecord>, now: &EntityRecord) -> Option<Identity> {
    before
        .filter(|before| before.process == now.process)
        .and_then(|before| before.launched)
}

/// Applies the changes that follow a snapshot; what is wrong with them, if
/// anything is. The last line may be torn by a crash.
pub(super) fn apply(text: &[u8], id: u64, to: &mut Registrations) -> Option<String> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').enumerate();
    let header = lines.next().map(|(_, line)| serde_json::from_slice(line));
    match header {
        None => return None,
        Some(Ok(Header { follows })) if follows == id => {}
        // Of the snapshot before, or torn: what it said is in this one.
        Some(Ok(_) | Err(_)) => return None,
    }
    for (number, line) in lines {
        if line.last() != Some(&b'\n') {
            return None;
        }
        match serde_json::from_slice(line) {
            Ok(Line::NextIncident(number)) => to.next_incident = to.next_incident.max(number),
            Ok(Line::Put(name, record)) => {
                let mut record: EntityRecord = record;
                record.launched = launched_still(to.entities.get(&name), &record);
                to.entities.insert(name, record);
            }
            Ok(Line::Launched(name, identity)) => {
                to.entities.entry(name).or_default().launched = Some(identity);
            }
            Ok(Line::Remove(name)) => {
                let name: String = name;
                to.entities.remove(&name);
            }
            Err(error) => {
                let number = number + 1;
                return Some(format!(
                    "`{FILE}` is disregarded from line {number} on: {error}"
                ));
            }
        }
    }
    None
}
