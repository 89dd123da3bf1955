//! The floor: the same BPF object as pmon's, loaded a second time, and a loop
//! that does nothing but read its ring. Nothing that learns of deaths through
//! this ring can be faster.

use anyhow::{Result, ensure};
use pmon_common::Registration;
use pmon_user::{
    core::time::Time,
    source::ebpf::{Ebpf, Inserted},
    sys::{clock, pidfd::VerifiedPid},
};

use super::{
    Row,
    post::{Source, Watch},
};

/// The bare ring loop.
pub(crate) struct Floor {
    ebpf: Ebpf,
    tgid: u32,
    generation: u64,
}

impl Floor {
    /// With the object loaded and attached.
    pub(crate) const fn new(ebpf: Ebpf) -> Self {
        Self {
            ebpf,
            tgid: 0,
            generation: 0,
        }
    }
}

impl Source for Floor {
    const ROW: Row = Row::Floor;

    fn watch(&mut self, process: VerifiedPid, epoll: &Watch<'_>) -> Result<()> {
        let identity = process.identity();
        self.generation += 1;
        self.tgid = identity.pid;
        let entry = Registration {
            start_time: identity.start_time,
            generation: self.generation,
            ..Registration::default()
        };
        let inserted = self.ebpf.insert(identity.pid, entry)?;
        ensure!(inserted == Inserted::Yes, "not inserted: {inserted:?}");
        Ok(epoll.add(self.ebpf.ring_fd())?)
    }

    fn heard(&mut self) -> Option<Time> {
        let event = self.ebpf.next_event()?;
        let at = clock::now();
        (event.generation == self.generation).then_some(at)
    }

    fn forget(&mut self, epoll: &Watch<'_>) -> Result<()> {
        self.ebpf.remove(self.tgid);
        Ok(epoll.remove(self.ebpf.ring_fd())?)
    }
}
