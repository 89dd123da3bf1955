//! The inotify watches that tell of changes to pidfiles.
//!
//! Two kinds: the pidfile's directory, for names that come and go, and the
//! pidfile itself, for its content (some daemons keep it open and locked, so
//! that a write to it shows nowhere else). A directory that does not exist is
//! awaited in its nearest existing ancestor.
//!
//! Must stay true: a watch is established before the file is looked for, so
//! nothing that happens afterwards is missed; and what was missed nevertheless
//! (an ancestor renamed, a link's target created) [`Watch::refresh`] finds.
//! When to tell is not decided here (see `settle`).

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{fs::inotify::WatchFlags, io::Errno};

use crate::sys::inotify::{Inotify, Record};

/// Directories may appear while the nearest one is sought; more often than a
/// path has components they are playing with us.
const ROUNDS: u32 = 64;

const DIRECTORY: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

const FILE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DONT_FOLLOW);

/// One inotify instance and the pidfiles it watches.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    places: HashMap<Arc<str>, Place>,
    /// Watch descriptor of a directory → awaited name → entities.
    names: HashMap<i32, HashMap<OsString, Vec<Arc<str>>>>,
    /// Watch descriptor of a pidfile → entities.
    files: HashMap<i32, Vec<Arc<str>>>,
    /// Every watch descriptor the kernel holds for us.
    held: BTreeSet<i32>,
    /// Entities whose pidfiles are not (fully) watched.
    troubled: BTreeSet<Arc<str>>,
}

/// One entity's pidfile.
#[derive(Debug)]
struct Place {
    pidfile: PathBuf,
    anchor: Option<Anchor>,
    file: Option<i32>,
    problem: Option<Problem>,
}

/// The watched directory that is nearest to a pidfile.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Anchor {
    directory: i32,
    /// The next component on the way to the pidfile.
    awaited: OsString,
    /// That component is the pidfile itself.
    is_last: bool,
}

/// Why a pidfile is not (fully) watched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    path: PathBuf,
    errno: Errno,
}

/// What a batch of inotify records amounts to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entities whose pidfiles may have changed.
    pub entities: BTreeSet<Arc<str>>,
    /// The kernel had to drop records: anything may have changed.
    pub overflow: bool,
}

