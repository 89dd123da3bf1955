//! With healthy entities and nothing due, no thread of the daemon wakes up.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    process,
    script::{Lsb, foreground_entity},
    wait,
};

/// How long is watched.
const WATCHED: Duration = Duration::from_secs(4);

/// utime and stime, fields 14 and 15 of `/proc/PID/stat`, in ticks.
fn cpu(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<u64> = (rest.split(' ').skip(11).take(2))
        .map(|field| field.parse().unwrap())
        .collect();
    fields.iter().sum()
}

/// Of threads that were there all the time, and a first one of each new thread;
/// a thread of the pool that ends after 10 s without work is none.
fn wakeups(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> u64 {
    let each = after.iter().map(|(tid, sleeps)| match before.get(tid) {
        Some(slept) => sleeps - slept,
        None => sleeps + 1,
    });
    each.sum()
}

fn sleeps_while_idle(entities: usize, source: &str) {
    let place = Place::new();
    let mut toml = "[daemon]\naudit_interval = \"1h\"\n".to_owned();
    let mut names = Vec::new();
    for number in 0..entities {
        let name = place.name(&format!("fore{number}"));
        toml += &foreground_entity(&name, &[]);
        names.push(name);
    }
    let lsb = Lsb::new(&place, &place.name("init"), &[]);
    toml += &lsb.entity(&[]);
    names.push(lsb.name);
    place.configure(&toml);
    let mut command = pmon_tests::daemon::command(&place);
    command.arg("--source").arg(source);
    let daemon = Daemon::launch(&place, command);
    for name in &names {
        let _pid = daemon.up(name);
    }
    // Until the journal is written and the last client's connection is gone.
    wait::until("it comes to rest", LONG, || {
        let before = process::sleeps(daemon.pid());
        thread::sleep(Duration::from_secs(1));
        (wakeups(&before, &process::sleeps(daemon.pid())) == 0).then_some(())
    });
    let (before, used) = (process::sleeps(daemon.pid()), cpu(daemon.pid()));
    thread::sleep(WATCHED);
    let (after, used_then) = (process::sleeps(daemon.pid()), cpu(daemon.pid()));
    let wakeups = wakeups(&before, &after);
    println!(
        "{source}: {wakeups} wake-ups and {} ticks of CPU in {WATCHED:?} with {} entities",
        used_then - used,
        names.len(),
    );
    let woken: Vec<String> = (after.iter())
        .filter(|(tid, sleeps)| before.get(tid) != Some(sleeps))
        .map(|(tid, _)| format!("/proc/{}/task/{tid}/comm", daemon.pid()))
        .map(|path| fs::read_to_string(path).unwrap_or_default())
        .collect();
    assert_eq!(wakeups, 0, "{woken:?}: {before:?} {after:?}");
}

#[test]
fn with_the_kernel_program() {
    pmon_tests::skip_if!(pmon_tests::privilege::no_bpf());
    sleeps_while_idle(5, "ebpf");
}

#[test]
fn with_pidfds_alone() {
    sleeps_while_idle(5, "pidfd");
}
