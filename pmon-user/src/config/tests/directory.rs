//! Whole directories of real files, good and bad.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, Instant},
};

use super::*;
use crate::config::host::invented::InventedHost;

fn file_of(name: &str) -> String {
    format!(
        "[process]\nprocess = {name}\nservice = {name}\npidfile = /run/{name}.pid\nstyle = lsb\n\
         severity = minor\nrestarts = 1\ninterval = 1\ndebounce = 1\n"
    )
}

fn write(directory: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
}

fn loaded(directory: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    let host = InventedHost::with_systemd(&["a.service", "b.service", "c.service"]);
    load(&mut loaded, directory, true, &host);
    loaded
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.entities.iter().map(|e| e.name.as_str()).collect()
}

fn texts(loaded: &Loaded, directory: &Path) -> Vec<String> {
    let prefix = format!("{}/", directory.display());
    loaded
        .findings
        .iter()
        .map(|finding| finding.to_string().replace(&prefix, ""))
        .collect()
}

#[test]
fn every_name_counts_in_sorted_order_and_links_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    write(target.path(), "elsewhere", file_of("a"));
    symlink(target.path().join("elsewhere"), directory.path().join("z")).unwrap();
    write(directory.path(), "logmgmt", file_of("c"));
    write(directory.path(), "b.conf.pmon.centos", file_of("b"));
    let loaded = loaded(directory.path());
    assert_eq!(names(&loaded), ["b", "c", "a"]);
    assert_eq!(loaded.findings, []);
    // The link's own path, not the target's.
    assert_eq!(
        loaded.entities[2].origin.to_string(),
        format!("{}/z:2", directory.path().display())
    );
}

#[test]
fn more_than_a_hundred_processes_are_loaded() {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..150 {
        write(directory.path(), &format!("{n}"), file_of(&format!("p{n}")));
    }
    assert_eq!(loaded(directory.path()).entities.len(), 150);
}

#[test]
fn bad_neighbours_do_not_matter() {
    let directory = tempfile::tempdir().unwrap();
    let d = directory.path();
    write(d, "zz-good", file_of("a"));
    fs::create_dir(d.join("sub")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, d.join("fifo"), 0o644.into()).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(d.join("socket")).unwrap();
    symlink("/nonexistent", d.join("dangling")).unwrap();
    symlink("/dev/zero", d.join("zero")).unwrap();
    write(d, "binary", b"[process]\0");
    write(d, "huge", vec![b' '; 10 * 1024 * 1024]);
    write(d, "empty", "");
    write(d, "truncated", "[process]\nprocess = b\npidf");
    // None of them was read to its end, or has none.
    let before = Instant::now();
    let loaded = loaded(d);
    assert!(before.elapsed() < Duration::from_secs(60));
    assert_eq!(names(&loaded), ["a"]);
    assert_eq!(loaded.unmonitored.len(), 1);
    assert_eq!(loaded.unmonitored[0].name, "b");
    assert!(!loaded.refused());
    let texts = texts(&loaded, d);
    for expected in [
        "sub: error: is a directory, not a configuration file",
        "fifo: error: is a FIFO, not a regular file",
        "socket: error: is a socket, not a regular file",
        "dangling: error: symbolic link to `/nonexistent`, which does not exist",
        "zero: error: is a device, not a regular file",
        "binary: error: is binary (NUL byte at offset 9): refused",
        "huge: error: is larger than 1048576 bytes: refused",
        "empty: error: no `[process]` section with keys",
        "truncated:2:11: error: `pidfile` is missing",
        "truncated:3:1: warning: line is neither",
        "truncated: warning: last line does not end with a newline",
    ] {
        assert!(
            texts.iter().any(|text| text.starts_with(expected)),
            "{expected}: {texts:#?}"
        );
    }
}

#[test]
fn files_that_vanish_are_passed_over_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "a", file_of("a"));
    let mut loaded = Loaded::default();
    let listed = vec!["4913".into(), "a".into(), "b".into()];
    load_entries(
        &mut loaded,
        directory.path(),
        listed,
        &InventedHost::with_systemd(&["a.service"]),
    );
    assert_eq!(names(&loaded), ["a"]);
    assert_eq!(loaded.findings, []);
}

