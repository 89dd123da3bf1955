//! Somebody replaces the process behind a pidfile: seen through inotify at once,
//! or by the next sweep where inotify cannot see it; never answered by a restart.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    events::Events,
    place::Place,
    privilege, process,
    script::Lsb,
    skip_if, wait,
};

/// A process of the tester's own that a pidfile may name.
fn instance(name: &str) -> Child {
    Command::new(binary::service())
        .args(["--tag", name])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn rename_over(pidfile: &Path, pid: u32) {
    let beside = pidfile.with_extension("new");
    fs::write(&beside, format!("{pid}\n")).unwrap();
    fs::rename(&beside, pidfile).unwrap();
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The time from `change` to the registration of `pid`.
fn registered_within(
    events: &Events,
    name: &str,
    pid: u32,
    limit: Duration,
    change: impl FnOnce(),
) -> Duration {
    let mark = events.mark();
    let before = Instant::now();
    change();
    events.after(mark, "the registration", limit, |event| {
        event.is(name, "registered") && event.pid == Some(pid)
    });
    before.elapsed()
}

/// Long sweeps: only inotify can have seen it.
fn without_sweeps(place: &Place, lsb: &Lsb) -> Daemon {
    place.configure(&format!(
        "[daemon]\naudit_interval = \"1h\"\n{}",
        lsb.entity(&[])
    ));
    Daemon::start(place)
}

#[test]
fn by_rename_or_in_place() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    let (name, first) = (&lsb.name, instance(&lsb.name));
    rename_over(&lsb.pidfile, first.id());
    let daemon = without_sweeps(&place, &lsb);
    let events = daemon.events();
    assert_eq!(daemon.up(name), first.id());

    let second = instance(name);
    let took = registered_within(&events, name, second.id(), LONG, || {
        rename_over(&lsb.pidfile, second.id());
    });
    println!("renamed: registered after {took:?}");
    end(first);

    let third = instance(name);
    let took = registered_within(&events, name, third.id(), LONG, || {
        fs::write(&lsb.pidfile, format!("{}\n", third.id())).unwrap();
    });
    println!("written in place: registered after {took:?}");
    end(second);

    // Removed and written again: nothing is concluded from the gap.
    let fourth = instance(name);
    let took = registered_within(&events, name, fourth.id(), LONG, || {
        fs::remove_file(&lsb.pidfile).unwrap();
        thread::sleep(Duration::from_millis(30));
        fs::write(&lsb.pidfile, format!("{}\n", fourth.id())).unwrap();
    });
    println!("removed and written: registered after {took:?}");
    end(third);
    thread::sleep(Duration::from_millis(500));

    let entity = daemon.entity_when(name, "all were counted", LONG, |entity| {
        entity["state"] == "up" && entity["restarts"]["external"].as_u64() >= Some(3)
    });
    assert_eq!(entity["restarts"]["external"], 3, "{entity:#}");
    assert_eq!(entity["restarts"]["auto"], 0);
    assert_eq!(entity["deaths_1h"], 0, "the old ones were let go");
    assert_eq!(daemon.status()["audit"]["discrepancies"]["pid_changed"], 0);
    end(fourth);
}

/// The directory of the pidfile is made later, removed, and made again.
#[test]
fn in_a_directory_that_comes_and_goes() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let mut lsb = Lsb::new(&place, &place.name("web"), &[]);
    let directory = place.path("var/run/web");
    lsb.pidfile = directory.join("web.pid");
    let name = lsb.name.clone();
    place.configure(&format!(
        "[daemon]\naudit_interval = \"1h\"\n{}",
        lsb.entity(&[("restarts", "0")])
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    daemon.in_stage(&name, "ignore");
    for _ in 0..2 {
        let child = instance(&name);
        let took = registered_within(&events, &name, child.id(), LONG, || {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&lsb.pidfile, format!("{}\n", child.id())).unwrap();
        });
        println!("directory made: registered after {took:?}");
        let mark = events.mark();
        end(child);
        events.after(mark, "its death", LONG, |event| event.is(&name, "died"));
        wait::until("pmon removed the pidfile", LONG, || {
            (!lsb.pidfile.exists()).then_some(())
        });
        fs::remove_dir_all(place.path("var")).unwrap();
        daemon.in_stage(&name, "ignore");
    }
}

/// Waits until a sweep has just begun.
fn next_sweep(daemon: &Daemon) {
    let sweeps = || daemon.status()["audit"]["sweeps"].as_u64().unwrap();
    let before = sweeps();
    wait::until("a sweep", LONG, || (sweeps() > before).then_some(()));
}

/// inotify watches directories, not paths: when a link on the way to the
/// pidfile is turned to another directory, nobody tells. The sweep finds it and
/// counts it.
#[test]
fn by_the_sweep_where_inotify_is_blind() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let mut lsb = Lsb::new(&place, &place.name("web"), &[]);
    let name = lsb.name.clone();
    for directory in ["one", "two"] {
        fs::create_dir(place.path(directory)).unwrap();
    }
    let link = place.path("current");
    symlink("one", &link).unwrap();
    lsb.pidfile = link.join("web.pid");
    let first = instance(&name);
    rename_over(&lsb.pidfile, first.id());
    place.configure(&format!(
        "[daemon]\naudit_interval = \"3s\"\n{}",
        lsb.entity(&[])
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    assert_eq!(daemon.up(&name), first.id());
    // A path that has just begun to be watched is looked at once more when it has
    // settled, which would see the other directory as well.
    next_sweep(&daemon);

    let second = instance(&name);
    rename_over(&place.path("two/web.pid"), second.id());
    let took = registered_within(&events, &name, second.id(), LONG, || {
        symlink("two", place.path("next")).unwrap();
        fs::rename(place.path("next"), &link).unwrap();
    });
    println!("the sweep: registered after {took:?}");
    let audit = daemon.status()["audit"].clone();
    assert_eq!(audit["discrepancies"]["duplicate"], 1, "{audit:#}");
    end(first);
    // From now on the other directory is watched.
    let third = instance(&name);
    // Between a change and its look there is `settle`; no sweep is due by then.
    next_sweep(&daemon);
    let mark = daemon.status()["audit"]["discrepancies"].clone();
    registered_within(&events, &name, third.id(), LONG, || {
        rename_over(&lsb.pidfile, third.id());
    });
    assert_eq!(daemon.status()["audit"]["discrepancies"], mark);
    end(second);
    assert_eq!(daemon.up(&name), third.id());
    assert_eq!(process::instances(&name), [third.id()]);
    end(third);
}

/// A pidfile that somebody removed is no reason to start a second instance; it
/// is counted and the process stays registered.
#[test]
fn and_a_lost_one_is_no_death() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    place.configure(&format!(
        "[daemon]\naudit_interval = \"1s\"\n{}",
        lsb.entity(&[])
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&lsb.name);
    let spawned = events.count(&lsb.name, "spawned");
    fs::remove_file(&lsb.pidfile).unwrap();
    let status = wait::until_seen(
        "the sweep counts it",
        LONG,
        || daemon.status(),
        |status| status["audit"]["discrepancies"]["stale_pidfile"].as_u64() > Some(0),
    );
    println!("{}", status["audit"]["discrepancies"]);
    assert_eq!(daemon.up(&lsb.name), pid);
    assert_eq!(process::instances(&lsb.name), [pid]);
    assert_eq!(events.count(&lsb.name, "spawned"), spawned);
    // Its death is one all the same.
    let mark = events.mark();
    process::Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&lsb.name, "recovered")
    });
}
