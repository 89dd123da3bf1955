//! The sources over hours of simulated time.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::core::death::SourceName::{Ebpf, Pidfd, ProcConnector};

const INTERVAL: Duration = Duration::from_secs(300);

fn at(seconds: u64) -> Time {
    Time::from_boot_ns(seconds * 1_000_000_000)
}

fn passed(names: &[SourceName]) -> Event {
    Event::Canary(names.iter().map(|name| (*name, Verdict::Passed)).collect())
}

/// The first missed it, the others did not.
fn missed(name: SourceName, others: &[SourceName]) -> Event {
    let Event::Canary(mut verdicts) = passed(others) else {
        unreachable!()
    };
    verdicts.insert(0, (name, Verdict::Missed("no word".to_owned())));
    Event::Canary(verdicts)
}

fn failed(source: SourceName, reason: &str, instead: SourceName) -> Action {
    Action::Tell(Notice::Failed {
        source,
        reason: reason.to_owned(),
        instead,
    })
}

fn recovered(source: SourceName) -> Action {
    Action::Tell(Notice::Recovered(source))
}

/// `auto`, with eBPF proven at 10 s.
fn with_ebpf() -> Selection {
    let mut machine = Selection::new(SourceChoice::Auto, INTERVAL, at(0));
    assert_eq!(machine.begin(), [Action::Start(Ebpf)]);
    assert_eq!(machine.step(Event::Started(Ebpf), at(1)), [Action::Hatch]);
    assert_eq!(
        machine.step(passed(&[Ebpf, Pidfd]), at(10)),
        [
            Action::Tell(Notice::Proven(Ebpf)),
            Action::Tell(Notice::Proven(Pidfd))
        ]
    );
    machine
}

/// eBPF missed its canary at 320 s and the connector has taken over at 322 s.
fn with_the_connector() -> Selection {
    let mut machine = with_ebpf();
    assert_eq!(machine.step(Event::Tick, at(310)), [Action::Hatch]);
    assert_eq!(
        machine.step(missed(Ebpf, &[Pidfd]), at(320)),
        [
            failed(Ebpf, "no word", ProcConnector),
            Action::Start(ProcConnector)
        ]
    );
    assert_eq!(
        machine.step(Event::Started(ProcConnector), at(321)),
        [Action::Hatch]
    );
    assert_eq!(
        machine.step(missed(Ebpf, &[ProcConnector, Pidfd]), at(322)),
        [Action::Tell(Notice::Proven(ProcConnector))]
    );
    machine
}

#[test]
fn a_canary_is_sent_once_in_an_interval_and_ends_where_it_began() {
    let mut machine = with_ebpf();
    assert_eq!(machine.source(Ebpf).state, State::Healthy);
    assert_eq!(machine.source(Ebpf).passed, Some(at(10)));
    assert_eq!(
        machine.source(ProcConnector).state,
        State::Off(Off::StandsBy)
    );
    assert!(machine.degraded().is_empty());
    for hour in 0..24 {
        let due = machine.due().unwrap();
        assert_eq!(machine.step(Event::Tick, due - Duration::from_secs(1)), []);
        assert_eq!(machine.step(Event::Tick, due), [Action::Hatch], "{hour}");
        assert_eq!(machine.due(), None);
        assert_eq!(machine.step(Event::Tick, due + INTERVAL), [], "one is out");
        let back = due + Duration::from_millis(2);
        assert_eq!(machine.step(passed(&[Ebpf, Pidfd]), back), []);
        assert_eq!(machine.due(), Some(back + INTERVAL));
    }
}

