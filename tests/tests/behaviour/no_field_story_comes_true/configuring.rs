//! Stories of services that nobody monitored, and nobody knew.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG, answer},
    place::Place,
    privilege,
    process::{self, Process},
    script::Lsb,
    skip_if, wait,
};

/// S15: ntp's unit and pidfile were called otherwise on the new distribution, and
/// it was not monitored; `pmon-restart docker` did nothing, because the process is
/// `dockerd`, and said 0.
#[test]
fn s15_a_service_is_found_by_either_name_and_a_wrong_name_is_told() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    // Unit (here: script) `docker`, process `dockerd`.
    let mut docker = Lsb::new(&place, &place.name("dockerd"), &[]);
    let alias = place.name("docker");
    fs::rename(&docker.script, place.path(&alias)).unwrap();
    docker.script = place.path(&alias);
    place.pmon_d_file("docker.conf", docker.pmon_d(1, 1, 1));
    // The script is not called like this any more.
    let mut gone = Lsb::new(&place, &place.name("ntp"), &[]);
    gone.script = place.path("ntp-of-another-distribution");
    place.pmon_d_file("ntp.conf", gone.pmon_d(1, 1, 1));
    // And the pidfile of this one is another.
    let mut elsewhere = Lsb::new(&place, &place.name("chrony"), &[]);
    elsewhere.pidfile = place.path("chronyd-of-another-distribution.pid");
    let text = elsewhere
        .pmon_d(1, 1, 1)
        .replace("restarts = 3", "restarts = 1");
    place.pmon_d_file("chrony.conf", text);

    let daemon = Daemon::start(&place);
    let first = daemon.up(&docker.name);
    let restart = place.path("pmon-restart");
    symlink(binary::pmon(), &restart).unwrap();
    let ask = |name: &str| {
        let mut command = Command::new(&restart);
        command.env("PMON_SOCKET", daemon.socket());
        answer(command.args([name, "--wait"]))
    };
    let answered = ask(&alias);
    assert_eq!(answered.code, Some(0), "{answered:?}");
    assert!(answered.stdout.starts_with(&docker.name), "{answered:?}");
    let second = daemon.up(&docker.name);
    assert_ne!(second, first);
    assert_eq!(process::instances(&docker.name), [second]);

    // What is not monitored is told of, and a command for it is no success.
    let file = place.pmon_d().join("ntp.conf");
    let status = daemon.status();
    let findings = status["config_findings"].as_array().unwrap();
    let named = |finding: &&serde_json::Value| {
        let text = finding.as_str().unwrap();
        text.starts_with(&*file.to_string_lossy()) && text.contains("another-distribution")
    };
    assert!(findings.iter().any(|it| named(&it)), "{findings:#?}");
    wait::until_seen(
        "the log tells",
        LONG,
        || daemon.log(),
        |log| log.contains("ntp-of-another-distribution"),
    );
    let check = answer(
        Command::new(binary::pmon())
            .args(["config", "check", "--config"])
            .arg(place.config())
            .arg("--pmon-d")
            .arg(place.pmon_d()),
    );
    assert_ne!(check.code, Some(0), "{check:?}");
    assert!(check.stdout.contains("ntp.conf") || check.stderr.contains("ntp.conf"));
    let refused = ask(&gone.name);
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(
        refused.stderr.contains("another-distribution"),
        "{refused:?}"
    );
    assert_eq!(ask("etcd-of-somebody-else").code, Some(4));

    // A pidfile that never appears is a failure, with an alarm and a reason.
    let entity = daemon.entity_when(&elsewhere.name, "an alarm", LONG, |entity| {
        entity["alarm"] == "major"
    });
    let problem = entity["problem"].to_string();
    assert!(problem.contains("another-distribution.pid"), "{problem}");
}

/// S17: a file that puppet wrote sometimes did not trigger the reload in time, so
/// it was generated elsewhere and moved into place.
#[test]
fn s17_a_file_is_in_force_by_itself_however_it_comes() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    // Everything at its default but the wait for a file to come to rest.
    place.configure("[daemon]\nreload_settle = \"300ms\"\n");
    let daemon = Daemon::start(&place);
    let [moved, written] = ["strongswan", "puppet"].map(|stem| {
        let lsb = Lsb::new(&place, &place.name(stem), &[]);
        (lsb.pmon_d(1, 1, 1), lsb)
    });
    let restarts = |lsb: &Lsb, wanted: u64| {
        wait::until("it is in force", LONG, || {
            let answer = daemon.ask(&["show", &lsb.name, "-o", "json"]);
            let known = answer.code == Some(0);
            (known && answer.json()["spec"]["restarts"] == wanted).then_some(())
        });
    };

    // Made elsewhere, moved into place; and again over what is there.
    let target = place.pmon_d().join("strongswan.conf");
    for (times, number) in [(3, "3"), (4, "4"), (5, "5")] {
        let elsewhere = place.path("strongswan.generated");
        let text = moved
            .0
            .replace("restarts = 3", &format!("restarts = {number}"));
        fs::write(&elsewhere, text).unwrap();
        fs::rename(&elsewhere, &target).unwrap();
        restarts(&moved.1, times);
    }
    let pid = daemon.up(&moved.1.name);
    Process::open(pid).unwrap().kill();
    daemon.entity_when(&moved.1.name, "a successor", LONG, |entity| {
        entity["state"] == "up" && entity["pid"] != pid
    });

    // Written where it is to be, in pieces, and its mode put right at last.
    let path = place.pmon_d().join("puppet.conf");
    let mut file = File::create(&path).unwrap();
    for piece in written.0.as_bytes().chunks(40) {
        file.write_all(piece).unwrap();
        file.flush().unwrap();
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    drop(file);
    restarts(&written.1, 3);
    let _pid = daemon.up(&written.1.name);
    assert_eq!(daemon.entity(&moved.1.name)["restarts"]["auto"], 2);
}
