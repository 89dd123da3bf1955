//! A connection to systemd, and what is asked over it, typed
//! (org.freedesktop.systemd1(5)).
//!
//! The way there is the system bus. systemd's own socket (`/run/systemd/private`),
//! which systemctl(1) uses as root, cannot be spoken to with zbus: systemd signs its
//! messages there with a name that the D-Bus specification does not allow as a
//! sender's, and zbus refuses them. Where there is no bus, [`super::client`] asks that
//! program. Every call has a deadline; nothing is remembered here.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use zbus::{
    Connection, DynamicType, Message, OwnedObjectPath, OwnedVariant,
    connection::Builder,
    names::{BusName, InterfaceName, MemberName},
};

use super::unit::{Job, JobId, JobType, UnitState};

/// systemd answers within milliseconds; one that does not hangs.
const DEADLINE: Duration = Duration::from_secs(2);
/// Messages that may wait to be read: a full queue would hold up replies as well.
const QUEUE: usize = 65_536;

const NAME: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const JOB: &str = "org.freedesktop.systemd1.Job";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Something did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum BusError {
    /// There is no way to it.
    #[error("systemd cannot be reached at `{at}`")]
    Unreachable {
        /// The bus's socket.
        at: PathBuf,
        /// Why not.
        #[source]
        source: zbus::Error,
    },
    /// systemd refused, or the connection broke.
    #[error("systemd: `{method}`")]
    Call {
        /// What was asked.
        method: String,
        /// Why not.
        #[source]
        source: zbus::Error,
    },
    /// An answer is not what org.freedesktop.systemd1(5) says.
    #[error("systemd: answer to `{method}` not understood")]
    Answer {
        /// What was asked.
        method: String,
        /// Why not.
        #[source]
        source: zbus::Error,
    },
}

impl BusError {
    /// systemd's name of the refusal, for instance
    /// `org.freedesktop.systemd1.NoSuchUnit`, and its words.
    pub(super) fn refusal(&self) -> Option<(String, String)> {
        let Self::Call { source, .. } = self else {
            return None;
        };
        match source {
            zbus::Error::MethodError(name, words, _) => {
                Some((name.to_string(), words.clone().unwrap_or_default()))
            }
            zbus::Error::FDO(error) => {
                use zbus::DBusError as _;
                let words = error.description().unwrap_or_default().to_owned();
                Some((error.name().to_string(), words))
            }
            _ => None,
        }
    }
}

/// See the module; clones share the connection.
#[derive(Clone, Debug)]
pub(super) struct Bus {
    connection: Connection,
}

impl Bus {
    /// Connects to the bus behind this socket, and asks to be told of jobs.
    ///
    /// # Errors
    ///
    /// When systemd does not answer.
    pub(super) async fn connect(socket: &Path) -> Result<Self, BusError> {
        let unreachable = |source| BusError::Unreachable {
            at: socket.to_owned(),
            source,
        };
        let address = format!("unix:path={}", socket.display());
        let builder = Builder::address(address.as_str())
            .method_timeout(DEADLINE)
            .max_queued(const { std::num::NonZeroUsize::new(QUEUE).unwrap() });
        let connection = tokio::time::timeout(DEADLINE, builder.build())
            .await
            .unwrap_or_else(|_| Err(zbus::Error::from(io::Error::from(io::ErrorKind::TimedOut))))
            .map_err(unreachable)?;
        let bus = Self { connection };
        let rule = format!("type='signal',sender='{NAME}',interface='{MANAGER}'");
        bus.call_on(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "AddMatch",
            &(rule.as_str(),),
        )
        .await?;
        bus.call(MANAGER_PATH, MANAGER, "Subscribe", &()).await?;
        Ok(bus)
    }

