//! Heartbeats of one entity: counting the marks that no beat came before
//! (`ham.md` §3).
//!
//! Its states:
//!
//! * *ok*: beats come, or fewer than the low mark are missing.
//! * *missed low*: so many in a row were missing. It stays so although beats
//!   come again, until it is told healthy; the high mark is still counted to.
//! * *missed high*: counting has ended until it is told healthy.
//!
//! Must stay true: a beat counts at the next multiple of the period since
//! attach, and any number of beats in between counts as one; what passed while
//! nobody could look is never held against the process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::core::time::Time;

/// The shortest period that `ham_attach_self` takes (`HAMHBEATMIN`).
pub const SHORTEST_OF_HAM: Duration = Duration::from_secs(1);
/// The shortest that pmon takes from its own clients.
pub const SHORTEST: Duration = Duration::from_millis(1);

/// What an entity has committed itself to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// At least one beat in each.
    pub period: Duration,
    /// So many missed in a row make `CONDHBEATMISSEDLOW` true; 0 = never.
    pub low: u32,
    /// So many make `CONDHBEATMISSEDHIGH` true; 0 = never.
    pub high: u32,
}

impl Commitment {
    /// # Errors
    ///
    /// [`Refusal::Invalid`] when the period is shorter than `shortest`, or the low
    /// mark lies above the high one.
    pub fn check(self, shortest: Duration) -> Result<Self, Refusal> {
        if self.period < shortest {
            return Err(Refusal::Invalid("heartbeat period"));
        }
        if self.low > self.high && self.high > 0 {
            return Err(Refusal::Invalid("heartbeat marks"));
        }
        Ok(self)
    }
}

/// What a mark showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Nothing to react to.
    Nothing,
    /// The low mark was reached.
    Low,
    /// The high mark was.
    High,
    /// Both, which are the same: low first (D27).
    Both,
}

/// See the top of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Beats come.
    Ok,
    /// The low mark was reached.
    MissedLow,
    /// The high mark was.
    MissedHigh,
}

impl State {
    /// As HAM's tree shows it (D26).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::MissedLow => "MISSEDLOW",
            Self::MissedHigh => "MISSEDHIGH",
        }
    }
}

/// The beats of one entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    commitment: Commitment,
    state: State,
    misses: u32,
    /// When the next mark is.
    next: Time,
    /// The mark at which a beat was last accepted.
    last: Option<Time>,
    /// The process's count of beats at the last mark.
    beats: u64,
}

impl Heartbeat {
    /// It has just attached; its first mark is a period later.
    #[must_use]
    pub fn new(commitment: Commitment, now: Time) -> Self {
        Self {
            commitment,
            state: State::Ok,
            misses: 0,
            next: now + commitment.period,
            last: None,
            beats: 0,
        }
    }

    /// What it has committed itself to.
    #[must_use]
    pub const fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The mark at which a beat was last accepted.
    #[must_use]
    pub const fn last(&self) -> Option<Time> {
        self.last
    }

    /// Marks missed in a row.
    #[must_use]
    pub const fn misses(&self) -> u32 {
        self.misses
    }

    /// When its beats have to be looked at.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        match self.state {
            State::Ok | State::MissedLow => Some(self.next),
            State::MissedHigh => None,
        }
    }

    /// The process has beaten so often by now. Marks that passed unseen since the
    /// last look count as one.
    pub fn look(&mut self, beats: u64, now: Time) -> Missed {
        if self.due().is_none_or(|due| now < due) {
            return Missed::Nothing;
        }
        let mark = self.last_mark(now);
        self.next = mark + self.commitment.period;
        if beats != self.beats {
            self.beats = beats;
            self.misses = 0;
            self.last = Some(mark);
            return Missed::Nothing;
        }
        self.misses = self.misses.saturating_add(1);
        let reached = |threshold: u32| threshold > 0 && self.misses >= threshold;
        let low = self.state == State::Ok && reached(self.commitment.low);
        let high = reached(self.commitment.high);
        if low {
            self.state = State::MissedLow;
        }
        if high {
            self.state = State::MissedHigh;
        }
        match (low, high) {
            (false, false) => Missed::Nothing,
            (true, false) => Missed::Low,
            (false, true) => Missed::High,
            (true, true) => Missed::Both,
        }
    }

    /// The last multiple of the period since attach that is not after `now`.
    fn last_mark(&self, now: Time) -> Time {
        let period = self.commitment.period.as_nanos().max(1);
        let passed = now.since(self.next).as_nanos() / period * period;
        self.next + Duration::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// It is to be taken for healthy (`heartbeat_healthy`): counting begins anew,
    /// at the multiples of the period at which it was.
    pub fn healthy(&mut self, now: Time) {
        self.state = State::Ok;
        self.misses = 0;
        if now >= self.next {
            self.next = self.last_mark(now) + self.commitment.period;
        }
    }

    /// Nobody could look for so long, or the host was suspended: all marks move
    /// (D29, D34).
    pub fn shift(&mut self, by: Duration) {
        self.next = self.next + by;
    }

    /// Nobody reacted to it until now: it is counted from the start (D20).
    pub fn count_anew(&mut self) {
        self.misses = 0;
    }
}
