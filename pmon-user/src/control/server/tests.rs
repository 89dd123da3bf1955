//! The service on a real socket with a fake daemon behind it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod events;
mod misuse;
mod users;
mod verbs;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    os::unix::net::UnixStream as StdStream,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
};

use super::*;
use crate::{
    control::{
        client::{Client as TypedClient, ClientError},
        fake::Fake,
        interface::{EventsParameters, INTERFACE, MAX_COUNTING, MAX_HOLD, RegisterParameters},
    },
    core::event::OperatorAction,
    view::{entity::StateWord, samples},
};

/// Longer than anything here takes, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Daemon {
    directory: TempDir,
    fake: Arc<Fake>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Daemon {
    fn start(limits: Limits, rules: AccessRules) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fake = Fake::new();
        let path = directory.path().join("pmon.sock");
        let socket = ControlSocket::bind(&path, &rules).unwrap();
        assert_eq!(socket.path(), path);
        let (stop, stopped) = oneshot::channel::<()>();
        let backend = Arc::clone(&fake);
        let task = tokio::spawn(async move {
            serve_within(limits, socket, rules, backend, async {
                stopped.await.ok();
            })
            .await;
        });
        Self {
            directory,
            fake,
            stop,
            task,
        }
    }

    fn ordinary() -> Self {
        Self::start(
            LIMITS,
            AccessRules {
                own_uid: rustix::process::geteuid().as_raw(),
                ..AccessRules::default()
            },
        )
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("pmon.sock")
    }

    async fn client(&self) -> TypedClient {
        TypedClient::connect(&self.path()).await.unwrap()
    }

    async fn raw(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.unwrap()
    }

    async fn still_serves(&self) {
        let mut client = self.client().await;
        let served = timeout(LONG, client.status(&[])).await;
        assert_eq!(served.unwrap().unwrap().entities.len(), 3);
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// One reply, without its NUL byte; `None` at the end of the connection.
async fn reply(stream: &mut UnixStream) -> Option<Value> {
    let mut message = Vec::new();
    loop {
        match timeout(LONG, stream.read_u8()).await.unwrap() {
            Ok(0) => return Some(serde_json::from_slice(&message).unwrap()),
            Ok(byte) => message.push(byte),
            Err(_) => {
                assert!(message.is_empty(), "half a reply: {message:?}");
                return None;
            }
        }
    }
}

async fn ask(stream: &mut UnixStream, call: &Value) -> Option<Value> {
    let mut message = call.to_string().into_bytes();
    message.push(0);
    stream.write_all(&message).await.unwrap();
    reply(stream).await
}

fn method(name: &str) -> String {
    format!("{INTERFACE}.{name}")
}

#[tokio::test]
async fn a_clean_end_takes_the_file_away_and_closes_idle_clients_at_once() {
    // Nobody is cut off by a grace that is over.
    let limits = Limits {
        idle: 10 * LONG,
        grace: 10 * LONG,
        ..LIMITS
    };
    let daemon = Daemon::start(limits, AccessRules::default());
    let path = daemon.path();
    let mut idle = daemon.raw().await;
    daemon.still_serves().await;
    daemon.stop.send(()).unwrap();
    timeout(LONG, daemon.task).await.unwrap().unwrap();
    assert!(!path.exists());
    assert_eq!(reply(&mut idle).await, None);
}
