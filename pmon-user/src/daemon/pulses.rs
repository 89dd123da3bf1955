//! Active monitoring between the engine and the endpoint that has the sockets:
//! what is asked, what is told, and what people see of it. Nothing is decided
//! here.

use std::sync::Arc;

use super::{
    engine::Engine,
    entity::{Entity, Tally},
    message::{Inbox, Message, Work},
    views::milliseconds,
};
use crate::{
    config::settings::DaemonSettings,
    core::{
        entity::{ActiveSpec, EntitySpec},
        event::Event,
        pulse::{Counts, TOLD_FROM},
    },
    pulse::{
        correspondence::{Faults, Strays},
        endpoint::{self, Ask, EndpointSettings, Handle, Order, Report},
    },
    sys::clock,
    table::EntityName,
    view::entity::{ActiveView, HeartbeatView, StraysView},
};

/// Starts the endpoint on the current runtime.
pub(super) fn start(settings: &DaemonSettings, inbox: &Inbox) -> Handle {
    let inbox = inbox.clone();
    let settings = EndpointSettings {
        reply_port: settings.active_reply_port,
        initialised_file: settings.initialised_file.clone(),
    };
    endpoint::start(settings, move |report| inbox.send(Message::Pulse(report)))
}

impl Engine {
    pub(super) fn request_pulse(
        &self,
        name: &EntityName,
        spec: &EntitySpec,
        round: u64,
        sequence: u32,
    ) {
        if let Some(active) = &spec.active {
            self.hand_out(Work::Pulse(Order::Ask(Ask {
                entity: Arc::clone(name),
                port: active.port,
                round,
                sequence,
            })));
        }
    }

    pub(super) fn collect_pulse(&self, name: &EntityName, spec: &EntitySpec, round: u64) {
        if let Some(active) = &spec.active {
            self.hand_out(Work::Pulse(Order::Collect {
                entity: Arc::clone(name),
                round,
                full_init_required: active.full_init_required,
            }));
        }
    }

    pub(super) fn pulse_reported(&mut self, report: Report) {
        match report {
            Report::Happened {
                entity,
                event,
                faults,
                strays,
            } => {
                if let Some(entity) = self.entities.get_mut(&entity) {
                    entity.tally = Tally { faults, strays };
                }
                self.happen(&entity, Event::Pulse(event), clock::now());
                self.note_who_is_ended(&entity);
            }
            Report::Port(trouble) if trouble == self.unheard => {}
            Report::Port(trouble) => {
                match &trouble {
                    Some(why) => tracing::warn!(why, "active monitoring is suspended"),
                    None => tracing::info!("active monitoring goes on"),
                }
                self.unheard = trouble;
            }
        }
    }

    /// Others may watch the process that has failed: their certificates say on
    /// whose behalf it was ended.
    fn note_who_is_ended(&mut self, name: &EntityName) {
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let leaving = entity.recovery.leaving();
        let known = entity.ended_for.as_ref().map(|(identity, _)| *identity);
        if let Some(leaving) = leaving
            && known != Some(leaving)
        {
            let why = format!("recovery of `{name}`, which did not answer");
            entity.ended_for = Some((leaving, why));
        }
    }

    /// The degraded condition in which nobody is asked.
    pub(super) fn active_suspended(&self) -> Option<String> {
        let why = self.unheard.as_ref()?;
        Some(format!(
            "processes in active mode are not asked, only their deaths are seen: {why}"
        ))
    }
}

/// Requests and answers as users see them.
pub(super) fn heartbeat_view(entity: &Entity) -> Option<HeartbeatView> {
    let active = entity.spec.active.as_ref()?;
    let pulse = entity.recovery.pulse();
    let Counts {
        requests,
        answers,
        misses: missed,
        wrong_sequence,
        unsent,
        failures,
    } = pulse.counts();
    let Tally { faults, strays } = entity.tally;
    let Faults {
        bad_magic,
        not_waiting,
    } = faults;
    let Strays {
        wrong_name,
        malformed,
    } = strays;
    Some(HeartbeatView {
        misses: pulse.misses(),
        fails_at: pulse.fails_at(active),
        sequence: pulse.sequence(),
        last_request: pulse.last_request().map(clock::wall),
        last_answer: pulse.last_answer().map(clock::wall),
        answers_wanted: pulse.wanted(),
        requests,
        answers,
        missed,
        unsent,
        failures,
        wrong_sequence,
        bad_magic,
        not_waiting,
        strays: StraysView {
            wrong_name,
            malformed,
        },
    })
}

/// The settings as users see them.
pub(super) fn active_view(active: &ActiveSpec) -> ActiveView {
    let ActiveSpec {
        port,
        period,
        timeout,
        threshold,
        full_init_required,
    } = active;
    ActiveView {
        port: *port,
        period_ms: milliseconds(*period),
        timeout_ms: milliseconds(*timeout),
        threshold: *threshold,
        full_init_required: *full_init_required,
    }
}

/// What is wrong with a process whose misses are told of, though it has not
/// failed.
pub(super) fn misses(entity: &Entity) -> Option<String> {
    let active = entity.spec.active.as_ref()?;
    let pulse = entity.recovery.pulse();
    (pulse.misses() >= TOLD_FROM).then(|| {
        format!(
            "it missed {} requests in a row and fails with {}",
            pulse.misses(),
            pulse.fails_at(active)
        )
    })
}

/// How it stands with the requests, for `pmon explain`.
pub(super) fn correspondence(entity: &Entity) -> Option<String> {
    let active = entity.spec.active.as_ref()?;
    let pulse = entity.recovery.pulse();
    if !pulse.is_asking() {
        return Some("it is not being asked".to_owned());
    }
    let mut line = format!(
        "it is asked every {:?}: {} requests missed in a row, {} are a failure",
        active.timeout,
        pulse.misses(),
        pulse.fails_at(active)
    );
    if let Some(wanted) = pulse.wanted() {
        line.push_str(&format!("; {wanted} more answers make its failure good"));
    }
    Some(line)
}
