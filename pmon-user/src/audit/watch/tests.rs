//! Watches on real directories.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::{fs, io::Write, process::Command};

use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    watch: Watch,
}

/// Watches `a.pid`, `b.pid` and `deep/er/c.pid` in a new directory.
fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let mut watch = Watch::new().unwrap();
    let place = |entity: &str, path: &str| (Arc::from(entity), directory.path().join(path));
    for (entity, pidfile) in [
        place("a", "a.pid"),
        place("b", "b.pid"),
        place("c", "deep/er/c.pid"),
    ] {
        watch.add(&entity, pidfile);
    }
    assert_eq!(watch.problem(), None);
    Fixture { directory, watch }
}

impl Watch {
    /// Watches these and nothing else.
    fn set(&mut self, places: impl IntoIterator<Item = (Arc<str>, PathBuf)>) {
        for entity in self.places.keys().cloned().collect::<Vec<_>>() {
            self.remove(&entity);
        }
        for (entity, pidfile) in places {
            self.add(&entity, pidfile);
        }
    }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The entities told since the last call.
    fn told(&mut self) -> Vec<String> {
        let mut told = BTreeSet::new();
        loop {
            match self.watch.read() {
                Ok(changes) => {
                    assert!(!changes.overflow);
                    told.extend(changes.entities);
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return told.iter().map(ToString::to_string).collect();
                }
            }
        }
    }
}

#[test]
fn every_way_to_change_a_pidfile_is_told() {
    let mut fixture = fixture();
    let (a, b, staged) = (
        fixture.path("a.pid"),
        fixture.path("b.pid"),
        fixture.path("staged"),
    );
    fs::write(&a, "1").unwrap();
    assert_eq!(fixture.told(), ["a"]);
    fs::write(&staged, "2").unwrap();
    assert!(fixture.told().is_empty());
    fs::rename(&staged, &a).unwrap();
    assert_eq!(fixture.told(), ["a"]);
    fs::rename(&a, &b).unwrap();
    assert_eq!(fixture.told(), ["a", "b"]);
    fs::write(&b, "3").unwrap();
    assert_eq!(fixture.told(), ["b"]);
    fs::remove_file(&b).unwrap();
    assert_eq!(fixture.told(), ["b"]);
    assert!(fixture.told().is_empty());
}

/// cron and others write into the old file and keep it open and locked.
#[test]
fn a_write_without_a_close_is_told() {
    let mut fixture = fixture();
    let a = fixture.path("a.pid");
    fs::write(&a, "1").unwrap();
    fixture.told();
    let mut held_open = fs::OpenOptions::new().write(true).open(&a).unwrap();
    assert!(fixture.told().is_empty());
    held_open.write_all(b"22").unwrap();
    assert_eq!(fixture.told(), ["a"]);
    // Also in a file that was renamed into place.
    let staged = fixture.path("staged");
    fs::write(&staged, "3").unwrap();
    fs::rename(&staged, &a).unwrap();
    assert_eq!(fixture.told(), ["a"]);
    let mut held_open = fs::OpenOptions::new().write(true).open(&a).unwrap();
    held_open.write_all(b"44").unwrap();
    assert_eq!(fixture.told(), ["a"]);
}

#[test]
fn a_missing_directory_is_awaited_and_mourned() {
    let mut fixture = fixture();
    let file = fixture.path("deep/er/c.pid");
    for _ in 0..2 {
        // The directory, for a and b too.
        assert_eq!(fixture.watch.watches(), 1);
        fs::create_dir(fixture.path("deep")).unwrap();
        fixture.told();
        assert_eq!(fixture.watch.watches(), 2);
        fs::create_dir(fixture.path("deep/er")).unwrap();
        fixture.told();
        fs::write(&file, "1").unwrap();
        assert_eq!(fixture.told(), ["c"]);
        assert_eq!(fixture.watch.watches(), 3);
        fs::remove_dir_all(fixture.path("deep")).unwrap();
        assert_eq!(fixture.told(), ["c"]);
    }
    // All at once, before a record is read.
    fs::create_dir_all(fixture.path("deep/er")).unwrap();
    fs::write(&file, "1").unwrap();
    assert_eq!(fixture.told(), ["c"]);
    fs::remove_dir_all(fixture.path("deep")).unwrap();
    fs::create_dir_all(fixture.path("deep/er")).unwrap();
    assert_eq!(fixture.told(), ["c"]);
    fs::write(&file, "1").unwrap();
    assert_eq!(fixture.told(), ["c"]);
}

#[test]
fn a_directory_renamed_away_is_followed_by_name() {
    let mut fixture = fixture();
    fs::create_dir_all(fixture.path("deep/er")).unwrap();
    fixture.told();
    fs::rename(fixture.path("deep/er"), fixture.path("old")).unwrap();
    assert_eq!(fixture.told(), ["c"]);
    fs::write(fixture.path("old/c.pid"), "1").unwrap();
    assert!(fixture.told().is_empty());
    fs::rename(fixture.path("old"), fixture.path("deep/er")).unwrap();
    assert_eq!(fixture.told(), ["c"]);
    fs::write(fixture.path("deep/er/c.pid"), "2").unwrap();
    assert_eq!(fixture.told(), ["c"]);
}

