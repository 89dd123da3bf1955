//! Sockets that are held for entities, as far as the engine is concerned: when
//! some may have to be taken back or closed. Opening them comes with the start.

use super::{engine::Engine, message::Work};
use crate::{core::socket::SocketSpec, effect::Job, sys::pidfd::VerifiedPid, table::EntityName};

impl Engine {
    /// A process was registered: it may have sockets from an earlier daemon.
    pub(super) fn take_sockets_back(&self, name: &EntityName, process: &VerifiedPid) {
        let Some(entity) = self.entities.get(name) else {
            return;
        };
        let sockets = entity.spec.sockets();
        if !sockets.is_empty() {
            self.hand_out(Work::Job {
                entity: EntityName::clone(name),
                job: Job::TakeSocketsBack {
                    sockets: sockets.to_vec(),
                    process: process.clone(),
                },
            });
        }
    }

    /// The configuration has changed.
    pub(super) fn keep_sockets(&self, name: &EntityName, sockets: Vec<SocketSpec>) {
        self.hand_out(Work::Job {
            entity: EntityName::clone(name),
            job: Job::KeepSockets { sockets },
        });
    }
}
