//! The verbs that ask a daemon.

use std::{io, path::PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::{
    arguments::{Form, Global, Operate},
    exit::Exit,
    output::Output,
    wait::Wait,
    watchdog,
};
use crate::{
    control::{
        client::{Client, ClientError},
        interface::{
            EntitiesReply, EventsParameters, EventsReply, IncidentsReply, RegisterParameters,
        },
    },
    core::event::OperatorAction,
    render,
    view::{
        diagnosis::{CheckResult, CheckView, DoctorView},
        entity::{EntityView, StateWord},
    },
};

/// Why a verb came to no end of its own.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    /// The daemon, or the way there.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The output.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    /// The command line.
    #[error("{0}")]
    Usage(String),
    /// Something beside the daemon.
    #[error("{0}")]
    Failed(String),
}

type Ended = Result<Exit, Trouble>;

async fn connect(global: &Global) -> Result<Client, ClientError> {
    Client::connect(&global.socket).await
}

pub(super) async fn status(names: &[String], global: &Global, output: &mut Output<'_>) -> Ended {
    let view = connect(global).await?.status(names).await?;
    output.show(&view, &view.entities, |look| {
        render::status::status(&view, look)
    })?;
    let fine = |entity: &EntityView| {
        if names.is_empty() {
            match entity.state {
                StateWord::Up
                | StateWord::Stopping
                | StateWord::Down
                | StateWord::Held
                | StateWord::Unknown => true,
                StateWord::Starting
                | StateWord::Recovering
                | StateWord::Failed
                | StateWord::Unverifiable => false,
            }
        } else {
            entity.state == StateWord::Up
        }
    };
    Ok(if view.entities.iter().all(fine) {
        Exit::Ok
    } else {
        Exit::NotUp
    })
}

pub(super) async fn list(names: &[String], global: &Global, output: &mut Output<'_>) -> Ended {
    let reply = connect(global).await?.list(names).await?;
    let entities = &reply.entities;
    output.show(&reply, entities, |look| {
        render::entity::list(entities, look)
    })?;
    Ok(Exit::Ok)
}

pub(super) async fn show(name: &str, global: &Global, output: &mut Output<'_>) -> Ended {
    let view = connect(global).await?.show(name).await?;
    one(&view, output, |look| render::entity::show(&view, look))
}

pub(super) async fn explain(name: &str, global: &Global, output: &mut Output<'_>) -> Ended {
    let view = connect(global).await?.explain(name).await?;
    one(&view, output, |look| render::entity::explain(&view, look))
}

pub(super) async fn bpf(seconds: u32, global: &Global, output: &mut Output<'_>) -> Ended {
    let view = connect(global).await?.bpf(seconds).await?;
    one(&view, output, |look| render::kernel::bpf(&view, look))
}

pub(super) async fn bpf_log(on: bool, global: &Global, output: &mut Output<'_>) -> Ended {
    let view = connect(global).await?.bpf_log(on).await?;
    one(&view, output, |_look| render::kernel::bpf_log(view))
}

pub(super) async fn reload(plan: bool, global: &Global, output: &mut Output<'_>) -> Ended {
    let view = connect(global).await?.reload(plan).await?;
    one(&view, output, |look| render::diagnosis::reload(&view, look))?;
    let fine = view.applied || (view.plan && view.refused.is_none());
    Ok(if fine { Exit::Ok } else { Exit::Usage })
}

pub(super) async fn operate(
    action: OperatorAction,
    operate: &Operate,
    global: &Global,
    output: &mut Output<'_>,
) -> Ended {
    let Operate {
        names,
        reason,
        wait,
    } = operate;
    let mut client = connect(global).await?;
    if watchdog::is_meant(names, &mut client).await? {
        return watchdog::restart(output).await;
    }
    // Also finds the misspelt name before anything has been done to the others.
    let before = client.list(names).await?.entities;
    let wait = match wait {
        Some(within) => Some(Wait::begin(&global.socket, *within).await?),
        None => None,
    };
    let mut entities = Vec::new();
    for name in names {
        entities.push(client.operate(name, action, reason.as_deref()).await?);
    }
    let mut exit = Exit::Ok;
    if let Some(wait) = wait {
        (entities, exit) = wait.finish(&mut client, action, &before).await?;
    }
    let reply = EntitiesReply { entities };
    output.show(&reply, &reply.entities, |look| {
        reply
            .entities
            .iter()
            .map(|entity| render::entity::line(entity, look))
            .collect()
    })?;
    Ok(exit)
}

