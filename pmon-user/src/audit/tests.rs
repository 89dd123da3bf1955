//! The auditor on real directories.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path, sync::mpsc as blocking};

use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    handle: AuditHandle,
    due: blocking::Receiver<Due>,
    /// Those that have begun to change.
    stirred: blocking::Receiver<Arc<str>>,
}

async fn fixture(settle_ms: u64, sweep_ms: u64) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let settings = AuditSettings {
        settle: Duration::from_millis(settle_ms),
        sweep: Duration::from_millis(sweep_ms),
    };
    let (sender, due) = blocking::channel();
    let (stirring, stirred) = blocking::channel();
    let handle = start(settings, move |it| {
        match it {
            Due::Stirred(entity) => stirring.send(entity).ok(),
            Due::Changed(_) | Due::Executed(_) | Due::Sweep(_) => sender.send(it).ok(),
        };
    })
    .unwrap();
    let fixture = Fixture {
        directory,
        handle,
        due,
        stirred,
    };
    fixture.watch(&["a", "b"]).await;
    fixture
}

impl Fixture {
    async fn watch(&self, entities: &[&str]) {
        for name in entities {
            let pidfile = self.directory.path().join(name).with_extension("pid");
            self.handle.watch(Arc::from(*name), Some(pidfile));
        }
        self.handle.watch(Arc::from("without"), None);
        self.handle.established().await;
    }

    async fn forget(&self, entities: &[&str]) {
        for name in entities {
            self.handle.watch(Arc::from(*name), None);
        }
        self.handle.established().await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn status(&self) -> AuditStatus {
        self.handle.status().borrow().clone()
    }

    fn next(&self) -> Due {
        self.due.recv_timeout(LONG).unwrap()
    }

    /// Waits until it has woken up so often, or more.
    fn awaken(&self, wakeups: u64) {
        let before = Instant::now();
        while self.status().wakeups < wakeups {
            assert!(before.elapsed() < LONG, "{:?}", self.status());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn quiet_for(&self, ms: u64) {
        let quiet = self.due.recv_timeout(Duration::from_millis(ms));
        assert_eq!(quiet, Err(blocking::RecvTimeoutError::Timeout));
    }
}

const HOUR_MS: u64 = 3_600_000;

/// Longer than anything here takes, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn changed(name: &str) -> Due {
    Due::Changed(name.into())
}

fn rename_into_place(path: &Path, text: &str) {
    let staged = path.with_extension("staged");
    fs::write(&staged, text).unwrap();
    fs::rename(staged, path).unwrap();
}

#[tokio::test]
async fn a_change_is_told_once_after_the_settle_delay() {
    // Longer than this thread may be held up between two changes.
    let fixture = fixture(1000, HOUR_MS).await;
    let before = Instant::now();
    fs::write(fixture.path("a.pid"), "").unwrap();
    fs::write(fixture.path("a.pid"), "1").unwrap();
    rename_into_place(&fixture.path("a.pid"), "2");
    assert_eq!(fixture.next(), changed("a"));
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(1000), "{took:?}");
    fixture.quiet_for(1500);
    fs::remove_file(fixture.path("a.pid")).unwrap();
    assert_eq!(fixture.next(), changed("a"));
    assert_eq!(fixture.status().changes, 2);
}

#[tokio::test]
async fn the_beginning_of_a_change_is_told_at_once() {
    // It could not settle while this test runs.
    let fixture = fixture(HOUR_MS, HOUR_MS).await;
    rename_into_place(&fixture.path("a.pid"), "1");
    assert_eq!(&*fixture.stirred.recv_timeout(LONG).unwrap(), "a");
    rename_into_place(&fixture.path("b.pid"), "3");
    // The file that was staged beside it has another name.
    assert_eq!(&*fixture.stirred.recv_timeout(LONG).unwrap(), "b");
    assert_eq!(fixture.due.try_recv(), Err(blocking::TryRecvError::Empty));
}

#[tokio::test]
async fn a_file_that_never_rests_is_told_nevertheless() {
    let settle = Duration::from_millis(400);
    // It counts from the beginning of the watch, which looks once itself.
    let before = Instant::now();
    let fixture = fixture(400, HOUR_MS).await;
    let (mut written, mut rested) = (Instant::now(), false);
    while fixture.due.try_recv().is_err() {
        // This thread may be held up between two writes.
        rested |= written.elapsed() >= settle;
        fs::write(fixture.path("b.pid"), "1").unwrap();
        written = Instant::now();
        thread::sleep(Duration::from_millis(5));
        assert!(before.elapsed() < LONG);
    }
    let took = before.elapsed();
    rested |= written.elapsed() >= settle;
    assert!(rested || took >= 5 * settle, "{took:?}");
}

#[tokio::test]
async fn idle_means_no_wakeups() {
    let fixture = fixture(50, HOUR_MS).await;
    let before = fixture.status();
    assert!(before.wakeups <= 4, "one for each command: {before:?}");
    fixture.quiet_for(700);
    assert_eq!(fixture.status(), before);
    // Content of a neighbour is nobody's business here.
    fs::write(fixture.path("neighbour"), "1").unwrap();
    fixture.awaken(before.wakeups + 1);
    fixture.quiet_for(200);
    let created = fixture.status().wakeups;
    assert_eq!(created, before.wakeups + 1);
    fs::write(fixture.path("neighbour"), "2").unwrap();
    fixture.quiet_for(200);
    assert_eq!(fixture.status().wakeups, created);
    // One change: its records, and the end of the delay.
    fs::write(fixture.path("a.pid"), "1").unwrap();
    assert_eq!(fixture.next(), changed("a"));
    fixture.quiet_for(200);
    let after = fixture.status().wakeups;
    assert!((2..=5).contains(&(after - created)), "{created} {after}");
}

#[tokio::test]
async fn sweeps_come_by_timer_and_on_demand() {
    let fixture = fixture(50, 2000).await;
    let commands = fixture.status().wakeups;
    let before = Instant::now();
    assert_eq!(fixture.next(), Due::Sweep(SweepReason::Timer));
    assert_eq!(fixture.next(), Due::Sweep(SweepReason::Timer));
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(3000), "{took:?}");
    fixture.handle.sweep_now();
    assert_eq!(fixture.next(), Due::Sweep(SweepReason::Asked));
    // Nothing else has woken it.
    let status = fixture.status();
    assert!(status.wakeups <= status.sweeps + commands, "{status:?}");
}

