//! The typed client: one method per verb, every wait with a deadline.
//!
//! Made on zlink's connection, so that the server is always also exercised by a
//! Varlink implementation that is not ours.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::time::timeout;
use zlink::{Call, tokio::unix::Connection};

use super::{
    error::ControlError,
    interface::{
        BpfLogParameters, BpfShowParameters, EntitiesReply, EntityReply, EventReply,
        EventsParameters, EventsReply, HistoryParameters, HoldParameters, INTERFACE,
        IncidentsReply, NameParameters, NamesParameters, Nothing, OperateParameters,
        RegisterParameters, ReloadParameters, Verb,
    },
};
use crate::{
    core::event::OperatorAction,
    view::{
        diagnosis::{BpfLogView, BpfView, DoctorView, ReloadView},
        entity::{EntityView, ExplainView, ShowView},
        event::EventView,
        incident::IncidentView,
        status::StatusView,
    },
};

/// Where the daemon listens unless it was told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/pmon/pmon.sock";

/// How long a daemon may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a daemon may take to answer: more than it gives its engine, so that
/// it can say itself that it is late.
const ANSWER: Duration = Duration::from_secs(35);

/// Why there is no answer, or not the one hoped for.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no daemon at `{}`: {}", path.display(), advice(source))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket's mode forbids it.
    #[error(
        "permission denied on `{}`: this needs root or membership in the socket's group",
        path.display()
    )]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon went away or cut the connection in the middle.
    #[error("the daemon at `{}` ended the connection", path.display())]
    Lost {
        /// The socket.
        path: PathBuf,
    },
    /// Too late.
    #[error("timed out: no {what} from `{}` within {} s", path.display(), after.as_secs())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The daemon answered with an error.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The daemon answered something that this version does not understand.
    #[error("the daemon at `{}` is not understood: {reason}; is it another version?", path.display())]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What zlink said.
        reason: String,
    },
}

fn advice(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        "there is no such socket; start one with `pmon daemon`".to_owned()
    } else if kind == io::ErrorKind::ConnectionRefused {
        "nobody listens there; start one with `pmon daemon`".to_owned()
    } else {
        error.to_string()
    }
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    path: PathBuf,
    answer: Duration,
}

#[derive(Debug, Serialize)]
struct Method<P> {
    method: String,
    parameters: P,
}

