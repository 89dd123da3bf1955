//! The rules of active monitoring, without a recovery around them.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

const PROCESS: Identity = Identity {
    pid: 500,
    start_time: 1,
};

/// The shipped figures: `period` 5, `timeout` 4, `threshold` 5.
fn active() -> ActiveSpec {
    ActiveSpec {
        port: 2202,
        period: Duration::from_secs(5),
        timeout: Duration::from_secs(4),
        threshold: 5,
        full_init_required: false,
    }
}

const fn at(second: u64) -> Time {
    Time::from_boot_ns(second * 1_000_000_000)
}

/// What the process does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Process {
    Answers,
    /// With the sequence number less one.
    AnswersWrongly,
    IsSilent,
}

/// A pulse with its time and what came out of it.
struct World {
    active: ActiveSpec,
    pulse: Pulse,
    process: Process,
    initialised: bool,
    /// Seconds at which requests went out, with their sequence numbers.
    requests: Vec<(u64, u32)>,
    told: Vec<(u64, Outcome)>,
}

impl World {
    fn new(active: ActiveSpec, process: Process, after_failure: bool) -> Self {
        let mut world = Self {
            active,
            pulse: Pulse::default(),
            process,
            initialised: true,
            requests: Vec::new(),
            told: Vec::new(),
        };
        let first = world.pulse.begin(&world.active, PROCESS, after_failure);
        world.carry_out(first, at(0));
        world
    }

    fn run_until(&mut self, end: u64) {
        while let Some(due) = self.pulse.deadline().filter(|due| *due <= at(end)) {
            let outcomes = self.pulse.tick(due);
            self.carry_out(outcomes, due);
        }
    }

    fn carry_out(&mut self, outcomes: Vec<Outcome>, now: Time) {
        for outcome in outcomes {
            match outcome {
                Outcome::Request { round, sequence } => {
                    self.requests.push((now.since(at(0)).as_secs(), sequence));
                    self.happen(PulseEvent::Sent { round }, now);
                    let answer = match self.process {
                        Process::Answers => sequence,
                        Process::AnswersWrongly => sequence - 1,
                        Process::IsSilent => continue,
                    };
                    let sequence = answer;
                    self.happen(PulseEvent::Answered { round, sequence }, now);
                }
                Outcome::Collect { round } => {
                    let initialised = self.initialised;
                    self.happen(PulseEvent::Silent { round, initialised }, now);
                }
                told => self.told.push((now.since(at(0)).as_secs(), told)),
            }
        }
    }

    fn happen(&mut self, event: PulseEvent, now: Time) {
        let outcomes = self.pulse.step(&self.active, event, now);
        self.carry_out(outcomes, now);
    }

    fn failed_at(&self) -> Option<u64> {
        let failed = |(_, told): &&(u64, Outcome)| matches!(told, Outcome::Failed { .. });
        self.told.iter().find(failed).map(|(second, _)| *second)
    }
}

#[test]
fn the_cadence_is_timeout_and_sequences_begin_with_one() {
    let mut world = World::new(active(), Process::Answers, false);
    world.run_until(12);
    assert_eq!(world.requests, [(0, 1), (4, 2), (8, 3), (12, 4)]);
    assert_eq!(world.pulse.misses(), 0);
    assert_eq!(world.told, []);
    assert_eq!(world.pulse.last_answer(), Some(at(12)));
}

#[test]
fn v12_it_stops_answering_after_having_answered() {
    let mut world = World::new(active(), Process::Answers, false);
    world.run_until(99);
    world.process = Process::IsSilent;
    world.run_until(1000);
    // The request at 100 is the first without an answer.
    assert_eq!(world.failed_at(), Some(120), "after 5 times 4 s");
    let logged: Vec<u32> = world
        .told
        .iter()
        .filter_map(|(_, told)| match told {
            Outcome::Missed { misses, why: _ } => Some(*misses),
            _ => None,
        })
        .collect();
    assert_eq!(logged, [3, 4, 5], "logged from the third in a row");
    assert_eq!(world.pulse.deadline(), None, "it rests");
    assert_eq!(world.pulse.process(), None);
}

