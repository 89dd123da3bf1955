//! What the kernel noted of the circumstances of a death, beside its time and
//! wait status: the last signal, the OOM killer's choice, what was used.
//!
//! Must stay true: what no source told is `None`. That something did not happen
//! is only said where somebody watched for it.

use std::time::Duration;

use super::time::Time;

/// Circumstances of a death.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Peak resident set, in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// CPU time of all threads.
    pub cpu: Option<Duration>,
    /// Whether the OOM killer chose it.
    pub oom_victim: Option<bool>,
    /// The last signal that was sent to it; not necessarily what ended it.
    pub last_signal: Option<Box<SentSignal>>,
}

/// A signal that was sent to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentSignal {
    /// Number.
    pub signal: u32,
    /// `si_code` of sigaction(2).
    pub code: i32,
    /// Who sent it.
    pub origin: SignalOrigin,
    /// When.
    pub at: Time,
}

impl SentSignal {
    /// Whether the kernel sent it because of what the process itself did: an
    /// address or an instruction that it may not use.
    #[must_use]
    pub const fn is_fault(&self) -> bool {
        /// SIGILL, SIGBUS, SIGFPE and SIGSEGV of signal(7).
        const FAULTS: [u32; 4] = [4, 7, 8, 11];
        let [ill, bus, fpe, segv] = FAULTS;
        let signal = self.signal;
        let may_be = signal == ill || signal == bus || signal == fpe || signal == segv;
        // With SI_KERNEL the kernel may as well have had a reason of its own.
        may_be && matches!(self.origin, SignalOrigin::Kernel) && self.code != si_code::KERNEL
    }
}

/// Who sent a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalOrigin {
    /// A process.
    Process(Sender),
    /// This daemon.
    Pmon {
        /// Itself.
        sender: Sender,
        /// Why, where that is known.
        why: Option<String>,
    },
    /// The kernel itself.
    Kernel,
    /// Neither is known: a timer, a message queue and the like.
    Unknown,
}

/// A process that sent a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Thread group id in the daemon's pid namespace; `None` for one outside it.
    pub pid: Option<u32>,
    /// Real user id.
    pub uid: u32,
    /// `comm`.
    pub comm: Option<String>,
}

/// Values of `si_code` that any signal can have (sigaction(2),
/// include/uapi/asm-generic/siginfo.h).
pub mod si_code {
    /// kill(2); below are the other ways for a process to send one.
    pub const USER: i32 = 0;
    /// Sent by the kernel, without further reason.
    pub const KERNEL: i32 = 0x80;
}
