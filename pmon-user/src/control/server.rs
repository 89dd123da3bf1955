//! The service on the control socket: accepts clients, asks the kernel who they
//! are, and gives each a task of its own.
//!
//! Must stay true: nothing a client does ends this loop, and nobody without the
//! right to write can take the places of those who have it. Writers, readers and
//! refused peers are counted apart, readers also by user.
//!
//! zlink's own server is not used: it answers all clients from one task, so a
//! client that does not read its replies would stop the service.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UnixStream,
    select,
    sync::watch,
    task::{Id, JoinSet},
    time::{sleep, timeout},
};

use super::{
    access::{Access, AccessRules, Peer, Rights},
    backend::Backend,
    connection::{ANSWER, Client, turn_away},
    error::ControlError,
    peer::credentials,
    socket::{BoundSocket, bind_control},
    transport::{IDLE, Messages, REQUEST},
};

/// Pause after a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many clients are served at once, and how patiently.
#[derive(Clone, Copy, Debug)]
struct Limits {
    writers: usize,
    readers: usize,
    readers_per_uid: usize,
    refused: usize,
    idle: Duration,
    request: Duration,
    answer: Duration,
    refused_request: Duration,
    /// How long clients may take to finish once the service ends.
    grace: Duration,
}

const LIMITS: Limits = Limits {
    writers: 128,
    readers: 128,
    readers_per_uid: 32,
    refused: 16,
    idle: IDLE,
    request: REQUEST,
    answer: ANSWER,
    refused_request: Duration::from_secs(1),
    grace: Duration::from_secs(1),
};

/// What a connection counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Writer,
    Reader { uid: u32 },
    Refused,
}

/// The bound control socket. Connections wait in the kernel until [`serve`] runs;
/// the file goes away when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    bound: BoundSocket,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket, mode 0660 and of the rules' group; makes its directory
    /// (0755) and replaces the socket of a daemon that is gone. The caller must
    /// hold the lock of the run directory.
    ///
    /// # Errors
    ///
    /// When the directory or the socket cannot be made, or something else than a
    /// socket is in its place.
    pub fn bind(path: &Path, access: &AccessRules) -> anyhow::Result<Self> {
        Ok(Self {
            bound: bind_control(path, access.socket_gid, access.socket_mode())?,
            path: path.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Serves clients until `shutdown` resolves, then removes the socket file and
/// gives the clients a second to finish.
pub async fn serve<B: Backend>(
    socket: ControlSocket,
    access: AccessRules,
    backend: Arc<B>,
    shutdown: impl Future<Output = ()>,
) {
    serve_within(LIMITS, socket, access, backend, shutdown).await;
}

async fn serve_within<B: Backend>(
    limits: Limits,
    socket: ControlSocket,
    access: AccessRules,
    backend: Arc<B>,
    shutdown: impl Future<Output = ()>,
) {
    let ControlSocket { bound, path: _ } = socket;
    let (close, closing) = watch::channel(false);
    let mut service = Service {
        limits,
        rules: Arc::new(access),
        backend,
        closing,
        clients: JoinSet::new(),
        places: HashMap::new(),
    };
    let mut shutdown = std::pin::pin!(shutdown);
    let mut failing = false;
    loop {
        let accepted = select! {
            () = &mut shutdown => break,
            Some(ended) = service.clients.join_next_with_id() => {
                service.leave(ended);
                continue;
            }
            accepted = bound.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _address)) => {
                failing = false;
                service.admit(stream).await;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot accept control connections");
                    failing = true;
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(bound);
    // The receivers live in the clients' tasks; without any there is nobody to tell.
    close.send(true).ok();
    let finish = async { while service.clients.join_next().await.is_some() {} };
    if timeout(limits.grace, finish).await.is_err() {
        tracing::debug!("control clients cut off at shutdown");
    }
}

struct Service<B> {
    limits: Limits,
    rules: Arc<AccessRules>,
    backend: Arc<B>,
    closing: watch::Receiver<bool>,
    clients: JoinSet<()>,
    places: HashMap<Id, Place>,
}

impl<B: Backend> Service<B> {
    async fn admit(&mut self, stream: UnixStream) {
        let peer = match credentials(&stream).await {
            Ok(peer) => peer,
            Err(error) => {
                tracing::debug!(%error, "a control client was gone before it could be looked at");
                return;
            }
        };
        let rights = self.rules.rights(&peer);
        match self.place(&peer, rights) {
            Ok(place) => {
                let messages = Messages::new(stream, self.limits.idle, self.limits.request);
                let client = Client {
                    backend: Arc::clone(&self.backend),
                    rules: Arc::clone(&self.rules),
                    peer,
                    rights,
                    patience: self.limits.answer,
                    closing: self.closing.clone(),
                };
                let task = self.clients.spawn(client.converse(messages));
                self.places.insert(task.id(), place);
            }
            Err(error) => {
                let Peer { uid, gid, pid, .. } = peer;
                if self.count(|place| place == Place::Refused) >= self.limits.refused {
                    tracing::debug!(uid, gid, pid, "control client dropped");
                    return;
                }
                tracing::warn!(uid, gid, pid, %error, "control client turned away");
                let patience = self.limits.refused_request;
                let messages = Messages::new(stream, patience, patience);
                let task = self.clients.spawn(turn_away(error, messages));
                self.places.insert(task.id(), Place::Refused);
            }
        }
    }

    /// The place a peer can have, or why there is none.
    fn place(&self, peer: &Peer, rights: Rights) -> Result<Place, ControlError> {
        let Limits {
            writers,
            readers,
            readers_per_uid,
            ..
        } = self.limits;
        let uid = peer.uid;
        let full = |what: String| {
            Err(ControlError::Refused {
                reason: format!("too many connections: {what}"),
            })
        };
        match rights {
            Rights::None => Err(ControlError::PermissionDenied {
                needed: self.rules.needed(Access::Read),
            }),
            Rights::Write | Rights::Own => {
                if self.count(|place| place == Place::Writer) >= writers {
                    return full(format!("{writers} of users who may write"));
                }
                Ok(Place::Writer)
            }
            Rights::Read => {
                let place = Place::Reader { uid };
                if self.count(|taken| taken == place) >= readers_per_uid {
                    return full(format!("{readers_per_uid} of uid {uid}"));
                }
                if self.count(|taken| matches!(taken, Place::Reader { .. })) >= readers {
                    return full(format!("{readers} of users who may read"));
                }
                Ok(place)
            }
        }
    }

    fn count(&self, which: impl Fn(Place) -> bool) -> usize {
        self.places.values().filter(|place| which(**place)).count()
    }

    fn leave(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a control connection ended in a panic");
                error.id()
            }
        };
        self.places.remove(&id);
    }
}

#[cfg(test)]
mod tests;