impl Client {
    /// Connects to the daemon at `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unreachable`], [`ClientError::Forbidden`] or
    /// [`ClientError::TimedOut`].
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        Self::connect_within(path, CONNECT, ANSWER).await
    }

    /// Connects with deadlines of one's own for connecting and for each answer.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub async fn connect_within(
        path: &Path,
        connect: Duration,
        answer: Duration,
    ) -> Result<Self, ClientError> {
        let path = path.to_owned();
        let connection = match timeout(connect, zlink::tokio::unix::connect(&path)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(zlink::Error::Io(source)))
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Err(ClientError::Forbidden { path });
            }
            Ok(Err(zlink::Error::Io(source))) => {
                return Err(ClientError::Unreachable { path, source });
            }
            Ok(Err(other)) => {
                let source = io::Error::other(other);
                return Err(ClientError::Unreachable { path, source });
            }
            Err(_elapsed) => {
                return Err(ClientError::TimedOut {
                    path,
                    what: "connection",
                    after: connect,
                });
            }
        };
        Ok(Self {
            connection,
            path,
            answer,
        })
    }

    /// The daemon and the entities of these names, or all of them.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; so for all that follow.
    pub async fn status(&mut self, names: &[String]) -> Result<StatusView, ClientError> {
        self.call(Verb::Status, some_names(names)).await
    }

    /// The entities of these names, or all of them.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn list(&mut self, names: &[String]) -> Result<EntitiesReply, ClientError> {
        self.call(Verb::List, some_names(names)).await
    }

    /// One entity in detail.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn show(&mut self, name: &str) -> Result<ShowView, ClientError> {
        self.call(Verb::Show, named(name)).await
    }

    /// An operator's action; the entity as it is once that was accepted.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn operate(
        &mut self,
        name: &str,
        action: OperatorAction,
        reason: Option<&str>,
    ) -> Result<EntityView, ClientError> {
        let verb = match action {
            OperatorAction::Start => Verb::Start,
            // There is no way to ask for a stop that ends.
            OperatorAction::Stop | OperatorAction::StopFor { .. } => Verb::Stop,
            OperatorAction::Restart => Verb::Restart,
            OperatorAction::Resume => Verb::Resume,
            OperatorAction::Hold { lasts } => return self.hold(name, lasts, reason).await,
        };
        let parameters = OperateParameters {
            name: name.to_owned(),
            reason: reason.map(str::to_owned),
        };
        let EntityReply { entity } = self.call(verb, parameters).await?;
        Ok(entity)
    }

    async fn hold(
        &mut self,
        name: &str,
        lasts: Option<Duration>,
        reason: Option<&str>,
    ) -> Result<EntityView, ClientError> {
        let parameters = HoldParameters {
            name: name.to_owned(),
            // A part of a second is worth a whole one.
            seconds: lasts.map(|lasts| lasts.as_secs() + u64::from(lasts.subsec_nanos() > 0)),
            reason: reason.map(str::to_owned),
        };
        let EntityReply { entity } = self.call(Verb::Hold, parameters).await?;
        Ok(entity)
    }

    /// Monitors a process that no file describes.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn register(
        &mut self,
        parameters: RegisterParameters,
    ) -> Result<EntityView, ClientError> {
        let EntityReply { entity } = self.call(Verb::Register, parameters).await?;
        Ok(entity)
    }

    /// Forgets an ad-hoc entity.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn unregister(&mut self, name: &str) -> Result<(), ClientError> {
        let Nothing {} = self.call(Verb::Unregister, named(name)).await?;
        Ok(())
    }

    /// Incidents, newest first.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn history(&mut self, name: Option<&str>) -> Result<Vec<IncidentView>, ClientError> {
        let parameters = HistoryParameters {
            name: name.map(str::to_owned),
        };
        let IncidentsReply { incidents } = self.call(Verb::History, parameters).await?;
        Ok(incidents)
    }

    /// Why an entity is in its state.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn explain(&mut self, name: &str) -> Result<ExplainView, ClientError> {
        self.call(Verb::Explain, named(name)).await
    }

    /// Puts the configuration into force again, or only says what that would change.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn reload(&mut self, plan: bool) -> Result<ReloadView, ClientError> {
        let plan = plan.then_some(true);
        self.call(Verb::Reload, ReloadParameters { plan }).await
    }

    /// Has the daemon end, for another one to take over.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn handoff(&mut self) -> Result<(), ClientError> {
        let Nothing {} = self.call(Verb::Handoff, Nothing {}).await?;
        Ok(())
    }

    /// Every prerequisite, as the daemon sees it.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn doctor(&mut self) -> Result<DoctorView, ClientError> {
        self.call(Verb::Doctor, Nothing {}).await
    }

    /// Programs, links, maps and pins; runs are counted for so many seconds.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn bpf(&mut self, seconds: u32) -> Result<BpfView, ClientError> {
        let seconds = Some(seconds);
        self.call(Verb::BpfShow, BpfShowParameters { seconds })
            .await
    }

    /// Switches the kernel side's own log.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn bpf_log(&mut self, on: bool) -> Result<BpfLogView, ClientError> {
        self.call(Verb::BpfLog, BpfLogParameters { on }).await
    }

    /// The last events, oldest first.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn recent_events(
        &mut self,
        parameters: EventsParameters,
    ) -> Result<Vec<EventView>, ClientError> {
        let EventsReply { events } = self.call(Verb::RecentEvents, parameters).await?;
        Ok(events)
    }

    /// The last events and then all that follow; takes the connection over.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn events(
        mut self,
        parameters: EventsParameters,
    ) -> Result<EventStream, ClientError> {
        let call = Call::new(Method {
            method: method(Verb::Events),
            parameters,
        })
        .set_more(true);
        match timeout(self.answer, self.connection.send_call(&call, Vec::new())).await {
            Ok(Ok(())) => Ok(EventStream { client: self }),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_elapsed) => Err(self.late()),
        }
    }

    async fn call<P, R>(&mut self, verb: Verb, parameters: P) -> Result<R, ClientError>
    where
        P: Serialize + fmt::Debug,
        R: DeserializeOwned + fmt::Debug,
    {
        let call = Call::new(Method {
            method: method(verb),
            parameters,
        });
        let answer = self
            .connection
            .call_method::<_, R, ControlError>(&call, Vec::new());
        match timeout(self.answer, answer).await {
            Ok(Ok((Ok(reply), _fds))) => reply.into_parameters().ok_or_else(|| self.empty()),
            Ok(Ok((Err(error), _fds))) => Err(error.into()),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_elapsed) => Err(self.late()),
        }
    }

    fn failed(&self, error: &zlink::Error) -> ClientError {
        let path = self.path.clone();
        if matches!(
            error,
            zlink::Error::UnexpectedEof
                | zlink::Error::SocketRead
                | zlink::Error::SocketWrite
                | zlink::Error::Io(_)
        ) {
            ClientError::Lost { path }
        } else {
            let reason = error.to_string();
            ClientError::Protocol { path, reason }
        }
    }

    fn empty(&self) -> ClientError {
        ClientError::Protocol {
            path: self.path.clone(),
            reason: "the reply has no parameters".to_owned(),
        }
    }

    fn late(&self) -> ClientError {
        ClientError::TimedOut {
            path: self.path.clone(),
            what: "answer",
            after: self.answer,
        }
    }
}

/// The event stream.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
}

impl EventStream {
    /// The next event, with the number of events lost before it; `None` when the
    /// daemon ends.
    ///
    /// Waits as long as it takes. Cancel safe.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<(EventView, u64)>, ClientError> {
        let reply = self
            .client
            .connection
            .receive_reply::<EventReply, ControlError>()
            .await;
        match reply {
            Ok((Ok(reply), _fds)) => match reply.into_parameters() {
                Some(EventReply {
                    event: Some(event),
                    lost,
                }) => Ok(Some((event, lost.unwrap_or(0)))),
                Some(EventReply { event: None, .. }) => Ok(None),
                None => Err(self.client.empty()),
            },
            Ok((Err(error), _fds)) => Err(error.into()),
            Err(error) => Err(self.client.failed(&error)),
        }
    }
}

fn method(verb: Verb) -> String {
    format!("{INTERFACE}.{}", verb.name())
}

fn named(name: &str) -> NameParameters {
    NameParameters {
        name: name.to_owned(),
    }
}

fn some_names(names: &[String]) -> NamesParameters {
    NamesParameters {
        names: (!names.is_empty()).then(|| names.to_vec()),
    }
}
