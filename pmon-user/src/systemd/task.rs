//! The task that keeps the connection, and follows what is heard over it.

use std::{pin::pin, sync::Weak, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use zbus::MessageStream;

use super::{
    Shared, Told,
    bus::Bus,
    signals::{self, Event},
    unit::JobId,
};
use crate::{causes::in_full, table::EntityName};

/// First pause before the connection is tried again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// By then a daemon that starts has told of all its units: what an earlier one has
/// taken from systemd, and this one does not want, is given back.
const ALL_TOLD: Duration = Duration::from_secs(10);

/// Runs until nobody is left who could ask.
pub(super) async fn run(shared: Weak<Shared>, mut asked: mpsc::UnboundedReceiver<Event>) {
    let mut pause = FIRST_PAUSE;
    // Nobody is woken by a host's jobs who has no units.
    if asked.recv().await.is_none() {
        return;
    }
    loop {
        let Some(this) = shared.upgrade() else {
            return;
        };
        match Bus::connect(&this.settings.bus).await {
            Ok(bus) => {
                tracing::info!("connected to systemd");
                pause = FIRST_PAUSE;
                follow(&this, bus, &mut asked).await;
                tracing::info!("the connection to systemd has ended");
                this.lock().bus = None;
            }
            Err(error) => this.unreachable(&error),
        }
        drop(this);
        if !wait(&shared, &mut asked, pause).await {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// While there is no connection, nobody is kept waiting; whether to go on.
async fn wait(
    shared: &Weak<Shared>,
    asked: &mut mpsc::UnboundedReceiver<Event>,
    pause: Duration,
) -> bool {
    let until = Instant::now() + pause;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => return true,
            event = asked.recv() => match event {
                None => return false,
                // What is watched is on record; whoever waits is told by the
                // sender's end.
                Some(_) => if let Some(shared) = shared.upgrade() {
                    shared.tell_facts();
                },
            },
        }
    }
}

/// Until the connection breaks.
async fn follow(shared: &Shared, bus: Bus, asked: &mut mpsc::UnboundedReceiver<Event>) {
    let messages = MessageStream::from(bus.connection());
    let (heard, mut events) = mpsc::unbounded_channel();
    let entities: Vec<EntityName> = {
        let mut state = shared.lock();
        state.bus = Some(bus.clone());
        state.problem = None;
        state.memory.missed();
        state.watched.keys().cloned().collect()
    };
    shared.connected.notify_waiters();
    shared.tell_facts();
    let track = async {
        let tracker = Tracker { shared, bus: &bus };
        for entity in &entities {
            tracker.watch(entity).await;
        }
        for entity in entities {
            (shared.teller)(Told::Changed(entity));
        }
        tracker.restarts().await;
        let mut all_told = pin!(tokio::time::sleep(ALL_TOLD));
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => tracker.hear(event).await,
                    None => return,
                },
                () = &mut all_told, if !shared.lock().restarts.is_complete() => {
                    shared.lock().restarts.complete();
                    tracker.restarts().await;
                }
            }
        }
    };
    tokio::select! {
        () = signals::read(shared, messages, asked, &heard) => {}
        () = track => {}
    }
}

struct Tracker<'a> {
    shared: &'a Shared,
    bus: &'a Bus,
}

impl Tracker<'_> {
    async fn hear(&self, event: Event) {
        match event {
            Event::JobNew { job, unit } => self.job_new(job, &unit).await,
            Event::JobRemoved { job, unit, result } => self.job_removed(job, &unit, &result).await,
            Event::Reloaded => {
                self.shared.lock().restarts.reloaded();
                self.restarts().await;
            }
            Event::Watch(entity) => {
                self.watch(&entity).await;
                self.restarts().await;
            }
            Event::Wanted => {}
            Event::Forgotten => {
                self.forget();
                self.restarts().await;
            }
            // The asker may have gone.
            Event::Settle(done) => {
                let _ = done.send(());
            }
            Event::GiveBack(done) => {
                {
                    let mut state = self.shared.lock();
                    state.watched.clear();
                    state.restarts.complete();
                }
                self.restarts().await;
                let _ = done.send(());
            }
        }
    }

    async fn job_new(&self, job: JobId, unit: &str) {
        if !self.shared.lock().memory.is_watched(unit) {
            return;
        }
        self.shared.lock().memory.appeared(unit, job);
        // It may have ended already; then its end is judged by what it left.
        if let Ok(kind) = self.bus.job_type(job).await {
            self.shared.lock().memory.is_a(unit, job, kind);
        }
    }

    async fn job_removed(&self, job: JobId, unit: &str, result: &str) {
        if !self.shared.lock().memory.is_watched(unit) {
            return;
        }
        match self.bus.unit(unit).await {
            Ok(state) => self.shared.lock().memory.judge(job, result, &state),
            Err(error) => {
                tracing::warn!(unit, error = in_full(&error), "systemd does not say");
            }
        }
        let entities: Vec<EntityName> = {
            let state = self.shared.lock();
            let of_unit = state
                .watched
                .iter()
                .filter(|(_, watched)| watched.id.as_deref() == Some(unit));
            of_unit
                .map(|(entity, _)| EntityName::clone(entity))
                .collect()
        };
        for entity in entities {
            (self.shared.teller)(Told::Changed(entity));
        }
    }

    /// Learns a unit's main name, and how it is.
    async fn watch(&self, entity: &EntityName) {
        let Some(unit) = self.unit_of(entity) else {
            return;
        };
        match self.bus.unit(&unit).await {
            Ok(found) => {
                let mut state = self.shared.lock();
                state.memory.watch(&found);
                let mut stopped = None;
                if let Some(watched) = state.watched.get_mut(entity) {
                    watched.id = Some(found.id.clone());
                    stopped = watched.stopped.take();
                }
                if let Some(invocation) = stopped {
                    state.memory.recall_stop(&found, &invocation);
                }
                state.restarts.found(&found);
            }
            Err(error) => {
                tracing::warn!(unit, error = in_full(&error), "systemd does not know it");
            }
        }
        self.forget();
    }

    fn unit_of(&self, entity: &EntityName) -> Option<String> {
        let state = self.shared.lock();
        Some(state.watched.get(entity)?.unit.clone())
    }

    /// Units that no entity has any more.
    fn forget(&self) {
        let mut state = self.shared.lock();
        let ids: Vec<String> = state.restarts.known();
        for id in ids {
            let wanted = |watched: &super::Watched| watched.id.as_deref() == Some(&*id);
            if !state.watched.values().any(wanted) {
                state.memory.forget(&id);
                state.restarts.forget(&id);
            }
        }
    }

    /// Has every unit restarted by one party only, as configured.
    async fn restarts(&self) {
        super::restarts::settle(self.shared, self.bus).await;
    }
}
