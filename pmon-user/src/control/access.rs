//! Who may ask what: a pure decision on the kernel's word about a peer.
//!
//! Three rights, each including the one before: *read* for the verbs that only
//! look, *write* for those that change something, *own* for what ends the daemon.
//! Root and the daemon's own user may do everything.
//! Everybody else has exactly what the rules name, by user or by any group of
//! the peer. What a peer says about itself plays no part.

use std::{collections::BTreeSet, fmt, fs, path::Path};

/// What a verb needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only looks.
    Read,
    /// It changes something.
    Write,
    /// It decides about the daemon itself.
    Own,
}

/// A peer as the kernel saw it when it connected (unix(7), `SO_PEERCRED` and
/// `SO_PEERGROUPS`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Process; none when it is outside of the daemon's pid namespace.
    pub pid: Option<u32>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, pid, .. } = self;
        match pid {
            Some(pid) => write!(f, "uid {uid} (pid {pid})"),
            None => write!(f, "uid {uid} (in another pid namespace)"),
        }
    }
}

/// Who may do what, beyond root and the daemon's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// The daemon's own user.
    pub own_uid: u32,
    /// Group of the socket file and of its readers, where it exists: `pmon`.
    pub socket_gid: Option<u32>,
    /// Further users who may look.
    pub read_uids: BTreeSet<u32>,
    /// Further groups whose members may look.
    pub read_gids: BTreeSet<u32>,
    /// Users who may change things.
    pub write_uids: BTreeSet<u32>,
    /// Groups whose members may change things.
    pub write_gids: BTreeSet<u32>,
}

/// What one peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Nothing.
    None,
    /// Look.
    Read,
    /// Look and change.
    Write,
    /// Everything.
    Own,
}

impl Rights {
    /// Whether a verb that needs `access` is allowed.
    #[must_use]
    pub const fn allow(self, access: Access) -> bool {
        match (self, access) {
            (Self::Own, Access::Read | Access::Write | Access::Own)
            | (Self::Write, Access::Read | Access::Write)
            | (Self::Read, Access::Read) => true,
            (Self::None, Access::Read | Access::Write | Access::Own)
            | (Self::Read, Access::Write | Access::Own)
            | (Self::Write, Access::Own) => false,
        }
    }
}

impl AccessRules {
    /// The rules without any configuration: group `pmon`, where it exists, looks.
    #[must_use]
    pub fn for_host() -> Self {
        Self {
            own_uid: rustix::process::geteuid().as_raw(),
            socket_gid: group_id(Path::new("/etc/group"), "pmon"),
            ..Self::default()
        }
    }

    /// Mode of the socket file. The file's group is [`Self::socket_gid`]; when
    /// others are let in by number, the file lets everybody connect, and who they
    /// are is decided per connection, as it is for the group.
    #[must_use]
    pub fn socket_mode(&self) -> u32 {
        let Self {
            own_uid: _,
            socket_gid: _,
            read_uids,
            read_gids,
            write_uids,
            write_gids,
        } = self;
        let others = [read_uids, read_gids, write_uids, write_gids];
        if others.iter().all(|set| set.is_empty()) {
            0o660
        } else {
            0o666
        }
    }

    /// What `peer` may do.
    #[must_use]
    pub fn rights(&self, peer: &Peer) -> Rights {
        let Self {
            own_uid,
            socket_gid,
            read_uids,
            read_gids,
            write_uids,
            write_gids,
        } = self;
        let Peer {
            uid,
            gid,
            groups,
            pid: _,
        } = peer;
        let member = |of: &dyn Fn(&u32) -> bool| of(gid) || groups.iter().any(of);
        if *uid == 0 || uid == own_uid {
            Rights::Own
        } else if write_uids.contains(uid) || member(&|gid| write_gids.contains(gid)) {
            Rights::Write
        } else if read_uids.contains(uid)
            || member(&|gid| read_gids.contains(gid) || *socket_gid == Some(*gid))
        {
            Rights::Read
        } else {
            Rights::None
        }
    }

