//! The store on real directories, full and missing ones among them.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::{fs, os::unix::fs::MetadataExt as _, process::Command as Program};

use serde::Deserialize;

use super::*;

#[derive(Serialize, Deserialize)]
struct Incident {
    incident: u64,
    text: String,
}

fn incident(incident: u64, text: &str) -> Incident {
    Incident {
        incident,
        text: text.to_owned(),
    }
}

fn numbers(directory: &Path) -> Vec<u64> {
    let recent = journal::load_recent(directory, 100_000, |it: &Incident| it.incident);
    assert_eq!(recent.problem, None);
    recent.incidents.iter().map(|it| it.incident).collect()
}

fn next(next_incident: u64) -> Registrations {
    Registrations {
        next_incident,
        ..Registrations::default()
    }
}

const MS: Duration = Duration::from_millis(1);

/// Longer than anything here takes, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_is_handed_over_is_on_disk_after_a_flush() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("deep/er");
    let store = Store::start(&state, Registrations::default()).unwrap();
    for number in 1..=100 {
        store.append(&incident(number, "x")).unwrap();
        store.save(Change::NextIncident(number + 1));
    }
    store.flush().await.unwrap();
    assert_eq!(numbers(&state), (1..=100).collect::<Vec<_>>());
    assert_eq!(registrations::load(&state).registrations, next(101));
    assert_eq!(*store.status().borrow(), StoreStatus::default());
    store.flush().await.unwrap();
}

#[tokio::test]
async fn bursts_are_written_once() {
    let directory = tempfile::tempdir().unwrap();
    // Longer than this thread may be held up between the two.
    let delay = 1000 * MS;
    let store = Store::start_with(
        directory.path(),
        Registrations::default(),
        delay,
        RETRY,
        Reach::Disk,
    )
    .unwrap();
    let path = directory.path().join(registrations::FILE);
    let before = Instant::now();
    store.save(Change::NextIncident(1));
    store.save(Change::NextIncident(2));
    while !path.exists() {
        assert!(before.elapsed() < LONG);
        thread::sleep(MS);
    }
    assert!(before.elapsed() >= delay);
    assert_eq!(registrations::load(directory.path()).registrations, next(2));
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    thread::sleep(2 * delay);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
}

/// What was said to be saved is known to the next daemon, however this one ends.
#[tokio::test]
async fn a_volatile_directory_has_the_newest_at_once() {
    let (run, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let load = || registrations::load_newest(run.path(), state.path()).registrations;
    registrations::write(state.path(), 1, [].into_iter(), Reach::Disk).unwrap();
    assert_eq!(load(), next(1));
    let store = Store::start_volatile(run.path(), Registrations::default(), 0).unwrap();
    for number in [2, 3] {
        let before = Instant::now();
        store.save(Change::NextIncident(number));
        while load() != next(number) {
            assert!(before.elapsed() < LONG);
            thread::sleep(MS);
        }
    }
    // Of an orderly end nothing is left, and junk is nobody's memory.
    fs::write(run.path().join(registrations::FILE), "junk").unwrap();
    assert_eq!(load(), next(1));
    fs::remove_file(run.path().join(registrations::FILE)).unwrap();
    assert_eq!(load(), next(1));
}

#[tokio::test]
async fn dropping_the_store_writes_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::start_with(
        directory.path(),
        Registrations::default(),
        Duration::from_secs(60),
        RETRY,
        Reach::Disk,
    )
    .unwrap();
    let mut status = store.status();
    store.save(Change::NextIncident(7));
    store.append(&incident(6, "x")).unwrap();
    drop(store);
    // The sender goes with the thread.
    while status.changed().await.is_ok() {}
    assert_eq!(registrations::load(directory.path()).registrations, next(7));
    assert_eq!(numbers(directory.path()), [6]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_degrades_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::write(&state, "a file is in the way").unwrap();
    let store =
        Store::start_with(&state, Registrations::default(), MS, 50 * MS, Reach::Disk).unwrap();
    let mut status = store.status();
    store.save(Change::NextIncident(2));
    store.append(&incident(1, "x")).unwrap();
    let error = store.flush().await.unwrap_err();
    assert!(error.contains("cannot write `"), "{error}");
    assert_eq!(status.borrow_and_update().degraded, Some(error));

    fs::remove_file(&state).unwrap();
    while status.borrow_and_update().degraded.is_some() {
        let changed = tokio::time::timeout(LONG, status.changed());
        changed.await.unwrap().unwrap();
    }
    assert_eq!(registrations::load(&state).registrations, next(2));
    assert_eq!(numbers(&state), [1]);
    assert_eq!(status.borrow().lost, 0);
}

#[tokio::test]
async fn a_backlog_has_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::write(&state, "a file is in the way").unwrap();
    let store = Store::start(&state, Registrations::default()).unwrap();
    let long = |number| incident(number, &"x".repeat(64 << 10));
    let each = serde_json::to_string(&long(1000)).unwrap().len();
    let room = (BACKLOG_BYTES / each) as u64;
    let surplus = 100;
    for number in 1000..1000 + room + surplus {
        store.append(&long(number)).unwrap();
    }
    store.flush().await.unwrap_err();
    assert_eq!(store.status().borrow().lost, surplus);
    fs::remove_file(&state).unwrap();
    store.flush().await.unwrap();
    // The journal keeps less than that, the newest.
    let kept = numbers(&state);
    assert!(kept.len() > 50, "{}", kept.len());
    assert_eq!(kept.last(), Some(&(1000 + room + surplus - 1)));
    assert_eq!(store.status().borrow().lost, surplus);
}

