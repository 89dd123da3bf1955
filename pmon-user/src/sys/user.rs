//! Users and groups by name or number, as the host's name services know them.
//!
//! Lookups may block (LDAP and the like) and must be made before fork, never in
//! the child.

use std::{ffi::CString, path::PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use thiserror::Error;

/// What a process is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, `gid` among them.
    pub groups: Vec<u32>,
}

/// A user as its own programs like to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What to become; absent when it is what this process is already, which
    /// needs no privilege.
    pub credentials: Option<Credentials>,
    /// The passwd entry, where the uid has one.
    pub login: Option<Login>,
}

/// Fields of a passwd entry that belong into an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Login name.
    pub name: String,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// Why a user or group could not be resolved.
#[derive(Debug, Error)]
pub enum UserError {
    /// No such name.
    #[error("there is no user `{0}`")]
    NoUser(String),
    /// No such name.
    #[error("there is no group `{0}`")]
    NoGroup(String),
    /// A number without a passwd entry has no primary group.
    #[error("uid `{0}` has no passwd entry, so its group must be given")]
    NoPrimaryGroup(u32),
    /// The name service failed.
    #[error("cannot look up `{name}`")]
    Lookup {
        /// User or group.
        name: String,
        /// What it said.
        #[source]
        source: nix::errno::Errno,
    },
}

/// Finds out what "run as `user` and `group`" means. At least one is given;
/// without a user it is this process's own.
///
/// # Errors
///
/// See [`UserError`].
pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Account, UserError> {
    let gid = group.map(find_group).transpose()?;
    let (uid, entry) = match user {
        Some(user) => find_user(user)?,
        None => (Uid::effective(), None),
    };
    let gid = match (gid, &entry) {
        (Some(gid), _) => gid,
        (None, Some(entry)) => entry.gid,
        (None, None) => return Err(UserError::NoPrimaryGroup(uid.as_raw())),
    };
    let groups = match &entry {
        Some(entry) => supplementary(&entry.name, gid)?,
        None => vec![gid.as_raw()],
    };
    let unchanged = !uid.is_root() && uid == Uid::effective() && gid == Gid::effective();
    Ok(Account {
        credentials: (!unchanged).then(|| Credentials {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            groups,
        }),
        login: entry.map(|entry| Login {
            name: entry.name,
            home: entry.dir,
            shell: entry.shell,
        }),
    })
}

/// A name first, as names of digits exist, though nobody should make one.
fn find_user(user: &str) -> Result<(Uid, Option<User>), UserError> {
    let lookup = |source| UserError::Lookup {
        name: user.to_owned(),
        source,
    };
    if let Some(entry) = User::from_name(user).map_err(lookup)? {
        return Ok((entry.uid, Some(entry)));
    }
    let uid = number(user).ok_or_else(|| UserError::NoUser(user.to_owned()))?;
    let uid = Uid::from_raw(uid);
    Ok((uid, User::from_uid(uid).map_err(lookup)?))
}

fn find_group(group: &str) -> Result<Gid, UserError> {
    let entry = Group::from_name(group).map_err(|source| UserError::Lookup {
        name: group.to_owned(),
        source,
    })?;
    match entry {
        Some(entry) => Ok(entry.gid),
        None => number(group)
            .map(Gid::from_raw)
            .ok_or_else(|| UserError::NoGroup(group.to_owned())),
    }
}

/// An id; `-1` as an unsigned number means "leave as is" to setresuid(2) and
/// is nobody's.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn supplementary(name: &str, gid: Gid) -> Result<Vec<u32>, UserError> {
    let lookup = |source| UserError::Lookup {
        name: name.to_owned(),
        source,
    };
    let c_name = CString::new(name).map_err(|_| lookup(nix::errno::Errno::EINVAL))?;
    let groups = getgrouplist(&c_name, gid).map_err(lookup)?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same_user() {
        let by_name = resolve(Some("daemon"), None).unwrap();
        let by_number = resolve(Some("1"), None).unwrap();
        assert_eq!(by_name, by_number);
        assert_eq!(by_name.login.unwrap().name, "daemon");
        let credentials = by_name.credentials.unwrap();
        assert!(credentials.groups.contains(&credentials.gid));
    }

    #[test]
    fn a_number_of_nobody_needs_a_group() {
        assert!(matches!(
            resolve(Some("424242"), None),
            Err(UserError::NoPrimaryGroup(424_242))
        ));
        let account = resolve(Some("424242"), Some("434343")).unwrap();
        assert_eq!(
            account.credentials,
            Some(Credentials {
                uid: 424_242,
                gid: 434_343,
                groups: vec![434_343]
            })
        );
        assert_eq!(account.login, None);
    }

    #[test]
    fn unknown_names_are_refused_by_name() {
        let user = resolve(Some("no-such-user"), None).unwrap_err();
        assert_eq!(user.to_string(), "there is no user `no-such-user`");
        let group = resolve(Some("daemon"), Some("no-such-group")).unwrap_err();
        assert_eq!(group.to_string(), "there is no group `no-such-group`");
        for number in ["-1", "4294967295", "4294967296", ""] {
            assert!(matches!(
                resolve(Some(number), None),
                Err(UserError::NoUser(_))
            ));
        }
    }
}
