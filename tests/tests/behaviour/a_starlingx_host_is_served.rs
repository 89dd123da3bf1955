//! In the place of StarlingX's pmond: hostwd and hbsClient are told that the
//! engine lives whatever else happens, and nothing is recovered while the host
//! is not in a state for that.

use std::fs;

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    process::{self, Process},
    script::{self, Lsb, foreground_entity, quoted},
    skip_if,
    starlingx::{
        self, CLEAR, GOENABLED, Host, Hostwd, INITIAL_CONFIG, LOG, MAJOR, READY, about, troubles,
    },
    wait,
};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn s3_the_petting_goes_on_while_every_recovery_hangs() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    let hostwd = Hostwd::new();
    let name = place.name("web");
    // Its start hangs, and so does every look at its pidfile's directory.
    let script = place.path("hangs.init");
    script::executable(&script, "#!/bin/sh\nexec sleep 1000\n");
    let fifo = place.path("pidfile");
    let settings = [
        ("script", quoted(&script)),
        ("pidfile", quoted(&fifo)),
        ("start_timeout", "\"1000s\"".to_owned()),
    ];
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, it)| (*key, it.as_str()))
        .collect();
    let entity = script::entity(&name, &settings);
    let daemon = host.served(&place, &entity);
    daemon.in_stage(&name, "monitor_wait");
    // Beyond the start delay of a second these are proven by the engine.
    hostwd.petted(5);
    for _ in 0..20 {
        host.pulsed();
    }
    assert_eq!(daemon.entity(&name)["stage"], "monitor_wait");
    assert_eq!(troubles(&daemon), [""; 0]);
}

#[test]
fn s22_without_a_hostwd_it_works_and_a_late_one_is_told() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    let name = place.name("web");
    let daemon = host.served(&place, &foreground_entity(&name, &[]));
    let _pid = daemon.up(&name);
    let wanted = "StarlingX: the host watchdog is not told: Connection refused (os error 111)";
    let told = wait::until_seen(
        "it says that hostwd is not there",
        LONG,
        || troubles(&daemon),
        |it| it.iter().any(|it| it == wanted),
    );
    assert_eq!(told, [wanted]);
    let hostwd = Hostwd::new();
    hostwd.petted(2);
    wait::until("all is well", LONG, || {
        troubles(&daemon).is_empty().then_some(())
    });
    // One that has stopped reading holds nobody up.
    let before = daemon.entity(&name)["pid"].clone();
    wait::until_seen(
        "hostwd's queue is full",
        LONG,
        || troubles(&daemon),
        |it| it.iter().any(|it| it.contains("temporarily unavailable")),
    );
    host.pulsed();
    assert_eq!(daemon.entity(&name)["pid"], before);
}

#[test]
fn nothing_is_recovered_before_the_host_is_configured() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    let hostwd = Hostwd::new();
    host.lacks(INITIAL_CONFIG);
    host.lacks(GOENABLED);
    let (absent, present) = (place.name("absent"), place.name("present"));
    let running = Lsb::new(&place, &present, &[]);
    running.by_hand("start");
    let entities = [foreground_entity(&absent, &[]), running.entity(&[])];
    let daemon = host.served(&place, &entities.concat());
    let adopted = daemon.up(&present);
    assert_eq!(Some(adopted), running.pid());
    let entity = daemon.entity_when(&absent, "it waits", LONG, |it| it["problem"].is_string());
    assert_eq!(entity["state"], "unknown");
    assert_eq!(entity["stage"], "gated");
    let file = host.path(INITIAL_CONFIG);
    let why = format!("not recovered: waiting for `{}`", file.display());
    assert_eq!(entity["problem"], why);
    // A death is seen and not made good.
    Process::open(adopted).unwrap().kill();
    let entity = daemon.in_stage(&present, "gated");
    assert_eq!(entity["last_death"]["pid"], adopted);
    hostwd.petted(2);

    host.has(INITIAL_CONFIG);
    let file = host.path(GOENABLED).display().to_string();
    daemon.entity_when(&absent, "it waits for the other file", LONG, |it| {
        it["problem"]
            .as_str()
            .is_some_and(|why| why.contains(&file))
    });
    assert_eq!(process::instances(&absent), [0; 0]);
    assert_eq!(process::instances(&present), [0; 0]);
    host.has(GOENABLED);
    let _pid = daemon.up(&absent);
    assert_ne!(daemon.up(&present), adopted);
}

#[test]
fn v15_nothing_is_recovered_in_a_shutdown_unless_it_is_cancelled() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    host.system_state("degraded");
    let name = place.name("web");
    let daemon = host.served(&place, &foreground_entity(&name, &[]));
    let events = daemon.events();
    let first = daemon.up(&name);
    Process::open(first).unwrap().kill();
    let second = daemon.entity_when(&name, "it is up again", LONG, |it| {
        it["state"] == "up" && it["pid"] != first
    })["pid"]
        .clone();

    host.system_state("stopping");
    let mark = events.mark();
    let pid = u32::try_from(second.as_u64().unwrap()).unwrap();
    Process::open(pid).unwrap().kill();
    let entity = daemon.in_stage(&name, "gated");
    let why = "not recovered: the host is shutting down";
    let entity = match entity["problem"] == why {
        true => entity,
        false => daemon.entity_when(&name, "it says why", LONG, |it| it["problem"] == why),
    };
    assert_eq!(entity["alarm"], Value::Null);
    assert_eq!(process::instances(&name), [0; 0]);
    events.after(mark, "it is told", LONG, |event| event.is(&name, "gated"));
    let failures = events.count(&name, "first_failure");

    host.system_state("running");
    let third = daemon.up(&name);
    assert_eq!(process::instances(&name), [third]);
    assert_eq!(events.count(&name, "first_failure"), failures + 1);
}

