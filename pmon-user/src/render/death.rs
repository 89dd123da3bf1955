//! A death in a few words, or as one paragraph.
//!
//! Must stay true: made from the view alone, and what it does not tell is not
//! claimed, neither by a number nor by a turn of phrase.

use std::borrow::Cow;

use super::{span, text::printable};
use crate::view::incident::{Cause, DeathCertificate, Killer, LastSignal, SignalFrom};

/// Detection that took longer than this is told as late: the daemon was away,
/// or was kept from running.
const LATE_US: u64 = 1_000_000;

/// Why it died: `SIGKILL by bash[812]`, `exit 1`, `SIGSEGV, core dumped`.
#[must_use]
pub fn cause(death: &DeathCertificate) -> String {
    let mut text = match death.cause {
        Cause::Exit => match death.exit_code {
            Some(code) => format!("exit {code}"),
            None => "exit".to_owned(),
        },
        Cause::Signal | Cause::Core => match death.signal {
            Some(signal) => signal_name(signal).into_owned(),
            None => "a signal".to_owned(),
        },
        Cause::Oom => "the OOM killer".to_owned(),
        Cause::Heartbeat => "missed heartbeats".to_owned(),
        Cause::Unknown => "unknown cause".to_owned(),
    };
    if dumped_core(death) {
        text.push_str(", core dumped");
    }
    if let Some(Killer { pid, uid: _, comm }) = &death.killer {
        let comm = printable(comm.as_deref().unwrap_or("?"));
        match pid {
            Some(pid) => text.push_str(&format!(" by {comm}[{pid}]")),
            None => text.push_str(&format!(" by {comm}")),
        }
    }
    text
}

/// Everything known about a death, as one paragraph without its line end:
/// ``killed by SIGKILL from `bash` (pid 812, uid 0) after 3 h 12 min; seen after
/// 14 µs; memory released 212 ms later; successor up after 38 ms``.
#[must_use]
pub fn paragraph(death: &DeathCertificate) -> String {
    let mut first = ending(death);
    if let Some(lived) = death.uptime_s.and_then(span::whole_micros) {
        first.push_str(&format!(" after {}", span::in_words(lived)));
    }
    if dumped_core(death) {
        first.push_str(", core dumped");
    }
    if death.oom_victim == Some(true) && death.cause != Cause::Oom {
        first.push_str(", chosen by the OOM killer as well");
    }
    let mut clauses = vec![first];
    clauses.extend(last_words(death));
    clauses.push(detection(death));
    clauses.extend(release(death));
    clauses.extend(usage(death));
    clauses.extend(
        death
            .recovery_latency_us
            .map(|us| format!("successor up after {}", span::in_words(us))),
    );
    clauses.join("; ")
}

/// How it ended, and at whose hands.
fn ending(death: &DeathCertificate) -> String {
    match death.cause {
        Cause::Exit => match death.exit_code {
            Some(code) => format!("exited {code}"),
            None => "exited".to_owned(),
        },
        Cause::Signal | Cause::Core => killed(death),
        Cause::Oom => "killed by the OOM killer".to_owned(),
        Cause::Heartbeat => "ended because its heartbeats were missed".to_owned(),
        Cause::Unknown => "died of an unknown cause".to_owned(),
    }
}

fn killed(death: &DeathCertificate) -> String {
    let name = death.signal.map_or(Cow::Borrowed("a signal"), signal_name);
    let sent = death.last_signal.as_ref().filter(|_| is_deadly(death));
    match (sent, &death.killer) {
        (Some(sent), _) => match sent.from {
            SignalFrom::Kernel if sent.fault => format!("killed by the kernel ({name} fault)"),
            SignalFrom::Kernel => format!("killed by the kernel ({name})"),
            SignalFrom::Process | SignalFrom::Pmon | SignalFrom::Unknown => {
                format!("killed by {name}{}", origin(sent, death.pid))
            }
        },
        (None, Some(killer)) => format!("killed by {name} from {}", somebody(killer, death.pid)),
        (None, None) => format!("killed by {name}"),
    }
}

