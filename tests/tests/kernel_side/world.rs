//! The kernel side, loaded for one test, and what it told so far.

use std::{collections::VecDeque, fmt::Debug, path::Path, sync::LazyLock};

use pmon_common::{Event, Registration, flag, kind, pid_numbers};
use pmon_tests::{daemon::LONG, privilege, process::start_ticks, wait};
use pmon_user::source::{
    ebpf::{Ebpf, Inserted, MapSizes},
    programs::Selection,
};

/// Set where the programs are to take this kernel for one whose `struct pid`
/// must be probed, as before Linux 6.5.
pub(crate) const PROBED: &str = "PMON_TEST_PROBED";

/// What this kernel allows. Its types are read once.
pub(crate) fn best() -> Selection {
    static BEST: LazyLock<Selection> = LazyLock::new(Selection::of_this_host);
    BEST.clone()
}

/// Loaded programs with maps of their own.
pub(crate) struct World {
    pub(crate) ebpf: Ebpf,
    pending: VecDeque<Event>,
    generation: u64,
}

impl World {
    /// With what this kernel allows; `None`, said on stdout, where nothing may be loaded.
    pub(crate) fn new() -> Option<Self> {
        Self::with(&best())
    }

    /// With programs of the test's choice.
    pub(crate) fn with(selection: &Selection) -> Option<Self> {
        Self::load(selection, None)
    }

    /// The same, pinned below a directory.
    pub(crate) fn pinned(directory: &Path, selection: &Selection) -> Option<Self> {
        Self::load(selection, Some(directory))
    }

    fn load(selection: &Selection, pins: Option<&Path>) -> Option<Self> {
        if let Some(reason) = privilege::no_bpf() {
            println!("SKIP: {reason}");
            return None;
        }
        let mut selection = selection.clone();
        if std::env::var_os(PROBED).is_some() {
            selection.layout.pid_numbers = pid_numbers::ONE;
        }
        let sizes = MapSizes {
            max_pids: 8192,
            ring_bytes: 1 << 20,
        };
        Some(Self {
            ebpf: Ebpf::start_with(sizes, pins, &selection).unwrap(),
            pending: VecDeque::new(),
            generation: 100,
        })
    }

    /// Has a process watched, with these flags.
    pub(crate) fn register(&mut self, pid: u32, flags: u32) -> u64 {
        self.generation += 1;
        let entry = Registration {
            start_time: start_ticks(pid).unwrap(),
            generation: self.generation,
            flags,
            ..Registration::default()
        };
        assert_eq!(self.ebpf.insert(pid, entry).unwrap(), Inserted::Yes);
        self.generation
    }

    /// The entry of a process.
    pub(crate) fn entry(&self, pid: u32) -> Registration {
        self.ebpf.get(pid).unwrap()
    }

    /// The entry as soon as it is as wanted.
    pub(crate) fn entry_when(
        &self,
        what: &str,
        pid: u32,
        wanted: impl Fn(&Registration) -> bool,
    ) -> Registration {
        wait::until_seen(what, LONG, || self.entry(pid), wanted)
    }

    /// The entry when the process is dead.
    pub(crate) fn death(&self, pid: u32) -> Registration {
        self.entry_when("dead", pid, |entry| entry.flags & flag::DEAD != 0)
    }

    /// The first record that is as wanted; those before it are dropped.
    pub(crate) fn record(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        wait::until(what, LONG, || {
            self.fill();
            while let Some(event) = self.pending.pop_front() {
                if wanted(&event) {
                    return Some(event);
                }
            }
            None
        })
    }

    /// Everything that was told and not read yet.
    pub(crate) fn records(&mut self) -> Vec<Event> {
        self.fill();
        self.pending.drain(..).collect()
    }

    /// The exits that were told of a process and not read yet.
    pub(crate) fn exits(&mut self, pid: u32) -> Vec<Event> {
        let mut records = self.records();
        records.retain(|event| event.kind == kind::EXIT && event.tgid == pid);
        records
    }

    fn fill(&mut self) {
        while let Some(event) = self.ebpf.next_event() {
            self.pending.push_back(event);
        }
    }
}

/// A `comm` as text.
pub(crate) fn text(comm: &[u8; 16]) -> String {
    String::from_utf8_lossy(comm)
        .trim_end_matches('\0')
        .to_owned()
}

/// Asserts flags by name.
pub(crate) fn assert_flags(what: &impl Debug, flags: u32, wanted: u32) {
    assert_eq!(flags & wanted, wanted, "{what:?}");
}