#[test]
fn s4_a_part_that_is_not_configured_is_not_monitored() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    host.platform("All-in-one", "controller,worker");
    let (name, typo) = (place.name("worker"), place.name("typo"));
    let service = Lsb::new(&place, &name, &[]);
    service.by_hand("start");
    let entities = [
        "[daemon]\naudit_interval = \"1s\"\n\n".to_owned(),
        service.entity(&[("subfunction", "\"last-config\"")]),
        foreground_entity(&typo, &[("subfunction", "\"compute\"")]),
    ];
    let daemon = host.served(&place, &entities.concat());
    let entity = daemon.in_stage(&name, "polling");
    assert_eq!(entity["state"], "unknown");
    assert_eq!(entity["registered"], false);
    let status = daemon.status();
    let findings = status["config_findings"].as_array().unwrap();
    let told = format!("`{typo}` is never monitored: `subfunction = compute` has no meaning");
    assert!(
        findings
            .iter()
            .any(|it| it.as_str().unwrap().contains(&told)),
        "{findings:?}"
    );
    // Sweeps pass, the process goes and comes, and nothing of that counts.
    let sweeps = |daemon: &Daemon| daemon.status()["audit"]["sweeps"].as_u64().unwrap();
    let before = sweeps(&daemon);
    service.by_hand("stop");
    wait::until("two sweeps", LONG, || {
        (sweeps(&daemon) >= before + 2).then_some(())
    });
    assert_eq!(process::instances(&name), [0; 0]);
    service.by_hand("start");
    let before = sweeps(&daemon);
    wait::until("two sweeps", LONG, || {
        (sweeps(&daemon) >= before + 2).then_some(())
    });
    for name in [&name, &typo] {
        let entity = daemon.entity(name);
        assert_eq!(entity["stage"], "polling", "{entity:#}");
        assert_eq!(entity["registered"], false);
    }
    host.has("/var/run/.worker_config_complete");
    assert_eq!(Some(daemon.up(&name)), service.pid());
    assert_eq!(daemon.entity(&typo)["stage"], "polling");
    assert_eq!(process::instances(&typo), [0; 0]);
}

#[test]
fn pmonds_own_files_are_there_and_its_signals_are_known() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    let name = place.name("web");
    let daemon = host.served(&place, &foreground_entity(&name, &[]));
    let _pid = daemon.up(&name);
    let pidfile = host.path("/var/run/pmond.pid");
    assert_eq!(
        fs::read_to_string(&pidfile).unwrap(),
        daemon.pid().to_string()
    );
    let info = host.path("/var/run/pmond.info");
    wait::until("there is a pmond.info", LONG, || {
        info.exists().then_some(())
    });
    fs::remove_file(&info).unwrap();
    let process = Process::open(daemon.pid()).unwrap();
    process.signal(Signal::USR1).unwrap();
    wait::until("pmond.info tells how it is", LONG, || {
        fs::read_to_string(&info)
            .is_ok_and(|text| text.contains(&name))
            .then_some(())
    });
    process.signal(Signal::USR2).unwrap();
    wait::until("the log tells how it is", LONG, || {
        daemon.log().contains("1 entity").then_some(())
    });
    assert!(daemon.terminate().success());
    assert!(!pidfile.exists());
}

#[test]
fn v3_a_quorum_member_beyond_recovery_is_told_to_hostwd_and_mtc_agent() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    let hostwd = Hostwd::new();
    let name = place.name("sm");
    let service = Lsb::new(&place, &name, &[]);
    script::executable(&service.script, "#!/bin/sh\nexit 1\n");
    let entity = service.entity(&[
        ("severity", "\"major\""),
        ("restarts", "2"),
        ("quorum", "true"),
    ]);
    let daemon = host.served(&place, &entity);

    assert_eq!(host.event(), (READY, about(Some("pmond"))));
    let healthy = (CLEAR, about(None));
    assert_eq!(host.event(), healthy);
    // Told every 10 s until the alarm is raised.
    let next = || loop {
        let event = host.event();
        if event != healthy {
            return event;
        }
    };
    assert_eq!(next(), (LOG, about(Some(&name))));
    assert_eq!(next(), (MAJOR, about(Some(&name))));

    let failed = starlingx::beyond_recovery(&name);
    while hostwd.next() != failed {}
    assert_eq!(hostwd.next(), failed, "and again");
    host.pulsed();
    assert_eq!(daemon.status()["unrecoverable"], name);

    // It comes back, and all is well.
    let _works = Lsb::new(&place, &name, &[]);
    let _pid = daemon.up(&name);
    while hostwd.next() == failed {}
    hostwd.petted(1);
}