#[test]
fn v13_it_never_answers() {
    let mut world = World::new(active(), Process::IsSilent, false);
    assert_eq!(world.pulse.fails_at(&world.active), 36);
    world.run_until(143);
    assert_eq!(world.failed_at(), None);
    world.run_until(1000);
    assert_eq!(world.failed_at(), Some(144), "36 misses");
}

#[test]
fn a_long_period_forgives_less_than_its_threshold() {
    let long = ActiveSpec {
        period: Duration::from_secs(120),
        timeout: Duration::from_secs(60),
        ..active()
    };
    let mut world = World::new(long, Process::IsSilent, false);
    world.run_until(1000);
    assert_eq!(world.failed_at(), Some(300), "5 misses, not 1");
}

#[test]
fn sequences_stay_positive_as_signed_numbers() {
    let mut pulse = Pulse {
        sequence: LAST_SEQUENCE - 1,
        ..Pulse::default()
    };
    pulse.request();
    assert_eq!(pulse.sequence(), 0x7fff_ffff);
    pulse.request();
    assert_eq!(pulse.sequence(), 1);
}

#[test]
fn an_answer_ends_the_misses() {
    let mut world = World::new(active(), Process::Answers, false);
    world.run_until(3);
    for second in [19, 39, 59] {
        world.process = Process::IsSilent;
        world.run_until(second);
        assert_eq!(world.pulse.misses(), 3);
        world.process = Process::Answers;
        world.run_until(second + 1);
        assert_eq!(world.pulse.misses(), 0);
    }
    assert_eq!(world.failed_at(), None);
}

#[test]
fn a_wrong_sequence_is_a_miss_at_once_and_not_forgiven() {
    let mut world = World::new(active(), Process::AnswersWrongly, false);
    assert_eq!(world.pulse.misses(), 1);
    world.run_until(1000);
    assert_eq!(world.failed_at(), Some(16), "with the fifth answer");
    assert_eq!(world.pulse.counts().wrong_sequence, 5);
    assert_eq!(world.requests.len(), 5, "one miss for each request");
}

#[test]
fn after_a_failure_period_plus_one_right_answers_are_wanted() {
    let mut world = World::new(active(), Process::Answers, true);
    assert_eq!(world.pulse.wanted(), Some(5));
    world.run_until(19);
    assert_eq!(world.told, []);
    world.run_until(20);
    assert_eq!(world.told, [(20, Outcome::Good)], "the sixth answer");
    world.run_until(100);
    assert_eq!(world.told.len(), 1, "told once");
}

#[test]
fn wrong_answers_never_make_it_good() {
    let patient = ActiveSpec {
        threshold: 10,
        ..active()
    };
    let mut world = World::new(patient, Process::AnswersWrongly, true);
    world.run_until(1000);
    assert!(world.told.iter().all(|(_, told)| *told != Outcome::Good));
    assert_eq!(world.failed_at(), Some(36));
}

#[test]
fn silence_is_no_miss_before_the_host_is_initialised() {
    let waits = ActiveSpec {
        full_init_required: true,
        ..active()
    };
    let mut world = World::new(waits, Process::IsSilent, false);
    world.initialised = false;
    world.run_until(1000);
    assert_eq!(world.pulse.misses(), 0);
    world.initialised = true;
    world.run_until(2000);
    assert_eq!(world.failed_at(), Some(1000 + 36 * 4));

    let mut careless = World::new(active(), Process::IsSilent, false);
    careless.initialised = false;
    careless.run_until(1000);
    assert_eq!(careless.failed_at(), Some(144));
}

#[test]
fn what_cannot_be_sent_is_a_miss_and_followed_by_a_gap() {
    let active = active();
    let mut pulse = Pulse::default();
    let mut outcomes = pulse.begin(&active, PROCESS, false);
    let mut now = at(0);
    let mut rounds = 0;
    while let [Outcome::Request { round, .. }] = outcomes[..] {
        rounds += 1;
        let reason = "EPERM".to_owned();
        let told = pulse.step(&active, PulseEvent::NotSent { round, reason }, now);
        if told.contains(&Outcome::Failed { misses: 5 }) {
            break;
        }
        assert_eq!(pulse.deadline(), Some(now + active.period));
        now = now + active.period;
        outcomes = pulse.tick(now);
    }
    assert_eq!((rounds, now), (5, at(20)), "not forgiven");
    assert_eq!(pulse.counts().unsent, 5);
}

