//! What a receiver is told, in order and after failures.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::alarm::tests::event;

/// Tells everything that is to be told now; kind and entity of each.
fn tell_all(queue: &mut Queue, now: Instant) -> Vec<(AlarmKind, String)> {
    let mut told = Vec::new();
    while let Some(event) = queue.next(now) {
        queue.heard(&event);
        told.push(word(&event));
    }
    told
}

fn word(event: &AlarmEvent) -> (AlarmKind, String) {
    (
        event.kind,
        event.entity.as_deref().unwrap_or("host").to_owned(),
    )
}

fn words(expected: &[(AlarmKind, &str)]) -> Vec<(AlarmKind, String)> {
    let owned = |(kind, entity): &(AlarmKind, &str)| (*kind, (*entity).to_owned());
    expected.iter().map(owned).collect()
}

fn fails(queue: &mut Queue, now: Instant) -> AlarmEvent {
    let event = queue.next(now).unwrap();
    queue.failed(event.clone(), "no".to_owned(), event.at, now);
    event
}

use AlarmKind::{Clear, FirstFailure, HostClear, HostDegraded, QuorumFailure, Raise, Refresh};

#[test]
fn events_are_told_in_their_order() {
    let mut queue = Queue::default();
    let now = Instant::now();
    let all = [FirstFailure, Raise, HostDegraded, Refresh, Clear, HostClear];
    for kind in all {
        queue.push(event(kind, "web", 1));
    }
    let told: Vec<_> = tell_all(&mut queue, now)
        .iter()
        .map(|told| told.0)
        .collect();
    assert_eq!(told, all);
    assert!(!queue.owes(Clear, "host=host-1.process=web"));
}

#[test]
fn an_alarms_end_is_reported_with_its_exact_name() {
    let mut queue = Queue::default();
    let now = Instant::now();
    for entity in ["sm", "sm-api"] {
        queue.push(event(Raise, entity, 1));
    }
    queue.push(event(Clear, "sm", 2));
    let mut closed = Vec::new();
    while let Some(event) = queue.next(now) {
        closed.extend(queue.heard(&event));
    }
    assert_eq!(
        closed,
        [Closed {
            entity: "sm".into(),
            kind: Clear,
            instance: "host=host-1.process=sm".to_owned(),
            at: Timestamp::constant(2, 0),
        }]
    );
    assert!(queue.owes(Clear, "host=host-1.process=sm-api"), "untouched");
}

#[test]
fn who_comes_back_is_told_everything_that_is_so() {
    let mut queue = Queue::default();
    let start = Instant::now();
    queue.push(event(Raise, "web", 1));
    queue.push(event(QuorumFailure, "web", 1));
    queue.push(event(Raise, "gone", 1));
    tell_all(&mut queue, start);
    queue.push(event(Raise, "db", 2));
    assert_eq!(word(&fails(&mut queue, start)), (Raise, "db".to_owned()));
    // Meanwhile.
    for (kind, entity) in [(Clear, "gone"), (Raise, "flash"), (Clear, "flash")] {
        queue.push(event(kind, entity, 3));
    }
    queue.push(event(FirstFailure, "ntp", 3));
    assert!(queue.next(start).is_none(), "not before it is due");
    let due = queue.retry_at().unwrap();
    assert_eq!(
        tell_all(&mut queue, due),
        words(&[
            (Clear, "gone"),
            // It may have been heard although it failed.
            (Refresh, "db"),
            (Refresh, "web"),
            (QuorumFailure, "web"),
            (FirstFailure, "ntp"),
        ])
    );
    assert!(queue.failing().is_none());
}

#[test]
fn what_may_have_been_heard_is_cleared() {
    let mut queue = Queue::default();
    let start = Instant::now();
    queue.push(event(Raise, "web", 1));
    fails(&mut queue, start);
    queue.push(event(Clear, "web", 2));
    assert!(queue.owes(Clear, "host=host-1.process=web"));
    let due = queue.retry_at().unwrap();
    assert_eq!(tell_all(&mut queue, due), words(&[(Clear, "web")]));
    assert!(!queue.owes(Clear, "host=host-1.process=web"));
}

#[test]
fn a_clear_that_failed_is_told_again_until_it_is_heard() {
    let mut queue = Queue::default();
    let mut now = Instant::now();
    queue.push(event(Raise, "web", 1));
    tell_all(&mut queue, now);
    queue.push(event(Clear, "web", 2));
    for _ in 0..10 {
        assert_eq!(fails(&mut queue, now).kind, Clear);
        let due = queue.retry_at().unwrap();
        assert!(due - now <= LAST_RETRY);
        now = due;
    }
    assert_eq!(tell_all(&mut queue, now), words(&[(Clear, "web")]));
    assert_eq!(tell_all(&mut queue, now), []);
}

#[test]
fn more_events_than_are_kept_become_the_state_that_they_led_to() {
    let mut queue = Queue::default();
    let now = Instant::now();
    for n in 0..2 * CAPACITY {
        let kind = if n % 2 == 0 { Raise } else { Clear };
        queue.push(event(kind, "web", 1));
    }
    queue.push(event(Raise, "db", 1));
    assert!(queue.waiting() <= CAPACITY);
    assert!(queue.overruns() > 0);
    // Nothing of `web` was ever told.
    assert_eq!(tell_all(&mut queue, now), words(&[(Raise, "db")]));
}

#[test]
fn what_an_earlier_daemon_has_told_is_closed_by_this_one() {
    let mut queue = Queue::of(&[event(Raise, "web", 1), event(Raise, "db", 1)]);
    let now = Instant::now();
    assert_eq!(tell_all(&mut queue, now), [], "nothing has changed");
    queue.push(event(Clear, "web", 2));
    fails(&mut queue, now);
    let due = queue.retry_at().unwrap();
    let told = words(&[(Clear, "web"), (Refresh, "db")]);
    assert_eq!(tell_all(&mut queue, due), told);
}