/// Whether the last signal is the one that ended it.
fn is_deadly(death: &DeathCertificate) -> bool {
    let sent = death.last_signal.as_ref().map(|sent| sent.signal);
    sent.is_some() && sent == death.signal
}

/// The last signal, where it was not the end but may have led to it.
fn last_words(death: &DeathCertificate) -> Option<String> {
    let sent = death.last_signal.as_ref()?;
    if is_deadly(death) || death.cause == Cause::Oom {
        return None;
    }
    let name = signal_name(sent.signal);
    let before = sent
        .before_death_us
        .map_or_else(String::new, |us| format!("{} ", span::in_words(us)));
    Some(match sent.from {
        SignalFrom::Kernel => format!("{before}after {name} from the kernel"),
        SignalFrom::Process | SignalFrom::Pmon | SignalFrom::Unknown => {
            format!("{before}after {name}{}", origin(sent, death.pid))
        }
    })
}

/// `` from `bash` (pid 812, uid 0)``, `` from pmon: restart by uid 0``, or nothing.
fn origin(sent: &LastSignal, dead: u32) -> String {
    match (sent.from, &sent.sender) {
        (SignalFrom::Pmon, _) => match &sent.why {
            Some(why) => format!(" from pmon: {}", printable(why)),
            None => " from pmon".to_owned(),
        },
        (SignalFrom::Process, Some(sender)) => format!(" from {}", somebody(sender, dead)),
        (SignalFrom::Process, None) | (SignalFrom::Kernel | SignalFrom::Unknown, _) => {
            String::new()
        }
    }
}

/// `` `bash` (pid 812, uid 0)``, or `itself`.
fn somebody(sender: &Killer, dead: u32) -> String {
    let Killer { pid, uid, comm } = sender;
    if *pid == Some(dead) {
        return "itself".to_owned();
    }
    let comm = match comm {
        Some(comm) => format!("`{}`", printable(comm)),
        None => "a process".to_owned(),
    };
    match pid {
        Some(pid) => format!("{comm} (pid {pid}, uid {uid})"),
        None => format!("{comm} (uid {uid}, outside of the pid namespace)"),
    }
}

fn detection(death: &DeathCertificate) -> String {
    let source = printable(&death.detected_by);
    match death.detect_latency_us {
        Some(us) if us >= LATE_US => {
            format!("seen by {source}, but only after {}", span::in_words(us))
        }
        Some(us) => format!("seen by {source} after {}", span::in_words(us)),
        None => format!("seen by {source}, which does not tell when it was"),
    }
}

/// The release is a moment of its own only where it was seen well after the death.
fn release(death: &DeathCertificate) -> Option<String> {
    let released = death.resources_released_us?;
    let span = span::in_words(released);
    let apart = death
        .detect_latency_us
        .is_some_and(|detected| released.saturating_sub(detected) > detected);
    Some(if apart {
        format!("memory released {span} later")
    } else {
        format!("memory released within {span}")
    })
}

fn usage(death: &DeathCertificate) -> Option<String> {
    let cpu = death
        .cpu_s
        .and_then(span::whole_micros)
        .map(|us| format!("{} of CPU time", span::in_words(us)));
    let memory = death
        .rss_bytes
        .map(|bytes| format!("{} of memory at its peak", size(bytes)));
    let parts: Vec<_> = [cpu, memory].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("used {}", parts.join(" and ")))
}

/// Bytes in the largest unit of which there is at least one: `812 KiB`, `12 MiB`, `1.5 GiB`.
fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        GIB.. => format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB),
        MIB.. => format!("{} MiB", bytes / MIB),
        _ => format!("{} KiB", bytes / KIB),
    }
}

fn dumped_core(death: &DeathCertificate) -> bool {
    death.cause == Cause::Core || death.core_dumped == Some(true)
}

