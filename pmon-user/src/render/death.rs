//! A death in a few words.

use std::borrow::Cow;

use super::{span, text::printable};
use crate::view::incident::{Cause, DeathCertificate, Killer};

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
    if death.cause == Cause::Core || death.core_dumped == Some(true) {
        text.push_str(", core dumped");
    }
    if let Some(Killer { pid, uid: _, comm }) = &death.killer {
        text.push_str(&format!(" by {}[{pid}]", printable(comm)));
    }
    text
}

/// How soon it was known and repaired: `detected in 87 µs, recovered in 41 ms`.
#[must_use]
pub fn latencies(death: &DeathCertificate) -> Option<String> {
    let parts: Vec<_> = [
        ("detected in", death.detect_latency_us),
        ("resources released after", death.resources_released_us),
        ("recovered in", death.recovery_latency_us),
    ]
    .into_iter()
    .filter_map(|(what, us)| us.map(|us| format!("{what} {}", span::micros(us))))
    .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
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
        death.killer.as_mut().unwrap().comm = "evil\u{1b}]0;x".to_owned();
        assert_eq!(cause(&death), "SIGKILL by evil\\u{1b}]0;x[812]");
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

    #[test]
    fn only_known_latencies_are_told() {
        let mut death = samples::death();
        assert_eq!(
            latencies(&death).unwrap(),
            "detected in 87 µs, resources released after 1.20 ms, recovered in 41 ms"
        );
        death.detect_latency_us = None;
        death.resources_released_us = None;
        death.recovery_latency_us = None;
        assert_eq!(latencies(&death), None);
    }
}
