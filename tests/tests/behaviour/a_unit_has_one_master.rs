//! On a host run by systemd, a unit's process is started by one party: whoever asked
//! for a stop or a restart is not fought, systemd's own restarts are left to it or
//! taken over, and pmon's are jobs whose results it awaits. Against the real systemd.
//! The field stories are those of pmond's history.

use pmon_tests::{
    daemon::LONG,
    place::Place,
    script::entity,
    systemd::{Host, Unit, service, starts},
    wait,
};

/// The one entity, and the name of its unit.
const NAME: &str = "web";
const UNIT: &str = "web.service";

fn configure(place: &Place, settings: &[(&str, &str)]) {
    let pidfile = format!("{:?}", place.path("web.pid").to_str().unwrap());
    let mut all = vec![("service", "\"web\""), ("pidfile", pidfile.as_str())];
    all.extend(settings);
    place.configure(&entity(NAME, &all));
}

/// A host with the unit up and pmon watching it.
fn watched(place: &Place, unit: Unit) -> (Host, u32) {
    let host = Host::boot(place, &[unit]);
    host.systemctl(&["start", UNIT]);
    host.start_pmon();
    let pid = host.up(NAME);
    assert_eq!(starts(place, NAME), 1);
    (host, pid)
}

fn assert_untouched(host: &Host) {
    let web = host.entity(NAME);
    assert_eq!(web["restarts"]["auto"], 0, "{web:#}");
    assert!(web["alarm"].is_null(), "{web:#}");
}

#[test]
fn s13_a_stop_is_not_fought_and_a_later_start_is_adopted() {
    let place = Place::new();
    configure(&place, &[]);
    let (host, _) = watched(&place, service(&place, NAME, ""));
    for round in 1..=5 {
        host.systemctl(&["stop", UNIT]);
        let web = host.entity_when(NAME, "it is stopped", |web| web["stage"] == "stopped");
        assert_eq!(web["state"], "down", "{web:#}");
        assert_eq!(host.property(UNIT, "ActiveState"), "inactive");
        assert_eq!(starts(&place, NAME), round);
        host.systemctl(&["start", UNIT]);
        host.up(NAME);
        assert_eq!(starts(&place, NAME), round + 1);
    }
    assert_untouched(&host);
}

#[test]
fn s13_a_stop_that_takes_long_is_not_cancelled_by_a_start() {
    let place = Place::new();
    configure(&place, &[]);
    // The process is gone long before the stop is complete; its end is no clean one
    // either.
    let slow = "ExecStopPost=/bin/sleep 2";
    let failing = service(&place, NAME, slow);
    let failing = Unit {
        text: failing.text.replace(" --tag", " --code 9 --tag"),
        ..failing
    };
    let (host, _) = watched(&place, failing);
    // Fails if its job is cancelled.
    host.systemctl(&["stop", UNIT]);
    host.entity_when(NAME, "it is stopped", |web| web["stage"] == "stopped");
    assert_eq!(host.property(UNIT, "ActiveState"), "failed");
    assert_eq!(starts(&place, NAME), 1);
    assert_untouched(&host);
}

#[test]
fn s12_a_restart_by_somebody_is_adopted_and_not_repeated() {
    let place = Place::new();
    configure(&place, &[]);
    let (host, _) = watched(&place, service(&place, NAME, ""));
    for round in 1..=5 {
        host.systemctl(&["restart", UNIT]);
        host.up(NAME);
        assert_eq!(starts(&place, NAME), round + 1);
    }
    assert_untouched(&host);
}

#[test]
fn a_crash_is_recovered_by_exactly_one_job() {
    let place = Place::new();
    configure(&place, &[]);
    let (host, pid) = watched(&place, service(&place, NAME, ""));
    host.kill(pid);
    wait::until("it is started again", LONG, || {
        (starts(&place, NAME) == 2).then_some(())
    });
    assert_ne!(host.up(NAME), pid);
    let web = host.entity(NAME);
    assert_eq!(web["restarts"]["auto"], 1, "{web:#}");
    assert_eq!(web["restarts"]["external"], 0, "{web:#}");
    assert_eq!(starts(&place, NAME), 2);
    assert_eq!(host.property(UNIT, "NRestarts"), "0");
}

