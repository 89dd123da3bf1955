//! From a request to the backend and back: the verbs' parameters and replies.
//!
//! Access has been checked by the caller; what goes in here will be done.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use zlink::{Reply, varlink_service::Info};

use super::{
    access::Peer,
    backend::{Backend, RegisterRequest, WantedEvents},
    description,
    error::ControlError,
    interface::{
        BpfLogParameters, BpfShowParameters, EntitiesReply, EntityReply, EventsParameters,
        EventsReply, HistoryParameters, HoldParameters, INTERFACE, IncidentsReply, MAX_COUNTING,
        MAX_HOLD, NameParameters, NamesParameters, Nothing, OperateParameters, RegisterParameters,
        ReloadParameters, Verb,
    },
    requests::{Failure, parameters},
    transport::encode,
};
use crate::{config::name::bad_name, core::event::OperatorAction};

/// Longest reason, in bytes: it ends up in log lines and in the state files.
const MAX_REASON: usize = 1024;

/// Most events a reader gets to begin with.
pub(super) const MAX_RECENT: usize = 10_000;

/// The reply to a verb other than [`Verb::Events`], as a message.
pub(super) async fn perform<B: Backend>(
    verb: Verb,
    value: Value,
    backend: &B,
    peer: &Peer,
) -> Result<Vec<u8>, Failure> {
    let by = peer.to_string();
    match verb {
        Verb::Status => {
            let NamesParameters { names } = parameters(value)?;
            reply(
                backend
                    .status(names.unwrap_or_default())
                    .await
                    .map_err(ControlError::from)?,
            )
        }
        Verb::List => {
            let NamesParameters { names } = parameters(value)?;
            let status = backend
                .status(names.unwrap_or_default())
                .await
                .map_err(ControlError::from)?;
            reply(EntitiesReply {
                entities: status.entities,
            })
        }
        Verb::Show => {
            let NameParameters { name } = parameters(value)?;
            reply(backend.show(name).await.map_err(ControlError::from)?)
        }
        Verb::Start => operate(OperatorAction::Start, value, backend, by).await,
        Verb::Stop => operate(OperatorAction::Stop, value, backend, by).await,
        Verb::Restart => operate(OperatorAction::Restart, value, backend, by).await,
        Verb::Resume => operate(OperatorAction::Resume, value, backend, by).await,
        Verb::Hold => {
            let (action, operate) = hold(parameters(value)?)?;
            act(action, operate, backend, by).await
        }
        Verb::Register => {
            let request = registration(parameters(value)?)?;
            let entity = backend
                .register(request, by)
                .await
                .map_err(ControlError::from)?;
            reply(EntityReply { entity })
        }
        Verb::Unregister => {
            let NameParameters { name } = parameters(value)?;
            backend
                .unregister(name, by)
                .await
                .map_err(ControlError::from)?;
            reply(Nothing {})
        }
        Verb::Events => Err(Failure::Varlink(
            zlink::varlink_service::Error::ExpectedMore,
        )),
        Verb::RecentEvents => {
            let (events, _further) = backend.events(wanted(value)?);
            reply(EventsReply {
                events: events.iter().map(|event| event.as_ref().clone()).collect(),
            })
        }
        Verb::History => {
            let HistoryParameters { name } = parameters(value)?;
            let incidents = backend.history(name).await.map_err(ControlError::from)?;
            reply(IncidentsReply { incidents })
        }
        Verb::Explain => {
            let NameParameters { name } = parameters(value)?;
            reply(backend.explain(name).await.map_err(ControlError::from)?)
        }
        Verb::Reload => {
            let ReloadParameters { plan } = parameters(value)?;
            let plan = plan.unwrap_or(false);
            reply(backend.reload(plan, by).await.map_err(ControlError::from)?)
        }
        Verb::Handoff => {
            let Nothing {} = parameters(value)?;
            backend.handoff(by).await.map_err(ControlError::from)?;
            reply(Nothing {})
        }
        Verb::Doctor => {
            let Nothing {} = parameters(value)?;
            reply(backend.doctor().await.map_err(ControlError::from)?)
        }
        Verb::BpfShow => {
            let time = counting_time(parameters(value)?)?;
            reply(backend.bpf(time).await.map_err(ControlError::from)?)
        }
        Verb::BpfLog => {
            let BpfLogParameters { on } = parameters(value)?;
            reply(backend.bpf_log(on, by).await.map_err(ControlError::from)?)
        }
    }
}

/// How long runs are to be counted.
fn counting_time(parameters: BpfShowParameters) -> Result<Duration, ControlError> {
    let BpfShowParameters { seconds } = parameters;
    let seconds = seconds.unwrap_or(0);
    if seconds > MAX_COUNTING {
        return Err(ControlError::InvalidParameter {
            field: "seconds".to_owned(),
            reason: format!("expected at most {MAX_COUNTING}, got {seconds}"),
        });
    }
    Ok(Duration::from_secs(seconds.into()))
}

/// Which events are asked for.
pub(super) fn wanted(value: Value) -> Result<WantedEvents, ControlError> {
    let EventsParameters { recent, early } = parameters(value)?;
    let recent = usize::try_from(recent.unwrap_or(0));
    Ok(WantedEvents {
        recent: recent.map_or(MAX_RECENT, |recent| recent.min(MAX_RECENT)),
        early: early.unwrap_or(false),
    })
}

