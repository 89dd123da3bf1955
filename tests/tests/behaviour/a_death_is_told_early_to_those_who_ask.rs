//! Who asks for early events hears of a death from the kernel, before its memory
//! is released and before pmon calls it a fact; nobody else does, and nothing is
//! started because of it.

use pmon_tests::{
    daemon::{Daemon, LONG},
    events::Events,
    place::Place,
    privilege,
    process::Process,
    script::{entity, foreground},
    skip_if,
};

/// Takes the kernel tens of milliseconds to release.
const RESIDENT_MIB: &str = "256";

#[test]
fn and_to_nobody_else() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("large");
    let command = foreground(&name, &["--resident", RESIDENT_MIB]);
    // Long enough for all of it to be resident before the service counts as up.
    let settings = [("command", command.as_str()), ("startuptime", "\"1s\"")];
    place.configure(&entity(&name, &settings));
    let daemon = Daemon::start(&place);
    let early = daemon.events();
    let ordinary = Events::asked_with(&daemon, &[]);
    let pid = daemon.up(&name);
    let process = Process::open(pid).unwrap();
    let mark = early.mark();
    process.kill();
    let hint = early.after(mark, "an early event", LONG, |event| event.early);
    let released_already = !process.is_alive();
    assert!(hint.is(&name, "hint"), "{hint:?}");
    assert_eq!(hint.pid, Some(pid));
    assert!(hint.died_at.is_some(), "{hint:?}");
    assert!(hint.detect_latency_us.is_some(), "{hint:?}");
    assert!(hint.text.ends_with("not verified yet"), "{hint:?}");
    println!("{}; its memory was released: {released_already}", hint.text);

    let recovered = |event: &pmon_tests::events::Event| event.is(&name, "recovered");
    early.after(mark, "recovered", LONG, recovered);
    let told = early.matching(|event| event.entity.as_deref() == Some(&name));
    let place_of = |kind: &str| {
        let last = told.iter().rposition(|event| event.kind == kind);
        last.unwrap_or_else(|| panic!("no `{kind}` in {told:#?}"))
    };
    // The last of each: the first start was made without a death.
    assert!(place_of("hint") < place_of("died"), "{told:#?}");
    assert!(place_of("died") < place_of("spawned"), "{told:#?}");
    let died = &told[place_of("died")];
    assert!(!died.early);
    assert!(died.died_at.is_some(), "{died:?}");
    assert_eq!(told.iter().filter(|event| event.early).count(), 1);

    ordinary.after(0, "recovered", LONG, recovered);
    let all = ordinary.all();
    assert!(all.iter().all(|event| !event.early && event.kind != "hint"));
    let gaps = all.windows(2).filter(|two| two[0].seq + 1 != two[1].seq);
    assert_eq!(gaps.count(), 0, "nothing seems lost: {all:#?}");

    let recent = |arguments: &[&str]| daemon.json(arguments)["events"].clone();
    let hints = |events: &serde_json::Value| {
        let events = events.as_array().unwrap();
        events.iter().filter(|event| event["early"] == true).count()
    };
    assert_eq!(hints(&recent(&["events", "-n", "1000"])), 0);
    assert_eq!(hints(&recent(&["events", "-n", "1000", "--early"])), 1);
}
