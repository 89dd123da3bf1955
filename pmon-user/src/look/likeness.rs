//! Is one process another instance of the same entity as a second one?
//!
//! Pure, and conservative: a second instance is called that only where
//! everything speaks for it, because people are told to end it. What must
//! agree: the executed file itself (not its path), the user, the pid namespace,
//! the root directory, the container. Beyond that something must tie it to the
//! entity ([`Tie`]); a common program with common arguments does not.
//!
//! Relatives are never instances: workers descend from the process, masters are
//! its ancestors. Workers that outlived an earlier master descend from nobody;
//! they are older than the process, and no leaders of a process group of their
//! own.

use std::{fmt, path::PathBuf};

use crate::{core::entity::EntitySpec, look::container, look::names};

/// What a process is like, as far as that counts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Device and inode of the executed file.
    pub executable: (u64, u64),
    /// Its path, which may lead to another file by now.
    pub program: Option<PathBuf>,
    /// Its words, each ended by a NUL.
    pub command_line: Vec<u8>,
    /// Effective user.
    pub uid: u32,
    /// Inode of its pid namespace.
    pub pid_namespace: u64,
    /// Device and inode of its root directory.
    pub root: (u64, u64),
    /// Path of its cgroup.
    pub cgroup: Option<String>,
    /// Leader of its process group.
    pub leads_group: bool,
    /// Start time, in clock ticks since boot.
    pub start_time: u64,
    /// The names it goes by.
    pub names: Vec<String>,
}

/// What ties a process to an entity, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// The pidfile named it before, or it was registered.
    KnownBefore,
    /// It is in the entity's own cgroup.
    Cgroup,
    /// It was started with the same words, and these name the entity.
    CommandLine,
}

impl fmt::Display for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KnownBefore => "it was the registered one before",
            Self::Cgroup => "same program, in the same cgroup",
            Self::CommandLine => "same program, same arguments",
        })
    }
}

/// What ties `other`, which is no relative of `main`, to the entity of `main`;
/// none when it is not certain to be another instance.
#[must_use]
pub fn tie(spec: &EntitySpec, main: &Traits, other: &Traits, known_before: bool) -> Option<Tie> {
    if known_before {
        return Some(Tie::KnownBefore);
    }
    let container = |traits: &Traits| {
        let cgroup = traits.cgroup.as_deref();
        cgroup.and_then(container::id_of).map(str::to_owned)
    };
    let same_place = main.executable == other.executable
        && main.uid == other.uid
        && main.pid_namespace == other.pid_namespace
        && main.root == other.root
        && container(main) == container(other);
    let left_behind = other.start_time < main.start_time && !other.leads_group;
    // Nothing can be read of a process that is being executed or is gone.
    if !same_place || left_behind || other.command_line.is_empty() {
        return None;
    }
    let same_words = main.command_line == other.command_line;
    if same_words && main.cgroup == other.cgroup && is_own(main.cgroup.as_deref()) {
        return Some(Tie::Cgroup);
    }
    (same_words && names_entity(spec, main)).then_some(Tie::CommandLine)
}

/// Whether a cgroup holds one service, and not whatever somebody started: a
/// service unit's, or one that pmon has made for the entity.
fn is_own(cgroup: Option<&str>) -> bool {
    cgroup.is_some_and(|path| {
        let mut components = path.rsplit('/');
        let last = components.next().unwrap_or_default();
        last.ends_with(".service") || components.next() == Some("pmon.services")
    })
}

