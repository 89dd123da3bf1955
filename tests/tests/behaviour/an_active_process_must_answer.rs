//! Active monitoring: a process that lives is asked as well, and one that does
//! not answer is ended and started anew. Spoken by two services, one that uses
//! `pmon-client` and one in C that was written from the description alone.

use std::{fs, net::UdpSocket, path::PathBuf, process::Command, time::Duration};

use pmon_tests::{
    active::{Answering, Language, free_port, no_compiler},
    daemon::{Daemon, LONG, pid_of},
    events::{Event, Events},
    place::Place,
    privilege,
    process::{self, Process},
    script::{self, foreground_entity},
    skip_if, wait,
};
use rustix::process::Signal;
use serde_json::Value;

/// Requests every 400 ms, failed after 5 misses. Two right answers make a
/// failure good (`period` in seconds, plus one).
const QUICK: &str = r#"period = "1s", timeout = "400ms", threshold = 5"#;

/// Silence after a start is forgiven up to 9 misses (180 s divided by `period`),
/// after an answer up to 3. 21 right answers make a failure good.
const FORGIVING: &str = r#"period = "20s", timeout = "250ms", threshold = 3"#;

/// As [`FORGIVING`], but patient with a busy machine as well.
const PATIENT: &str = r#"period = "20s", timeout = "250ms", threshold = 9"#;

/// A monitored service.
struct World {
    place: Place,
    service: Answering,
    daemon: Daemon,
    events: Events,
}

impl World {
    fn new(language: Language, active: &str, settings: &[(&str, &str)]) -> Self {
        Self::prepared(language, active, settings, |_| {})
    }

    /// With something done before the daemon starts.
    fn prepared(
        language: Language,
        active: &str,
        settings: &[(&str, &str)],
        prepare: impl FnOnce(&Answering),
    ) -> Self {
        let place = Place::new();
        let service = Answering::new(&place, language);
        place.configure(&service.configuration(active, settings));
        prepare(&service);
        let daemon = Daemon::start(&place);
        let events = daemon.events();
        Self {
            place,
            service,
            daemon,
            events,
        }
    }

    fn name(&self) -> &str {
        &self.service.name
    }

    fn heartbeat_when(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = self
            .daemon
            .entity_when(self.name(), what, LONG, |it| wanted(&it["heartbeat"]));
        seen["heartbeat"].clone()
    }

    /// It rests, healthy, and has answered.
    fn answering(&self) -> u32 {
        let pid = self.daemon.up(self.name());
        self.heartbeat_when("it has answered", |it| it["last_answer"].is_string());
        pid
    }

    fn next(&self, mark: usize, kind: &str) -> Event {
        self.events
            .after(mark, kind, LONG, |event| event.is(self.name(), kind))
    }

    /// It exists and is asked.
    fn asked(&self) -> u32 {
        let entity = self
            .daemon
            .entity_when(self.name(), "it exists", LONG, |entity| {
                entity["stage"] == "manage" && entity["registered"] == true
            });
        pid_of(&entity)
    }

    /// How often this was told since the mark. What the daemon itself starts at
    /// first was missing before, which is told as well.
    fn told_since(&self, mark: usize, kind: &str) -> usize {
        let events = self.events.all();
        let of = |event: &&Event| event.is(self.name(), kind);
        events.iter().skip(mark).filter(of).count()
    }

    fn starts(&self) -> u64 {
        number(&self.daemon.entity(self.name())["restarts"], "auto")
    }

    fn kinds_of(&self, pid: u32) -> Vec<String> {
        let of = self.events.matching(|event| event.pid == Some(pid));
        of.into_iter().map(|event| event.kind).collect()
    }
}

fn number(view: &Value, key: &str) -> u64 {
    view[key]
        .as_u64()
        .unwrap_or_else(|| panic!("`{key}`: {view:#}"))
}

