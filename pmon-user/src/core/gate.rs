//! Gates: what has to be true of the host before pmon may act on a failure, for
//! all entities and for single ones (spec/pmond.md §0, §1.6, §2.3).
//!
//! # In prose
//!
//! * **The gates of the host** — flag files that say that it is configured, and
//!   the state of its service manager. Both are asked for anew before every
//!   recovery, because a host that shuts down ends its processes on purpose, and
//!   what was known a second ago says nothing of that. While they are closed,
//!   entities are looked at, adopted and shown, and nothing is started, ended or
//!   raised. Whoever waits is told when they open, also when a shutdown was
//!   cancelled (FIX of spec/pmond.md §11.1 #14).
//! * **The condition of an entity** (`subfunction`) — on a host that has several
//!   functions in one, some entities are not monitored at all until their part
//!   is configured (POLLING, then START_WAIT; field story S4).
//!
//! Pure: what the host is like is told, never looked up.

use std::{collections::BTreeSet, fmt, time::Duration};

/// How it stands with the gates of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// A recovery may begin.
    #[default]
    Open,
    /// It may not.
    Closed {
        /// What is waited for, for people.
        why: String,
    },
}

/// What an entity is told about gates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateEvent {
    /// The answer to [`super::effect::Effect::AskGate`], and once more whenever
    /// it changes while the entity waits.
    Verdict(Verdict),
    /// The condition of the entity holds; monitoring begins after this pause.
    ConditionMet {
        /// pmond's `start_delay`.
        pause: Duration,
    },
}

/// What a service manager says of itself: `is-system-running` of systemctl(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemState {
    /// Early boot.
    Initializing,
    /// Boot.
    Starting,
    /// All is up.
    Running,
    /// All is up but for units that have failed.
    Degraded,
    /// Rescue or emergency mode.
    Maintenance,
    /// Shutting down.
    Stopping,
    /// It does not run.
    Offline,
}

impl SystemState {
    /// All of them, in the order in which pmond looks for their words
    /// (spec/pmond.md §2.3).
    const ALL: [Self; 7] = [
        Self::Stopping,
        Self::Running,
        Self::Degraded,
        Self::Starting,
        Self::Initializing,
        Self::Offline,
        Self::Maintenance,
    ];

    /// From the word that systemctl prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// systemd's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Maintenance => "maintenance",
            Self::Stopping => "stopping",
            Self::Offline => "offline",
        }
    }

    /// Whether processes are recovered in it.
    #[must_use]
    pub const fn admits(self) -> bool {
        match self {
            Self::Running | Self::Degraded => true,
            Self::Initializing
            | Self::Starting
            | Self::Maintenance
            | Self::Stopping
            | Self::Offline => false,
        }
    }
}

impl fmt::Display for SystemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of the state of the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// This host has none that could be asked.
    Unmanaged,
    /// Nobody has asked yet.
    Unasked,
    /// It said so.
    Is(SystemState),
    /// It did not say.
    Silent {
        /// Why not, for people.
        reason: String,
    },
}

/// What is known of the host at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Files that are waited for and not there yet, in the order of the boot.
    pub missing: Vec<String>,
    /// Its service manager.
    pub system: System,
    /// What entities with a `subfunction` wait for.
    pub conditions: Conditions,
}

impl Knowledge {
    /// What follows for recoveries.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let why = match (self.missing.first(), &self.system) {
            (Some(file), _) => format!("waiting for `{file}`"),
            (None, System::Unmanaged) => return Verdict::Open,
            (None, System::Is(state)) if state.admits() => return Verdict::Open,
            (None, System::Is(SystemState::Stopping)) => "the host is shutting down".to_owned(),
            (None, System::Is(state)) => format!("the system state is `{state}`"),
            (None, System::Unasked) => "the system state is being asked for".to_owned(),
            (None, System::Silent { reason }) => {
                format!("the system state is not known: {reason}")
            }
        };
        Verdict::Closed { why }
    }
}

/// A flag that says that a part of the host is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// Its worker part.
    WorkerConfigured,
    /// Its storage part.
    StorageConfigured,
}

/// What an entity waits for before it is monitored at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A part of the host.
    Flag(Flag),
    /// Nothing that could ever come: its `subfunction` has no meaning.
    Never,
}

