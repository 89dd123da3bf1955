//! No file can be opened while processes die: that is told by name, no death is
//! lost, and all is well again when files can be opened.

use std::{os::unix::net::UnixStream, time::Duration};

use pmon_tests::{
    daemon::{Daemon, LONG},
    nursery::{self, Nursery},
    place::Place,
    privilege,
    process::Process,
    script::foreground_entity,
    skip_if, wait,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

fn find<'a>(status: &'a Value, name: &str) -> &'a Value {
    let entities = status["entities"].as_array().unwrap();
    entities.iter().find(|it| it["name"] == name).unwrap()
}

#[test]
fn and_says_what_it_lacks() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("fore");
    // Of the two others one has a pidfd.
    let settings = "[daemon]\npidfd_budget = 2\naudit_interval = \"1h\"\n";
    let times = [("startuptime", "\"100ms\""), ("debounce", "\"100ms\"")];
    place.configure(&format!("{settings}{}", foreground_entity(&name, &times)));
    let daemon = Daemon::start(&place);
    let first = daemon.up(&name);
    let mut nursery = Nursery::new(2);
    let names: Vec<_> = nursery
        .pids()
        .iter()
        .map(|pid| place.name(&pid.to_string()))
        .collect();
    nursery::register(daemon.socket(), nursery.pids(), |pid| {
        place.name(&pid.to_string())
    });
    for other in &names {
        let _pid = daemon.up(other);
    }
    // Nobody can connect later.
    let connection = UnixStream::connect(daemon.socket()).unwrap();
    assert_eq!(
        nursery::status_over(&connection)["degraded"],
        Value::Array(Vec::new())
    );

    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    let none = Rlimit {
        // Fewer than are open; with none poll(2) would refuse as well.
        current: Some(3),
        maximum: Some(4096),
    };
    let before = prlimit(pid, Resource::Nofile, none).unwrap();
    Process::open(first).unwrap().kill();
    nursery.kill();
    let status = wait::until("it says what it lacks", LONG, || {
        let status = nursery::status_over(&connection);
        let degraded = status["degraded"].as_array().unwrap();
        let says = |it: &Value| it.as_str().unwrap().starts_with("no files can be opened");
        let is_down = find(&status, &name)["state"] != "up";
        (is_down && degraded.iter().any(says)).then_some(status)
    });
    assert_eq!(
        find(&status, &name)["pid"],
        Value::Null,
        "nothing was started"
    );
    std::thread::sleep(Duration::from_secs(1));
    let there = Rlimit {
        current: before.current.min(Some(4096)).or(Some(4096)),
        maximum: Some(4096),
    };
    prlimit(pid, Resource::Nofile, there).unwrap();

    let status = wait::until("all is well", LONG, || {
        let status = nursery::status_over(&connection);
        let is_well = status["degraded"] == Value::Array(Vec::new())
            && find(&status, &name)["stage"] == "manage"
            && names
                .iter()
                .all(|other| find(&status, other)["last_death"].is_object());
        is_well.then_some(status)
    });
    assert_ne!(find(&status, &name)["pid"], first);
    assert_eq!(find(&status, &name)["last_death"]["pid"], first);
    for name in [&name].into_iter().chain(&names) {
        let entity = find(&status, name);
        assert_eq!(entity["deaths_24h"], 1, "{entity:#}");
        assert_eq!(entity["last_death"]["signal"], 9, "{entity:#}");
        assert_eq!(entity["last_death"]["detected_by"], "ebpf", "{entity:#}");
    }
    // Clients can come again.
    let _pid = daemon.up(&name);
}
