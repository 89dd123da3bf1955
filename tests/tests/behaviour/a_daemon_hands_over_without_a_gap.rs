//! `pmon daemon --handoff`: processes die all the time while one daemon takes
//! over from the other; no death is lost or told twice, and counters only rise.

use std::{thread, time::Duration};

use pmon_tests::{
    daemon::{self, Daemon, LONG, answer},
    killing::Killed,
    pins,
    place::{Place, is_bpffs},
    privilege,
    process::Process,
    script::{Lsb, foreground_entity},
    skip_if, wait,
};

const HANDOFFS: u32 = 8;

fn handoff(place: &Place) -> std::process::Command {
    let mut command = daemon::command(place);
    command.arg("--handoff");
    command
}

#[test]
fn while_processes_die() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let mut names = Vec::new();
    let mut configuration = String::new();
    for number in 0..3 {
        let name = place.name(&format!("fore{number}"));
        configuration += &foreground_entity(&name, &[]);
        names.push(name);
    }
    let lsb = Lsb::new(&place, &place.name("init"), &[]);
    configuration += &lsb.entity(&[]);
    names.push(lsb.name);
    place.configure(&configuration);

    let killed = Killed::default();
    // Without a daemon to take over from it is an ordinary start.
    let first = Daemon::launch(&place, handoff(&place));
    let daemon = thread::scope(|scope| {
        let _over = killed.until_dropped();
        scope.spawn(|| killed.kill_on(&place, Duration::from_millis(15)));
        let mut daemon = first;
        let mut counted = 0;
        for round in 0..HANDOFFS {
            thread::sleep(Duration::from_millis(u64::from(round) * 40));
            let now = pins::counter(&daemon, "deaths");
            assert!(now >= counted, "{now} after {counted}");
            counted = now;
            let old = Process::open(daemon.pid()).unwrap();
            let pins = pins::directory(&daemon);
            let next = Daemon::launch_beside(&place, handoff(&place));
            assert!(old.ends_within(LONG), "the old one has ended");
            assert_eq!(daemon.end().code(), Some(0));
            next.answers();
            assert_eq!(pins::directory(&next), pins);
            daemon = next;
        }
        assert!(pins::counter(&daemon, "deaths") >= counted);
        daemon
    });
    let total = killed.compare(&daemon, &names);
    println!("{total} deaths over {HANDOFFS} handoffs");
    assert!(total > names.len());
    let status = daemon.status();
    assert_eq!(status["daemon"]["pid"], daemon.pid());
    assert!(daemon.terminate().success());
    assert!(!place.pins().exists(), "an orderly end leaves nothing");
}

#[test]
fn and_is_refused_where_deaths_would_be_missed() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let daemon = Daemon::launch(&place, {
        let mut command = daemon::command(&place);
        command.args(["--source", "pidfd"]);
        command
    });
    let refused = answer(&mut handoff(&place));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("nobody would see deaths"),
        "{refused:?}"
    );
    assert!(daemon.is_running());
    wait::until("it answers", LONG, || {
        (daemon.ask(&["list"]).code == Some(0)).then_some(())
    });
}