fn record(by: &str) -> Arc<record::EntityRecord> {
    Arc::new(record::EntityRecord {
        stopped: Some(record::StoppedByOperator {
            by: by.to_owned(),
            reason: None,
            at: jiff::Timestamp::UNIX_EPOCH,
            until: None,
        }),
        ..record::EntityRecord::default()
    })
}

/// A change costs its own size, until a new snapshot is worth it.
#[tokio::test]
async fn changes_follow_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let loaded = || registrations::load(directory.path());
    let initial = Registrations {
        next_incident: 7,
        entities: [("old".to_owned(), (*record("x")).clone())].into(),
    };
    let store = Store::start_volatile(directory.path(), initial, 0).unwrap();
    let mut snapshots = std::collections::BTreeSet::new();
    let mut expected = std::collections::BTreeMap::new();
    for number in 0..6000 {
        let name: Arc<str> = format!("entity{}", number % 5000).into();
        let change = (number % 7 != 0).then(|| record(&number.to_string()));
        match &change {
            Some(record) => expected.insert(name.to_string(), (**record).clone()),
            None => expected.remove(&*name),
        };
        store.save(Change::Entity(name, change));
        if number % 10 == 0 {
            store.flush().await.unwrap();
            snapshots.insert(fs::metadata(path(registrations::FILE)).unwrap().ino());
        }
    }
    store.save(Change::Entity("old".into(), None));
    store.flush().await.unwrap();
    store.save(Change::NextIncident(9));
    store.flush().await.unwrap();
    assert!(
        snapshots.len() > 1 && snapshots.len() < 20,
        "{}",
        snapshots.len()
    );
    assert_eq!(loaded().problem, None);
    assert_eq!(loaded().registrations.entities, expected);
    assert_eq!(loaded().registrations.next_incident, 9);

    // Torn by a crash: what is whole counts.
    let changes = path(changes::FILE);
    let text = fs::read(&changes).unwrap();
    fs::write(&changes, &text[..text.len() - 3]).unwrap();
    assert_eq!(loaded().problem, None);
    assert_eq!(loaded().registrations.next_incident, 7);
    // Of an earlier snapshot: disregarded.
    fs::write(&changes, "{\"follows\":1}\n{\"next_incident\":1000}\n").unwrap();
    assert_eq!(loaded().problem, None);
    assert_eq!(loaded().registrations.next_incident, 7);
    // Damaged in the middle: told.
    let mut damaged = text;
    let middle = damaged.len() / 2;
    damaged[middle] = b'\n';
    fs::write(&changes, damaged).unwrap();
    let problem = loaded().problem.unwrap();
    assert!(problem.contains("disregarded from line"), "{problem}");

    // Gone, with the whole directory's content: written anew.
    fs::remove_file(&changes).unwrap();
    fs::remove_file(path(registrations::FILE)).unwrap();
    store.save(Change::NextIncident(10));
    store.flush().await.unwrap();
    assert_eq!(loaded().registrations.entities, expected);
    assert_eq!(loaded().registrations.next_incident, 10);
}

