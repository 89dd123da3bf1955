//! The kernel side's own log.

use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};
use pmon_tests::{daemon::LONG, wait};
use pmon_user::source::programs::Selection;

use crate::{specimen::Specimen, world::World};

/// Keeps what is logged anywhere in this program.
struct Kept(Mutex<Vec<String>>);

static KEPT: Kept = Kept(Mutex::new(Vec::new()));

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn it_tells_what_the_programs_do_when_it_is_on() {
    log::set_logger(&KEPT).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let on = Selection {
        log: true,
        ..Selection::of_this_host()
    };
    let Some(mut world) = World::with(&on) else {
        return;
    };
    assert_eq!(world.ebpf.missing(), []);
    let mut log = world.ebpf.take_log().unwrap();
    let mut specimen = Specimen::script("exit 3");
    world.register(specimen.pid(), 0);
    specimen.go();
    let line = format!("exit of tgid {}: status 768", specimen.pid());
    wait::until("a line of the log", LONG, || {
        log.flush();
        let kept = KEPT.0.lock().unwrap();
        kept.iter()
            .any(|kept| kept.starts_with(&line))
            .then_some(())
    });
}

#[test]
fn it_leaves_no_trace_when_it_is_off() {
    let off = Selection::of_this_host();
    let on = Selection {
        log: true,
        ..off.clone()
    };
    let (Some(mut off), Some(on)) = (World::with(&off), World::with(&on)) else {
        return;
    };
    assert!(off.ebpf.take_log().is_none());
    for (without, with) in off.ebpf.programs().iter().zip(on.ebpf.programs()) {
        let (without, instructions) = (without.instructions, with.instructions);
        assert!(
            without < instructions,
            "{}: {without} {instructions}",
            with.name
        );
    }
}
