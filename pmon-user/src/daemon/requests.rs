//! What the control service asks of the engine, answered on the engine's thread.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    engine::Engine,
    entity::Entity,
    holds::{self, Resumption},
    incident_views::incident_view,
    logging::KernelLines,
    message::{Reply, Request},
    starting,
    views::entity_view,
};
use aya_log::EbpfLogger;

use crate::{
    causes::in_full,
    control::backend::{Refusal, RegisterRequest},
    core::{
        dependency::Dependencies,
        entity::{CommandSpec, EntitySpec, Mode, Origin, Severity, StartMethod, StopPolicy},
        event::{Event, OperatorAction, OperatorRequest},
        identity::Identity,
        recovery::{Recovery, Stage},
        storm::StormPolicy,
    },
    look::Remembered,
    source::ebpf::{Plan, Replaced, Replacement},
    state::record::{AdHoc, EntityRecord},
    sys::clock,
    table::EntityName,
    view::{entity::EntityView, incident::IncidentView},
};

/// An asker that has gone away is no concern of ours.
pub(super) fn reply<T>(to: Reply<T>, answer: Result<T, Refusal>) {
    let _asker_gone: Result<(), _> = to.send(answer);
}

fn refused(reason: &str) -> Refusal {
    Refusal::Refused {
        reason: reason.to_owned(),
    }
}

fn no_programs() -> Refusal {
    refused("the kernel programs are not in use; `pmon status` says why")
}

