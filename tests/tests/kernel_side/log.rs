//! The kernel side's own log.

use std::{sync::Mutex, thread};

use aya_log::EbpfLogger;
use log::{LevelFilter, Log, Metadata, Record};
use pmon_tests::{
    daemon::LONG,
    place::{Place, is_bpffs},
    skip_if, wait,
};
use pmon_user::source::{ebpf::ReloadError, programs::Selection};

use crate::{
    specimen::Specimen,
    world::{World, best},
};

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

/// Waits for the line about the exit of a process with code 3.
fn tells(log: &mut EbpfLogger<&'static dyn Log>, pid: u32) {
    let line = format!("exit of tgid {pid}: status 768");
    wait::until("a line of the log", LONG, || {
        log.flush();
        let kept = KEPT.0.lock().unwrap();
        kept.iter()
            .any(|kept| kept.starts_with(&line))
            .then_some(())
    });
}

fn keep() {
    // The tests of this file share it.
    log::set_logger(&KEPT).ok();
    log::set_max_level(LevelFilter::Debug);
}

#[test]
fn it_tells_what_the_programs_do_when_it_is_on() {
    keep();
    let on = Selection {
        log: true,
        ..best()
    };
    let Some(mut world) = World::with(&on) else {
        return;
    };
    assert_eq!(world.ebpf.missing(), []);
    let mut log = world.ebpf.take_log(log::logger()).unwrap();
    let mut specimen = Specimen::script("exit 3");
    world.register(specimen.pid(), 0);
    specimen.go();
    tells(&mut log, specimen.pid());
}

#[test]
fn it_leaves_no_trace_when_it_is_off() {
    let off = best();
    let on = Selection {
        log: true,
        ..off.clone()
    };
    let (Some(mut off), Some(on)) = (World::with(&off), World::with(&on)) else {
        return;
    };
    assert!(off.ebpf.take_log(log::logger()).is_none());
    for (without, with) in off.ebpf.programs().iter().zip(on.ebpf.programs()) {
        let (without, instructions) = (without.instructions, with.instructions);
        assert!(
            without < instructions,
            "{}: {without} {instructions}",
            with.name
        );
    }
}

#[test]
fn it_is_switched_without_a_gap() {
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    keep();
    let off = best();
    let on = Selection {
        log: true,
        ..off.clone()
    };
    let place = Place::new();
    let Some(mut world) = World::pinned(place.pins(), &off) else {
        return;
    };
    let pins = world.ebpf.pins().unwrap().list();
    let first = world.ebpf.programs();

    // One after the other, before, while and after the programs change.
    let mut specimens: Vec<Specimen> = (0..60).map(|_| Specimen::script("exit 3")).collect();
    let pids: Vec<u32> = specimens.iter().map(Specimen::pid).collect();
    for pid in &pids {
        world.register(*pid, 0);
    }
    let ender = thread::spawn(move || {
        for specimen in &mut specimens {
            specimen.go();
            specimen.wait();
        }
    });
    for selection in [&on, &off, &on, &off] {
        world.ebpf.reload(selection).unwrap();
    }
    ender.join().unwrap();
    for pid in &pids {
        assert_eq!(world.death(*pid).exit_code, 3 << 8);
    }
    let told = world.records();
    assert_eq!(told.len(), pids.len(), "each once");
    assert_eq!(world.ebpf.stats().deaths, pids.len() as u64);

    // Nothing is left of the sets before.
    assert_eq!(world.ebpf.pins().unwrap().list(), pins);
    assert!(world.ebpf.take_log(log::logger()).is_none());
    world.ebpf.reload(&on).unwrap();
    let mut log = world.ebpf.take_log(log::logger()).unwrap();
    for (before, now) in first.iter().zip(world.ebpf.programs()) {
        assert_eq!(before.name, now.name);
        assert_ne!(before.id, now.id);
    }
    let mut specimen = Specimen::script("exit 3");
    world.register(specimen.pid(), 0);
    specimen.go();
    tells(&mut log, specimen.pid());
    world.ebpf.stop().unwrap();
}

#[test]
fn it_cannot_be_switched_without_pins() {
    let Some(mut world) = World::new() else {
        return;
    };
    let before = world.ebpf.programs();
    let error = world.ebpf.reload(&best()).unwrap_err();
    assert!(
        matches!(error, ReloadError::Unpinned { why: None }),
        "{error:?}"
    );
    assert_eq!(world.ebpf.programs(), before);
}