    /// The connection, for its messages.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn call(
        &self,
        path: &str,
        interface: &'static str,
        method: &'static str,
        body: &(impl serde::Serialize + DynamicType + Sync),
    ) -> Result<Message, BusError> {
        self.call_on(NAME, path, interface, method, body).await
    }

    async fn call_on(
        &self,
        destination: &'static str,
        path: &str,
        interface: &'static str,
        method: &'static str,
        body: &(impl serde::Serialize + DynamicType + Sync),
    ) -> Result<Message, BusError> {
        let failed = |source| BusError::Call {
            method: method.to_owned(),
            source,
        };
        let destination = BusName::try_from(destination).map_err(failed)?;
        let interface = InterfaceName::try_from(interface).map_err(failed)?;
        let member = MemberName::try_from(method).map_err(failed)?;
        self.connection
            .call_method(Some(destination), path, Some(interface), member, body)
            .await
            .map_err(failed)
    }

    async fn property<T>(
        &self,
        path: &str,
        interface: &'static str,
        name: &'static str,
    ) -> Result<T, BusError>
    where
        T: TryFrom<OwnedVariant>,
        zbus::Error: From<T::Error>,
    {
        let reply = self
            .call(path, PROPERTIES, "Get", &(interface, name))
            .await?;
        let answer = |source| BusError::Answer {
            method: name.to_owned(),
            source,
        };
        let value: OwnedVariant = reply.body().deserialize().map_err(answer)?;
        T::try_from(value).map_err(|error| answer(error.into()))
    }

    /// `running`, `degraded`, `stopping`, … (systemctl(1), is-system-running).
    ///
    /// # Errors
    ///
    /// When systemd does not say.
    pub(super) async fn system_state(&self) -> Result<String, BusError> {
        self.property(MANAGER_PATH, MANAGER, "SystemState").await
    }

    /// Object path of a unit, which is loaded if need be.
    pub(super) async fn unit_path(&self, unit: &str) -> Result<String, BusError> {
        let reply = self
            .call(MANAGER_PATH, MANAGER, "LoadUnit", &(unit,))
            .await?;
        Ok(path_in(&reply, "LoadUnit")?.to_string())
    }

    /// Everything we want to know of a unit.
    ///
    /// # Errors
    ///
    /// When systemd does not say.
    pub(super) async fn unit(&self, unit: &str) -> Result<UnitState, BusError> {
        let path = self.unit_path(unit).await?;
        let (main_pid, result, restart, system) = tokio::join!(
            self.property::<u32>(&path, SERVICE, "MainPID"),
            self.property::<String>(&path, SERVICE, "Result"),
            self.property::<String>(&path, SERVICE, "Restart"),
            self.system_state(),
        );
        // Last, so that it is the newest: all of it is of one moment.
        let reply = self.call(&path, PROPERTIES, "GetAll", &(UNIT,)).await?;
        let answer = |source| BusError::Answer {
            method: "GetAll".to_owned(),
            source,
        };
        let mut all: HashMap<String, OwnedVariant> = reply.body().deserialize().map_err(answer)?;
        let (number, job): (u32, OwnedObjectPath) = take(&mut all, "Job")?;
        let invocation: Vec<u8> = take(&mut all, "InvocationID")?;
        // Of CLOCK_MONOTONIC, as all of systemd's.
        let up_since: Option<u64> = take(&mut all, "ActiveEnterTimestampMonotonic").ok();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::try_from(now).unwrap_or_default();
        let active: String = take(&mut all, "ActiveState")?;
        let is_active = active == "active";
        let mut state = UnitState {
            id: take(&mut all, "Id")?,
            active,
            sub: take(&mut all, "SubState")?,
            invocation,
            up_for: up_since
                .filter(|_| is_active)
                .map(|since| now.saturating_sub(Duration::from_micros(since))),
            job: None,
            // Units of other types than services have neither.
            main_pid: main_pid.ok().filter(|pid| *pid != 0),
            result: result.unwrap_or_default(),
            restart: restart.unwrap_or_else(|_| "no".to_owned()),
            going_down: system? == "stopping",
        };
        if number != 0 {
            let id = JobId(number);
            state.job = Some(Job {
                id,
                // It may have ended meanwhile.
                kind: self.job_type_at(job.as_str()).await.ok(),
            });
        }
        Ok(state)
    }

    async fn job_type_at(&self, path: &str) -> Result<JobType, BusError> {
        let word: String = self.property(path, JOB, "JobType").await?;
        Ok(JobType::from_word(&word))
    }

    /// What a job does.
    pub(super) async fn job_type(&self, id: JobId) -> Result<JobType, BusError> {
        let JobId(number) = id;
        self.job_type_at(&format!("{MANAGER_PATH}/job/{number}"))
            .await
    }

    /// Queues a job that gives way to whatever is queued already: a conflicting
    /// one is never cancelled by it (`fail` of systemctl(1), `--job-mode`).
    ///
    /// # Errors
    ///
    /// systemd's refusal.
    pub(super) async fn queue(
        &self,
        method: &'static str,
        unit: &str,
        mode: &'static str,
    ) -> Result<JobId, BusError> {
        let reply = self
            .call(MANAGER_PATH, MANAGER, method, &(unit, mode))
            .await?;
        let path = path_in(&reply, method)?;
        let number = path.as_str().rsplit('/').next().unwrap_or_default().parse();
        number.map(JobId).map_err(|_| BusError::Answer {
            method: method.to_owned(),
            source: zbus::Error::Failure(format!("`{}` is no job", path.as_str())),
        })
    }

    /// Takes a job back.
    pub(super) async fn cancel(&self, JobId(number): JobId) -> Result<(), BusError> {
        let cancelled = self
            .call(MANAGER_PATH, MANAGER, "CancelJob", &(number,))
            .await;
        cancelled.map(drop)
    }

    /// Lets a unit be started again that systemd has given up.
    pub(super) async fn reset_failed(&self, unit: &str) -> Result<(), BusError> {
        let reset = self
            .call(MANAGER_PATH, MANAGER, "ResetFailedUnit", &(unit,))
            .await;
        reset.map(drop)
    }

    /// Has systemd read all units anew.
    pub(super) async fn reload(&self) -> Result<(), BusError> {
        let reloaded = self.call(MANAGER_PATH, MANAGER, "Reload", &()).await;
        reloaded.map(drop)
    }
}

fn path_in(reply: &Message, method: &str) -> Result<OwnedObjectPath, BusError> {
    reply
        .body()
        .deserialize()
        .map_err(|source| BusError::Answer {
            method: method.to_owned(),
            source,
        })
}

fn take<T>(all: &mut HashMap<String, OwnedVariant>, name: &str) -> Result<T, BusError>
where
    T: TryFrom<OwnedVariant>,
    zbus::Error: From<T::Error>,
{
    let answer = |source| BusError::Answer {
        method: name.to_owned(),
        source,
    };
    let value = all
        .remove(name)
        .ok_or_else(|| answer(zbus::Error::MissingField))?;
    T::try_from(value).map_err(|error| answer(error.into()))
}
