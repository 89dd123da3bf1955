//! Configuration files that cannot be read, obeyed or understood: each is named
//! in `status`, in the log and by `config check`, and the entities of the other
//! files are monitored all the same.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    process::Stdio,
    time::Duration,
};

use pmon_tests::{
    daemon::{self, Answer, Daemon, LONG, answer},
    place::Place,
    privilege,
    process::Process,
    script::{Lsb, foreground_entity},
    skip_if, wait,
};

/// What `pmon config check` says of the place.
fn check(place: &Place) -> Answer {
    answer(
        std::process::Command::new(pmon_tests::binary::pmon())
            .args(["config", "check", "--config"])
            .arg(place.config())
            .arg("--pmon-d")
            .arg(place.pmon_d())
            .stdin(Stdio::null()),
    )
}

#[test]
fn in_the_directory_of_pmon_d() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let good = Lsb::new(&place, &place.name("good"), &[]);
    place.pmon_d_file("good", good.pmon_d(1, 1, 1));
    let also = Lsb::new(&place, &place.name("also"), &[]).pmon_d(1, 1, 1);

    let writable = place.pmon_d_file("writable.conf", &also);
    fs::set_permissions(&writable, fs::Permissions::from_mode(0o666)).unwrap();
    let owned = place.pmon_d_file("owned.conf", &also);
    chown(&owned, Some(65534), None).unwrap();
    place.pmon_d_file("truncated.conf", &also[..also.find("severity").unwrap()]);
    place.pmon_d_file(
        "binary.conf",
        [also.as_bytes(), &[0, 159, 146, 150]].concat(),
    );
    place.pmon_d_file("big.conf", also.clone() + &";\n".repeat(5 << 20));
    place.pmon_d_file("empty.conf", "");
    let latin = also.replace("process  = also", "process  = als\u{f6}");
    place.pmon_d_file(
        "latin.conf",
        latin.chars().map(|c| c as u8).collect::<Vec<_>>(),
    );
    fs::create_dir(place.pmon_d().join("directory.conf")).unwrap();
    symlink("nowhere", place.pmon_d().join("dangling.conf")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.pmon_d().join("fifo.conf"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let bad = [
        "writable.conf",
        "owned.conf",
        "truncated.conf",
        "binary.conf",
        "big.conf",
        "empty.conf",
        "directory.conf",
        "dangling.conf",
        "fifo.conf",
    ];

    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&good.name);
    let status = daemon.status();
    let findings = status["config_findings"].as_array().unwrap();
    for file in bad {
        let path = place.pmon_d().join(file);
        let about: Vec<_> = findings
            .iter()
            .filter_map(|finding| finding.as_str())
            .filter(|finding| finding.starts_with(&*path.to_string_lossy()))
            .collect();
        assert!(!about.is_empty(), "nothing about {file} in {findings:#?}");
        println!(
            "{}",
            about[0].replace(&*place.pmon_d().to_string_lossy(), "")
        );
        assert!(
            about.iter().all(|finding| !finding.contains('\n')),
            "{about:?}"
        );
        wait::until("the log names it", LONG, || {
            daemon.log().contains(file).then_some(())
        });
    }
    let checked = check(&place);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    for file in bad {
        assert!(checked.stdout.contains(file), "{file}: {}", checked.stdout);
    }
    Process::open(pid).unwrap().kill();
    events.after(0, "recovery", LONG, |event| {
        event.is(&good.name, "recovered") && event.pid != Some(pid)
    });
}

