//! Whether the core lives, as far as can be known without trusting it: it is
//! asked, and it has to answer. Pure.
//!
//! # States, in prose
//!
//! * **Starting** — there is no core yet. That is believed to be on its way for a
//!   while, and no longer.
//! * **Answered** — it has answered what it was asked last.
//! * **Asked** — a question is under way. One at a time: a core that does not
//!   answer is not buried in questions. It is believed to live for [`PATIENCE`]
//!   after it was asked, and not any more until it answers.

use std::time::Duration;

use crate::core::time::Time;

/// The core never blocks: microseconds are usual, and a host under the heaviest
/// load delays it by milliseconds. hbsClient forgets a pulse after 5 s, hostwd
/// acts after three minutes (spec/pmond.md §7.3, §7.4).
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Liveness {
    state: State,
    /// Number of the last question.
    question: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting { until: Time },
    Answered,
    Asked { at: Time },
}

/// Whether others may be told that the monitor is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// It is.
    Alive,
    /// Nobody can say so.
    Doubtful {
        /// Why.
        why: &'static str,
    },
}

impl Liveness {
    /// The daemon has just been started; there should be a core by `until`.
    #[must_use]
    pub const fn starting(until: Time) -> Self {
        Self {
            state: State::Starting { until },
            question: 0,
        }
    }

    /// From now on there is somebody to ask.
    pub fn begin(&mut self) {
        if let State::Starting { .. } = self.state {
            self.state = State::Answered;
        }
    }

    /// The number of the question that is to be asked now, if one is.
    pub fn ask(&mut self, now: Time) -> Option<u64> {
        match self.state {
            State::Answered => {
                self.question += 1;
                self.state = State::Asked { at: now };
                Some(self.question)
            }
            State::Starting { .. } | State::Asked { .. } => None,
        }
    }

    /// The number of the last question that was answered.
    pub fn answered(&mut self, question: u64) {
        if let State::Asked { .. } = self.state
            && question == self.question
        {
            self.state = State::Answered;
        }
    }

    /// What can be said at this moment.
    #[must_use]
    pub fn belief(&self, now: Time) -> Belief {
        match self.state {
            State::Starting { until } if now > until => Belief::Doubtful {
                why: "the daemon does not come up",
            },
            State::Asked { at } if now.since(at) > PATIENCE => Belief::Doubtful {
                why: "the engine does not answer",
            },
            State::Starting { .. } | State::Answered | State::Asked { .. } => Belief::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Time {
        Time::default() + Duration::from_secs(n)
    }

    #[test]
    fn a_start_is_believed_in_for_a_while() {
        let mut liveness = Liveness::starting(second(30));
        assert_eq!(liveness.ask(second(1)), None, "nobody is there");
        assert_eq!(liveness.belief(second(30)), Belief::Alive);
        let late = Belief::Doubtful {
            why: "the daemon does not come up",
        };
        assert_eq!(liveness.belief(second(31)), late);
        liveness.begin();
        assert_eq!(liveness.belief(second(31)), Belief::Alive);
    }

    #[test]
    fn one_that_does_not_answer_is_doubted_until_it_does() {
        let mut liveness = Liveness::starting(second(30));
        liveness.begin();
        assert_eq!(liveness.ask(second(1)), Some(1));
        liveness.answered(1);
        assert_eq!(liveness.ask(second(2)), Some(2));
        // An answer to an earlier question proves nothing.
        liveness.answered(1);
        assert_eq!(liveness.belief(second(2) + PATIENCE), Belief::Alive);
        let doubtful = Belief::Doubtful {
            why: "the engine does not answer",
        };
        assert_eq!(liveness.belief(second(3) + PATIENCE), doubtful);
        assert_eq!(liveness.ask(second(3) + PATIENCE), None, "one at a time");
        liveness.answered(2);
        assert_eq!(liveness.belief(second(100)), Belief::Alive);
        assert_eq!(liveness.ask(second(100)), Some(3));
    }
}