impl Watch {
    /// An inotify instance that watches nothing yet.
    ///
    /// # Errors
    ///
    /// `EMFILE` when the user has too many instances
    /// (`fs.inotify.max_user_instances`) or the process too many files.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            inotify: Inotify::new()?,
            places: HashMap::new(),
            names: HashMap::new(),
            files: HashMap::new(),
            held: BTreeSet::new(),
            troubled: BTreeSet::new(),
        })
    }

    /// The descriptor that is readable when [`Self::read`] has something to read.
    #[must_use]
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        self.inotify.descriptor()
    }

    /// Watches an entity's pidfile, in place of an earlier one; once this
    /// returns, nothing that happens to it is missed.
    pub fn add(&mut self, entity: &Arc<str>, pidfile: PathBuf) {
        let place = Place {
            pidfile,
            anchor: None,
            file: None,
            problem: None,
        };
        let old = self.places.insert(Arc::clone(entity), place);
        let unused = old.map(|old| self.forget_place(entity, &old));
        self.establish_one(entity);
        self.give_back(unused.unwrap_or_default());
    }

    /// Watches an entity's pidfile no more.
    pub fn remove(&mut self, entity: &Arc<str>) {
        if let Some(place) = self.places.remove(entity) {
            let unused = self.forget_place(entity, &place);
            self.give_back(unused);
        }
    }

    /// Establishes all watches again; tells the entities for which that
    /// changed anything.
    pub fn refresh(&mut self) -> BTreeSet<Arc<str>> {
        let all: BTreeSet<Arc<str>> = self.places.keys().cloned().collect();
        self.establish(&all)
    }

    /// Watch descriptors in use.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.held.len()
    }

    /// What is not watched, and why; `None` when all is well.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let mut with_problem = self.troubled.iter().filter_map(|entity| {
            let Problem { path, errno } = self.places.get(entity)?.problem.as_ref()?;
            Some((path, *errno))
        });
        let (path, errno) = with_problem.next()?;
        let error = if errno == Errno::NOSPC {
            "the limit `fs.inotify.max_user_watches` is reached".to_owned()
        } else {
            io::Error::from(errno).to_string()
        };
        let others = match with_problem.count() {
            0 => String::new(),
            count => format!(" (and {count} more)"),
        };
        Some(format!(
            "cannot watch `{}`{others}: {error}",
            path.display()
        ))
    }

    /// Reads one batch of records and mends the watches accordingly.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there are none.
    pub fn read(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        let mut moved = BTreeSet::new();
        let Self {
            inotify,
            names,
            files,
            held,
            ..
        } = self;
        inotify.read(|record| match record {
            Record::Overflow => changes.overflow = true,
            Record::Ended { watch, removed } => {
                if removed {
                    held.remove(&watch);
                }
                let named = names.get(&watch).into_iter();
                moved.extend(named.flat_map(|names| names.values().flatten().cloned()));
                moved.extend(files.get(&watch).into_iter().flatten().cloned());
            }
            Record::Entry { watch, name } => {
                let places = names.get(&watch).and_then(|names| names.get(name));
                moved.extend(places.into_iter().flatten().cloned());
            }
            Record::Itself { watch } => {
                let places = files.get(&watch).into_iter().flatten();
                changes.entities.extend(places.cloned());
            }
        })?;
        // The name itself is news, even where the watches stay as they are.
        changes.entities.extend(
            moved
                .iter()
                .filter(|entity| {
                    let place = self.places.get(*entity);
                    let anchor = place.and_then(|place| place.anchor.as_ref());
                    anchor.is_some_and(|anchor| anchor.is_last)
                })
                .cloned(),
        );
        changes.entities.append(&mut if changes.overflow {
            self.refresh()
        } else {
            self.establish(&moved)
        });
        Ok(changes)
    }

    fn establish(&mut self, entities: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
        let mut changed = BTreeSet::new();
        for entity in entities {
            if self.establish_one(entity) {
                changed.insert(Arc::clone(entity));
            }
        }
        changed
    }

    /// Establishes the watches of one pidfile; whether that changed anything.
    fn establish_one(&mut self, entity: &Arc<str>) -> bool {
        let Some(place) = self.places.get_mut(entity) else {
            return false;
        };
        let before = (place.anchor.clone(), place.file);
        let touched = place.establish(&self.inotify);
        self.held.extend(&touched);
        let after = (place.anchor.clone(), place.file);
        if place.problem.is_some() {
            self.troubled.insert(Arc::clone(entity));
        } else {
            self.troubled.remove(entity);
        }
        if before == after {
            self.give_back(touched);
            return false;
        }
        let mut unused = self.unindex(entity, before.0.as_ref(), before.1);
        // On the way to a directory that was just made, watches are left behind.
        unused.extend(touched);
        let (anchor, file) = after;
        if let Some(anchor) = anchor {
            let names = self.names.entry(anchor.directory).or_default();
            names
                .entry(anchor.awaited)
                .or_default()
                .push(Arc::clone(entity));
        }
        if let Some(file) = file {
            self.files.entry(file).or_default().push(Arc::clone(entity));
        }
        self.give_back(unused);
        true
    }

    fn forget_place(&mut self, entity: &Arc<str>, place: &Place) -> Vec<i32> {
        self.troubled.remove(entity);
        self.unindex(entity, place.anchor.as_ref(), place.file)
    }

    /// Takes an entity away from its watch descriptors, which may be without
    /// any entity then.
    fn unindex(
        &mut self,
        entity: &Arc<str>,
        anchor: Option<&Anchor>,
        file: Option<i32>,
    ) -> Vec<i32> {
        if let Some(anchor) = anchor
            && let Some(names) = self.names.get_mut(&anchor.directory)
        {
            if let Some(entities) = names.get_mut(&anchor.awaited) {
                entities.retain(|other| other != entity);
                if entities.is_empty() {
                    names.remove(&anchor.awaited);
                }
            }
            if names.is_empty() {
                self.names.remove(&anchor.directory);
            }
        }
        if let Some(file) = file
            && let Some(entities) = self.files.get_mut(&file)
        {
            entities.retain(|other| other != entity);
            if entities.is_empty() {
                self.files.remove(&file);
            }
        }
        anchor
            .map(|anchor| anchor.directory)
            .into_iter()
            .chain(file)
            .collect()
    }

    /// Gives back those watches that nobody needs any more.
    fn give_back(&mut self, watches: Vec<i32>) {
        for wd in watches {
            let used = self.names.contains_key(&wd) || self.files.contains_key(&wd);
            if !used && self.held.remove(&wd) {
                self.inotify.remove(wd);
            }
        }
    }
}

impl Place {
    /// Returns the watch descriptors that it has come by.
    fn establish(&mut self, inotify: &Inotify) -> Vec<i32> {
        let mut held = Vec::new();
        self.problem = None;
        self.anchor = match anchor(inotify, &self.pidfile, &mut held) {
            Ok(anchor) => Some(anchor),
            Err(problem) => {
                self.problem = Some(problem);
                None
            }
        };
        self.file = match inotify.add(&self.pidfile, FILE) {
            Ok(file) => {
                held.push(file);
                Some(file)
            }
            // Without read permission there is nothing to look at, either.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => None,
            Err(errno) => {
                self.problem.get_or_insert_with(|| Problem {
                    path: self.pidfile.clone(),
                    errno,
                });
                None
            }
        };
        held
    }
}

/// Watches the nearest existing directory above `pidfile`.
fn anchor(inotify: &Inotify, pidfile: &Path, held: &mut Vec<i32>) -> Result<Anchor, Problem> {
    let problem = |path: &Path, errno| Problem {
        path: path.to_owned(),
        errno,
    };
    'again: for round in 1..=ROUNDS {
        // From the file's directory upwards.
        let mut below = pidfile;
        while let (Some(directory), Some(name)) = (below.parent(), below.file_name()) {
            match inotify.add(directory, DIRECTORY) {
                Ok(wd) => {
                    held.push(wd);
                    // It may have come into being before the watch did.
                    if below != pidfile && below.is_dir() && round < ROUNDS {
                        continue 'again;
                    }
                    return Ok(Anchor {
                        directory: wd,
                        awaited: name.to_owned(),
                        is_last: below == pidfile,
                    });
                }
                Err(Errno::NOENT | Errno::NOTDIR) => below = directory,
                Err(errno) => return Err(problem(directory, errno)),
            }
        }
        break;
    }
    Err(problem(pidfile, Errno::NOENT))
}

#[cfg(test)]
mod tests;
