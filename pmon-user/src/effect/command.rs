//! What exactly is executed for a start method: program, arguments,
//! environment, directory, user, sockets, output and cgroup.
//!
//! Everything here may block and runs on a blocking thread, before fork.

use std::{
    collections::BTreeMap,
    error::Error,
    ffi::{CString, OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use super::{
    Role, Settings, Shared,
    lane::Voice,
    log::{self, Output, Tail},
    name::escape,
};
use crate::{
    causes::in_full,
    core::{
        effect::{ScriptTask, StartVerb},
        entity::{CommandSpec, EntitySpec, StartMethod},
    },
    sys::{
        spawn::{self, Cgroup, Launch},
        user::{self, Account},
    },
};

/// What is to be executed, in the configuration's terms.
#[derive(Clone, Debug)]
pub(super) enum Invocation {
    /// `systemctl VERB UNIT`.
    Systemctl {
        /// `restart` or `stop`.
        verb: &'static str,
        /// The unit.
        unit: String,
    },
    /// `PATH VERB`.
    Script {
        /// The init script.
        path: PathBuf,
        /// Its argument.
        verb: StartVerb,
    },
    /// The script of an entity in status mode: `argv` is its name and one
    /// argument, blanks and all (spec/pmond.md §5.1).
    StatusScript {
        /// The script.
        path: PathBuf,
        /// Its argument.
        argument: String,
        /// What for.
        task: ScriptTask,
    },
    /// A program.
    Command(CommandSpec),
}

impl Invocation {
    /// How an entity is started.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    pub(super) fn start(spec: &EntitySpec, verb: StartVerb) -> Result<Self, String> {
        match &spec.start {
            StartMethod::Unit { unit, policy: _ } => Err(format!("`{unit}` is systemd's to start")),
            StartMethod::Script { path } => Ok(Self::Script {
                path: path.clone(),
                verb,
            }),
            StartMethod::Command(command) => Ok(Self::Command(command.clone())),
            StartMethod::None { reason } => Err(format!("no usable start method: {reason}")),
        }
    }

    /// Whether the started process is itself the monitored one.
    pub(super) const fn is_foreground(&self) -> bool {
        match self {
            Self::Systemctl { .. } | Self::Script { .. } | Self::StatusScript { .. } => false,
            Self::Command(command) => !command.daemonizes,
        }
    }

    /// What is to be on record before it is executed: whatever may bring a process
    /// up that the next daemon would have to know of. systemd keeps its own record.
    pub(super) const fn role(&self) -> Option<Role> {
        match self {
            Self::Systemctl { .. }
            | Self::StatusScript {
                task: ScriptTask::Status,
                ..
            } => None,
            Self::Script { .. }
            | Self::StatusScript {
                task: ScriptTask::Start,
                ..
            } => Some(Role::StartCommand),
            Self::Command(command) if command.daemonizes => Some(Role::StartCommand),
            Self::Command(_) => Some(Role::Process),
        }
    }

    /// Whether it only asks for the status of an entity.
    pub(super) const fn is_question(&self) -> bool {
        match self {
            Self::StatusScript { task, .. } => matches!(task, ScriptTask::Status),
            Self::Systemctl { .. } | Self::Script { .. } | Self::Command(_) => false,
        }
    }

    fn argv(&self, settings: &Settings) -> Vec<OsString> {
        match self {
            Self::Systemctl { verb, unit } => vec![
                settings.systemctl.clone().into(),
                "--no-ask-password".into(),
                // A start gives way to whatever else is wanted of the unit.
                if *verb == "stop" {
                    "--job-mode=replace".into()
                } else {
                    "--job-mode=fail".into()
                },
                (*verb).into(),
                // A unit may be called `-.mount`.
                "--".into(),
                unit.into(),
            ],
            Self::Script { path, verb } => vec![path.into(), verb.as_str().into()],
            Self::StatusScript {
                path,
                argument,
                task: _,
            } => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                vec![name.into(), argument.into()]
            }
            Self::Command(command) => command.argv.iter().map(OsString::from).collect(),
        }
    }

    /// What is executed, where that is not the first word.
    fn program(&self) -> Option<&Path> {
        match self {
            Self::StatusScript { path, .. } => Some(path),
            Self::Systemctl { .. } | Self::Script { .. } | Self::Command(_) => None,
        }
    }
}

/// Ready to be spawned, any number of times.
#[derive(Debug)]
pub(super) struct Prepared {
    /// For the kernel.
    pub(super) launch: Launch,
    /// For the last line.
    pub(super) tail: Tail,
}

