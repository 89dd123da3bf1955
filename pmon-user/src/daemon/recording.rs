//! What is answered when it is on record, and not before: an operator who was told
//! that an entity is held, stopped or registered finds it so after the host has
//! crashed.
//!
//! Must stay true: the engine waits for no disk. Where the disk does not take it,
//! the answer comes all the same, because what was asked for has been done, and the
//! trouble is told.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    engine::Engine,
    message::{Message, OnRecord, Reply, Then, Work},
    requests::reply,
    work::Workers,
};
use crate::{
    control::backend::Refusal,
    state::{atomic::Reach, changes::Change, record::EntityRecord},
    table::EntityName,
};

/// How long the disk may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// Answers once what is remembered of the entity is on the disk.
    pub(super) fn reply_on_record<T: Send + 'static>(
        &mut self,
        name: &str,
        answer: Result<T, Refusal>,
        to: Reply<T>,
    ) {
        if answer.is_err() {
            // Nothing has changed.
            return reply(to, answer);
        }
        let memory = match self.entities.get_mut(name) {
            Some(entity) => entity.memory_now(),
            // Forgotten just now; a clear of its alarm may still be owed.
            None => self.orphaned(name),
        };
        self.hand_out(Work::Record {
            entity: EntityName::from(name),
            memory,
            reach: Reach::Disk,
            then: Box::new(move |_| reply(to, answer)),
        });
    }
}

impl Workers {
    /// Puts something on record for somebody who waits.
    pub(super) fn record(
        &self,
        entity: EntityName,
        memory: Arc<EntityRecord>,
        reach: Reach,
        then: Then,
    ) {
        let record = (!memory.is_empty()).then_some(memory);
        let change = Change::Entity(EntityName::clone(&entity), record);
        let then = Arc::new(Mutex::new(Some(then)));
        let take =
            |then: &Mutex<Option<Then>>| then.lock().unwrap_or_else(PoisonError::into_inner).take();
        let recorded = {
            let then = Arc::clone(&then);
            move || {
                if let Some(then) = take(&then) {
                    then(OnRecord::Yes);
                }
            }
        };
        match reach {
            Reach::Cache => {
                self.store.save(change.clone());
                self.volatile.save_then(change, recorded);
            }
            Reach::Disk => {
                self.volatile.save(change.clone());
                self.store.save_then(change, recorded);
            }
        }
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            if let Some(then) = take(&then) {
                then(OnRecord::NotYet);
                let what = format!("what changed could not be put on record within {PATIENCE:?}");
                inbox.send(Message::Trouble { entity, what });
            }
        });
    }
}