#[test]
fn in_the_native_file() {
    let place = Place::new();
    let good = foreground_entity(&place.name("good"), &[]);
    for (what, toml, position, expected) in [
        (
            "a misspelt key",
            good.replace("command", "comand"),
            true,
            "command",
        ),
        (
            "a missing unit",
            good.replace("\"100ms\"", "100"),
            true,
            "unit",
        ),
        ("half a file", good[..good.len() - 8].to_owned(), true, ""),
        ("no TOML at all", "\u{1}\u{2}[[[".to_owned(), true, ""),
        ("a NUL byte", format!("{good}\0"), false, "binary"),
        ("a name twice", format!("{good}{good}"), true, "good"),
        (
            "too large a file",
            good.clone() + &"#\n".repeat(1 << 20),
            false,
            "larger",
        ),
    ] {
        place.configure(&toml);
        let refused = answer(daemon::command(&place).stdin(Stdio::null()));
        assert_eq!(refused.code, Some(2), "{what}: {refused:?}");
        let path = place.config();
        let line = refused
            .stderr
            .lines()
            .find(|line| line.starts_with("pmon: "));
        let line = line.unwrap_or_else(|| panic!("{what}: {refused:?}"));
        println!(
            "{what}: {}",
            line.replace(&*path.to_string_lossy(), "pmon.toml")
        );
        let place_of = line.strip_prefix("pmon: ").unwrap();
        let rest = place_of.strip_prefix(&*path.to_string_lossy());
        let rest = rest.unwrap_or_else(|| panic!("{what}: the file is not named in {line}"));
        let numbered = rest
            .split(':')
            .nth(1)
            .is_some_and(|number| number.parse::<u32>().is_ok());
        assert_eq!(numbered, position, "{what}: {line}");
        assert!(line.contains(expected), "{what}: {line}");
        let checked = check(&place);
        assert_eq!(checked.code, Some(2), "{what}: {checked:?}");
        assert!(!place.socket().exists());
    }
    place.configure(&good);
    assert_eq!(check(&place).code, Some(0));
}

#[test]
fn as_a_native_file_that_must_not_be_obeyed() {
    skip_if!(privilege::no_root());
    let place = Place::new();
    place.configure(&foreground_entity(&place.name("good"), &[]));
    fs::set_permissions(place.config(), fs::Permissions::from_mode(0o666)).unwrap();
    let refused = answer(daemon::command(&place).stdin(Stdio::null()));
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("chmod go-w"), "{refused:?}");
    fs::remove_file(place.config()).unwrap();
    fs::create_dir(place.config()).unwrap();
    let refused = answer(daemon::command(&place).stdin(Stdio::null()));
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("directory"), "{refused:?}");
}

/// A bad file at a reload: nothing changes, and the old entities stay watched.
#[test]
fn at_a_reload_that_changes_nothing() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let (name, other) = (place.name("web"), place.name("other"));
    // By hand, at the moments that are told here.
    let settings = "[daemon]\nauto_reload = false\n";
    let good = settings.to_owned() + &foreground_entity(&name, &[]);
    place.configure(&good);
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&name);
    place.configure(&good.replace("command", "comand"));
    let refused = daemon.ask(&["reload", "-o", "json"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let view = refused.json();
    assert_eq!(view["applied"], false);
    assert_eq!(view["config_generation"], 1);
    assert!(view["findings"].to_string().contains("comand"), "{view:#}");
    assert_eq!(daemon.up(&name), pid);
    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&name, "recovered")
    });

    // A good one: what is new is started, what is old is left alone.
    let pid = daemon.up(&name);
    place.configure(&(good.clone() + &foreground_entity(&other, &[])));
    let view = daemon.json(&["reload"]);
    assert_eq!(view["applied"], true);
    assert_eq!(view["added"], serde_json::json!([other]));
    let added = daemon.up(&other);
    assert_eq!(daemon.up(&name), pid);
    // And what is removed is no longer watched, but left running.
    place.configure(&good);
    let view = daemon.json(&["reload"]);
    assert_eq!(view["removed"], serde_json::json!([other]));
    assert_eq!(daemon.ask(&["list", &other]).code, Some(4));
    let process = Process::open(added).unwrap();
    assert!(process.is_alive());
    process.kill();
    assert!(process.ends_within(LONG));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(events.count(&other, "died"), 0);
    assert!(pmon_tests::process::instances(&other).is_empty());
}

#[test]
fn by_the_published_schema() {
    let place = Place::new();
    let schema =
        answer(std::process::Command::new(pmon_tests::binary::pmon()).args(["config", "schema"]));
    assert_eq!(schema.code, Some(0), "{schema:?}");
    let schema = schema.json();
    assert!(schema["$schema"].is_string());
    let text = schema.to_string();
    for key in ["startuptime", "pidfile", "audit_interval", "environment"] {
        assert!(text.contains(key), "{key}");
    }
    assert_eq!(
        check(&place).code,
        Some(0),
        "an empty configuration is fine"
    );
}
