//! Whatever stands where a pidfile should be: the daemon runs on, says what is
//! wrong, signals and opens nothing it should not, and monitors the others.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::Process,
    script::{entity, executable, foreground_entity, quoted},
    skip_if, wait,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// An entity that cannot be started, so that nothing replaces its pidfile.
fn watched(place: &Place, name: &str, pidfile: &Path) -> String {
    let script = place.path("never");
    executable(&script, "#!/bin/sh\nexit 1\n");
    let (script, pidfile) = (quoted(&script), quoted(pidfile));
    entity(
        name,
        &[
            ("script", &script),
            ("pidfile", &pidfile),
            ("interval", "\"200ms\""),
            ("startuptime", "\"50ms\""),
        ],
    )
}

#[test]
fn whatever_it_is() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    // Would be accepted if it were in a pidfile: root's, and started before.
    let bystander = place.name("bystander");
    let mut bystander = Command::new(binary::service())
        .args(["--tag", &bystander])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let pid = bystander.id();
    let target = place.path("target");
    fs::write(&target, format!("{pid}\n")).unwrap();
    let dir = |name: &str| place.path(name);

    let text = |name: &str, text: &[u8]| {
        fs::write(dir(name), text).unwrap();
        (name.to_owned(), dir(name))
    };
    symlink(&target, dir("symlink")).unwrap();
    symlink("/dev/watchdog", dir("device")).unwrap();
    mknodat(CWD, dir("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::create_dir(dir("directory")).unwrap();
    let cases = [
        (text("minus", b"-1\n"), "found `-1`"),
        (text("zero", b"0\n"), "found `0`"),
        (text("huge", b"99999999999\n"), "found `99999999999`"),
        (text("words", b"not a pid\n"), "found `not a pid`"),
        (text("nothing", b""), "is empty"),
        (text("bytes", &[0, 255, 254, 10]), "expected a pid"),
        (text("init", b"1\n"), "init"),
        (text("thread", b"2\n"), "kernel thread"),
        (("symlink".to_owned(), dir("symlink")), "symbolic link"),
        (("device".to_owned(), dir("device")), "symbolic link"),
        (("fifo".to_owned(), dir("fifo")), "is a FIFO"),
        (("directory".to_owned(), dir("directory")), "is a directory"),
    ];
    let web = place.name("web");
    let mut toml = "[daemon]\naudit_interval = \"1s\"\n".to_owned();
    toml += &foreground_entity(&web, &[]);
    for ((name, pidfile), _) in &cases {
        toml += &watched(&place, &place.name(name), pidfile);
    }
    place.configure(&toml);
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    // Long enough for attempts, sweeps and the removal of pidfiles.
    thread::sleep(Duration::from_millis(2500));

    for ((name, pidfile), expected) in &cases {
        let what = format!("{name}: `{expected}` is told");
        wait::until_seen(
            &what,
            LONG,
            || {
                let told =
                    events.matching(|event| event.entity.as_deref() == Some(&place.name(name)));
                let explained = daemon.json(&["explain", &place.name(name)]);
                format!("{explained} {told:?}")
            },
            |all| all.contains(expected),
        );
        let entity = daemon.entity(&place.name(name));
        println!("{name}: {}, {}", entity["state"], entity["problem"]);
        assert_eq!(entity["pid"], serde_json::Value::Null, "{entity:#}");
        assert_eq!(entity["registered"], false);
        assert_ne!(entity["state"], "up");
        // What is no regular file is nobody's pidfile, and stays.
        if ["symlink", "device", "fifo", "directory"].contains(&name.as_str()) {
            assert!(pidfile.symlink_metadata().is_ok(), "{name} was removed");
        }
        daemon.json(&["stop", &place.name(name), "--wait"]);
    }
    assert_eq!(events.matching(|event| event.kind == "signalled").len(), 0);
    assert!(
        bystander.try_wait().unwrap().is_none(),
        "the bystander was harmed"
    );
    assert_eq!(fs::read_to_string(&target).unwrap(), format!("{pid}\n"));

    let web_pid = daemon.up(&web);
    let mark = events.mark();
    Process::open(web_pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| event.is(&web, "recovered"));
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// A pidfile that anybody may write and that names somebody else's process.
#[test]
fn even_if_anybody_could_have_written_it() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let mut victim = Command::new(binary::bystander())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pidfile = place.path("web.pid");
    fs::write(&pidfile, format!("{}\n", victim.id())).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(&pidfile, mode).unwrap();
    let name = place.name("web");
    place.configure(&watched(&place, &name, &pidfile));
    let daemon = Daemon::start(&place);
    let entity = daemon.in_stage(&name, "unverifiable");
    println!("{}", entity["problem"]);
    assert_eq!(entity["state"], "unverifiable");
    assert!(
        entity["problem"]
            .as_str()
            .unwrap()
            .contains("everybody may write")
    );
    daemon.json(&["stop", &name, "--wait"]);
    assert!(victim.try_wait().unwrap().is_none());
    victim.kill().unwrap();
    victim.wait().unwrap();
}
