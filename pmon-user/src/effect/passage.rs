//! The way of a program that is about to be executed for an entity past the gate: it is let through by whoever has put it on record, at
//! once and on that thread, and its lane is told afterwards.
//!
//! Must stay true: dropped, it lets nobody through.

use tokio::sync::oneshot;

use crate::sys::spawn::gate::Key;

/// Given to who records.
#[derive(Debug)]
pub struct Passage {
    key: Key,
    passed: oneshot::Sender<()>,
}

impl Passage {
    /// The passage that this key opens; the answer comes, or goes away, with it.
    pub(super) fn new(key: Key) -> (Self, oneshot::Receiver<()>) {
        let (passed, answer) = oneshot::channel();
        (Self { key, passed }, answer)
    }

    /// It is on record: the program may be executed.
    pub fn open(self) {
        self.key.open();
        // The start may have been cancelled meanwhile.
        let _cancelled: Result<(), ()> = self.passed.send(());
    }
}