    /// What a peer that was refused would need, for people.
    #[must_use]
    pub fn needed(&self, access: Access) -> String {
        match access {
            Access::Own => "root or the daemon's own user".to_owned(),
            Access::Write => {
                "root, or a user or group that the daemon's configuration lets write".to_owned()
            }
            Access::Read => match (self.socket_gid, self.read_gids.is_empty()) {
                (Some(gid), true) => format!("root or membership in group `pmon` (gid {gid})"),
                (Some(gid), false) => format!(
                    "root or membership in group `pmon` (gid {gid}) or in another group that may read"
                ),
                (None, false) => "root or membership in a group that may read".to_owned(),
                (None, true) => {
                    "root: there is no group `pmon` on this host whose members could read"
                        .to_owned()
                }
            },
        }
    }
}

/// The id of a group in a group(5) file. Directory services are not asked: the
/// daemon must not wait for a network to open its socket.
#[must_use]
pub fn group_id(file: &Path, name: &str) -> Option<u32> {
    fs::read_to_string(file).ok()?.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer {
            uid,
            gid,
            groups: groups.to_vec(),
            pid: Some(4711),
        }
    }

    fn rules() -> AccessRules {
        AccessRules {
            own_uid: 200,
            socket_gid: Some(300),
            read_uids: BTreeSet::from([1001]),
            read_gids: BTreeSet::from([400]),
            write_uids: BTreeSet::from([1002]),
            write_gids: BTreeSet::from([500]),
        }
    }

    #[test]
    fn the_access_matrix() {
        for (who, expected) in [
            (peer(0, 0, &[]), Rights::Own),
            (peer(0, 9, &[9]), Rights::Own),
            (peer(200, 200, &[]), Rights::Own),
            (peer(1002, 100, &[]), Rights::Write),
            (peer(1000, 500, &[]), Rights::Write),
            (peer(1000, 100, &[7, 500]), Rights::Write),
            // Write wins over read.
            (peer(1001, 300, &[500]), Rights::Write),
            (peer(1001, 100, &[]), Rights::Read),
            (peer(1000, 300, &[]), Rights::Read),
            (peer(1000, 100, &[7, 300]), Rights::Read),
            (peer(1000, 100, &[400]), Rights::Read),
            (peer(1000, 100, &[]), Rights::None),
            (peer(65534, 65534, &[65534]), Rights::None),
            // Root's group is not root.
            (peer(1000, 0, &[0]), Rights::None),
            // A gid is not a uid and the other way round.
            (peer(300, 1001, &[1002, 200]), Rights::None),
        ] {
            assert_eq!(rules().rights(&who), expected, "{who:?}");
        }
    }

    #[test]
    fn without_configuration_only_root_and_the_own_user_have_rights() {
        let rules = AccessRules {
            own_uid: 200,
            ..AccessRules::default()
        };
        assert_eq!(rules.rights(&peer(0, 0, &[])), Rights::Own);
        assert_eq!(rules.rights(&peer(200, 1, &[])), Rights::Own);
        assert_eq!(rules.rights(&peer(1, 0, &[0, 200])), Rights::None);
    }

    #[test]
    fn write_includes_read_and_not_the_other_way_round() {
        for (rights, read, write, own) in [
            (Rights::None, false, false, false),
            (Rights::Read, true, false, false),
            (Rights::Write, true, true, false),
            (Rights::Own, true, true, true),
        ] {
            assert_eq!(rights.allow(Access::Read), read);
            assert_eq!(rights.allow(Access::Write), write);
            assert_eq!(rights.allow(Access::Own), own);
        }
    }

    #[test]
    fn group_ids_come_from_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("group");
        fs::write(
            &file,
            "root:x:0:\npmonitor:x:7:\nbroken\npmon:x:301:alice,bob\n",
        )
        .unwrap();
        assert_eq!(group_id(&file, "pmon"), Some(301));
        assert_eq!(group_id(&file, "broken"), None);
        assert_eq!(group_id(&file, "nobody"), None);
        assert_eq!(group_id(&directory.path().join("none"), "pmon"), None);
    }
}