#[test]
fn without_word_of_the_request_nothing_is_missed() {
    let active = active();
    let mut pulse = Pulse::default();
    let outcomes = pulse.begin(&active, PROCESS, false);
    assert_eq!(pulse.deadline(), None);
    assert_eq!(pulse.tick(at(10_000)), []);
    // The port of the answers has become ours at last: the window opens now.
    let Outcome::Request { round, .. } = outcomes[0] else {
        unreachable!("the first outcome is a request");
    };
    assert_eq!(
        pulse.step(&active, PulseEvent::Sent { round }, at(10_000)),
        []
    );
    assert_eq!(pulse.deadline(), Some(at(10_004)));
    assert_eq!(pulse.tick(at(10_004)), [Outcome::Collect { round }]);
    // Nobody knows whether there was an answer: no miss, a new request.
    let again = pulse.step(&active, PulseEvent::Unheard { round }, at(10_004));
    assert!(matches!(again[..], [Outcome::Request { .. }]), "{again:?}");
    assert_eq!(pulse.misses(), 0);
}

#[test]
fn an_answer_that_was_only_not_read_in_time_counts() {
    let active = active();
    let mut pulse = Pulse::default();
    pulse.begin(&active, PROCESS, false);
    let round = 1;
    pulse.step(&active, PulseEvent::Sent { round }, at(0));
    assert_eq!(pulse.tick(at(4)), [Outcome::Collect { round }]);
    let sequence = 1;
    let heard = PulseEvent::Answered { round, sequence };
    assert_eq!(pulse.step(&active, heard, at(5)), []);
    let initialised = true;
    let silent = PulseEvent::Silent { round, initialised };
    assert_eq!(pulse.step(&active, silent, at(5)), []);
    assert_eq!(pulse.counts().misses, 0);
    assert!(matches!(pulse.tick(at(5))[..], [Outcome::Request { .. }]));
}

#[test]
fn what_belongs_to_an_earlier_process_is_disregarded() {
    let active = active();
    let mut pulse = Pulse::default();
    pulse.begin(&active, PROCESS, false);
    let round = 1;
    pulse.step(&active, PulseEvent::Sent { round }, at(0));
    pulse.rest();
    let successor = Identity {
        pid: 501,
        start_time: 2,
    };
    let first = pulse.begin(&active, successor, true);
    let new = 2;
    let sequence = 1;
    assert_eq!(
        first,
        [Outcome::Request {
            round: new,
            sequence
        }]
    );
    pulse.step(&active, PulseEvent::Sent { round: new }, at(1));
    for late in [
        PulseEvent::Answered { round, sequence },
        PulseEvent::Silent {
            round,
            initialised: true,
        },
        PulseEvent::Unheard { round },
        PulseEvent::Sent { round },
    ] {
        assert_eq!(pulse.step(&active, late, at(2)), []);
    }
    assert_eq!(pulse.counts().answers, 0);
    assert_eq!(pulse.deadline(), Some(at(5)));
    let heard = PulseEvent::Answered {
        round: new,
        sequence,
    };
    pulse.step(&active, heard.clone(), at(2));
    assert_eq!(pulse.counts().answers, 1);
    // A second answer in the same window is of no account.
    pulse.step(&active, heard, at(3));
    assert_eq!(pulse.counts().answers, 1);
    assert_eq!(pulse.wanted().unwrap(), 5);
}

