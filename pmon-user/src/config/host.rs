//! What configuration asks of the host it is loaded on.
//!
//! The questions are a trait so that everything above this file can be tried
//! against an invented host; [`LocalHost`] answers them from the file system.
//! Looking is all that happens here.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Whether a systemd unit can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Its file exists.
    Present,
    /// It is a link to `/dev/null` or empty: systemd refuses to start it.
    Masked,
    /// No file in any unit directory.
    Absent,
}

/// Whether a file can be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptState {
    /// A regular file with an execute bit.
    Executable,
    /// A regular file without.
    NotExecutable,
    /// Nothing there, or not a regular file.
    Absent,
}

/// Questions to the host.
pub trait Host {
    /// systemd is the service manager of this host (sd_booted(3)).
    fn systemd(&self) -> bool;
    /// State of a unit, named with its suffix and without a slash.
    fn unit(&self, name: &str) -> UnitState;
    /// State of a program or script, by absolute path.
    fn script(&self, path: &Path) -> ScriptState;
    /// A user by that name, or with that number, may be run as.
    fn user_exists(&self, user: &str) -> bool;
    /// A group by that name, or with that number.
    fn group_exists(&self, group: &str) -> bool;
    /// pmon runs as root, so that its configuration must be root's alone.
    fn privileged(&self) -> bool;
}

/// The host pmon runs on.
#[derive(Clone, Debug)]
pub struct LocalHost {
    /// Where unit files are looked for, with systemd.
    unit_directories: Vec<PathBuf>,
    /// Its existence says that systemd runs the host.
    systemd_marker: PathBuf,
    privileged: bool,
}

/// System unit search path of systemd.unit(5), generators' output included.
/// The original pmond knows the first and the last but one only.
const UNIT_DIRECTORIES: [&str; 9] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/run/systemd/generator",
    "/run/systemd/generator.late",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

impl LocalHost {
    /// The host as it is.
    pub fn detect() -> Self {
        Self {
            unit_directories: UNIT_DIRECTORIES.iter().map(PathBuf::from).collect(),
            systemd_marker: PathBuf::from("/run/systemd/system"),
            privileged: rustix::process::geteuid().is_root(),
        }
    }

    /// State of one unit file.
    fn unit_file(&self, name: &str) -> UnitState {
        for directory in &self.unit_directories {
            let path = directory.join(name);
            if std::fs::canonicalize(&path).is_ok_and(|real| real == Path::new("/dev/null")) {
                return UnitState::Masked;
            }
            match std::fs::metadata(&path) {
                Ok(found) if found.is_file() && found.len() == 0 => return UnitState::Masked,
                Ok(found) if found.is_file() => return UnitState::Present,
                Ok(_) | Err(_) => {}
            }
        }
        UnitState::Absent
    }
}

impl Host for LocalHost {
    fn systemd(&self) -> bool {
        self.systemd_marker.is_dir()
    }

    fn unit(&self, name: &str) -> UnitState {
        match self.unit_file(name) {
            UnitState::Absent => match template(name) {
                Some(template) => self.unit_file(&template),
                None => UnitState::Absent,
            },
            found @ (UnitState::Present | UnitState::Masked) => found,
        }
    }

    fn script(&self, path: &Path) -> ScriptState {
        match std::fs::metadata(path) {
            Ok(found) if found.is_file() => {
                if found.permissions().mode() & 0o111 == 0 {
                    ScriptState::NotExecutable
                } else {
                    ScriptState::Executable
                }
            }
            Ok(_) | Err(_) => ScriptState::Absent,
        }
    }

    fn user_exists(&self, user: &str) -> bool {
        is_number(user) || nix::unistd::User::from_name(user).is_ok_and(|found| found.is_some())
    }

    fn group_exists(&self, group: &str) -> bool {
        is_number(group) || nix::unistd::Group::from_name(group).is_ok_and(|found| found.is_some())
    }

    fn privileged(&self) -> bool {
        self.privileged
    }
}

/// A uid or gid; the largest value means "unchanged" to the kernel.
fn is_number(id: &str) -> bool {
    id.parse::<u32>().is_ok_and(|id| id != u32::MAX)
}

/// `foo@.service` for `foo@bar.service`.
fn template(name: &str) -> Option<String> {
    let (prefix, rest) = name.split_once('@')?;
    let (_, suffix) = rest.rsplit_once('.')?;
    Some(format!("{prefix}@.{suffix}"))
}

#[cfg(test)]
pub(crate) mod invented {
    //! A host that is what a test says.

    use std::collections::BTreeMap;

    use super::*;

    /// Everything absent unless named.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct InventedHost {
        pub(crate) systemd: bool,
        pub(crate) units: BTreeMap<String, UnitState>,
        pub(crate) scripts: BTreeMap<PathBuf, ScriptState>,
        pub(crate) users: Vec<String>,
        pub(crate) privileged: bool,
    }

    impl InventedHost {
        pub(crate) fn with_systemd(units: &[&str]) -> Self {
            let units = units
                .iter()
                .map(|unit| ((*unit).to_owned(), UnitState::Present));
            Self {
                systemd: true,
                units: units.collect(),
                ..Self::default()
            }
        }

        pub(crate) fn script_at(mut self, path: &str) -> Self {
            self.scripts.insert(path.into(), ScriptState::Executable);
            self
        }
    }

    impl Host for InventedHost {
        fn systemd(&self) -> bool {
            self.systemd
        }
        fn unit(&self, name: &str) -> UnitState {
            self.units.get(name).copied().unwrap_or(UnitState::Absent)
        }
        fn script(&self, path: &Path) -> ScriptState {
            self.scripts
                .get(path)
                .copied()
                .unwrap_or(ScriptState::Absent)
        }
        fn user_exists(&self, user: &str) -> bool {
            self.users.iter().any(|known| known == user)
        }
        fn group_exists(&self, group: &str) -> bool {
            self.users.iter().any(|known| known == group)
        }
        fn privileged(&self) -> bool {
            self.privileged
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn units_are_present_masked_or_absent() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.service"), "[Service]\n").unwrap();
        fs::write(directory.path().join("t@.service"), "[Service]\n").unwrap();
        fs::write(directory.path().join("empty.service"), "").unwrap();
        symlink("/dev/null", directory.path().join("masked.service")).unwrap();
        let host = LocalHost {
            unit_directories: vec!["/nonexistent".into(), directory.path().into()],
            systemd_marker: directory.path().join("marker"),
            privileged: false,
        };
        assert_eq!(host.unit("a.service"), UnitState::Present);
        assert_eq!(host.unit("t@x.service"), UnitState::Present);
        assert_eq!(host.unit("masked.service"), UnitState::Masked);
        assert_eq!(host.unit("empty.service"), UnitState::Masked);
        assert_eq!(host.unit("b.service"), UnitState::Absent);
        assert!(!host.systemd());
        fs::create_dir(directory.path().join("marker")).unwrap();
        assert!(host.systemd());
    }

    #[test]
    fn scripts_need_an_execute_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let host = LocalHost::detect();
        assert_eq!(host.script(&path), ScriptState::Absent);
        assert_eq!(host.script(directory.path()), ScriptState::Absent);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(host.script(&path), ScriptState::NotExecutable);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(host.script(&path), ScriptState::Executable);
    }

    #[test]
    fn users_by_name_and_number() {
        let host = LocalHost::detect();
        assert!(host.user_exists("root") && host.user_exists("4711"));
        assert!(!host.user_exists("no-such-user-here") && !host.user_exists("4294967295"));
        assert!(host.group_exists("root") && !host.group_exists("no-such-group-here"));
    }
}
