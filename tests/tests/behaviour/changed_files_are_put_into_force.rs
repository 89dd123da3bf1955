//! Configuration files that change are put into force by themselves, as a whole
//! or not at all; what goes missing is not taken for a wish.

use std::{fs, os::unix::fs::symlink, path::Path};

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, foreground_entity},
    skip_if, wait,
};
use serde_json::Value;

/// A pmon.d file of an entity that is only shown.
fn shown(name: &str, restarts: u32) -> String {
    format!(
        "[process]\nprocess = {name}\nscript = /bin/true\nstyle = lsb\npidfile = /run/{name}.pid\n\
         severity = minor\nrestarts = {restarts}\ninterval = 1\ndebounce = 1\nstartuptime = 1\n\
         mode = ignore\n"
    )
}

fn generation(daemon: &Daemon) -> u64 {
    daemon.status()["daemon"]["config_generation"]
        .as_u64()
        .unwrap()
}

fn restarts(daemon: &Daemon, name: &str) -> Value {
    let answer = daemon.ask(&["show", name, "-o", "json"]);
    match answer.code {
        Some(4) => Value::Null,
        _ => answer.json()["spec"]["restarts"].clone(),
    }
}

/// Waits until the entity is configured like this; null when it is not there.
fn configured(daemon: &Daemon, what: &str, name: &str, wanted: impl Into<Value>) {
    let wanted = wanted.into();
    wait::until_seen(
        what,
        LONG,
        || restarts(daemon, name),
        |found| *found == wanted,
    );
}

fn refused(daemon: &Daemon) -> Option<String> {
    let status = daemon.status();
    let mut degraded = status["degraded"].as_array().unwrap().iter();
    let found = degraded.find_map(|line| {
        let line = line.as_str()?;
        line.contains("the configuration on disk is refused")
            .then_some(line)
    });
    found.map(str::to_owned)
}

/// In one go: a file beside it, moved into its place.
fn moved_into_place(path: &Path, text: &str) {
    let beside = path.with_extension("new~");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[test]
fn however_they_change() {
    let place = Place::new();
    place.configure("[daemon]\nreload_settle = \"200ms\"\n");
    let daemon = Daemon::start(&place);
    let [web, db] = ["web", "db"].map(|stem| place.name(stem));
    place.pmon_d_file("web.conf", shown(&web, 1));
    configured(&daemon, "a new file", &web, 1);
    place.pmon_d_file("web.conf", shown(&web, 2));
    configured(&daemon, "another content", &web, 2);
    moved_into_place(&place.pmon_d().join("web.conf"), &shown(&web, 3));
    configured(&daemon, "another file in its place", &web, 3);

    // The target of a link, of which the original knows nothing.
    let target = place.path("else");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("db"), shown(&db, 1)).unwrap();
    symlink("../else/db", place.pmon_d().join("db.conf")).unwrap();
    configured(&daemon, "a link", &db, 1);
    fs::write(target.join("db"), shown(&db, 2)).unwrap();
    configured(&daemon, "the target of a link", &db, 2);

    // Another directory in the place of this one, with other files.
    let new = place.path("pmon.d.new");
    fs::create_dir(&new).unwrap();
    fs::write(new.join("web"), shown(&web, 5)).unwrap();
    fs::rename(place.pmon_d(), place.path("pmon.d.old")).unwrap();
    fs::rename(&new, place.pmon_d()).unwrap();
    configured(&daemon, "another directory", &web, 5);
    configured(&daemon, "what it has not", &db, Value::Null);
    place.pmon_d_file("db", shown(&db, 7));
    configured(&daemon, "a file in the other directory", &db, 7);

    // The native file, and a file less.
    fs::remove_file(place.pmon_d().join("db")).unwrap();
    configured(&daemon, "a removed file", &db, Value::Null);
    let entity = foreground_entity(&db, &[("mode", "\"ignore\""), ("restarts", "9")]);
    place.configure(&format!("[daemon]\nreload_settle = \"200ms\"\n{entity}"));
    configured(&daemon, "the native file", &db, 9);
    assert_eq!(refused(&daemon), None);
}