#[test]
fn an_ancestor_renamed_away_is_found_by_a_refresh() {
    let mut fixture = fixture();
    fs::create_dir_all(fixture.path("deep/er")).unwrap();
    fixture.told();
    assert!(fixture.watch.refresh().is_empty());
    fs::rename(fixture.path("deep"), fixture.path("old")).unwrap();
    fs::create_dir_all(fixture.path("deep/er")).unwrap();
    fs::write(fixture.path("deep/er/c.pid"), "1").unwrap();
    fixture.told();
    let refreshed = fixture.watch.refresh();
    assert_eq!(refreshed.into_iter().collect::<Vec<_>>(), ["c".into()]);
    fs::write(fixture.path("deep/er/c.pid"), "2").unwrap();
    assert_eq!(fixture.told(), ["c"]);
}

#[test]
fn two_names_of_one_directory_share_a_watch() {
    let mut fixture = fixture();
    std::os::unix::fs::symlink(fixture.directory.path(), fixture.path("link")).unwrap();
    let places = ["a.pid", "link/a.pid", "link/x.pid"];
    let places = places.map(|name| (Arc::from(name), fixture.path(name)));
    fixture.watch.set(places);
    assert_eq!(fixture.watch.watches(), 1);
    fs::write(fixture.path("a.pid"), "1").unwrap();
    assert_eq!(fixture.told(), ["a.pid", "link/a.pid"]);
    fixture.watch.set([]);
    assert_eq!(fixture.watch.watches(), 0);
    fs::write(fixture.path("a.pid"), "1").unwrap();
    assert!(fixture.told().is_empty());
}

#[test]
fn an_overflow_is_told_and_the_watches_are_mended() {
    let mut fixture = fixture();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: u32 = limit.trim().parse().unwrap();
    let (one, two) = (fixture.path("one"), fixture.path("two"));
    fs::write(&one, "").unwrap();
    for _ in 0..limit / 4 + 1 {
        fs::rename(&one, &two).unwrap();
        fs::rename(&two, &one).unwrap();
    }
    // Nobody hears of these.
    fs::write(fixture.path("a.pid"), "1").unwrap();
    fs::create_dir_all(fixture.path("deep/er")).unwrap();
    let mut overflows = 0;
    let mut told = BTreeSet::new();
    while let Ok(changes) = fixture.watch.read() {
        overflows += u32::from(changes.overflow);
        told.extend(changes.entities);
    }
    assert_eq!(overflows, 1);
    assert_eq!(
        told.into_iter().collect::<Vec<_>>(),
        ["a".into(), "c".into()]
    );
    fs::write(fixture.path("deep/er/c.pid"), "1").unwrap();
    assert_eq!(fixture.told(), ["c"]);
}

/// Runs itself once more in a user namespace that may have no watches.
#[test]
fn the_limit_of_watches_is_a_problem_and_not_the_end() {
    const INNER: &str = "PMON_TEST_NO_WATCHES";
    if std::env::var_os(INNER).is_some() {
        let fixture = fixture_without_watches();
        assert_eq!(
            fixture.watch.problem().unwrap(),
            format!(
                "cannot watch `{}` (and 1 more): the limit `fs.inotify.max_user_watches` is \
                 reached",
                fixture.directory.path().display()
            )
        );
        assert_eq!(fixture.watch.watches(), 0);
        println!("inner test passed");
        return;
    }
    let script = "echo 0 > /proc/sys/user/max_inotify_watches || exit 77; exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("audit::watch::tests::the_limit_of_watches_is_a_problem_and_not_the_end")
        .env(INNER, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || stderr.contains("unshare failed") {
        println!("skipped: no user namespace with a limit of its own: {stderr}");
        return;
    }
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("inner test passed"), "{stdout}");
}

fn fixture_without_watches() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let mut watch = Watch::new().unwrap();
    let pidfile = directory.path().join("a.pid");
    watch.set([(Arc::from("a"), pidfile.clone()), (Arc::from("b"), pidfile)]);
    Fixture { directory, watch }
}

#[test]
fn a_directory_that_appears_while_it_is_sought_is_not_missed() {
    let mut fixture = fixture();
    let depth: PathBuf = (0..30).map(|level| level.to_string()).collect();
    let directory = fixture.directory.path().join(&depth);
    let pidfile = directory.join("x.pid");
    for round in 0..120 {
        fixture.watch.set([]);
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                fs::create_dir_all(&directory).unwrap();
            });
            barrier.wait();
            // Somewhere between the first directory and the last.
            for _ in 0..round % 30 * 20 {
                std::hint::spin_loop();
            }
            fixture.watch.set([(Arc::from("x"), pidfile.clone())]);
        });
        fixture.told();
        fs::write(&pidfile, "1").unwrap();
        assert_eq!(fixture.told(), ["x"], "round {round}");
        fs::remove_dir_all(fixture.path("0")).unwrap();
    }
}