fn stays_up_while_it_answers(language: Language) {
    skip_if!(privilege::no_bpf());
    skip_if!(no_compiler(language));
    let world = World::new(language, QUICK, &[]);
    let pid = world.answering();
    let view = world.heartbeat_when("five answers", |it| it["answers"].as_u64() >= Some(5));
    assert_eq!(view["fails_at"], 5, "{view:#}");
    assert!(number(&view, "sequence") >= 5, "{view:#}");
    assert_eq!(view["answers_wanted"], Value::Null, "{view:#}");
    for fault in ["wrong_sequence", "bad_magic", "not_waiting", "unsent"] {
        assert_eq!(view[fault], 0, "{view:#}");
    }
    assert_eq!(world.events.count(world.name(), "unanswered"), 0);
    assert_eq!(world.daemon.up(world.name()), pid);
    let entity = world.daemon.entity(world.name());
    assert_eq!(entity["problem"], Value::Null);

    let shown = world.daemon.ask(&["show", world.name()]).stdout;
    let port = world.service.port;
    assert!(shown.contains("missed in a row, fails with 5"), "{shown}");
    assert!(shown.contains(&format!("127.0.0.1:{port}")), "{shown}");
}

#[test]
fn in_rust_and_then_it_stays_up() {
    stays_up_while_it_answers(Language::Rust);
}

#[test]
fn in_c_and_then_it_stays_up() {
    stays_up_while_it_answers(Language::C);
}

/// Vector V12.
fn v12_is_replaced_when_it_stops_answering(language: Language) {
    skip_if!(privilege::no_bpf());
    skip_if!(no_compiler(language));
    let world = World::new(language, QUICK, &[]);
    let old = world.answering();
    let process = Process::open(old).unwrap();
    let starts = world.starts();
    let mark = world.events.mark();
    process.signal(Signal::STOP).unwrap();
    let failed = world.next(mark, "unanswered");
    assert!(failed.text.contains("missed 5 requests"), "{}", failed.text);
    assert_eq!(failed.pid, Some(old));
    assert!(process.ends_within(LONG), "SIGTERM alone can't end it");

    world.next(mark, "recovered");
    let new = world.answering();
    assert_ne!(new, old);
    assert_eq!(process::instances(world.name()), [new]);
    // The order of every kill; and its end was no death but ours.
    let kinds = world.kinds_of(old);
    let at = |kind: &str| {
        let place = kinds.iter().position(|found| found == kind);
        place.unwrap_or_else(|| panic!("no `{kind}`: {kinds:?}"))
    };
    assert!(at("unanswered") < at("unregistered"), "{kinds:?}");
    assert!(at("unregistered") < at("signalled"), "{kinds:?}");
    assert!(!kinds.iter().any(|kind| kind == "died"), "{kinds:?}");
    let kinds = world.kinds_of(new);
    let at = |kind: &str| kinds.iter().position(|found| found == kind);
    assert!(at("awaiting_answers") < at("recovered"), "{kinds:?}");
    assert!(at("awaiting_answers").is_some(), "{kinds:?}");

    let entity = world.daemon.entity(world.name());
    assert_eq!(world.starts(), starts + 1, "{entity:#}");
    assert_eq!(entity["alarm"], Value::Null);
    assert_eq!(world.told_since(mark, "first_failure"), 1);
    assert_eq!(world.told_since(mark, "alarm_raised"), 0);
    let last = &entity["last_death"];
    assert_eq!(last["cause"], "heartbeat", "{entity:#}");
    assert_eq!(last["pid"], old);
    assert!(last["recovered_at"].is_string(), "{last:#}");
    let history = world.daemon.json(&["history", world.name()]);
    let incident = &history["incidents"][0];
    assert_eq!(incident["result"], "recovered", "{incident:#}");
    assert_eq!(last["incident"], incident["incident"]);
    let death = &incident["death"];
    assert_eq!(death["cause"], "heartbeat", "{incident:#}");
    assert_eq!(death["pid"], old);
    // Nobody saw when.
    assert_eq!(death["died_at"], Value::Null);
    assert!(death["recovered_at"].is_string(), "{incident:#}");
}

#[test]
fn v12_in_rust_or_it_is_replaced() {
    v12_is_replaced_when_it_stops_answering(Language::Rust);
}

#[test]
fn v12_in_c_or_it_is_replaced() {
    v12_is_replaced_when_it_stops_answering(Language::C);
}