/// Runs itself once more with a file system of 64 KiB.
#[tokio::test]
async fn a_full_disk_loses_nothing() {
    const INNER: &str = "PMON_TEST_SMALL_DISK";
    if let Some(disk) = std::env::var_os(INNER) {
        fill_and_free(Path::new(&disk)).await;
        println!("inner test passed");
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=64k tmpfs \"$PMON_TEST_SMALL_DISK\" || exit 77; \
                  exec \"$0\" \"$@\"";
    let output = Program::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("state::tests::a_full_disk_loses_nothing")
        .env(INNER, disk.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || stderr.contains("unshare failed") {
        println!("skipped: no file system of its own: {stderr}");
        return;
    }
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("inner test passed"), "{stdout}");
}

async fn fill_and_free(disk: &Path) {
    let store = Store::start(disk, Registrations::default()).unwrap();
    store.save(Change::NextIncident(1));
    store.append(&incident(1, "x")).unwrap();
    store.flush().await.unwrap();
    let ballast = disk.join("ballast");
    // Until it is full.
    fs::write(&ballast, vec![0; 128 << 10]).unwrap_err();
    // Longer than what is left of the journal's last page.
    for number in 2..=4 {
        store.append(&incident(number, &"y".repeat(3000))).unwrap();
    }
    store.save(Change::NextIncident(5));
    let error = store.flush().await.unwrap_err();
    assert!(error.contains("No space left on device"), "{error}");
    // A small change finds room where a whole file would not.
    assert_eq!(registrations::load(disk).registrations, next(5));
    fs::remove_file(&ballast).unwrap();
    store.flush().await.unwrap();
    assert_eq!(registrations::load(disk).registrations, next(5));
    let recent = journal::load_recent(disk, 9, |it: &Incident| it.incident);
    assert_eq!(recent.skipped, 0);
    assert_eq!(numbers(disk), [1, 2, 3, 4]);
    assert_eq!(*store.status().borrow(), StoreStatus::default());
}

/// What was about to be executed is known until the entity has a process of its
/// own again, whichever file says so.
#[tokio::test]
async fn a_launch_is_remembered_until_its_process_is() {
    let directory = tempfile::tempdir().unwrap();
    let name: Arc<str> = Arc::from("web");
    let identity = crate::core::identity::Identity {
        pid: 7,
        start_time: 8,
    };
    let launched = || {
        let loaded = registrations::load(directory.path());
        assert_eq!(loaded.problem, None);
        loaded.registrations.entities["web"].launched
    };
    let store = Store::start_volatile(directory.path(), Registrations::default(), 0).unwrap();
    store.save(Change::Entity(Arc::clone(&name), Some(record("operator"))));
    let (written, is_written) = oneshot::channel();
    let change = Change::Launched(Arc::clone(&name), identity);
    store.save_then(change, move || written.send(()).unwrap());
    is_written.await.unwrap();
    assert_eq!(launched(), Some(identity));
    // The same entity, still without that process.
    store.save(Change::Entity(Arc::clone(&name), Some(record("another"))));
    store.flush().await.unwrap();
    assert_eq!(launched(), Some(identity));
    drop(store);

    // The next daemon begins with a snapshot.
    let loaded = registrations::load(directory.path()).registrations;
    let store = Store::start_volatile(directory.path(), loaded, 0).unwrap();
    store.save(Change::NextIncident(2));
    store.flush().await.unwrap();
    assert_eq!(launched(), Some(identity));
    let registered = record::EntityRecord {
        process: Some(crate::look::Remembered {
            identity,
            stamp: None,
        }),
        ..record::EntityRecord::default()
    };
    store.save(Change::Entity(name, Some(Arc::new(registered))));
    store.flush().await.unwrap();
    assert_eq!(launched(), None);
}