/// S16: an init script does `rm -rf /etc/pmon.d`, and services are not monitored
/// any more, in silence.
#[test]
fn and_s16_a_directory_that_is_gone_takes_nothing_with_it() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    place.configure("[daemon]\nreload_settle = \"200ms\"\n");
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    let name = &lsb.name;
    let text = lsb.pmon_d(1, 1, 1);
    place.pmon_d_file("web.conf", &text);
    let daemon = Daemon::start(&place);
    let first = daemon.up(name);
    fs::remove_dir_all(place.pmon_d()).unwrap();
    let told = wait::until("it is told", LONG, || refused(&daemon));
    assert!(
        told.contains("pmon.d") && told.contains(name.as_str()),
        "{told}"
    );
    assert!(
        daemon
            .log()
            .contains("the configuration on disk is refused")
    );
    // Also of an operator who does not know.
    let answer = daemon.ask(&["reload"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.stdout.contains("cannot be read"), "{answer:?}");
    // Empty, as when somebody is about to fill it.
    fs::create_dir(place.pmon_d()).unwrap();
    wait::until_seen(
        "it is told that it is empty",
        LONG,
        || refused(&daemon),
        |told| told.as_ref().is_some_and(|told| told.contains("is empty")),
    );
    // Monitored all the while.
    Process::open(first).unwrap().kill();
    daemon.entity_when(name, "it is recovered", LONG, |entity| {
        entity["state"] == "up" && entity["pid"] != first
    });
    place.pmon_d_file("web.conf", &text);
    wait::until("all is well", LONG, || {
        refused(&daemon).is_none().then_some(())
    });
    let second = daemon.up(name);

    // A file that is broken keeps what it said, one that is gone does not.
    place.pmon_d_file("web.conf", &text[..text.find("pidfile").unwrap()]);
    let told = wait::until("it is told", LONG, || refused(&daemon));
    assert!(told.contains("web.conf"), "{told}");
    assert_eq!(daemon.up(name), second);
    place.pmon_d_file("other.conf", shown(&place.name("other"), 1));
    fs::remove_file(place.pmon_d().join("web.conf")).unwrap();
    wait::until("it is monitored no more", LONG, || {
        (daemon.ask(&["list", name]).code == Some(4)).then_some(())
    });
    assert_eq!(process::instances(name), [second], "and left alone");
    assert_eq!(refused(&daemon), None);
}

/// There is no cap of 100 processes, and what changes at once is read once.
#[test]
fn a_thousand_at_once_in_one_go() {
    const FILES: usize = 1000;
    let place = Place::new();
    let settings = "[daemon]\nreload_settle = \"2s\"\n";
    place.configure(settings);
    let staging = place.path("staging");
    fs::create_dir(&staging).unwrap();
    let stage = |restarts| {
        for number in 0..FILES {
            let text = shown(&place.name(&format!("many{number}")), restarts);
            fs::write(staging.join(format!("many{number}")), text).unwrap();
        }
    };
    let move_all = || {
        for number in 0..FILES {
            let name = format!("many{number}");
            fs::rename(staging.join(&name), place.pmon_d().join(&name)).unwrap();
        }
    };
    stage(1);
    let daemon = Daemon::start(&place);
    assert_eq!(generation(&daemon), 1);
    move_all();
    let all_there = |restarts: u64| {
        wait::until("all are there", LONG, || {
            let listed = daemon.json(&["list"])["entities"].as_array().unwrap().len();
            let last = place.name(&format!("many{}", FILES - 1));
            (listed == FILES && self::restarts(&daemon, &last) == restarts).then_some(())
        });
    };
    all_there(1);
    assert_eq!(generation(&daemon), 2);
    stage(2);
    move_all();
    all_there(2);
    assert_eq!(generation(&daemon), 3);
    // All of them without one: not by accident, but if an operator says so.
    for number in 0..FILES {
        fs::remove_file(place.pmon_d().join(format!("many{number}"))).unwrap();
    }
    let told = wait::until("it is told", LONG, || refused(&daemon));
    assert!(told.contains("is empty"), "{told}");
    let planned = daemon.json(&["reload", "--plan"]);
    assert_eq!(planned["removed"].as_array().unwrap().len(), FILES);
    daemon.json(&["reload"]);
    assert_eq!(daemon.json(&["list"])["entities"], serde_json::json!([]));
    assert_eq!(refused(&daemon), None);
}