/// Vectors V2 and V4 as far as they concern active mode, and the intended
/// behaviour of spec/pmond.md §4.4: a process that can be started and never
/// answers is not restarted for ever without an alarm.
fn failures_add_up(severity: &str, number_of_alarms: usize) {
    skip_if!(privilege::no_bpf());
    let world = World::prepared(
        Language::Rust,
        PATIENT,
        &[
            ("restarts", "2"),
            ("severity", &format!("{severity:?}")),
            ("stop", "\"kill-first\""),
        ],
        |service| service.fault(Some("silent")),
    );
    let told = |kind| world.events.count(world.name(), kind);
    wait::until("the alarm", LONG, || {
        (told("alarm_raised") + told("alarm_refreshed") >= number_of_alarms).then_some(())
    });
    let entity = world.daemon.entity(world.name());
    assert_eq!(entity["alarm"], severity, "{entity:#}");
    let story = world.events.matching(|event| {
        event.is(world.name(), "unanswered") || event.is(world.name(), "alarm_raised")
    });
    let kinds: Vec<&str> = story.iter().map(|event| event.kind.as_str()).collect();
    let passes = kinds.iter().position(|kind| *kind == "alarm_raised");
    // The first pass was for the process that was missing at first.
    assert_eq!(passes, Some(2), "the third pass raises it: {kinds:?}");
    assert_eq!(told("first_failure"), 1);
    assert_eq!(told("recovered"), 0, "to exist is not to recover");

    // It answers, at last; the alarm goes, and not before the answers.
    let mark = world.events.mark();
    world.service.fault(None);
    world.next(mark, "alarm_cleared");
    let entity = world
        .daemon
        .entity_when(world.name(), "healthy", LONG, |entity| {
            entity["state"] == "up" && entity["alarm"].is_null()
        });
    let heartbeat = &entity["heartbeat"];
    assert!(number(heartbeat, "answers") >= 21, "{heartbeat:#}");
    assert_eq!(told("alarm_raised"), 1);
    assert_eq!(told("alarm_cleared"), 1);
}

#[test]
fn v2_and_its_failures_add_up_to_an_alarm() {
    failures_add_up("major", 1);
}

#[test]
fn v4_and_a_critical_alarm_is_told_again_at_every_threshold() {
    failures_add_up("critical", 2);
}

/// A fault of the answers, and how it is counted; in the end it is a failure.
fn a_fault_is_a_miss(language: Language, word: &str, count: impl Fn(&Value) -> u64) {
    skip_if!(privilege::no_bpf());
    skip_if!(no_compiler(language));
    let world = World::new(language, QUICK, &[]);
    let old = world.answering();
    let mark = world.events.mark();
    world.service.fault(Some(word));
    world.heartbeat_when("it is counted", |it| count(it) >= 2);
    let failed = world.next(mark, "unanswered");
    assert_eq!(failed.pid, Some(old));
    let before = world.daemon.ask(&["show", world.name()]).stdout;
    assert!(before.contains("faults"), "{before}");
    world.service.fault(None);
    world.next(mark, "recovered");
    let new = world.answering();
    assert_ne!(new, old);
    assert_eq!(process::instances(world.name()), [new]);
}

#[test]
fn with_the_right_magic() {
    a_fault_is_a_miss(Language::Rust, "magic", |it| number(it, "bad_magic"));
}

#[test]
fn in_c_with_the_right_magic() {
    a_fault_is_a_miss(Language::C, "magic", |it| number(it, "bad_magic"));
}

#[test]
fn with_the_right_sequence() {
    a_fault_is_a_miss(Language::Rust, "sequence", |it| {
        number(it, "wrong_sequence")
    });
}

#[test]
fn in_c_with_the_right_sequence() {
    a_fault_is_a_miss(Language::C, "sequence", |it| number(it, "wrong_sequence"));
}

#[test]
fn in_its_own_name() {
    a_fault_is_a_miss(Language::Rust, "process", |it| {
        number(&it["strays"], "wrong_name")
    });
}

#[test]
fn in_c_in_its_own_name() {
    a_fault_is_a_miss(Language::C, "process", |it| {
        number(&it["strays"], "wrong_name")
    });
}

/// Vector V13: three times as many misses as after an answer.
#[test]
fn v13_but_after_a_start_it_may_take_longer() {
    skip_if!(privilege::no_bpf());
    let world = World::prepared(Language::Rust, FORGIVING, &[], |service| {
        service.fault(Some("silent"));
    });
    let view = world.heartbeat_when("it is asked", |it| it["requests"].as_u64() >= Some(1));
    assert_eq!(view["fails_at"], 9, "{view:#}");
    let failed = world.next(0, "unanswered");
    assert!(failed.text.contains("missed 9 requests"), "{}", failed.text);
    world.service.fault(None);
    world.next(0, "recovered");
    let view = world.heartbeat_when("it has answered", |it| it["last_answer"].is_string());
    assert_eq!(view["fails_at"], 3, "{view:#}");
}

