use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::*;
use crate::{
    doctor::{
        directories::{Directory, Found, Purpose},
        outcome::expect::{is_degraded, is_failed, is_ok},
    },
    view::diagnosis::CheckView,
};

/// A daemon of root's that does not run.
fn check(found: Found, purpose: Purpose) -> CheckView {
    at("/run/pmon", found).check(purpose, 0, false)
}

fn at(path: &str, found: Found) -> Directory {
    Directory {
        path: PathBuf::from(path),
        found,
    }
}

fn directory(uid: u32, mode: u32, writable: Result<(), i32>, free: u64) -> Found {
    Found::Directory {
        uid,
        mode,
        writable,
        free,
    }
}

const PLENTY: u64 = 1 << 30;

#[test]
fn as_it_should_be() {
    is_ok(
        &check(directory(0, 0o755, Ok(()), PLENTY), Purpose::Run),
        "`/run/pmon`, mode 0755",
    );
    is_ok(
        &check(Found::Absent { makeable: true }, Purpose::State),
        "`/run/pmon` will be created",
    );
}

#[test]
fn without_a_place_there_is_no_daemon_or_no_memory() {
    const FIX: &str = "`sudo install -d -o 0 -m 0755 /run/pmon`; or another `--run-dir DIR`";
    is_failed(
        &check(Found::Absent { makeable: false }, Purpose::Run),
        "`/run/pmon` cannot be created: the daemon cannot start",
        FIX,
    );
    is_degraded(
        &check(Found::Absent { makeable: false }, Purpose::State),
        "`/run/pmon` cannot be created: registrations and incidents do not survive a restart",
        "`sudo install -d -o 0 -m 0755 /run/pmon`; or another `--state-dir DIR`",
    );
    is_failed(
        &check(Found::NotADirectory, Purpose::Run),
        "`/run/pmon` is not a directory: the daemon cannot start",
        "`mv /run/pmon /run/pmon.old`; or another `--run-dir DIR`",
    );
    is_failed(
        &check(Found::Unreadable(libc::EACCES), Purpose::Run),
        "`/run/pmon` cannot be looked at: Permission denied (os error 13)",
        FIX,
    );
    is_failed(
        &check(directory(5, 0o755, Err(libc::EACCES), PLENTY), Purpose::Run),
        "`/run/pmon` (owner 5) may not be written: Permission denied (os error 13): the daemon cannot start",
        "`chown 0 /run/pmon`; or another `--run-dir DIR`",
    );
    is_failed(
        &check(directory(0, 0o755, Err(libc::EROFS), PLENTY), Purpose::Run),
        "`/run/pmon` is on a read-only file system: the daemon cannot start",
        "`mount -o remount,rw $(findmnt -no TARGET -T /run/pmon)`; or another `--run-dir DIR`",
    );
}

#[test]
fn others_must_not_replace_what_is_in_it() {
    is_degraded(
        &check(directory(5, 0o755, Ok(()), PLENTY), Purpose::Run),
        "`/run/pmon` belongs to uid 5, who can replace what is in it",
        "`chown 0 /run/pmon`",
    );
    is_degraded(
        &check(directory(0, 0o777, Ok(()), PLENTY), Purpose::Run),
        "`/run/pmon` has mode 0777: others can replace what is in it",
        "`chmod go-w /run/pmon`",
    );
}

#[test]
fn no_room() {
    is_degraded(
        &check(directory(0, 0o755, Ok(()), 4096), Purpose::State),
        "`/run/pmon` is full (4096 bytes are left): registrations and incidents do not survive a restart",
        "make room: `df /run/pmon`, `du -xh /run/pmon | sort -h | tail`",
    );
}

#[test]
fn under_a_running_daemon() {
    let gone = at("/run/pmon", Found::Absent { makeable: true });
    is_degraded(
        &gone.check(Purpose::Run, 0, true),
        "`/run/pmon` was removed while the daemon runs",
        "`systemctl restart pmon`, or end `pmon daemon` and start it again",
    );
    is_degraded(
        &gone.check(Purpose::State, 0, true),
        "`/run/pmon` was removed while the daemon runs",
        "`mkdir -p /run/pmon`",
    );
    let unwritable = at("/r", directory(0, 0o755, Err(libc::EROFS), PLENTY));
    is_degraded(
        &unwritable.check(Purpose::Run, 0, true),
        "`/r` is on a read-only file system: no daemon can start here again",
        "`mount -o remount,rw $(findmnt -no TARGET -T /r)`; or another `--run-dir DIR`",
    );
}

#[test]
fn looking() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o2750)).unwrap();
    let Found::Directory {
        uid,
        mode,
        writable,
        free,
    } = Directory::look(path).found
    else {
        panic!("not a directory");
    };
    assert_eq!(uid, rustix::process::geteuid().as_raw());
    assert_eq!((mode, writable), (0o2750, Ok(())));
    assert!(free > 0);

    let absent = Directory::look(&path.join("a/b")).found;
    assert_eq!(absent, Found::Absent { makeable: true });
    fs::write(path.join("f"), "").unwrap();
    let file = Directory::look(&path.join("f")).found;
    assert_eq!(file, Found::NotADirectory);
    let below_file = Directory::look(&path.join("f/x")).found;
    assert_eq!(below_file, Found::Unreadable(libc::ENOTDIR));
}
