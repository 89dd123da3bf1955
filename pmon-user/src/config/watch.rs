//! Tells when configuration files may have changed: inotify on their
//! directories, on the links among them and on what these lead to.
//!
//! Must stay true: a watch is there before the files are read, so that what
//! changes afterwards is told; a directory that is gone is awaited in its
//! nearest ancestor; what editors write beside a file is not told.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustix::{fs::inotify::WatchFlags, io::Errno};

use crate::sys::inotify::{Inotify, Record};

/// Links that lead to one file; the kernel follows 40 (path_resolution(7)).
const LINKS: usize = 40;

/// A file is news when it is complete, and when its mode or owner change,
/// because those decide whether it is read.
const MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What is to be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Directories of which every file counts.
    pub directories: Vec<PathBuf>,
    /// Single files.
    pub files: Vec<PathBuf>,
}

/// What of a directory is of interest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Interest {
    /// Every name.
    all: bool,
    /// These names.
    names: BTreeSet<OsString>,
}

/// What a batch of records means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Some file may have changed.
    pub changed: bool,
    /// The watches may have to be others.
    pub moved: bool,
}

/// One inotify instance.
#[derive(Debug)]
pub struct ConfigWatch {
    inotify: Inotify,
    watched: HashMap<i32, Interest>,
}

impl ConfigWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    ///
    /// `EMFILE` when the user has too many instances
    /// (`fs.inotify.max_user_instances`) or the process too many files.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            inotify: Inotify::new()?,
            watched: HashMap::new(),
        })
    }

    /// The descriptor that is readable when [`Self::read`] has something to read.
    #[must_use]
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        self.inotify.descriptor()
    }

    /// Watches these places and nothing else. Blocking: it reads directories.
    ///
    /// # Errors
    ///
    /// The first directory that cannot be watched; the others are.
    pub fn establish(&mut self, places: &Places) -> Result<(), (PathBuf, Errno)> {
        let mut wanted: HashMap<PathBuf, Interest> = HashMap::new();
        for directory in &places.directories {
            let end = follow(directory, &mut wanted);
            wanted.entry(end.clone()).or_default().all = true;
            for entry in fs::read_dir(&end).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    follow(&entry.path(), &mut wanted);
                }
            }
        }
        for file in &places.files {
            follow(file, &mut wanted);
        }
        let mut trouble = None;
        let mut watched: HashMap<i32, Interest> = HashMap::new();
        for (directory, interest) in wanted {
            match add_nearest(&self.inotify, &directory, interest) {
                Ok((wd, Interest { all, names })) => {
                    let known = watched.entry(wd).or_default();
                    known.all |= all;
                    known.names.extend(names);
                }
                Err(errno) => trouble = trouble.or(Some((directory, errno))),
            }
        }
        for wd in self.watched.keys() {
            if !watched.contains_key(wd) {
                self.inotify.remove(*wd);
            }
        }
        self.watched = watched;
        trouble.map_or(Ok(()), Err)
    }

    /// Reads one batch of records.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there are none.
    pub fn read(&self) -> io::Result<News> {
        let mut news = News::default();
        self.inotify.read(|record| match record {
            Record::Overflow => {
                news = News {
                    changed: true,
                    moved: true,
                };
            }
            Record::Ended { watch, removed: _ } => {
                // Not one that was given back.
                let known = self.watched.contains_key(&watch);
                news.changed |= known;
                news.moved |= known;
            }
            Record::Entry { watch, name } => {
                if let Some(interest) = self.watched.get(&watch) {
                    let named = interest.names.contains(name);
                    news.changed |= named || (interest.all && !is_temporary(name));
                    news.moved |= named;
                }
            }
            // A directory's own mode or owner.
            Record::Itself { .. } => {}
        })?;
        Ok(news)
    }
}

/// Watches a directory, or the nearest one above it for what leads there.
fn add_nearest(
    inotify: &Inotify,
    directory: &Path,
    interest: Interest,
) -> Result<(i32, Interest), Errno> {
    let mut interest = interest;
    let mut place = directory;
    loop {
        match inotify.add(place, MASK) {
            Ok(wd) => return Ok((wd, interest)),
            Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
                let (Some(above), Some(name)) = (place.parent(), place.file_name()) else {
                    return Err(errno);
                };
                interest = Interest {
                    all: false,
                    names: BTreeSet::from([name.to_owned()]),
                };
                place = above;
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// Follows a path to its end, and notes every directory entry that may lead
/// elsewhere: the links on the way, and the last one.
fn follow(path: &Path, wanted: &mut HashMap<PathBuf, Interest>) -> PathBuf {
    let mut links = 0;
    let mut done = PathBuf::new();
    let mut left: Vec<OsString> = components(path);
    left.reverse();
    while let Some(name) = left.pop() {
        if name == ".." {
            done.pop();
            continue;
        }
        let entry = done.join(&name);
        let target = fs::read_link(&entry).ok().filter(|_| links < LINKS);
        if (target.is_some() || left.is_empty()) && entry.parent().is_some() {
            let names = &mut wanted.entry(done.clone()).or_default().names;
            names.insert(name);
        }
        let Some(target) = target else {
            done = entry;
            continue;
        };
        links += 1;
        if target.is_absolute() {
            done = PathBuf::new();
        }
        left.extend(components(&target).into_iter().rev());
    }
    done
}

fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::RootDir => Some(OsStr::new("/")),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::Normal(name) => Some(name),
        Component::CurDir | Component::Prefix(_) => None,
    });
    names.map(OsStr::to_owned).collect()
}

/// Names that editors and `sed -i` use for files that are about to be the real
/// one, or to go.
fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let is_sed = name.strip_prefix(b"sed").is_some_and(|rest| {
        rest.len() == 6
            && rest.iter().all(u8::is_ascii_alphanumeric)
            && rest
                .iter()
                .any(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    });
    let contains = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    is_sed
        // vim tries whether it may write, and has its swap files.
        || name == b"4913"
        || contains(b".swp")
        || contains(b".swx")
        || name.ends_with(b".swo")
        || name.ends_with(b"~")
        // Emacs: locks and what it saves by itself.
        || name.starts_with(b".#")
        || (name.starts_with(b"#") && name.ends_with(b"#"))
}

#[cfg(test)]
#[path = "tests/watch.rs"]
mod tests;