/// The name of a signal on this machine (signal(7)), `signal N` for the others.
#[must_use]
pub fn signal_name(signal: i32) -> Cow<'static, str> {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSTKFLT => "SIGSTKFLT",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGIO => "SIGIO",
        libc::SIGPWR => "SIGPWR",
        libc::SIGSYS => "SIGSYS",
        other => return Cow::Owned(format!("signal {other}")),
    };
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::view::samples;

    #[test]
    fn causes_are_told_in_a_few_words() {
        let mut death = samples::death();
        assert_eq!(cause(&death), "SIGKILL by bash[812]");
        death.killer.as_mut().unwrap().comm = Some("evil\u{1b}]0;x".to_owned());
        assert_eq!(cause(&death), "SIGKILL by evil\\u{1b}]0;x[812]");
        death.killer.as_mut().unwrap().pid = None;
        assert_eq!(cause(&death), "SIGKILL by evil\\u{1b}]0;x");
        death.killer = None;
        death.cause = Cause::Core;
        death.signal = Some(11);
        assert_eq!(cause(&death), "SIGSEGV, core dumped");
        death.signal = Some(40);
        assert_eq!(cause(&death), "signal 40, core dumped");
        death.core_dumped = None;
        death.cause = Cause::Exit;
        death.exit_code = Some(1);
        assert_eq!(cause(&death), "exit 1");
        death.cause = Cause::Oom;
        assert_eq!(cause(&death), "the OOM killer");
        death.cause = Cause::Unknown;
        assert_eq!(cause(&death), "unknown cause");
    }

    /// A death of which only the most necessary is known.
    fn barely_known() -> DeathCertificate {
        DeathCertificate {
            start_time: None,
            uptime_s: None,
            cause: Cause::Unknown,
            exit_code: None,
            signal: None,
            core_dumped: None,
            killer: None,
            last_signal: None,
            oom_victim: None,
            comm: None,
            cgroup: None,
            container: None,
            rss_bytes: None,
            cpu_s: None,
            detected_by: "pidfd".to_owned(),
            detect_latency_us: None,
            resources_released_us: None,
            recovered_at: None,
            recovery_latency_us: None,
            ..samples::death()
        }
    }

    fn by(cause: Cause, signal: i32) -> DeathCertificate {
        DeathCertificate {
            cause,
            signal: Some(signal),
            detected_by: "ebpf".to_owned(),
            detect_latency_us: Some(14),
            ..barely_known()
        }
    }

    fn sent(signal: i32, from: SignalFrom) -> LastSignal {
        LastSignal {
            signal,
            from,
            sender: match from {
                SignalFrom::Process | SignalFrom::Pmon => Some(samples::bash()),
                SignalFrom::Kernel | SignalFrom::Unknown => None,
            },
            why: None,
            fault: false,
            before_death_us: Some(1_200),
        }
    }

    #[test]
    fn a_paragraph_tells_everything_known() {
        let death = DeathCertificate {
            uptime_s: Some(11_520.0),
            detect_latency_us: Some(14),
            resources_released_us: Some(212_000),
            recovery_latency_us: Some(38_000),
            ..samples::death()
        };
        assert_eq!(
            paragraph(&death),
            "killed by SIGKILL from `bash` (pid 812, uid 0) after 3 h 12 min; seen by ebpf after \
             14 µs; memory released 212 ms later; used 1.25 s of CPU time and 12 MiB of memory at \
             its peak; successor up after 38 ms"
        );
    }

    #[test]
    fn a_paragraph_claims_nothing_unknown() {
        assert_eq!(
            paragraph(&barely_known()),
            "died of an unknown cause; seen by pidfd, which does not tell when it was"
        );
    }

    #[test]
    fn an_exit_is_told_with_the_signal_before_it() {
        let mut death = DeathCertificate {
            exit_code: Some(0),
            signal: None,
            uptime_s: Some(5.0),
            ..by(Cause::Exit, 0)
        };
        assert_eq!(
            paragraph(&death),
            "exited 0 after 5.00 s; seen by ebpf after 14 µs"
        );
        death.last_signal = Some(sent(15, SignalFrom::Process));
        assert_eq!(
            paragraph(&death),
            "exited 0 after 5.00 s; 1.20 ms after SIGTERM from `bash` (pid 812, uid 0); seen by \
             ebpf after 14 µs"
        );
        death.last_signal = Some(LastSignal {
            why: Some("restart by uid 0".to_owned()),
            ..sent(15, SignalFrom::Pmon)
        });
        assert!(paragraph(&death).contains("1.20 ms after SIGTERM from pmon: restart by uid 0;"));
        death.last_signal = Some(LastSignal {
            before_death_us: None,
            ..sent(1, SignalFrom::Kernel)
        });
        assert!(paragraph(&death).contains("; after SIGHUP from the kernel;"));
    }

    #[test]
    fn a_signal_is_told_with_its_origin_where_that_is_known() {
        for (last, text) in [
            (None, "killed by SIGSEGV"),
            (Some(sent(11, SignalFrom::Unknown)), "killed by SIGSEGV"),
            (
                Some(sent(11, SignalFrom::Kernel)),
                "killed by the kernel (SIGSEGV)",
            ),
            (
                Some(LastSignal {
                    fault: true,
                    ..sent(11, SignalFrom::Kernel)
                }),
                "killed by the kernel (SIGSEGV fault)",
            ),
            (
                Some(sent(11, SignalFrom::Process)),
                "killed by SIGSEGV from `bash` (pid 812, uid 0)",
            ),
            (
                Some(sent(11, SignalFrom::Pmon)),
                "killed by SIGSEGV from pmon",
            ),
            // The last signal was another one: it is not the killer.
            (
                Some(sent(15, SignalFrom::Process)),
                "killed by SIGSEGV; 1.20 ms after SIGTERM from `bash` (pid 812, uid 0)",
            ),
        ] {
            let death = DeathCertificate {
                last_signal: last,
                ..by(Cause::Signal, 11)
            };
            let expected = format!("{text}; seen by ebpf after 14 µs");
            assert_eq!(paragraph(&death), expected);
        }
    }

    #[test]
    fn senders_are_told_as_far_as_they_are_known() {
        for (pid, comm, text) in [
            (Some(4700), Some("web"), "itself"),
            (
                None,
                Some("bash"),
                "`bash` (uid 0, outside of the pid namespace)",
            ),
            (Some(812), None, "a process (pid 812, uid 0)"),
            (Some(812), Some("a\nb"), "`a\\nb` (pid 812, uid 0)"),
        ] {
            let sender = Killer {
                pid,
                uid: 0,
                comm: comm.map(str::to_owned),
            };
            assert_eq!(somebody(&sender, 4700), text);
        }
    }

    #[test]
    fn cores_and_the_oom_killer_are_told() {
        let core = DeathCertificate {
            core_dumped: Some(true),
            uptime_s: Some(60.0),
            ..by(Cause::Core, 6)
        };
        assert_eq!(
            paragraph(&core),
            "killed by SIGABRT after 1 min 0 s, core dumped; seen by ebpf after 14 µs"
        );
        let oom = DeathCertificate {
            oom_victim: Some(true),
            rss_bytes: Some(3 << 29),
            last_signal: Some(sent(9, SignalFrom::Kernel)),
            ..by(Cause::Oom, 9)
        };
        assert_eq!(
            paragraph(&oom),
            "killed by the OOM killer; seen by ebpf after 14 µs; used 1.5 GiB of memory at its peak"
        );
    }

    #[test]
    fn late_knowledge_is_told_as_such() {
        let mut death = DeathCertificate {
            detect_latency_us: Some(31_000_000),
            resources_released_us: Some(31_000_040),
            ..by(Cause::Signal, 9)
        };
        assert_eq!(
            paragraph(&death),
            "killed by SIGKILL; seen by ebpf, but only after 31.00 s; memory released within 31.00 s"
        );
        death.detect_latency_us = Some(100);
        death.resources_released_us = Some(150);
        assert!(paragraph(&death).ends_with("after 100 µs; memory released within 150 µs"));
    }

    #[test]
    fn sizes_have_one_unit() {
        for (bytes, text) in [
            (4096, "4 KiB"),
            (12 << 20, "12 MiB"),
            (1 << 30, "1.0 GiB"),
            (5 << 29, "2.5 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