/// Vector V1.
#[test]
fn v1_also_after_a_crash_before_it_counts_as_recovered() {
    skip_if!(privilege::no_bpf());
    let world = World::new(Language::Rust, QUICK, &[]);
    let old = world.answering();
    let starts = world.starts();
    let mark = world.events.mark();
    Process::open(old).unwrap().kill();
    let awaiting = world.next(mark, "awaiting_answers");
    let recovered = world.next(mark, "recovered");
    assert!(awaiting.seq < recovered.seq);
    assert_eq!(awaiting.pid, recovered.pid);
    assert!(awaiting.text.contains("answer 2 requests"), "{awaiting:?}");
    let new = world.answering();
    assert_ne!(new, old);
    assert_eq!(world.told_since(mark, "alarm_raised"), 0);
    assert_eq!(world.starts(), starts + 1);
}

/// Vector V8.
#[test]
fn v8_and_its_successor_after_an_operators_restart() {
    skip_if!(privilege::no_bpf());
    let world = World::new(Language::Rust, QUICK, &[]);
    let old = world.answering();
    world.heartbeat_when("three requests", |it| it["sequence"].as_u64() >= Some(3));
    let (starts, mark) = (world.starts(), world.events.mark());
    world.daemon.json(&["restart", world.name(), "--wait"]);
    let new = world.answering();
    assert_ne!(new, old);
    for kind in ["first_failure", "alarm_raised", "unanswered", "died"] {
        assert_eq!(world.told_since(mark, kind), 0, "{kind}");
    }
    let entity = world.daemon.entity(world.name());
    assert_eq!(entity["restarts"]["operator"], 1);
    assert_eq!(world.starts(), starts);
    // Sequence numbers begin anew with every process.
    let heartbeat = &entity["heartbeat"];
    assert!(number(heartbeat, "sequence") < number(heartbeat, "requests"));
}

/// Without a recovery it is not ended either: it is the best there is.
#[test]
fn or_is_told_of_and_left_alone_without_restarts() {
    skip_if!(privilege::no_bpf());
    let world = World::new(Language::Rust, QUICK, &[("restarts", "0")]);
    world.daemon.in_stage(world.name(), "ignore");
    world.daemon.json(&["start", world.name()]);
    let pid = world.answering();
    let mark = world.events.mark();
    world.service.fault(Some("silent"));
    world.next(mark, "alarm_raised");
    let entity = world.daemon.entity(world.name());
    assert_eq!(entity["state"], "failed", "{entity:#}");
    assert_eq!(entity["pid"], pid);
    assert_eq!(entity["alarm"], "major");
    world.service.fault(None);
    world.next(mark, "alarm_cleared");
    assert_eq!(world.answering(), pid, "still the same process");
    assert_eq!(world.told_since(mark, "signalled"), 0);
    assert_eq!(process::instances(world.name()), [pid]);
}

/// What goes over the wire, byte for byte, seen by a test that is the service's
/// end of the conversation.
#[test]
fn in_the_format_of_pmond() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("hbsClient");
    let service = UdpSocket::bind("127.0.0.1:0").unwrap();
    service
        .set_read_timeout(Some(LONG * wait::patience()))
        .unwrap();
    let port = service.local_addr().unwrap().port();
    let reply_port = free_port();
    let active = format!("{{ port = {port}, {PATIENT} }}");
    place.configure(&format!(
        "[daemon]\nauto_reload = false\nactive_reply_port = {reply_port}\n\n{}",
        foreground_entity(&name, &[("mode", "\"active\""), ("active", &active)])
    ));
    let daemon = Daemon::start(&place);
    let mut buffer = [0; 200];
    for sequence in 1..=3 {
        let length = service.recv(&mut buffer).unwrap();
        let request = String::from_utf8(buffer[..length].to_vec()).unwrap();
        assert_eq!(request, format!("{name} 12345678 {sequence}"));
        let answer = format!("{name} edcba987 {sequence}");
        let to = ("127.0.0.1", reply_port);
        service.send_to(answer.as_bytes(), to).unwrap();
        // A second answer to the same request is not waited for.
        service.send_to(answer.as_bytes(), to).unwrap();
        service.send_to(b"not an answer", to).unwrap();
    }
    let entity = daemon.entity_when(&name, "it is counted", LONG, |entity| {
        let heartbeat = &entity["heartbeat"];
        heartbeat["answers"] == 3
            && heartbeat["not_waiting"].as_u64() >= Some(2)
            && heartbeat["strays"]["malformed"].as_u64() >= Some(2)
    });
    assert_eq!(entity["heartbeat"]["wrong_sequence"], 0, "{entity:#}");
}

