//! One inotify instance: how it is set up, and how its records are read.
//!
//! What is watched and what a record means is its users' business. Must stay true: a
//! batch is read as a whole, so that nobody is told of half of what has happened.

use std::{
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch},
    io::Errno,
};

/// Bytes read at a time; a record is 16 bytes and a name of up to 256.
const BUFFER_BYTES: usize = 64 * 1024;

/// The end of a watch, whatever was watched.
const END: ReadFlags = ReadFlags::DELETE_SELF
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::IGNORED);

/// An instance.
#[derive(Clone, Debug)]
pub struct Inotify(Arc<OwnedFd>);

/// What has happened. Watches are named by their descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The kernel had to drop records: anything may have happened.
    Overflow,
    /// What is watched is gone, or is elsewhere.
    Ended {
        /// Which watch.
        watch: i32,
        /// The kernel has removed the watch.
        removed: bool,
    },
    /// Something happened to an entry of a watched directory.
    Entry {
        /// Which watch.
        watch: i32,
        /// Its name.
        name: &'a OsStr,
    },
    /// Something happened to what is watched.
    Itself {
        /// Which watch.
        watch: i32,
    },
}

impl Inotify {
    /// An instance that watches nothing yet.
    ///
    /// # Errors
    ///
    /// `EMFILE` when the user has too many instances
    /// (`fs.inotify.max_user_instances`) or the process too many files.
    pub fn new() -> Result<Self, Errno> {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        Ok(Self(Arc::new(init(flags)?)))
    }

    /// The descriptor that is readable when [`Self::read`] has something to read.
    #[must_use]
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }

    /// Watches a path, in place of an earlier watch of the same inode, of which it
    /// has the descriptor.
    ///
    /// # Errors
    ///
    /// Those of inotify_add_watch(2).
    pub fn add(&self, path: &Path, flags: WatchFlags) -> Result<i32, Errno> {
        add_watch(&self.0, path, flags)
    }

    /// Watches it no more.
    pub fn remove(&self, watch: i32) {
        // EINVAL: the kernel has removed it already.
        let _gone: Result<(), Errno> = remove_watch(&self.0, watch);
    }

    /// Reads one batch of records.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there are none.
    pub fn read(&self, mut each: impl FnMut(Record<'_>)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&*self.0, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let (watch, events) = (event.wd(), event.events());
            each(if events.contains(ReadFlags::QUEUE_OVERFLOW) {
                Record::Overflow
            } else if events.intersects(END) {
                Record::Ended {
                    watch,
                    removed: events.contains(ReadFlags::IGNORED),
                }
            } else if let Some(name) = event.file_name() {
                let name = OsStr::from_bytes(name.to_bytes());
                Record::Entry { watch, name }
            } else {
                Record::Itself { watch }
            });
            if reader.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}