#[test]
fn a_silent_source_is_replaced_at_once_and_comes_back() {
    let mut machine = with_the_connector();
    assert_eq!(machine.healthy(), Some(ProcConnector));
    assert_eq!(
        machine.degraded(),
        ["deaths are reported by the proc connector: ebpf is silent: no word"]
    );
    // Each interval it is tried again; in vain is not told again.
    assert_eq!(
        machine.step(Event::Tick, at(622)),
        [Action::Start(Ebpf), Action::Hatch]
    );
    assert_eq!(
        machine.step(Event::NotStarted(Ebpf, "EPERM".to_owned()), at(623)),
        []
    );
    assert_eq!(machine.step(passed(&[ProcConnector, Pidfd]), at(624)), []);
    assert_eq!(
        machine.degraded(),
        ["deaths are reported by the proc connector: ebpf is off: EPERM"]
    );
    assert_eq!(
        machine.step(Event::Tick, at(924)),
        [Action::Start(Ebpf), Action::Hatch]
    );
    // The canary that was out when it started says nothing of it.
    assert_eq!(machine.step(Event::Started(Ebpf), at(925)), []);
    assert_eq!(
        machine.step(passed(&[ProcConnector, Pidfd]), at(926)),
        [Action::Hatch]
    );
    assert_eq!(machine.source(Ebpf).state, State::Unproven);
    assert_eq!(
        machine.step(passed(&[Ebpf, ProcConnector, Pidfd]), at(927)),
        [recovered(Ebpf), Action::Stop(ProcConnector)]
    );
    assert_eq!(machine.healthy(), Some(Ebpf));
    assert!(machine.degraded().is_empty());
    assert_eq!(
        machine.source(ProcConnector).state,
        State::Off(Off::StandsBy)
    );
}

#[test]
fn one_that_hears_its_canary_again_is_healthy_again() {
    let mut machine = with_ebpf();
    let _hatch = machine.step(Event::Tick, at(310));
    let _told = machine.step(missed(Ebpf, &[Pidfd]), at(320));
    // The connector was asked for and does not start.
    let no = Event::NotStarted(ProcConnector, "no CAP_NET_ADMIN".to_owned());
    assert_eq!(machine.step(no, at(321)), []);
    assert_eq!(
        machine.degraded(),
        [
            "deaths are reported by pidfds only: ebpf is silent: no word; \
          proc-connector is off: no CAP_NET_ADMIN"
        ]
    );
    assert_eq!(
        machine.step(Event::Tick, at(620)),
        [
            Action::Start(Ebpf),
            Action::Start(ProcConnector),
            Action::Hatch
        ]
    );
    assert_eq!(
        machine.step(passed(&[Ebpf, Pidfd]), at(621)),
        [recovered(Ebpf)]
    );
    assert!(machine.degraded().is_empty());
    // What was started beside it is stopped once it is there.
    let started = machine.step(Event::Started(ProcConnector), at(622));
    assert_eq!(started, [Action::Hatch, Action::Stop(ProcConnector)]);
}

#[test]
fn a_lost_source_is_replaced_without_waiting_for_a_canary() {
    let mut machine = with_the_connector();
    assert_eq!(
        machine.step(Event::Lost(ProcConnector, "ENOTCONN".to_owned()), at(400)),
        [failed(ProcConnector, "ENOTCONN", Pidfd)]
    );
    assert_eq!(machine.healthy(), None);
    assert_eq!(
        machine.degraded(),
        [
            "deaths are reported by pidfds only: ebpf is silent: no word; \
          proc-connector is lost: ENOTCONN"
        ]
    );
    assert_eq!(
        machine.step(Event::Tick, at(622)),
        [
            Action::Start(Ebpf),
            Action::Start(ProcConnector),
            Action::Hatch
        ]
    );
    // A verdict on what was lost meanwhile changes nothing.
    assert_eq!(machine.step(missed(ProcConnector, &[Pidfd]), at(623)), []);
    assert_eq!(
        machine.step(Event::Started(ProcConnector), at(624)),
        [Action::Hatch]
    );
    assert_eq!(
        machine.step(passed(&[ProcConnector, Pidfd]), at(625)),
        [recovered(ProcConnector)]
    );
    assert_eq!(machine.healthy(), Some(ProcConnector));
}

#[test]
fn what_cannot_be_started_at_first_is_tried_at_every_interval() {
    let mut machine = Selection::new(SourceChoice::Auto, INTERVAL, at(0));
    assert_eq!(machine.begin(), [Action::Start(Ebpf)]);
    assert_eq!(
        machine.step(Event::NotStarted(Ebpf, "no BTF".to_owned()), at(1)),
        [Action::Start(ProcConnector)]
    );
    assert_eq!(
        machine.step(Event::NotStarted(ProcConnector, "EPERM".to_owned()), at(1)),
        []
    );
    assert_eq!(machine.step(Event::Tick, at(1)), [Action::Hatch]);
    let _proven = machine.step(passed(&[Pidfd]), at(2));
    assert_eq!(
        machine.step(Event::Tick, at(302)),
        [
            Action::Start(Ebpf),
            Action::Start(ProcConnector),
            Action::Hatch
        ]
    );
    // A start that does not come to an end is not begun twice.
    let _proven = machine.step(passed(&[Pidfd]), at(303));
    assert_eq!(machine.step(Event::Tick, at(603)), [Action::Hatch]);
    assert_eq!(machine.step(Event::Started(Ebpf), at(604)), []);
    assert_eq!(machine.step(passed(&[Pidfd]), at(605)), [Action::Hatch]);
    assert_eq!(
        machine.step(passed(&[Ebpf, Pidfd]), at(606)),
        [recovered(Ebpf)]
    );
}

