//! What a reload would change, and when it is refused.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{path::PathBuf, time::Duration};

use super::*;
use crate::{
    config::{ReadDirectory, finding::Finding},
    core::{
        dependency::Dependencies,
        entity::{Mode, Severity, StopPolicy},
        storm::StormPolicy,
    },
};

fn spec(name: &str, file: &str) -> EntitySpec {
    EntitySpec {
        start: StartMethod::Command(CommandSpec {
            argv: vec!["/bin/web".to_owned()],
            environment: [("TOKEN".to_owned(), "secret".to_owned())].into(),
            directory: PathBuf::from("/"),
            user: None,
            group: None,
            daemonizes: false,
            log: None,
            early: false,
            sockets: Vec::new(),
        }),
        origin: Origin::File {
            path: PathBuf::from(file),
            line: 1,
        },
        name: name.to_owned(),
        mode: Mode::Passive,
        severity: Severity::Major,
        restarts: 3,
        interval: Duration::from_secs(5),
        debounce: Duration::from_secs(20),
        startuptime: Duration::from_secs(5),
        start_timeout: Duration::from_secs(30),
        adoption_window: Duration::ZERO,
        pidfile: None,
        stop: StopPolicy::KillFirst,
        follow: false,
        quorum: false,
        subfunction: None,
        active: None,
        status: None,
        dependencies: Dependencies::default(),
        storm: StormPolicy::PMOND,
    }
}

fn read(entities: Vec<EntitySpec>, entries: Result<usize, String>) -> Loaded {
    Loaded {
        entities,
        directories: vec![ReadDirectory {
            path: PathBuf::from("/d"),
            entries,
        }],
        ..Loaded::default()
    }
}

#[test]
fn additions_changes_and_removals_are_told_key_by_key() {
    let old = [
        spec("web", "/d/web"),
        spec("db", "/d/db"),
        spec("log", "/d/log"),
    ];
    let mut web = spec("web", "/d/web");
    web.restarts = 5;
    if let StartMethod::Command(command) = &mut web.start {
        command.argv.push("-x".to_owned());
        command
            .environment
            .insert("TOKEN".to_owned(), "other secret".to_owned());
    }
    // Only further down in its file.
    let mut log = spec("log", "/d/log");
    log.origin = Origin::File {
        path: PathBuf::from("/d/log"),
        line: 9,
    };
    let loaded = read(vec![web, log, spec("mail", "/d/mail")], Ok(3));
    let planned = plan(old.iter(), &loaded, Wanted::ByChange).unwrap();
    assert_eq!(planned.added, ["mail"]);
    assert_eq!(planned.removed, ["db"]);
    let [Change { name, keys }] = &planned.changed[..] else {
        panic!("{planned:#?}");
    };
    assert_eq!(name, "web");
    let told: Vec<_> = keys
        .iter()
        .map(|key| (key.key, key.at_next_start))
        .collect();
    assert_eq!(
        told,
        [
            ("restarts", false),
            ("command", true),
            ("environment", true)
        ]
    );
    assert_eq!((keys[0].from.as_str(), keys[0].to.as_str()), ("3", "5"));
    assert!(!format!("{planned:?}").contains("secret"));
    // Nothing is nothing.
    let same = read(old.to_vec(), Ok(3));
    assert_eq!(plan(old.iter(), &same, Wanted::ByHand), Ok(Plan::default()));
}

#[test]
fn s16_a_directory_that_is_gone_takes_nothing_with_it() {
    let old = [spec("web", "/d/web"), spec("other", "/elsewhere/other")];
    let gone = || Err("No such file or directory".to_owned());
    let other = spec("other", "/elsewhere/other");
    for wanted in [Wanted::Plan, Wanted::ByHand, Wanted::ByChange] {
        let why = plan(old.iter(), &read(vec![other.clone()], gone()), wanted).unwrap_err();
        assert!(
            why.contains("`/d` cannot be read") && why.contains("`web`"),
            "{why}"
        );
    }
    // Empty: an operator may mean it, a change of files may be half of one.
    let empty = || read(vec![other.clone()], Ok(0));
    let why = plan(old.iter(), &empty(), Wanted::ByChange).unwrap_err();
    assert!(why.contains("`/d` is empty"), "{why}");
    let planned = plan(old.iter(), &empty(), Wanted::ByHand).unwrap();
    assert_eq!(planned.removed, ["web"]);
    // A directory of which nothing is in force may go.
    let without = [spec("other", "/elsewhere/other")];
    let planned = plan(
        without.iter(),
        &read(vec![other.clone()], gone()),
        Wanted::ByChange,
    );
    assert_eq!(planned, Ok(Plan::default()));
    // What `pmon register` made is nobody's to remove.
    let mut ad_hoc = spec("mine", "/d/x");
    ad_hoc.origin = Origin::Operator;
    let planned = plan([ad_hoc].iter(), &read(Vec::new(), Ok(0)), Wanted::ByChange);
    assert_eq!(planned, Ok(Plan::default()));
}

#[test]
fn a_file_that_is_broken_keeps_what_it_said_and_one_that_is_gone_does_not() {
    let old = [spec("web", "/d/web"), spec("db", "/d/db")];
    let mut loaded = read(vec![spec("db", "/d/db")], Ok(1));
    let planned = plan(old.iter(), &loaded, Wanted::ByChange).unwrap();
    assert_eq!(planned.removed, ["web"]);
    loaded.findings = vec![Finding::new(Level::Error, "/d/web", "no `pidfile`")];
    let why = plan(old.iter(), &loaded, Wanted::ByHand).unwrap_err();
    assert!(
        why.contains("/d/web") && why.contains("no `pidfile`"),
        "{why}"
    );
    // One that was never in force stands in nobody's way.
    loaded.findings = vec![Finding::new(Level::Error, "/d/broken", "no `pidfile`")];
    plan(old.iter(), &loaded, Wanted::ByHand).unwrap();
}