#[test]
fn but_not_while_somebody_else_has_the_port_of_the_answers() {
    skip_if!(privilege::no_bpf());
    let mut taken = None;
    let world = World::prepared(Language::Rust, QUICK, &[], |service| {
        taken = Some(UdpSocket::bind(("127.0.0.1", service.reply_port)).unwrap());
    });
    let pid = world.asked();
    let suspended = |status: &Value| {
        let degraded = status["degraded"].as_array().unwrap().iter();
        let mut texts = degraded.filter_map(|text| text.as_str());
        texts.any(|text| text.contains("are not asked") && text.contains("active_reply_port"))
    };
    wait::until_seen(
        "the condition has a name",
        LONG,
        || world.daemon.status(),
        suspended,
    );
    let view = world.daemon.entity(world.name())["heartbeat"].clone();
    assert_eq!((number(&view, "requests"), number(&view, "missed")), (0, 0));
    drop(taken);
    assert_eq!(world.answering(), pid);
    wait::until_seen(
        "the condition is over",
        LONG,
        || world.daemon.status(),
        |status| !suspended(status),
    );
    assert_eq!(world.events.count(world.name(), "unanswered"), 0);
}

/// A monitor that did not run has no business counting misses.
#[test]
fn but_a_daemon_that_stood_still_holds_nothing_against_it() {
    skip_if!(privilege::no_bpf());
    let world = World::new(Language::Rust, QUICK, &[]);
    let pid = world.answering();
    let daemon = Process::open(world.daemon.pid()).unwrap();
    daemon.signal(Signal::STOP).unwrap();
    // Longer than the five windows that would be a failure.
    std::thread::sleep(Duration::from_secs(4));
    daemon.signal(Signal::CONT).unwrap();
    let before = number(&world.daemon.entity(world.name())["heartbeat"], "answers");
    world.heartbeat_when("it goes on", |it| number(it, "answers") > before + 2);
    assert_eq!(world.daemon.up(world.name()), pid);
    assert_eq!(world.events.count(world.name(), "unanswered"), 0);
}

#[test]
fn but_only_once_the_host_is_initialised_if_it_is_so_configured() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let service = Answering::new(&place, Language::Rust);
    let flag = place.path("goenabled");
    let active = format!("{PATIENT}, full_init_required = true");
    let configuration = service.configuration(&active, &[]).replacen(
        "[daemon]\n",
        &format!("[daemon]\ninitialised_file = {flag:?}\n"),
        1,
    );
    place.configure(&configuration);
    service.fault(Some("silent"));
    let daemon = Daemon::start(&place);
    let more_than_nine = |entity: &Value| entity["heartbeat"]["requests"].as_u64() > Some(12);
    let entity = daemon.entity_when(&service.name, "it is asked", LONG, more_than_nine);
    assert_eq!(entity["heartbeat"]["missed"], 0, "{entity:#}");
    assert_eq!(entity["stage"], "manage");
    fs::write(&flag, "").unwrap();
    let events = daemon.events();
    events.after(0, "a failure", LONG, |event| {
        event.is(&service.name, "unanswered")
    });
}

/// An operator's `stop` ends the asking; and a reload changes its figures without
/// touching the process.
#[test]
fn until_it_is_stopped_and_as_the_configuration_says() {
    skip_if!(privilege::no_bpf());
    let world = World::new(Language::Rust, QUICK, &[]);
    let pid = world.answering();
    let changed = r#"period = "1s", timeout = "400ms", threshold = 7"#;
    let text = world.service.configuration(changed, &[]);
    world.place.configure(&text);
    let reloaded = world.daemon.json(&["reload"]);
    assert_eq!(reloaded["changed"][0], world.name(), "{reloaded:#}");
    world.heartbeat_when("the new figure", |it| it["fails_at"] == 7);
    assert_eq!(world.answering(), pid);

    world.daemon.json(&["stop", world.name(), "--wait"]);
    let view = world.daemon.entity(world.name())["heartbeat"].clone();
    assert_eq!(view["misses"], 0);
    world.daemon.json(&["start", world.name(), "--wait"]);
    let new = world.answering();
    assert_ne!(new, pid);
    assert_eq!(world.events.count(world.name(), "unanswered"), 0);
}