#[test]
fn the_configuration_decides_what_may_run() {
    let mut machine = Selection::new(SourceChoice::Ebpf, INTERVAL, at(0));
    assert_eq!(machine.begin(), [Action::Start(Ebpf)]);
    let no = Event::NotStarted(Ebpf, "no BTF".to_owned());
    assert_eq!(machine.step(no, at(1)), []);
    assert_eq!(
        machine.degraded(),
        ["deaths are reported by pidfds only: ebpf is off: no BTF"]
    );

    let mut machine = Selection::new(SourceChoice::ProcConnector, INTERVAL, at(0));
    assert_eq!(machine.begin(), [Action::Start(ProcConnector)]);
    let _hatch = machine.step(Event::Started(ProcConnector), at(1));
    let _proven = machine.step(passed(&[ProcConnector, Pidfd]), at(2));
    assert!(machine.degraded().is_empty(), "{:?}", machine.degraded());
    assert_eq!(machine.step(Event::Tick, at(302)), [Action::Hatch]);

    let mut machine = Selection::new(SourceChoice::Pidfd, INTERVAL, at(0));
    assert_eq!(machine.begin(), []);
    assert_eq!(machine.step(Event::Tick, at(0)), [Action::Hatch]);
    let _proven = machine.step(passed(&[Pidfd]), at(1));
    assert_eq!(
        machine.degraded(),
        ["deaths are reported by pidfds only: `source = pidfd`"]
    );
    assert_eq!(machine.step(Event::Tick, at(301)), [Action::Hatch]);
}

#[test]
fn without_a_canary_nothing_is_judged_and_it_is_said() {
    let mut machine = with_ebpf();
    let _hatch = machine.step(Event::Tick, at(310));
    assert_eq!(
        machine.step(Event::NoCanary("fork: EAGAIN".to_owned()), at(311)),
        []
    );
    assert_eq!(machine.source(Ebpf).state, State::Healthy);
    assert_eq!(machine.source(Ebpf).passed, Some(at(10)), "its age shows");
    assert_eq!(
        machine.degraded(),
        ["the sources cannot be tried: no canary: fork: EAGAIN"]
    );
    assert_eq!(machine.due(), Some(at(611)), "no haste");
    let _hatch = machine.step(Event::Tick, at(611));
    assert_eq!(machine.step(passed(&[Ebpf, Pidfd]), at(612)), []);
    assert!(machine.degraded().is_empty());
}

#[test]
fn an_unclear_verdict_changes_nothing() {
    let mut machine = with_ebpf();
    let _hatch = machine.step(Event::Tick, at(310));
    let unclear = Verdict::Unclear("the table is full".to_owned());
    let event = Event::Canary(vec![(Ebpf, unclear.clone()), (Pidfd, Verdict::Passed)]);
    assert_eq!(machine.step(event, at(311)), []);
    assert_eq!(machine.source(Ebpf).state, State::Healthy);
    assert_eq!(machine.source(Ebpf).verdict, Some(unclear));
}

#[test]
fn pidfds_that_fail_are_told_too() {
    let mut machine = with_ebpf();
    let _hatch = machine.step(Event::Tick, at(310));
    assert_eq!(
        machine.step(missed(Pidfd, &[Ebpf]), at(311)),
        [failed(Pidfd, "no word", Ebpf)]
    );
    assert_eq!(
        machine.degraded(),
        ["pidfds are not to be relied on: no word"]
    );
    let _hatch = machine.step(Event::Tick, at(611));
    assert_eq!(
        machine.step(passed(&[Ebpf, Pidfd]), at(612)),
        [recovered(Pidfd)]
    );
}