#[test]
fn s12_s21_what_systemd_restarts_is_left_to_it_and_people_are_told() {
    let place = Place::new();
    configure(&place, &[]);
    // Slower than pmon would be.
    let (host, pid) = watched(
        &place,
        service(&place, NAME, "Restart=always\nRestartSec=2"),
    );
    let findings = host.status()["config_findings"].to_string();
    assert!(findings.contains("Restart=always"), "{findings}");
    host.kill(pid);
    wait::until("systemd has restarted it", LONG, || {
        (host.property(UNIT, "NRestarts") == "1").then_some(())
    });
    assert_ne!(host.up(NAME), pid);
    assert_eq!(starts(&place, NAME), 2);
    assert_untouched(&host);
}

#[test]
fn s21_what_systemd_has_given_up_is_started() {
    let place = Place::new();
    configure(&place, &[]);
    let unit = service(&place, NAME, "Restart=on-failure\nRestartSec=100ms");
    let unit = Unit {
        text: unit.text.replace(
            "StartLimitIntervalSec=0",
            "StartLimitIntervalSec=1h\nStartLimitBurst=2",
        ),
        ..unit
    };
    let (host, pid) = watched(&place, unit);
    host.kill(pid);
    wait::until("systemd has restarted it", LONG, || {
        (starts(&place, NAME) == 2).then_some(())
    });
    let pid = host.up(NAME);
    host.kill(pid);
    wait::until("pmon has started it", LONG, || {
        (starts(&place, NAME) == 3).then_some(())
    });
    host.up(NAME);
    let web = host.entity(NAME);
    assert_eq!(web["restarts"]["auto"], 1, "{web:#}");
    assert_eq!(starts(&place, NAME), 3);
}

#[test]
fn s12_a_unit_that_is_taken_over_is_restarted_by_pmon_alone_and_given_back() {
    let place = Place::new();
    configure(&place, &[("systemd", "\"take-over\"")]);
    let (host, pid) = watched(&place, service(&place, NAME, "Restart=always"));
    wait::until("it is taken over", LONG, || {
        (host.property(UNIT, "Restart") == "no").then_some(())
    });
    host.kill(pid);
    wait::until("it is started again", LONG, || {
        (starts(&place, NAME) == 2).then_some(())
    });
    host.up(NAME);
    let web = host.entity(NAME);
    assert_eq!(web["restarts"]["auto"], 1, "{web:#}");
    assert_eq!(host.property(UNIT, "NRestarts"), "0");
    assert_eq!(starts(&place, NAME), 2);

    host.systemctl(&["stop", "pmon.service"]);
    assert_eq!(host.property(UNIT, "Restart"), "always");
}

#[test]
fn s9_s11_a_start_that_takes_longer_than_its_window_is_not_ended() {
    let place = Place::new();
    configure(
        &place,
        &[("startuptime", "\"100ms\""), ("start_timeout", "\"500ms\"")],
    );
    let slow = place.path("slow");
    let condition = format!(
        "ExecStartPre=/bin/sh -c 'test ! -e {} || sleep 3'",
        slow.display()
    );
    let (host, pid) = watched(&place, service(&place, NAME, &condition));
    std::fs::write(slow, "").unwrap();
    host.kill(pid);
    wait::until("it is started again", LONG, || {
        (starts(&place, NAME) == 2).then_some(())
    });
    host.up(NAME);
    assert_eq!(starts(&place, NAME), 2);
    let web = host.entity(NAME);
    assert_eq!(web["restarts"]["auto"], 1, "{web:#}");
    let log = host.log();
    assert!(!log.contains("attempt failed"), "{log}");
    assert!(!log.contains("alarm raised"), "{log}");
}

#[test]
fn s8_nothing_is_started_while_the_host_goes_down() {
    let place = Place::new();
    configure(&place, &[]);
    // pmon ends after it, and has the time to see it gone.
    let (host, _) = watched(&place, service(&place, NAME, "ExecStopPost=/bin/sleep 1"));
    host.power_off();
    assert_eq!(starts(&place, NAME), 1);
    let log = host.log();
    assert!(log.contains("Died"), "{log}");
    assert!(!log.contains("Spawn"), "{log}");
}

#[test]
fn a_unit_that_is_being_started_is_waited_for() {
    let place = Place::new();
    configure(&place, &[]);
    let host = Host::boot(
        &place,
        &[service(&place, NAME, "ExecStartPre=/bin/sleep 2")],
    );
    host.systemctl(&["start", "--no-block", UNIT]);
    host.start_pmon();
    host.up(NAME);
    assert_eq!(starts(&place, NAME), 1);
    assert_untouched(&host);
}