impl Engine {
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::Status(names, to) => {
                let names = self.names_of(&names);
                reply(to, names.map(|names| self.status_view(&names)));
            }
            Request::Show(name, to) => {
                reply(to, self.entity(&name).map(|entity| self.show_view(entity)));
            }
            Request::Explain(name, to) => {
                reply(
                    to,
                    self.entity(&name).map(|entity| self.explain_view(entity)),
                );
            }
            Request::Operate {
                name,
                action,
                reason,
                by,
                reply: to,
            } => {
                let request = OperatorRequest { action, reason, by };
                let answer = self.operate(&name, request);
                // It may go by another name.
                let name = answer.as_ref().map_or(name, |view| view.name.clone());
                self.reply_on_record(&name, answer, to);
            }
            Request::Command {
                command,
                stop_lasts,
                by,
                reply: to,
            } => reply(to, Ok(self.command(command, stop_lasts, by))),
            Request::Register {
                request,
                process,
                by,
                reply: to,
            } => {
                let name = request.name.clone();
                let answer = self.register_ad_hoc(request, process, by);
                self.reply_on_record(&name, answer, to);
            }
            Request::Unregister {
                name,
                by,
                reply: to,
            } => {
                let answer = self.unregister_ad_hoc(&name, &by);
                self.reply_on_record(&name, answer, to);
            }
            Request::Reload(loaded, wanted, to) => reply(to, Ok(self.reload(*loaded, wanted))),
            Request::Bpf(to) => reply(to, Ok(self.snapshot())),
            Request::PlanPrograms(to) => reply(to, self.plan_programs()),
            Request::ReplacePrograms(replacement, to) => {
                reply(to, self.replace_programs(*replacement));
            }
            Request::MayHandOver(to) => reply(to, self.may_hand_over()),
            Request::OpenIncidents(name, to) => reply(to, Ok(self.open_incidents(name.as_deref()))),
        }
    }

    fn plan_programs(&self) -> Result<(Plan, bool), Refusal> {
        let kernel = self.table.kernel().ok_or_else(no_programs)?;
        let plan = kernel.plan().map_err(|error| refused(&in_full(&error)))?;
        Ok((plan, kernel.logs()))
    }

    fn replace_programs(
        &mut self,
        replacement: Replacement,
    ) -> Result<(Replaced, Option<EbpfLogger<KernelLines>>), Refusal> {
        let kernel = self.table.kernel_mut().ok_or_else(no_programs)?;
        let replaced = kernel
            .replace(replacement)
            .map_err(|error| refused(&in_full(&error)))?;
        Ok((replaced, kernel.take_log(KernelLines)))
    }

    fn may_hand_over(&self) -> Result<(), Refusal> {
        let why = match self.table.kernel() {
            None => Some("the kernel program is not in use"),
            Some(kernel) => match kernel.unpinned() {
                Some(why) => Some(why),
                None if kernel.pins().is_none() => Some("nothing is pinned (`--pin-dir none`)"),
                None => None,
            },
        };
        match why {
            None => Ok(()),
            Some(why) => Err(Refusal::Refused {
                reason: format!(
                    "nobody would see deaths during the handoff: {why}; stop this daemon and \
                     start the other one"
                ),
            }),
        }
    }

    pub(super) fn operate(
        &mut self,
        name: &str,
        request: OperatorRequest,
    ) -> Result<EntityView, Refusal> {
        let entity = self.entity(name)?;
        let name = &*entity.spec.name.clone();
        if *entity.recovery.stage() == Stage::Unmonitored {
            let why = entity.recovery.problem().unwrap_or("it is not monitored");
            return Err(Refusal::Refused {
                reason: format!("`{name}` is not acted upon: {why}"),
            });
        }
        if let Some(why) = Recovery::refuses(&entity.spec, request.action) {
            return Err(Refusal::Refused { reason: why });
        }
        if let Some(refusal) = entity.refuses(request.action) {
            return Err(refusal);
        }
        let no_start = match &entity.spec.start {
            StartMethod::None { reason } => Some(reason.clone()),
            StartMethod::Unit { .. } | StartMethod::Script { .. } | StartMethod::Command(_) => None,
        };
        if let (Some(reason), OperatorAction::Start | OperatorAction::Restart) =
            (no_start, request.action)
        {
            return Err(Refusal::Refused {
                reason: format!("`{name}` cannot be started: {reason}"),
            });
        }
        let now = clock::now();
        let why = format!("{} of `{name}` by {}", request.action.as_str(), request.by);
        if let Some(entity) = self.entities.get_mut(name) {
            entity.note_who(&request, now);
        }
        self.happen(&Arc::from(name), Event::Operator(request), now);
        if let Some(entity) = self.entities.get_mut(name)
            && let Some(leaving) = entity.recovery.leaving()
        {
            entity.ended_for = Some((leaving, why));
        }
        self.entity(name).map(|entity| entity_view(entity, now))
    }

    fn register_ad_hoc(
        &mut self,
        request: RegisterRequest,
        process: Option<Identity>,
        by: String,
    ) -> Result<EntityView, Refusal> {
        let RegisterRequest {
            name,
            pid: _,
            pidfile,
            restart,
            follow,
        } = request;
        if self.entities.contains_key(name.as_str()) {
            return Err(Refusal::Refused {
                reason: format!("there is an entity `{name}` already"),
            });
        }
        let known = process.map(|identity| Remembered {
            identity,
            stamp: None,
        });
        tracing::info!(entity = name, by, "registered by an operator");
        let ad_hoc = AdHoc {
            pidfile: pidfile.map(PathBuf::from),
            restart,
            follow,
            by,
            at: clock::wall(clock::now()),
        };
        let record = EntityRecord {
            process: known,
            ..EntityRecord::default()
        };
        self.add_ad_hoc(&name, ad_hoc, record);
        self.entity(&name)
            .map(|entity| entity_view(entity, clock::now()))
    }

    /// An entity that `pmon register` made, now or before the daemon restarted.
    pub(super) fn add_ad_hoc(&mut self, name: &str, ad_hoc: AdHoc, record: EntityRecord) {
        let spec = EntitySpec {
            follow: ad_hoc.follow && ad_hoc.pidfile.is_none(),
            ..ad_hoc_spec(name, ad_hoc.pidfile.clone(), ad_hoc.restart.clone())
        };
        let record = EntityRecord {
            ad_hoc: Some(ad_hoc),
            ..record
        };
        self.add(Arc::new(spec), record);
    }

    fn unregister_ad_hoc(&mut self, name: &str, by: &str) -> Result<(), Refusal> {
        let entity = self.entity(name)?;
        match &entity.spec.origin {
            Origin::Operator => {}
            origin @ Origin::File { .. } => {
                return Err(Refusal::Refused {
                    reason: format!(
                        "`{name}` is configured in {origin}; remove it there and `pmon reload`"
                    ),
                });
            }
        }
        tracing::info!(entity = name, by, "unregistered by an operator");
        self.remove(&Arc::from(name));
        Ok(())
    }

    /// Puts an entity into force that was not there before.
    pub(super) fn add(&mut self, spec: Arc<EntitySpec>, record: EntityRecord) {
        let now = clock::now();
        let Resumption {
            mut recovery,
            effects,
            notices,
        } = holds::resume(&spec, &record, now);
        let effects = self.gates.place(&spec, &mut recovery, effects);
        if let Some(storm) = record.storm.clone() {
            recovery.resume_storm(&spec, storm);
        }
        if let (true, Some(process)) = (record.answers, record.process) {
            recovery.recall_answers(process.identity);
        }
        let resumed = starting::resume(&spec, &mut recovery, &record, now);
        let quorum = record.quorum;
        let name = EntityName::from(spec.name.as_str());
        self.adopt(Entity::new(spec, recovery, record), effects);
        if let Some(resumed) = resumed {
            self.go_on_with_start(&name, resumed);
        }
        self.take_over_alarm(&name, quorum, now);
        self.tell_all(&name, notices, now);
    }

    fn open_incidents(&self, name: Option<&str>) -> Vec<IncidentView> {
        self.entities
            .values()
            .filter(|entity| name.is_none_or(|name| entity.spec.name == name))
            .filter_map(|entity| {
                let incident = entity.incidents.open()?;
                Some(incident_view(entity, incident))
            })
            .collect()
    }
}

/// An entity that no file describes: pmond's usual figures.
pub(super) fn ad_hoc_spec(
    name: &str,
    pidfile: Option<PathBuf>,
    restart: Option<String>,
) -> EntitySpec {
    let daemonizes = pidfile.is_some();
    let interval = Duration::from_secs(5);
    EntitySpec {
        name: name.to_owned(),
        mode: Mode::Passive,
        severity: Severity::Major,
        restarts: 3,
        interval,
        debounce: Duration::from_secs(20),
        startuptime: Duration::from_secs(5),
        start_timeout: Duration::from_secs(30),
        adoption_window: Duration::ZERO,
        pidfile,
        start: match restart {
            Some(command) => StartMethod::Command(CommandSpec {
                argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), command],
                environment: std::collections::BTreeMap::new(),
                directory: PathBuf::from("/"),
                user: None,
                group: None,
                daemonizes,
                log: None,
                early: false,
                sockets: Vec::new(),
            }),
            None => StartMethod::None {
                reason: "registered without `--restart`".to_owned(),
            },
        },
        stop: StopPolicy::Graceful {
            signal: libc::SIGTERM,
            timeout: Duration::from_secs(10),
        },
        follow: false,
        quorum: false,
        subfunction: None,
        active: None,
        status: None,
        dependencies: Dependencies::default(),
        storm: StormPolicy::native(interval),
        origin: Origin::Operator,
    }
}
