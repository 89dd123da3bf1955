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
    ffi::{OsStr, OsString},
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch},
    io::Errno,
};

/// Bytes read at a time; a record is 16 bytes and a name of up to 256.
const BUFFER_BYTES: usize = 16 * 1024;
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

/// The end of a watch, whatever was watched.
const END: ReadFlags = ReadFlags::DELETE_SELF
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::IGNORED);

/// One inotify instance and the pidfiles it watches.
#[derive(Debug)]
pub struct Watch {
    inotify: Arc<OwnedFd>,
    places: Vec<Place>,
    /// Watch descriptor of a directory → awaited name → places.
    names: HashMap<i32, HashMap<OsString, Vec<usize>>>,
    /// Watch descriptor of a pidfile → places.
    files: HashMap<i32, Vec<usize>>,
    /// Every watch descriptor the kernel holds for us.
    held: BTreeSet<i32>,
}

/// One entity's pidfile.
#[derive(Debug)]
struct Place {
    entity: Arc<str>,
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
            inotify: Arc::new(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?),
            places: Vec::new(),
            names: HashMap::new(),
            files: HashMap::new(),
            held: BTreeSet::new(),
        })
    }

    /// The descriptor that is readable when [`Self::read`] has something to read.
    #[must_use]
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.inotify)
    }

    /// Replaces the pidfiles to watch; once this returns, nothing that happens
    /// to them is missed.
    pub fn set(&mut self, pidfiles: impl IntoIterator<Item = (Arc<str>, PathBuf)>) {
        self.places = pidfiles
            .into_iter()
            .map(|(entity, pidfile)| Place {
                entity,
                pidfile,
                anchor: None,
                file: None,
                problem: None,
            })
            .collect();
        for place in &mut self.places {
            place.establish(&self.inotify, &mut self.held);
        }
        self.index();
    }

    /// Establishes all watches again; tells the entities for which that
    /// changed anything.
    pub fn refresh(&mut self) -> BTreeSet<Arc<str>> {
        let all: BTreeSet<usize> = (0..self.places.len()).collect();
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
        let mut with_problem = self.places.iter().filter_map(|place| {
            let Problem { path, errno } = place.problem.as_ref()?;
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
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&*self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let (wd, events) = (event.wd(), event.events());
            if events.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.overflow = true;
            } else if events.intersects(END) {
                if events.contains(ReadFlags::IGNORED) {
                    self.held.remove(&wd);
                }
                moved.extend(
                    self.names
                        .get(&wd)
                        .into_iter()
                        .flat_map(|names| names.values().flatten().copied()),
                );
                moved.extend(self.files.get(&wd).into_iter().flatten());
            } else if let Some(name) = event.file_name() {
                let name = OsStr::from_bytes(name.to_bytes());
                let places = self.names.get(&wd).and_then(|names| names.get(name));
                moved.extend(places.into_iter().flatten());
            } else {
                let places = self.files.get(&wd).into_iter().flatten();
                changes
                    .entities
                    .extend(places.map(|&place| Arc::clone(&self.places[place].entity)));
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        // The name itself is news, even where the watches stay as they are.
        changes.entities.extend(
            moved
                .iter()
                .map(|&place| &self.places[place])
                .filter(|place| place.anchor.as_ref().is_some_and(|anchor| anchor.is_last))
                .map(|place| Arc::clone(&place.entity)),
        );
        changes.entities.append(&mut if changes.overflow {
            self.refresh()
        } else {
            self.establish(&moved)
        });
        Ok(changes)
    }

    fn establish(&mut self, places: &BTreeSet<usize>) -> BTreeSet<Arc<str>> {
        let mut changed = BTreeSet::new();
        for &index in places {
            let place = &mut self.places[index];
            let before = (place.anchor.clone(), place.file);
            place.establish(&self.inotify, &mut self.held);
            if before != (place.anchor.clone(), place.file) {
                changed.insert(Arc::clone(&place.entity));
            }
        }
        if !places.is_empty() {
            self.index();
        }
        changed
    }

    /// Sorts the places by watch descriptor, and gives back watches without any.
    fn index(&mut self) {
        self.names.clear();
        self.files.clear();
        for (index, place) in self.places.iter().enumerate() {
            if let Some(anchor) = &place.anchor {
                self.names
                    .entry(anchor.directory)
                    .or_default()
                    .entry(anchor.awaited.clone())
                    .or_default()
                    .push(index);
            }
            if let Some(file) = place.file {
                self.files.entry(file).or_default().push(index);
            }
        }
        let (names, files, inotify) = (&self.names, &self.files, &self.inotify);
        self.held.retain(|wd| {
            let used = names.contains_key(wd) || files.contains_key(wd);
            if !used {
                // EINVAL: the kernel has removed it already.
                let _gone: Result<(), Errno> = remove_watch(inotify, *wd);
            }
            used
        });
    }
}

impl Place {
    fn establish(&mut self, inotify: &OwnedFd, held: &mut BTreeSet<i32>) {
        self.problem = None;
        self.anchor = match anchor(inotify, &self.pidfile, held) {
            Ok(anchor) => Some(anchor),
            Err(problem) => {
                self.problem = Some(problem);
                None
            }
        };
        self.file = match add_watch(inotify, &self.pidfile, FILE) {
            Ok(file) => {
                held.insert(file);
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
    }
}

/// Watches the nearest existing directory above `pidfile`.
fn anchor(inotify: &OwnedFd, pidfile: &Path, held: &mut BTreeSet<i32>) -> Result<Anchor, Problem> {
    let problem = |path: &Path, errno| Problem {
        path: path.to_owned(),
        errno,
    };
    'again: for round in 1..=ROUNDS {
        // From the file's directory upwards.
        let mut below = pidfile;
        while let (Some(directory), Some(name)) = (below.parent(), below.file_name()) {
            match add_watch(inotify, directory, DIRECTORY) {
                Ok(wd) => {
                    held.insert(wd);
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