/// Makes everything ready; what is missing but dispensable is reported.
///
/// # Errors
///
/// What is missing and indispensable, for people.
pub(super) fn prepare(invocation: &Invocation, voice: &Voice) -> Result<Prepared, String> {
    let shared = &*voice.shared;
    let account = match invocation {
        Invocation::Command(CommandSpec { user, group, .. })
            if user.is_some() || group.is_some() =>
        {
            Some(
                user::resolve(user.as_deref(), group.as_deref())
                    .map_err(|error| in_full(&error))?,
            )
        }
        Invocation::Systemctl { .. }
        | Invocation::Script { .. }
        | Invocation::StatusScript { .. }
        | Invocation::Command(_) => None,
    };
    let arguments = invocation
        .argv(&shared.settings)
        .iter()
        .map(|argument| c_string(argument))
        .collect::<Result<Vec<_>, _>>()?;
    let program = match invocation.program() {
        Some(path) => c_string(path.as_os_str())?,
        None => arguments.first().cloned().ok_or("there is no program")?,
    };
    let sockets = match invocation {
        Invocation::Command(command) => command.sockets.as_slice(),
        Invocation::Systemctl { .. }
        | Invocation::Script { .. }
        | Invocation::StatusScript { .. } => &[],
    };
    let passed = shared
        .sockets
        .for_start(voice.entity(), sockets)
        .map_err(|error| error.to_string())?;
    let mut environment = environment(invocation, account.as_ref(), &shared.settings)
        .iter()
        .map(|(name, value)| {
            let mut variable = name.clone();
            variable.push("=");
            variable.push(value);
            c_string(&variable)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if !sockets.is_empty() {
        let names = sockets.iter().map(|socket| &*socket.name);
        environment.retain(|variable| !variable.as_bytes().starts_with(b"LISTEN_"));
        environment.extend(spawn::variables(names));
    }
    let (directory, log) = match invocation {
        Invocation::Command(CommandSpec { directory, log, .. }) => {
            (directory.as_path(), log.as_deref())
        }
        Invocation::Systemctl { .. }
        | Invocation::Script { .. }
        | Invocation::StatusScript { .. } => (Path::new("/"), None),
    };
    let directory = c_string(directory.as_os_str())?;
    let Output { writer, tail } = match invocation {
        // Asked all the time; of what it prints the last line is told, when it
        // matters.
        Invocation::StatusScript {
            task: ScriptTask::Status,
            ..
        } => log::captured().map_err(|error| format!("nothing takes its output: {error}"))?,
        Invocation::Systemctl { .. }
        | Invocation::Script { .. }
        | Invocation::StatusScript { .. }
        | Invocation::Command(_) => open_output(log, voice)?,
    };
    Ok(Prepared {
        launch: Launch {
            program,
            arguments,
            environment,
            directory,
            credentials: account.and_then(|account| account.credentials),
            output: writer,
            passed,
            cgroup: match invocation {
                // What it starts, systemd puts where it belongs.
                Invocation::Systemctl { .. } => None,
                // Questions, of which there are many, shall not use up what pmon is
                // given of the CPUs. What is started may want real time, which the
                // CPU controller would have to be told first.
                Invocation::StatusScript {
                    task: ScriptTask::Status,
                    ..
                } => open_cgroup(shared, voice).map(|cgroup| Cgroup {
                    cpu: shared.cgroups.open_cpu(voice.entity()),
                    ..cgroup
                }),
                Invocation::Script { .. }
                | Invocation::StatusScript { .. }
                | Invocation::Command(_) => open_cgroup(shared, voice),
            },
        },
        tail,
    })
}

/// The minimal environment, what a login would set for another user, and what
/// is configured; later ones win.
fn environment(
    invocation: &Invocation,
    account: Option<&Account>,
    settings: &Settings,
) -> BTreeMap<OsString, OsString> {
    let own = |(name, value): (&String, &String)| (name.into(), value.into());
    let mut environment: BTreeMap<OsString, OsString> =
        settings.environment.iter().map(own).collect();
    if let Some(login) = account.and_then(|account| account.login.as_ref()) {
        environment.insert("HOME".into(), login.home.clone().into());
        environment.insert("LOGNAME".into(), login.name.clone().into());
        environment.insert("SHELL".into(), login.shell.clone().into());
        environment.insert("USER".into(), login.name.clone().into());
    }
    if let Invocation::Command(command) = invocation {
        environment.extend(command.environment.iter().map(own));
    }
    environment
}

/// The configured log file, else the journal, else the entity's own log file;
/// what cannot be opened is reported and the next one taken.
fn open_output(log: Option<&Path>, voice: &Voice) -> Result<Output, String> {
    let Settings {
        log_directory,
        journal,
        ..
    } = &voice.shared.settings;
    let entity = &**voice.entity();
    let own = log_directory.join(format!("{}.log", escape(entity, |_| false)));
    let opened = match (log, journal) {
        (Some(log), _) => log::open_file(log).map_err(|error| (log.to_owned(), error)),
        (None, Some(journal)) => log::open_journal(journal, entity).or_else(|error| {
            voice.failed(format!(
                "cannot write to the journal at `{}`: {error}; output goes to `{}`",
                journal.stream.display(),
                own.display()
            ));
            log::open_file(&own).map_err(|error| (own.clone(), error))
        }),
        (None, None) => log::open_file(&own).map_err(|error| (own.clone(), error)),
    };
    opened.or_else(|(path, error)| {
        voice.failed(format!(
            "cannot write to log `{}`: {error}; output is lost",
            path.display()
        ));
        log::discard().map_err(|error| format!("cannot open `/dev/null`: {error}"))
    })
}

fn open_cgroup(shared: &Shared, voice: &Voice) -> Option<Cgroup> {
    let directory = shared
        .cgroups
        .open(voice.entity())
        .unwrap_or_else(|error| {
            no_cgroup(voice, &error);
            None
        })?;
    Some(Cgroup {
        directory,
        cpu: None,
    })
}

/// Says, the first time, that programs stay in pmon's own cgroup.
pub(super) fn no_cgroup(voice: &Voice, error: &dyn Error) {
    if !voice.shared.said_no_cgroup.swap(true, Ordering::AcqRel) {
        let parent = voice.shared.settings.cgroup_parent.as_deref();
        voice.failed(format!(
            "started programs stay in pmon's own cgroup, as `{}` cannot be used: {error}",
            parent.unwrap_or_else(|| Path::new("/")).display()
        ));
    }
}

fn c_string(text: &OsStr) -> Result<CString, String> {
    CString::new(text.as_bytes()).map_err(|_| format!("`{}` contains a NUL byte", text.display()))
}
