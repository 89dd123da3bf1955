//! From the kernel's entry of a dead process to the evidence of its death.

use std::time::Duration;

use pmon_common::{OOM_PROGRAM, Registration, flag};

use super::{Table, zombie};
use crate::{
    core::{
        evidence::{Evidence, Sender, SentSignal, SignalOrigin, si_code},
        time::Time,
    },
    source::ebpf::Ebpf,
};

impl Table {
    /// What the kernel's entry of a registration tells; nothing without one.
    pub(super) fn evidence(&self, generation: u64) -> Evidence {
        let entry = self.kernel.as_ref().and_then(|kernel| {
            let registration = self.entries.get(&generation)?;
            kernel.get(registration.identity.pid)
        });
        match entry {
            Some(entry) if entry.generation == generation => {
                Evidence::from_entry(&entry, self.watches_oom())
            }
            Some(_) | None => Evidence::default(),
        }
    }

    /// Whether the program that marks OOM victims is attached.
    pub(super) fn watches_oom(&self) -> bool {
        let is_missing = |kernel: &Ebpf| {
            let mut missing = kernel.missing().iter();
            missing.any(|missing| missing.program == OOM_PROGRAM)
        };
        self.kernel
            .as_ref()
            .is_some_and(|kernel| !is_missing(kernel))
    }
}

impl Evidence {
    /// What an entry tells. `oom_watched`: whether the program that marks OOM
    /// victims was attached, so that a missing mark means something.
    #[must_use]
    pub fn from_entry(entry: &Registration, oom_watched: bool) -> Self {
        let Registration {
            start_time: _,
            generation,
            died_at: _,
            exit_code: _,
            flags,
            root_generation: _,
            dead_generation,
            signal_generation,
            cpu_ns,
            peak_rss_pages,
            signal_at: _,
            signal: _,
            signal_code: _,
            sender_tgid: _,
            sender_uid: _,
            sender_comm: _,
            comm: _,
        } = *entry;
        let has = |bit: u32| flags & bit != 0;
        let usage = has(flag::USAGE_KNOWN) && dead_generation == generation;
        let oom_victim = match (has(flag::OOM_VICTIM), oom_watched) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let signalled = has(flag::SIGNAL_KNOWN) && signal_generation == generation;
        Self {
            peak_rss_bytes: usage.then(|| peak_rss_pages.saturating_mul(procfs::page_size())),
            cpu: usage.then(|| Duration::from_nanos(cpu_ns)),
            oom_victim,
            last_signal: signalled.then(|| Box::new(signal(entry))),
        }
    }
}

fn signal(entry: &Registration) -> SentSignal {
    SentSignal {
        signal: entry.signal,
        code: entry.signal_code,
        origin: origin(entry),
        at: Time::from_boot_ns(entry.signal_at),
    }
}

fn origin(entry: &Registration) -> SignalOrigin {
    let sender = Sender {
        pid: (entry.sender_tgid != 0).then_some(entry.sender_tgid),
        uid: entry.sender_uid,
        comm: zombie::comm(&entry.sender_comm),
    };
    if entry.signal_code > si_code::USER {
        SignalOrigin::Kernel
    } else if sender.comm.is_none() && sender.pid.is_none() {
        // A timer, a message queue and the like, in whoever ran at that moment.
        SignalOrigin::Unknown
    } else if sender.pid == Some(std::process::id()) {
        SignalOrigin::Pmon { sender, why: None }
    } else {
        SignalOrigin::Process(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASH: [u8; 16] = *b"bash\0\0\0\0\0\0\0\0\0\0\0\0";

    fn signalled(code: i32, tgid: u32) -> Registration {
        Registration {
            flags: flag::DEAD | flag::SIGNAL_KNOWN,
            signal: 15,
            signal_code: code,
            sender_tgid: tgid,
            sender_uid: 1000,
            sender_comm: BASH,
            signal_at: 99,
            ..Registration::default()
        }
    }

    #[test]
    fn an_empty_entry_claims_nothing() {
        let entry = Registration::default();
        assert_eq!(Evidence::from_entry(&entry, false), Evidence::default());
        let watched = Evidence::from_entry(&entry, true);
        assert_eq!(watched.oom_victim, Some(false));
        assert_eq!(watched.last_signal, None);
    }

    #[test]
    fn usage_and_the_oom_killers_mark_are_read() {
        let entry = Registration {
            flags: flag::USAGE_KNOWN | flag::OOM_VICTIM,
            cpu_ns: 1_500_000,
            peak_rss_pages: 3,
            ..Registration::default()
        };
        let evidence = Evidence::from_entry(&entry, false);
        assert_eq!(evidence.cpu, Some(Duration::from_micros(1500)));
        assert_eq!(evidence.peak_rss_bytes, Some(3 * procfs::page_size()));
        assert_eq!(evidence.oom_victim, Some(true));
    }

    #[test]
    fn a_sender_is_told_where_one_was_noted() {
        for code in [si_code::USER, -1, -6] {
            let expected = SignalOrigin::Process(Sender {
                pid: Some(812),
                uid: 1000,
                comm: Some("bash".to_owned()),
            });
            assert_eq!(origin(&signalled(code, 812)), expected, "{code}");
        }
        for code in [1, 2, si_code::KERNEL] {
            assert_eq!(origin(&signalled(code, 812)), SignalOrigin::Kernel);
        }
        // SI_TIMER: the kernel side blames nobody.
        let nobody = Registration {
            sender_uid: 0,
            sender_comm: [0; 16],
            ..signalled(-2, 0)
        };
        assert_eq!(origin(&nobody), SignalOrigin::Unknown);
    }

    #[test]
    fn what_was_written_for_an_earlier_entry_is_not_believed() {
        let entry = Registration {
            generation: 8,
            dead_generation: 8,
            signal_generation: 8,
            flags: flag::USAGE_KNOWN | flag::SIGNAL_KNOWN,
            ..signalled(0, 812)
        };
        let evidence = Evidence::from_entry(&entry, false);
        assert!(evidence.cpu.is_some() && evidence.last_signal.is_some());
        let other = Registration {
            dead_generation: 7,
            signal_generation: 7,
            ..entry
        };
        assert_eq!(Evidence::from_entry(&other, false), Evidence::default());
    }

    #[test]
    fn a_sender_outside_the_namespace_has_no_pid() {
        let SignalOrigin::Process(sender) = origin(&signalled(0, 0)) else {
            panic!("a process sent it");
        };
        assert_eq!(sender.pid, None);
        assert_eq!(sender.comm.as_deref(), Some("bash"));
    }

    #[test]
    fn the_daemon_knows_itself() {
        let origin = origin(&signalled(0, std::process::id()));
        assert!(matches!(origin, SignalOrigin::Pmon { .. }), "{origin:?}");
    }

    #[test]
    fn a_fault_is_the_kernels_with_a_reason() {
        let sent = |signal, code| signal_with(signal, code).is_fault();
        assert!(sent(11, 1));
        assert!(!sent(11, si_code::KERNEL));
        assert!(!sent(11, si_code::USER));
        assert!(!sent(9, 1));
    }

    fn signal_with(number: u32, code: i32) -> SentSignal {
        signal(&Registration {
            signal: number,
            ..signalled(code, 812)
        })
    }
}