#[tokio::test]
async fn new_entities_replace_old_ones() {
    let fixture = fixture(500, HOUR_MS).await;
    fixture.watch(&["b", "new/c"]).await;
    fixture.forget(&["a"]).await;
    fs::write(fixture.path("a.pid"), "1").unwrap();
    fixture.quiet_for(1000);
    fs::create_dir(fixture.path("new")).unwrap();
    fs::write(fixture.path("new/c.pid"), "1").unwrap();
    assert_eq!(fixture.next(), changed("new/c"));
    fs::remove_dir_all(fixture.path("new")).unwrap();
    assert_eq!(fixture.next(), changed("new/c"));
    fs::create_dir(fixture.path("new")).unwrap();
    rename_into_place(&fixture.path("new/c.pid"), "1");
    assert_eq!(fixture.next(), changed("new/c"));
    // A change that is waiting is not forgotten by a reload.
    fs::write(fixture.path("b.pid"), "1").unwrap();
    thread::sleep(Duration::from_millis(20));
    fixture.forget(&["new/c"]).await;
    assert_eq!(fixture.next(), changed("b"));
    // What changed before it was watched is told: the first look may have been
    // made before that.
    fixture.watch(&["b"]).await;
    assert_eq!(fixture.next(), changed("b"));
    fixture.quiet_for(200);
}

#[tokio::test]
async fn what_cannot_be_watched_degrades_and_recovers() {
    let fixture = fixture(50, 200).await;
    let mut status = fixture.handle.status();
    status.mark_unchanged();
    let long = "x".repeat(300);
    fixture.watch(&["a", &format!("{long}/b")]).await;
    status.changed().await.unwrap();
    let degraded = status.borrow_and_update().degraded.clone().unwrap();
    assert!(
        degraded.ends_with("File name too long (os error 36)"),
        "{degraded}"
    );
    assert_eq!(fixture.next(), Due::Sweep(SweepReason::Timer));
    fs::write(fixture.path("a.pid"), "1").unwrap();
    while fixture.next() != changed("a") {}
    fixture.forget(&[&format!("{long}/b")]).await;
    status.changed().await.unwrap();
    assert_eq!(status.borrow().degraded, None);
}

#[tokio::test]
async fn dropping_the_handle_ends_the_thread() {
    let fixture = fixture(50, HOUR_MS).await;
    drop(fixture.handle);
    let end = fixture.due.recv_timeout(LONG);
    assert_eq!(end, Err(blocking::RecvTimeoutError::Disconnected));
}