/// What is under way, counted, raised or wanted by an operator is not touched.
#[test]
fn and_only_what_changed_is_touched() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let names = ["held", "stopped", "failed", "counted"].map(|stem| place.name(stem));
    let services: Vec<_> = names
        .iter()
        .map(|name| Lsb::new(&place, name, &[]))
        .collect();
    let configure = |restarts: &str, more: &str| {
        let entities: Vec<_> = services
            .iter()
            .map(|lsb| {
                let is_failed = lsb.name == names[2];
                let restarts = if is_failed { "0" } else { restarts };
                let debounce = if restarts == "4" { "\"2s\"" } else { "\"1s\"" };
                lsb.entity(&[("restarts", restarts), ("debounce", debounce)])
            })
            .collect();
        let settings = "[daemon]\nauto_reload = false\n";
        place.configure(&[settings, more, &entities.concat()].concat());
    };
    configure("3", "");
    services[2].by_hand("start");
    let daemon = Daemon::start(&place);
    let [held, stopped, failed, counted] = &names;
    let pids = names.each_ref().map(|name| daemon.up(name));
    daemon.json(&["hold", held, "--reason", "because"]);
    daemon.json(&["stop", stopped, "--wait"]);
    Process::open(pids[2]).unwrap().kill();
    daemon.entity_when(failed, "it has failed", LONG, |entity| {
        entity["alarm"] == "major"
    });
    Process::open(pids[3]).unwrap().kill();
    daemon.entity_when(counted, "it is recovered", LONG, |entity| {
        entity["state"] == "up" && entity["deaths_1h"] == 1
    });
    let before = names.each_ref().map(|name| daemon.entity(name));

    configure("4", "max_pids = 9999\n");
    let planned = daemon.json(&["reload", "--plan"]);
    assert_eq!(
        (&planned["applied"], &planned["plan"]),
        (&false.into(), &true.into())
    );
    assert_eq!(
        planned["daemon_restart"],
        serde_json::json!(["daemon.max_pids"])
    );
    let keys = |view: &Value, name: &String| -> Vec<String> {
        let changes = view["changes"].as_array().unwrap();
        let change = changes
            .iter()
            .find(|change| change["name"] == **name)
            .unwrap();
        let keys = change["keys"].as_array().unwrap().iter();
        keys.map(|key| key["key"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(keys(&planned, counted), ["restarts", "debounce"]);
    assert_eq!(
        daemon.json(&["show", counted])["spec"]["restarts"],
        3,
        "only planned"
    );
    assert_eq!(generation(&daemon), 1);
    let text = daemon.ask(&["reload", "--plan"]);
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.stdout.contains("restarts: 3 -> 4"), "{text:?}");

    let reloaded = daemon.json(&["reload"]);
    assert_eq!(reloaded["changes"], planned["changes"]);
    assert_eq!(reloaded["changed"].as_array().unwrap().len(), 3);
    let after = names.each_ref().map(|name| daemon.entity(name));
    for (before, after) in before.into_iter().zip(after) {
        // Wall-clock times are reckoned anew in every answer.
        for key in [
            "state",
            "stage",
            "identity",
            "generation",
            "registered",
            "alarm",
            "problem",
            "restarts",
            "deaths_1h",
            "next_action",
        ] {
            assert_eq!(before[key], after[key], "{key}: {after:#}");
        }
        assert_eq!(before["held"]["reason"], after["held"]["reason"]);
        assert_eq!(before["last_death"]["pid"], after["last_death"]["pid"]);
    }
    // All or nothing.
    configure("5", "max_pids = \"many\"\n");
    for arguments in [&["reload", "--plan"][..], &["reload"]] {
        let answer = daemon.ask(arguments);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(answer.stdout.contains("refused: "), "{answer:?}");
    }
    assert_eq!(daemon.json(&["show", counted])["spec"]["restarts"], 4);
}

/// What is wrong with it is told when it is read, and it is read once at the start.
#[test]
fn and_what_has_not_changed_is_not_read_again() {
    let place = Place::new();
    let web = place.name("web");
    place.configure("[daemon]\nreload_settle = \"50ms\"\n");
    let odd = "unheard_of = 1\n";
    place.pmon_d_file("web.conf", format!("{}{odd}", shown(&web, 1)));
    let daemon = Daemon::start(&place);
    let told = || daemon.log().matches("unheard_of").count();
    assert_eq!(told(), 1, "{}", daemon.log());
    let first = generation(&daemon);
    // Far longer than files have to rest.
    std::thread::sleep(std::time::Duration::from_millis(1000));
    assert_eq!(generation(&daemon), first);
    assert_eq!(told(), 1, "{}", daemon.log());
    // And what does change then is noticed.
    place.pmon_d_file("web.conf", format!("{}{odd}", shown(&web, 2)));
    configured(&daemon, "another content", &web, 2);
}