impl Condition {
    /// Values of `subfunction` that have a meaning.
    pub const KNOWN: [&str; 3] = ["worker", "storage", "last-config"];

    /// What `subfunction` stands for where it is honoured (spec/pmond.md §1.6).
    #[must_use]
    pub fn of(subfunction: &str) -> Self {
        match subfunction {
            "worker" | "last-config" => Self::Flag(Flag::WorkerConfigured),
            "storage" => Self::Flag(Flag::StorageConfigured),
            _ => Self::Never,
        }
    }
}

/// Whether, and for what, entities with a `subfunction` have to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The host has several functions in one; elsewhere nobody waits.
    pub several_functions: bool,
    /// Flags that are there.
    pub met: BTreeSet<Flag>,
    /// What has just been configured gets so much time before it is monitored.
    pub pause: Duration,
}

impl Conditions {
    /// What an entity with this `subfunction` has to wait for.
    #[must_use]
    pub fn awaited(&self, subfunction: Option<&str>) -> Option<Condition> {
        let condition = Condition::of(subfunction?);
        (!self.holds(condition)).then_some(condition)
    }

    /// Whether who waits for this may begin.
    #[must_use]
    pub fn holds(&self, condition: Condition) -> bool {
        !self.several_functions
            || match condition {
                Condition::Flag(flag) => self.met.contains(&flag),
                Condition::Never => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowledge(missing: &[&str], system: System) -> Knowledge {
        Knowledge {
            missing: missing.iter().map(|&file| file.to_owned()).collect(),
            system,
            conditions: Conditions::default(),
        }
    }

    #[test]
    fn only_running_and_degraded_recover() {
        let open: Vec<_> = SystemState::ALL
            .into_iter()
            .filter(|state| knowledge(&[], System::Is(*state)).verdict() == Verdict::Open)
            .collect();
        assert_eq!(open, [SystemState::Running, SystemState::Degraded]);
        for state in SystemState::ALL {
            assert_eq!(SystemState::parse(&format!("{state}\n")), Some(state));
        }
        assert_eq!(SystemState::parse("unknown\n"), None);
        assert_eq!(SystemState::parse(""), None);
    }

    #[test]
    fn the_first_file_that_is_missing_is_told() {
        let files = [
            "/etc/platform/.initial_config_complete",
            "/var/run/.goenabled",
        ];
        let verdict = knowledge(&files, System::Is(SystemState::Running)).verdict();
        let why = format!("waiting for `{}`", files[0]);
        assert_eq!(verdict, Verdict::Closed { why });
    }

    #[test]
    fn what_is_not_known_admits_nothing() {
        let reason = "no answer".to_owned();
        for system in [System::Unasked, System::Silent { reason }] {
            let verdict = knowledge(&[], system).verdict();
            assert!(matches!(verdict, Verdict::Closed { .. }), "{verdict:?}");
        }
        // Where there is no service manager, there is nothing to ask.
        assert_eq!(knowledge(&[], System::Unmanaged).verdict(), Verdict::Open);
    }

    #[test]
    fn subfunctions_wait_on_hosts_with_several_functions_only() {
        let mut conditions = Conditions::default();
        for subfunction in [Some("worker"), Some("compute"), None] {
            assert_eq!(conditions.awaited(subfunction), None, "{subfunction:?}");
        }
        conditions.several_functions = true;
        let worker = Condition::Flag(Flag::WorkerConfigured);
        let storage = Condition::Flag(Flag::StorageConfigured);
        for (subfunction, awaited) in [
            (None, None),
            (Some("worker"), Some(worker)),
            (Some("last-config"), Some(worker)),
            (Some("storage"), Some(storage)),
            (Some("compute"), Some(Condition::Never)),
            (Some("controller"), Some(Condition::Never)),
        ] {
            assert_eq!(conditions.awaited(subfunction), awaited, "{subfunction:?}");
        }
        conditions.met.insert(Flag::WorkerConfigured);
        assert_eq!(conditions.awaited(Some("last-config")), None);
        assert_eq!(conditions.awaited(Some("storage")), Some(storage));
        assert_eq!(conditions.awaited(Some("compute")), Some(Condition::Never));
    }
}