#[test]
fn duplicate_names_are_loaded_once() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "1", file_of("a"));
    write(directory.path(), "2", format!("; copy\n{}", file_of("a")));
    let loaded = loaded(directory.path());
    assert_eq!(names(&loaded), ["a"]);
    assert_eq!(
        texts(&loaded, directory.path()),
        [
            "2:3: error: process `a` is already configured at 1:2; this one is not loaded (remove one of the two or rename it)"
        ]
    );
}

#[test]
fn a_shared_pidfile_is_told() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "1", file_of("a"));
    let other = file_of("b").replace("/run/b.pid", "/run/a.pid");
    write(directory.path(), "2", other);
    let loaded = loaded(directory.path());
    assert_eq!(names(&loaded), ["a", "b"]);
    assert_eq!(
        texts(&loaded, directory.path()),
        ["2:2: warning: `b` has the same pidfile as `a` at 1:2 (both will act on one process)"]
    );
}

#[test]
fn leftovers_count_last_and_are_told() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "sshd.conf", file_of("a"));
    write(directory.path(), ".sshd.conf.orig", file_of("a"));
    write(directory.path(), "sedQx12Zz", file_of("a"));
    write(directory.path(), ".only-hidden", file_of("b"));
    write(directory.path(), ".x.swp", b"b0VIM\0");
    let loaded = loaded(directory.path());
    assert_eq!(names(&loaded), ["a", "b"]);
    assert!(
        loaded.entities[0]
            .origin
            .to_string()
            .ends_with("/sshd.conf:2")
    );
    let texts = texts(&loaded, directory.path());
    assert!(
        texts
            .iter()
            .any(|t| t.starts_with(".only-hidden: warning: looks like something an editor")),
        "{texts:#?}"
    );
    assert!(
        texts
            .iter()
            .any(|t| t.starts_with(".x.swp: note: is binary")),
        "{texts:#?}"
    );
    assert_eq!(
        texts
            .iter()
            .filter(|t| t.contains("already configured at sshd.conf:2"))
            .count(),
        2,
        "{texts:#?}"
    );
}

#[test]
fn names_of_leftovers() {
    for name in [".a", "a~", "#a#", "a.swp", "a.rpmsave", "sedAb12Cd"] {
        assert!(is_leftover(OsStr::new(name)), "{name}");
    }
    for name in [
        "a",
        "a.conf",
        "logmgmt",
        "a.conf.pmon",
        "sedation",
        "sedatives9",
        "sedimentd",
        "sedating",
    ] {
        assert!(!is_leftover(OsStr::new(name)), "{name}");
    }
}

#[test]
fn root_refuses_what_others_may_write() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: needs root to own files as root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let d = directory.path();
    write(d, "a", file_of("a"));
    write(d, "b", file_of("b"));
    write(d, "c", file_of("c"));
    fs::set_permissions(d.join("b"), fs::Permissions::from_mode(0o664)).unwrap();
    std::os::unix::fs::chown(d.join("c"), Some(1000), None).unwrap();
    fs::set_permissions(d, fs::Permissions::from_mode(0o777)).unwrap();
    let mut host = InventedHost::with_systemd(&["a.service", "b.service", "c.service"]);
    host.privileged = true;
    let mut loaded = Loaded::default();
    load(&mut loaded, d, true, &host);
    assert_eq!(names(&loaded), ["a"]);
    let shown = d.display();
    let texts: Vec<_> = loaded.findings.iter().map(Finding::to_string).collect();
    assert_eq!(
        texts,
        [
            format!(
                "{shown}: warning: others than root may add and remove files here (fix: chmod go-w {shown})"
            ),
            format!(
                "{shown}/b: error: may be written by others (mode 0664): refused, because it names commands that run as root (fix: chmod go-w {shown}/b)"
            ),
            format!(
                "{shown}/c: error: belongs to uid 1000, not to root: refused, because it names commands that run as root (fix: chown root {shown}/c)"
            ),
        ]
    );
}

#[test]
fn a_missing_directory_is_an_error_only_when_asked_for() {
    for (explicit, level) in [(true, Level::Error), (false, Level::Note)] {
        let mut loaded = Loaded::default();
        let path = Path::new("/nonexistent/pmon.d");
        load(&mut loaded, path, explicit, &InventedHost::default());
        assert_eq!(loaded.findings.len(), 1);
        assert_eq!(loaded.findings[0].severity, level);
        assert!(!loaded.refused());
    }
}