/// Whether the words name the entity: a common program with common arguments is
/// run by anybody.
fn names_entity(spec: &EntitySpec, main: &Traits) -> bool {
    let own = names::particular(spec);
    if names::agree(&own, &main.names) {
        return true;
    }
    let pidfile = spec.pidfile.as_deref();
    let mut words = main.command_line.split(|&byte| byte == 0).skip(1);
    words.any(|word| {
        let word = String::from_utf8_lossy(word);
        let names_file = pidfile.is_some_and(|path| word.contains(path.to_string_lossy().as_ref()));
        names_file || word == spec.name
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::core::entity::{Mode, Origin, Severity, StartMethod, StopPolicy};

    fn spec() -> EntitySpec {
        EntitySpec {
            name: "web".to_owned(),
            mode: Mode::Passive,
            severity: Severity::Major,
            restarts: 3,
            interval: Duration::from_secs(5),
            debounce: Duration::from_secs(20),
            startuptime: Duration::from_secs(5),
            start_timeout: Duration::from_secs(60),
            adoption_window: Duration::ZERO,
            pidfile: Some(PathBuf::from("/run/web.pid")),
            start: StartMethod::None {
                reason: "test".to_owned(),
            },
            stop: StopPolicy::KillFirst,
            follow: false,
            quorum: false,
            subfunction: None,
            active: None,
            status: None,
            storm: crate::core::storm::StormPolicy::PMOND,
            dependencies: crate::core::dependency::Dependencies::default(),
            origin: Origin::Operator,
        }
    }

    fn main() -> Traits {
        Traits {
            executable: (1, 2),
            program: None,
            command_line: b"/usr/sbin/webd\0-p\0/run/web.pid\0".to_vec(),
            uid: 0,
            pid_namespace: 3,
            root: (1, 1),
            cgroup: Some("/pmon.services/web".to_owned()),
            leads_group: true,
            start_time: 100,
            names: vec!["webd".to_owned()],
        }
    }

    fn later() -> Traits {
        Traits {
            start_time: 200,
            cgroup: Some("/user.slice/session-1.scope".to_owned()),
            ..main()
        }
    }

    fn is(other: &Traits) -> Option<Tie> {
        tie(&spec(), &main(), other, false)
    }

    #[test]
    fn what_ties_a_second_instance_to_the_entity() {
        assert_eq!(is(&later()), Some(Tie::CommandLine));
        let beside = Traits {
            cgroup: main().cgroup,
            ..later()
        };
        assert_eq!(is(&beside), Some(Tie::Cgroup));
        let upgraded = Traits {
            executable: (1, 9),
            command_line: b"other\0".to_vec(),
            ..later()
        };
        assert_eq!(is(&upgraded), None);
        assert_eq!(
            tie(&spec(), &main(), &upgraded, true),
            Some(Tie::KnownBefore)
        );
    }

    #[test]
    fn what_is_no_second_instance() {
        let id = "4b0d7c2b6f0e5a8f9c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f70819";
        let different: [fn(Traits) -> Traits; 6] = [
            |it| Traits {
                executable: (1, 3),
                ..it
            },
            |it| Traits { uid: 1000, ..it },
            |it| Traits {
                pid_namespace: 4,
                ..it
            },
            |it| Traits { root: (7, 7), ..it },
            |it| Traits {
                command_line: b"/usr/sbin/webd\0-t\0".to_vec(),
                ..it
            },
            |it| Traits {
                command_line: Vec::new(),
                ..it
            },
        ];
        for change in different {
            let other = change(later());
            assert_eq!(is(&other), None, "{other:?}");
        }
        let contained = Traits {
            cgroup: Some(format!("/docker/{id}")),
            ..later()
        };
        assert_eq!(is(&contained), None);
        let left_behind = Traits {
            start_time: 50,
            leads_group: false,
            ..later()
        };
        assert_eq!(is(&left_behind), None);
    }

    #[test]
    fn a_common_program_with_common_arguments_is_anybodys() {
        let sleep = Traits {
            command_line: b"sleep\x001000\0".to_vec(),
            names: vec!["sleep".to_owned()],
            ..main()
        };
        let anybodys = Traits {
            start_time: 200,
            cgroup: Some("/user.slice".to_owned()),
            ..sleep.clone()
        };
        assert_eq!(tie(&spec(), &sleep, &anybodys, false), None);
        for shared in [None, Some("/"), Some("/user.slice/session-1.scope")] {
            let in_cgroup = |it: &Traits| Traits {
                cgroup: shared.map(str::to_owned),
                ..it.clone()
            };
            let (sleep, other) = (in_cgroup(&sleep), in_cgroup(&anybodys));
            assert_eq!(tie(&spec(), &sleep, &other, false), None, "{shared:?}");
        }
    }

    proptest! {
        /// Whatever ties them: nobody is called an instance who runs another
        /// file, as somebody else, or elsewhere.
        #[test]
        fn strangers_are_never_instances(
            executable in 0_u64..2, uid in 0_u32..2, pid_namespace in 0_u64..2,
            root in 0_u64..2, start_time in 0_u64..300, leads_group: bool,
            words in 0_usize..3, cgroup in 0_usize..3,
        ) {
            let main = Traits { executable: (0, 0), pid_namespace: 0, root: (0, 0), ..main() };
            let other = Traits {
                executable: (0, executable),
                program: None,
                uid,
                pid_namespace,
                root: (0, root),
                start_time,
                leads_group,
                command_line: vec![main.command_line.clone(), Vec::new(), b"x\0".to_vec()].swap_remove(words),
                cgroup: vec![main.cgroup.clone(), None, Some("/a.service".to_owned())].swap_remove(cgroup),
                names: main.names.clone(),
            };
            let same = (executable, uid, pid_namespace, root, words) == (0, 0, 0, 0, 0);
            let later = start_time >= main.start_time || leads_group;
            let tied = tie(&spec(), &main, &other, false);
            prop_assert_eq!(tied.is_some(), same && later);
        }
    }
}