#[test]
fn a_unit_needs_no_pidfile() {
    let place = Place::new();
    place.configure(&entity(NAME, &[("service", "\"web\"")]));
    let (host, pid) = watched(&place, service(&place, NAME, ""));
    host.kill(pid);
    wait::until("it is started again", LONG, || {
        (starts(&place, NAME) == 2).then_some(())
    });
    assert_ne!(host.up(NAME), pid);
    host.systemctl(&["restart", UNIT]);
    host.up(NAME);
    assert_eq!(starts(&place, NAME), 3);
    let web = host.entity(NAME);
    assert_eq!(web["restarts"]["auto"], 1, "{web:#}");
}

/// The pidfile is what the service's own tools and pmon go by. That systemd holds
/// another process for the main one is a finding of its own, told once.
#[test]
fn a_pidfile_that_names_another_than_the_main_process_is_followed_and_told_of() {
    let place = Place::new();
    configure(&place, &[]);
    // The main process starts a worker, which writes the pidfile.
    let worker = service(&place, NAME, "");
    let pidfile = place.path("web.pid");
    let pidfile = pidfile.display();
    let program = pmon_tests::binary::service();
    let program = program.display();
    let main = format!("ExecStart={program} --tag {NAME} --pidfile {pidfile}");
    assert!(worker.text.contains(&main), "{}", worker.text);
    let both = format!(
        "ExecStart=/bin/sh -c '{program} --tag {NAME} --pidfile {pidfile} & exec {program} --tag {NAME}.main'"
    );
    let unit = Unit {
        text: worker.text.replace(&main, &both),
        ..worker
    };
    let host = Host::boot(&place, &[unit]);
    host.systemctl(&["start", UNIT]);
    let named = wait::until("the worker has written the pidfile", LONG, || {
        let text = std::fs::read_to_string(place.path("web.pid")).ok()?;
        text.trim().parse::<u32>().ok()
    });
    let main: u32 = host.property(UNIT, "MainPID").parse().unwrap();
    assert_ne!(main, named);
    host.start_pmon();
    let web = host.entity_when(NAME, "it is up", |web| {
        web["state"] == "up" && web["registered"] == true
    });
    assert_eq!(web["pid"], named, "{web:#}");
    let found = || host.status()["audit"]["discrepancies"]["other_main_process"].clone();
    wait::until("it is counted", LONG, || (found() == 1).then_some(()));
    let history = host.ask(&["history"]).stdout;
    assert!(history.contains("other_main_process"), "{history}");
    assert!(
        history.contains(&format!("systemd holds {main}")),
        "{history}"
    );

    // Whoever restarts it by hand is not fought, and the new pair is a new finding.
    host.systemctl(&["restart", UNIT]);
    let web = host.entity_when(NAME, "the new one is up", |web| {
        web["state"] == "up" && web["registered"] == true && web["pid"] != named
    });
    let named = std::fs::read_to_string(place.path("web.pid")).unwrap();
    assert_eq!(web["pid"].to_string(), named.trim());
    assert_eq!(starts(&place, NAME), 2);
    assert_untouched(&host);
}

/// The gates ask systemd itself for the state of the host; no client is run for that.
#[test]
fn the_state_of_the_host_is_asked_over_the_bus() {
    let place = Place::new();
    let pidfile = format!("{:?}", place.path("web.pid").to_str().unwrap());
    place.configure(&format!(
        "[compat.starlingx]\nenabled = true\ncontroller = \"127.0.0.1\"\n\n{}",
        entity(NAME, &[("service", "\"web\""), ("pidfile", &pidfile)])
    ));
    let host = Host::boot(&place, &[service(&place, NAME, "")]);
    let prepare = "mkdir -p /etc/platform && \
         printf 'system_type=standard\\nsystem_mode=simplex\\nsubfunction=controller\\n\
         management_interface=lo\\n' >/etc/platform/platform.conf && \
         : >/etc/platform/.initial_config_complete && : >/var/run/.goenabled";
    assert!(
        host.exec(&["sh", "-c", prepare])
            .status()
            .unwrap()
            .success()
    );
    host.systemctl(&["start", UNIT]);
    host.start_pmon();
    let pid = host.up(NAME);
    // From now on there is no client.
    let away = "mv /usr/bin/systemctl /usr/bin/systemctl.away";
    assert!(host.exec(&["sh", "-c", away]).status().unwrap().success());
    host.kill(pid);
    let web = host.entity_when(NAME, "it is recovered", |web| {
        web["state"] == "up" && web["registered"] == true && web["pid"] != pid
    });
    assert_eq!(web["restarts"]["auto"], 1, "{web:#}");
    assert_eq!(starts(&place, NAME), 2);
}