async fn operate<B: Backend>(
    action: OperatorAction,
    value: Value,
    backend: &B,
    by: String,
) -> Result<Vec<u8>, Failure> {
    act(action, parameters(value)?, backend, by).await
}

/// What a hold is as an operator's action.
fn hold(parameters: HoldParameters) -> Result<(OperatorAction, OperateParameters), ControlError> {
    let HoldParameters {
        name,
        seconds,
        reason,
    } = parameters;
    if let Some(seconds @ (0 | MAX_HOLD..)) = seconds {
        return Err(ControlError::InvalidParameter {
            field: "seconds".to_owned(),
            reason: format!("expected 1 to {} (a year), got {seconds}", MAX_HOLD - 1),
        });
    }
    let lasts = seconds.map(Duration::from_secs);
    let operate = OperateParameters { name, reason };
    Ok((OperatorAction::Hold { lasts }, operate))
}

async fn act<B: Backend>(
    action: OperatorAction,
    parameters: OperateParameters,
    backend: &B,
    by: String,
) -> Result<Vec<u8>, Failure> {
    let OperateParameters { name, reason } = parameters;
    if reason
        .as_ref()
        .is_some_and(|reason| reason.len() > MAX_REASON)
    {
        return Err(ControlError::InvalidParameter {
            field: "reason".to_owned(),
            reason: format!("longer than {MAX_REASON} bytes"),
        }
        .into());
    }
    let entity = backend
        .operate(name, action, reason, by)
        .await
        .map_err(ControlError::from)?;
    reply(EntityReply { entity })
}

fn registration(parameters: RegisterParameters) -> Result<RegisterRequest, ControlError> {
    let RegisterParameters {
        name,
        pid,
        pidfile,
        restart,
        follow,
    } = parameters;
    let follow = follow == Some(true);
    let wrong = |field: &str, reason: String| {
        Err(ControlError::InvalidParameter {
            field: field.to_owned(),
            reason,
        })
    };
    if let Some(why) = bad_name(&name) {
        return wrong("name", format!("`{}` {why}", name.escape_debug()));
    }
    match (pid, pidfile.as_deref()) {
        (None, None) => return wrong("pid", "one of `pid` and `pidfile` is needed".to_owned()),
        (Some(_), Some(_)) => {
            return wrong(
                "pid",
                "only one of `pid` and `pidfile` can be given".to_owned(),
            );
        }
        (Some(pid @ (0 | 0x8000_0000..)), None) => {
            return wrong("pid", format!("`{pid}` cannot be a process id"));
        }
        (None, Some(_)) if follow => {
            return wrong(
                "follow",
                "`follow` and `pidfile` exclude each other".to_owned(),
            );
        }
        (None, Some(path)) if !path.starts_with('/') => {
            return wrong(
                "pidfile",
                format!("expected an absolute path, got `{path}`"),
            );
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    Ok(RegisterRequest {
        name,
        pid,
        pidfile,
        restart,
        follow,
    })
}

/// The reply to `org.varlink.service.GetInfo`.
pub(super) fn info() -> Result<Vec<u8>, Failure> {
    let info = Info::new(
        "pmon",
        "pmon",
        env!("CARGO_PKG_VERSION"),
        "https://varlink.org/",
        [INTERFACE, zlink::varlink_service::INTERFACE_NAME.as_str()],
    )
    .map_err(|error| internal(&error.to_string()))?;
    reply(info)
}

/// The reply to `org.varlink.service.GetInterfaceDescription`.
pub(super) fn describe(value: Value) -> Result<Vec<u8>, Failure> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Which {
        interface: String,
    }
    #[derive(Debug, Serialize)]
    struct Description<'a> {
        description: &'a str,
    }
    let Which { interface } = parameters(value)?;
    match description::of(&interface) {
        Some(description) => reply(Description { description }),
        None => Err(Failure::Varlink(
            zlink::varlink_service::Error::InterfaceNotFound {
                interface: interface.into(),
            },
        )),
    }
}

fn reply<T: Serialize>(parameters: T) -> Result<Vec<u8>, Failure> {
    encode(&Reply::new(Some(parameters))).map_err(|error| internal(&error.to_string()))
}

fn internal(reason: &str) -> Failure {
    Failure::Control(ControlError::Refused {
        reason: format!("internal error: {reason}"),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn request(name: &str, pid: Option<u32>, pidfile: Option<&str>) -> RegisterParameters {
        RegisterParameters {
            name: name.to_owned(),
            pid,
            pidfile: pidfile.map(str::to_owned),
            restart: None,
            follow: None,
        }
    }

    #[test]
    fn registrations_are_checked() {
        registration(request("web", Some(7), None)).unwrap();
        registration(request("web", None, Some("/run/web.pid"))).unwrap();
        for (bad, expected) in [
            (request("", Some(7), None), "name"),
            (request("-a", Some(7), None), "name"),
            (request("a/b", Some(7), None), "name"),
            (request("a\u{1b}[2J", Some(7), None), "name"),
            (request(&"x".repeat(201), Some(7), None), "name"),
            (request("web", None, None), "pid"),
            (request("web", Some(7), Some("/run/web.pid")), "pid"),
            (request("web", Some(0), None), "pid"),
            (request("web", Some(u32::MAX), None), "pid"),
            (request("web", None, Some("web.pid")), "pidfile"),
        ] {
            match registration(bad) {
                Err(ControlError::InvalidParameter { field, .. }) => assert_eq!(field, expected),
                other => panic!("{other:?}"),
            }
        }
    }
}