/// In the original's dialect, with an init script; and another daemon goes on
/// where the first one ended.
#[test]
fn as_a_pmon_d_file_says_also_to_the_next_daemon() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let service = Answering::new(&place, Language::Rust);
    let (script, pidfile) = init_script(&place, &service);
    place.configure(&format!(
        "[daemon]\nauto_reload = false\nactive_reply_port = {}\n[defaults]\nstop = \"kill-first\"\n",
        service.reply_port
    ));
    place.pmon_d_file(
        "web.conf",
        format!(
            "[process]\nprocess = {}\nscript = {}\npidfile = {}\nstyle = lsb\n\
             severity = major\nrestarts = 3\ninterval = 1\ndebounce = 1\nstartuptime = 1\n\
             mode = active\nport = {}\nperiod = 1\ntimeout = 1\nthreshold = 4\n",
            service.name,
            script.display(),
            pidfile.display(),
            service.port
        ),
    );
    let name = &service.name;
    let first = Daemon::start(&place);
    let pid = first.up(name);
    assert_eq!(first.entity(name)["mode"], "active");
    assert!(first.terminate().success());

    let second = Daemon::start(&place);
    let events = second.events();
    assert_eq!(second.up(name), pid);
    second.entity_when(name, "it answers", LONG, |entity| {
        entity["heartbeat"]["answers"].as_u64() >= Some(2)
    });
    assert_eq!(events.count(name, "unanswered"), 0);
    let process = Process::open(pid).unwrap();
    process.signal(Signal::STOP).unwrap();
    events.after(0, "a failure", LONG, |event| event.is(name, "unanswered"));
    assert!(process.ends_within(LONG));
    events.after(0, "recovered", LONG, |event| event.is(name, "recovered"));
    let new = second.up(name);
    assert_ne!(new, pid);
    assert_eq!(process::instances(name), [new]);
    let named = fs::read_to_string(&pidfile).unwrap();
    assert_eq!(named.trim(), new.to_string());
}

/// Who watches the same process passively sees it die, and learns why.
#[test]
fn and_others_learn_on_whose_behalf_it_was_ended() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let service = Answering::new(&place, Language::Rust);
    let (script, pidfile) = init_script(&place, &service);
    let started = Command::new(&script).arg("start").status().unwrap();
    assert!(started.success());
    let (script, pidfile) = (script::quoted(&script), script::quoted(&pidfile));
    let configuration = service.configuration(
        QUICK,
        &[
            ("script", &script),
            ("pidfile", &pidfile),
            ("stop", "\"kill-first\""),
            ("daemonizes", "true"),
        ],
    );
    let other = place.name("other");
    let passive = script::entity(&other, &[("pidfile", &pidfile), ("restarts", "0")]);
    let settings = configuration.split("[[entity]]").next().unwrap();
    place.configure(&format!("{settings}{passive}"));
    let daemon = Daemon::start(&place);
    // Who is there first has the kernel's entry, which holds the evidence.
    let pid = daemon.up(&other);
    place.configure(&(configuration + &passive));
    daemon.json(&["reload"]);
    daemon.entity_when(&service.name, "it answers", LONG, |entity| {
        entity["pid"] == pid && entity["heartbeat"]["last_answer"].is_string()
    });
    service.fault(Some("silent"));
    let dead = |entity: &Value| entity["last_death"]["pid"] == pid;
    let entity = daemon.entity_when(&other, "its death", LONG, dead);
    let sent = &entity["last_death"]["last_signal"];
    assert_eq!(sent["from"], "pmon", "{sent:#}");
    let why = format!("recovery of `{}`, which did not answer", service.name);
    assert_eq!(sent["why"], why, "{sent:#}");
}

/// An LSB init script that puts the service into the background, and its pidfile.
fn init_script(place: &Place, service: &Answering) -> (PathBuf, PathBuf) {
    let (script, pidfile) = (place.path("web.init"), place.path("web.pid"));
    let command = service.command().join("' '");
    let named = pidfile.display();
    let text = format!(
        "#!/bin/sh\n\
         case \"$1\" in\n\
         start|restart) setsid '{command}' </dev/null >/dev/null 2>&1 &\n\
         echo $! >'{named}' ;;\n\
         esac\n"
    );
    script::executable(&script, &text);
    (script, pidfile)
}