pub(super) async fn register(
    name: &str,
    pid: Option<u32>,
    pidfile: Option<PathBuf>,
    restart: Option<String>,
    follow: bool,
    global: &Global,
    output: &mut Output<'_>,
) -> Ended {
    let pidfile = match pidfile.map(std::path::absolute).transpose()? {
        Some(path) => Some(path.into_os_string().into_string().map_err(|path| {
            Trouble::Usage(format!("the path `{}` is not UTF-8", path.display()))
        })?),
        None => None,
    };
    let parameters = RegisterParameters {
        name: name.to_owned(),
        pid,
        pidfile,
        restart,
        follow: follow.then_some(true),
    };
    let entity = connect(global).await?.register(parameters).await?;
    one(&entity, output, |look| render::entity::line(&entity, look))
}

pub(super) async fn unregister(name: &str, global: &Global, output: &mut Output<'_>) -> Ended {
    #[derive(Serialize)]
    struct Unregistered<'a> {
        unregistered: &'a str,
    }
    connect(global).await?.unregister(name).await?;
    one(&Unregistered { unregistered: name }, output, |_look| {
        format!(
            "{}: forgotten; its process is left alone\n",
            render::text::printable(name)
        )
    })
}

pub(super) async fn history(
    name: Option<&str>,
    lines: Option<usize>,
    global: &Global,
    output: &mut Output<'_>,
) -> Ended {
    let mut incidents = connect(global).await?.history(name).await?;
    incidents.truncate(lines.unwrap_or(usize::MAX));
    let reply = IncidentsReply { incidents };
    output.show(&reply, &reply.incidents, |look| {
        render::incident::history(&reply.incidents, look)
    })?;
    Ok(Exit::Ok)
}

pub(super) async fn events(
    wanted: EventsParameters,
    global: &Global,
    output: &mut Output<'_>,
) -> Ended {
    let events = connect(global).await?.recent_events(wanted).await?;
    let reply = EventsReply { events };
    output.show(&reply, &reply.events, |look| {
        reply
            .events
            .iter()
            .map(|event| render::event::event(event, look))
            .collect()
    })?;
    Ok(Exit::Ok)
}

/// Until the daemon ends, which is an end that was not asked for.
pub(super) async fn follow(
    wanted: EventsParameters,
    global: &Global,
    output: &mut Output<'_>,
) -> Ended {
    let mut stream = connect(global).await?.events(wanted).await?;
    while let Some((event, lost)) = stream.next().await? {
        match output.form() {
            Form::Human => {
                let look = output.look();
                if lost > 0 {
                    output.text(&render::event::lost(lost, &look))?;
                }
                output.text(&render::event::event(&event, &look))?;
            }
            // There is no end to put a bracket at; the gap in `seq` tells of a loss.
            Form::Json | Form::Jsonl => output.line(&event)?,
        }
    }
    let path = global.socket.clone();
    Err(ClientError::Lost { path }.into())
}

/// The daemon's checks, or the local ones where no daemon answers.
pub(super) async fn doctor(
    local: fn(&ClientError) -> Vec<CheckView>,
    global: &Global,
    output: &mut Output<'_>,
) -> Ended {
    let asked = match connect(global).await {
        Ok(mut client) => client.doctor().await,
        Err(error) => Err(error),
    };
    // That there is no daemon has an exit code of its own.
    let (view, otherwise, host_from) = match asked {
        Ok(view) => (view, Exit::Ok, 0),
        Err(error) => {
            let checks = local(&error);
            (DoctorView { checks }, Exit::from(&error), 1)
        }
    };
    output.show(&view, &view.checks, |look| {
        render::diagnosis::doctor(&view, look)
    })?;
    let counted = view.checks.get(host_from..).unwrap_or_default();
    let any = |result| counted.iter().any(|check| check.result == result);
    Ok(if any(CheckResult::Failed) {
        Exit::Failed
    } else if otherwise != Exit::Ok {
        otherwise
    } else if any(CheckResult::Degraded) {
        Exit::Degraded
    } else {
        Exit::Ok
    })
}

/// One object, which is a document and a line alike.
pub(super) fn one<T: Serialize>(
    value: &T,
    output: &mut Output<'_>,
    human: impl FnOnce(&render::Look) -> String,
) -> Ended {
    output.show(value, std::slice::from_ref(value), human)?;
    Ok(Exit::Ok)
}