fn anything(round: u64) -> impl Strategy<Value = Option<PulseEvent>> {
    let round = round.saturating_sub(1)..=round + 1;
    (0..7_u8, round, 0..5_u32).prop_map(|(kind, round, sequence)| match kind {
        0 => Some(PulseEvent::Sent { round }),
        1 => Some(PulseEvent::NotSent {
            round,
            reason: "EPERM".to_owned(),
        }),
        2 => Some(PulseEvent::Answered { round, sequence }),
        3 => Some(PulseEvent::Silent {
            round,
            initialised: sequence > 0,
        }),
        4 => Some(PulseEvent::Unheard { round }),
        _ => None,
    })
}

proptest! {
    /// Whatever is told, in whatever order: misses never pass the threshold in
    /// force, a failure ends the asking, and otherwise something is always due or
    /// waited for.
    #[test]
    fn no_order_of_events_breaks_it(
        threshold in 1..6_u32,
        period in 1..121_u64,
        full_init_required: bool,
        after_failure: bool,
        events in prop::collection::vec((anything(3), 0..200_u64), 0..200),
    ) {
        let active = ActiveSpec {
            period: Duration::from_secs(period),
            threshold,
            full_init_required,
            ..active()
        };
        let mut pulse = Pulse::default();
        pulse.begin(&active, PROCESS, after_failure);
        let mut now = at(0);
        for (event, later) in events {
            now = now + Duration::from_secs(later);
            // As if told of the request that is out.
            let event = event.map(|event| shifted(event, pulse.round));
            let wanted = pulse.wanted();
            let outcomes = match event {
                Some(event) => pulse.step(&active, event, now),
                None => pulse.tick(now),
            };
            let failed = outcomes.iter().find_map(|outcome| match outcome {
                Outcome::Failed { misses } => Some(*misses),
                _ => None,
            });
            if outcomes.contains(&Outcome::Good) {
                prop_assert_eq!(wanted, Some(1));
            }
            prop_assert!(failed.is_none_or(|misses| misses >= threshold));
            prop_assert_eq!(failed.is_some(), !pulse.is_asking());
            if failed.is_some() {
                prop_assert_eq!(pulse.deadline(), None);
                pulse.begin(&active, PROCESS, true);
                prop_assert_eq!(pulse.sequence(), 1);
            }
            prop_assert!(pulse.misses() < pulse.fails_at(&active));
            let waits = matches!(pulse.state, State::Asking | State::Collecting);
            prop_assert!(waits || pulse.deadline().is_some());
        }
    }
}

/// The same event, of a round near this one.
fn shifted(event: PulseEvent, current: u64) -> PulseEvent {
    let near = |round: u64| (current + round).saturating_sub(3);
    match event {
        PulseEvent::Sent { round } => PulseEvent::Sent { round: near(round) },
        PulseEvent::NotSent { round, reason } => PulseEvent::NotSent {
            round: near(round),
            reason,
        },
        PulseEvent::Answered { round, sequence } => PulseEvent::Answered {
            round: near(round),
            sequence,
        },
        PulseEvent::Silent { round, initialised } => PulseEvent::Silent {
            round: near(round),
            initialised,
        },
        PulseEvent::Unheard { round } => PulseEvent::Unheard { round: near(round) },
    }
}

#[test]
fn who_answered_an_earlier_daemon_is_not_taken_for_one_that_comes_up() {
    let active = active();
    let others = Identity {
        pid: 500,
        start_time: 2,
    };
    for (recalled, after_failure, fails_at) in [
        (None, false, 36),
        (Some(PROCESS), false, 5),
        // It has to prove itself as any other that has failed.
        (Some(PROCESS), true, 36),
        (Some(others), false, 36),
    ] {
        let mut pulse = Pulse::default();
        if let Some(recalled) = recalled {
            pulse.recall_answers(recalled);
            assert!(pulse.has_answered(), "until it is asked");
        }
        pulse.begin(&active, PROCESS, after_failure);
        assert_eq!(pulse.fails_at(&active), fails_at, "{recalled:?}");
        assert_eq!(pulse.has_answered(), fails_at == 5);
        assert_eq!(pulse.misses(), 0);
        // That was of this process; of the next one nothing is known.
        pulse.rest();
        pulse.begin(&active, PROCESS, false);
        assert_eq!(pulse.fails_at(&active), 36);
    }
}
