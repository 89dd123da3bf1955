//! The engine's hands: what it hands out goes two ways.
//!
//! *Prompt* is what a successor may wait for, and all that must keep its order with
//! that: it goes to the lanes' thread, and costs next to nothing there. *Patient* is
//! what is for people and disks, or in no hurry: it goes to the main thread. Must
//! stay true: whatever changes what is remembered of an entity goes the same way as
//! the word of its launch, so that the newest is written last; whatever watches or
//! forgets an entity goes the way of its jobs.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::message::Work;

/// Both ways.
#[derive(Clone, Debug)]
pub struct Hands {
    prompt: UnboundedSender<Work>,
    patient: UnboundedSender<Work>,
}

/// The ends where it arrives.
#[derive(Debug)]
pub struct HandedOut {
    /// For the lanes' thread.
    pub prompt: UnboundedReceiver<Work>,
    /// For the main thread.
    pub patient: UnboundedReceiver<Work>,
}

impl Hands {
    /// Hands, and the ends.
    #[must_use]
    pub fn new() -> (Self, HandedOut) {
        let (prompt, prompt_end) = unbounded_channel();
        let (patient, patient_end) = unbounded_channel();
        let handed_out = HandedOut {
            prompt: prompt_end,
            patient: patient_end,
        };
        (Self { prompt, patient }, handed_out)
    }

    /// Both ways lead to the same end.
    #[must_use]
    pub fn of(only: UnboundedSender<Work>) -> Self {
        Self {
            prompt: only.clone(),
            patient: only,
        }
    }

    /// Never blocks. Nobody is left to do it only when the daemon ends.
    pub fn give(&self, work: Work) {
        let way = if is_prompt(&work) {
            &self.prompt
        } else {
            &self.patient
        };
        let _ended: Result<(), _> = way.send(work);
    }
}

const fn is_prompt(work: &Work) -> bool {
    match work {
        Work::Look { .. }
        | Work::Job { .. }
        | Work::Pulse(_)
        | Work::Forget(_)
        | Work::Launched { .. }
        | Work::HandedOver { .. }
        | Work::Remember(..)
        | Work::Record { .. }
        | Work::Unit(..)
        | Work::Alarm { .. }
        | Work::AwaitExecution(..)
        | Work::Watch(..) => true,
        Work::Inquire(_)
        | Work::AskGate(_)
        | Work::Count(_)
        | Work::CountAgain(_)
        | Work::Hatch
        | Work::Source(_)
        | Work::Tell(_)
        | Work::Closed(_)
        | Work::Opened(_)
        | Work::Died { .. }
        | Work::Sweep(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_a_successor_waits_for_is_not_behind_what_people_are_told() {
        let (hands, mut handed_out) = Hands::new();
        hands.give(Work::Hatch);
        hands.give(Work::Forget(Arc::from("a")));
        let prompt = handed_out.prompt.try_recv().unwrap();
        assert!(matches!(prompt, Work::Forget(name) if &*name == "a"));
        assert!(handed_out.prompt.try_recv().is_err());
        assert!(matches!(handed_out.patient.try_recv(), Ok(Work::Hatch)));
    }
}
