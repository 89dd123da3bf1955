//! Receivers on their threads.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::mpsc;

use super::*;
use crate::{
    alarm::{SinkError, event::AlarmKind, tests::event},
    core::time::Time,
};

/// A receiver that passes on what it is told, and fails or hangs when told to.
struct Probe {
    name: &'static str,
    told: mpsc::Sender<(AlarmKind, String)>,
    /// Asked before each event, where there is one.
    gate: Option<mpsc::Receiver<Result<(), ()>>>,
    tick: Option<Time>,
}

impl AlarmSink for Probe {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    fn deliver(&mut self, event: &AlarmEvent) -> Result<(), SinkError> {
        if let Some(gate) = &self.gate
            && gate.recv().unwrap_or(Ok(())).is_err()
        {
            return Err(SinkError::Refused {
                reason: "refused".to_owned(),
            });
        }
        let name = event.entity.as_deref().unwrap_or("host").to_owned();
        self.told.send((event.kind, name)).unwrap();
        Ok(())
    }

    fn due(&self) -> Option<Time> {
        self.tick
    }

    fn tick(&mut self, _: Time) -> Result<(), SinkError> {
        self.tick = None;
        let tick = (AlarmKind::HostClear, "tick".to_owned());
        self.told.send(tick).unwrap();
        Ok(())
    }
}

const WAIT: Duration = Duration::from_secs(60);

struct Bench {
    dispatch: Dispatch,
    told: mpsc::Receiver<(AlarmKind, String)>,
    settled: mpsc::Receiver<Closed>,
}

fn bench(gates: Vec<Option<mpsc::Receiver<Result<(), ()>>>>, earlier: &[AlarmEvent]) -> Bench {
    let (tell, told) = mpsc::channel();
    let (settle, settled) = mpsc::channel();
    let sink = |gate| {
        Box::new(Probe {
            name: "the probe",
            told: tell.clone(),
            gate,
            tick: None,
        }) as Box<dyn AlarmSink>
    };
    let sinks = gates.into_iter().map(sink).collect();
    let dispatch = Dispatch::start(sinks, earlier, move |closed| {
        settle.send(closed).unwrap();
    });
    Bench {
        dispatch: dispatch.unwrap(),
        told,
        settled,
    }
}

impl Bench {
    fn tell(&self, events: &[AlarmEvent]) {
        let ticket = self.dispatch.submit(events.to_vec());
        self.dispatch.release(ticket);
    }

    fn next(&self) -> (AlarmKind, String) {
        self.told.recv_timeout(WAIT).unwrap()
    }
}

#[test]
fn nothing_is_told_before_it_is_on_record_and_then_in_order() {
    let bench = bench(vec![None], &[]);
    let first = bench.dispatch.submit(vec![event(AlarmKind::Raise, "a", 1)]);
    let second = bench.dispatch.submit(vec![event(AlarmKind::Raise, "b", 2)]);
    bench.tell(&[]);
    assert_eq!(bench.next().1, "a");
    assert_eq!(bench.next().1, "b");
    bench.dispatch.release(second);
    bench.dispatch.release(first);
    let third = bench.dispatch.submit(vec![event(AlarmKind::Clear, "a", 3)]);
    bench.dispatch.release(second);
    bench.dispatch.close(WAIT);
    bench.told.try_recv().unwrap_err();
    assert!(third > second);
}

#[test]
fn a_receiver_that_hangs_keeps_nobody_else_waiting_and_is_told_of() {
    let (open, gate) = mpsc::channel();
    let bench = bench(vec![Some(gate), None], &[]);
    bench.tell(&[event(AlarmKind::Raise, "web", 0)]);
    assert_eq!(bench.next(), (AlarmKind::Raise, "web".to_owned()));
    while bench.dispatch.status().is_empty() {
        thread::yield_now();
    }
    for n in 1..1000 {
        bench.tell(&[event(AlarmKind::Raise, "web", n)]);
        assert_eq!(bench.next(), (AlarmKind::Raise, "web".to_owned()));
    }
    let status = bench.dispatch.status();
    assert_eq!(status.len(), 1, "{status:?}");
    assert!(status[0].starts_with("the probe hangs"), "{status:?}");
    // It goes on: the event that it hung at, and what is so now.
    drop(open);
    assert_eq!(bench.next(), (AlarmKind::Raise, "web".to_owned()));
    assert_eq!(bench.next(), (AlarmKind::Refresh, "web".to_owned()));
    bench.dispatch.close(WAIT);
    assert_eq!(bench.dispatch.status(), [""; 0]);
}

#[test]
fn an_alarm_is_settled_when_the_last_receiver_knows_that_it_is_over() {
    let (open, gate) = mpsc::channel();
    let bench = bench(vec![Some(gate), None], &[event(AlarmKind::Raise, "web", 1)]);
    let cleared = event(AlarmKind::Clear, "web", 2);
    bench.tell(std::slice::from_ref(&cleared));
    assert_eq!(bench.next(), (AlarmKind::Clear, "web".to_owned()));
    bench.settled.try_recv().unwrap_err();
    open.send(Err(())).unwrap();
    // Refused once, told of, and tried again.
    while bench.dispatch.status().is_empty() {
        thread::yield_now();
    }
    let status = bench.dispatch.status();
    assert!(
        status[0].contains("refused") || status[0].contains("hangs"),
        "{status:?}"
    );
    bench.settled.try_recv().unwrap_err();
    open.send(Ok(())).unwrap();
    assert_eq!(bench.next(), (AlarmKind::Clear, "web".to_owned()));
    let closed = bench.settled.recv_timeout(WAIT).unwrap();
    assert_eq!((&*closed.entity, closed.at), ("web", cleared.at));
}

#[test]
fn without_receivers_every_alarm_is_settled_at_once() {
    let bench = bench(Vec::new(), &[]);
    bench.tell(&[
        event(AlarmKind::Raise, "web", 1),
        event(AlarmKind::Clear, "web", 2),
    ]);
    assert_eq!(&*bench.settled.recv_timeout(WAIT).unwrap().entity, "web");
}

#[test]
fn what_is_due_is_done_without_an_event() {
    let (tell, told) = mpsc::channel();
    let probe = Probe {
        name: "the probe",
        told: tell,
        gate: None,
        tick: Some(clock::now() + Duration::from_millis(20)),
    };
    let _dispatch = Dispatch::start(vec![Box::new(probe)], &[], |_| {}).unwrap();
    assert_eq!(told.recv_timeout(WAIT).unwrap().1, "tick");
}
