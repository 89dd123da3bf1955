//! Who sent the signal that ended a process.

use pmon_common::{Registration, SIGNAL_PROGRAM, SIGNAL_RAW_PROGRAM, flag};
use pmon_tests::{privilege, skip_if};
use pmon_user::source::programs::Selection;
use rustix::process::Signal;

use crate::{
    specimen::Specimen,
    world::{World, assert_flags, best, text},
};

/// `SI_USER` and `SI_KERNEL` of `include/uapi/asm-generic/siginfo.h`, and
/// `SEGV_MAPERR`.
const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 0x80;
const SEGV_MAPERR: i32 = 1;
/// `nobody`'s, or anybody's but root's.
const SOMEBODY: u32 = 65_534;

fn sender(entry: &Registration) -> (u32, u32, String) {
    assert_flags(entry, entry.flags, flag::SIGNAL_KNOWN);
    (
        entry.sender_tgid,
        entry.sender_uid,
        text(&entry.sender_comm),
    )
}

/// Every program that can tell.
fn ways() -> Vec<Selection> {
    let mut probing = best();
    probing.passed_over.push(SIGNAL_PROGRAM);
    vec![best(), probing]
}

#[test]
fn both_programs_can_tell() {
    let names = ways().into_iter().map(|way| {
        let world = World::with(&way)?;
        Some(world.ebpf.programs()[1].name)
    });
    let Some(names) = names.collect::<Option<Vec<_>>>() else {
        return;
    };
    // The first is refused by some kernels.
    assert!([SIGNAL_PROGRAM, SIGNAL_RAW_PROGRAM].contains(&names[0]));
    assert_eq!(names[1], SIGNAL_RAW_PROGRAM);
}

#[test]
fn a_killer_is_named() {
    skip_if!(privilege::no_root());
    for world in ways().iter().filter_map(World::with) {
        the_killer_is_named(world);
    }
}

fn the_killer_is_named(mut world: World) {
    let victim = Specimen::script_as(SOMEBODY, "read more", &[]);
    let pid = victim.pid();
    world.register(pid, 0);
    let mut killer = Specimen::script_as(SOMEBODY, "kill -9 $1", &[&pid.to_string()]);
    killer.go();
    let death = world.death(pid);
    assert_eq!(death.exit_code, 9);
    assert_eq!((death.signal, death.signal_code), (9, SI_USER));
    assert_eq!(sender(&death), (killer.pid(), SOMEBODY, "sh".to_owned()));
    assert!(death.signal_at > 0 && death.signal_at <= death.died_at);
}

#[test]
fn a_fault_is_nobodys_doing() {
    for world in ways().iter().filter_map(World::with) {
        the_fault_is_nobodys_doing(world);
    }
}

fn the_fault_is_nobodys_doing(mut world: World) {
    let specimen = Specimen::service(&["--on-usr1", "faults"]);
    world.register(specimen.pid(), 0);
    specimen.signal(Signal::USR1);
    let death = world.death(specimen.pid());
    assert_eq!(death.exit_code & 0x7f, 11, "{death:?}");
    assert_eq!((death.signal, death.signal_code), (11, SEGV_MAPERR));
    assert_eq!(sender(&death), (0, 0, String::new()));
}

#[test]
fn suicide_is_the_processs_own_doing() {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut specimen = Specimen::script("ulimit -c 0; kill -ABRT $$");
    world.register(specimen.pid(), 0);
    specimen.go();
    let death = world.death(specimen.pid());
    assert_eq!((death.signal, death.signal_code), (6, SI_USER));
    assert_eq!(sender(&death).0, specimen.pid());
}

#[test]
fn the_last_signal_counts_and_sigkill_stays() {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut specimen = Specimen::script("trap : TERM; echo ready; while :; do read more; done");
    let pid = specimen.pid();
    world.register(pid, 0);
    specimen.go();
    specimen.ready();
    specimen.signal(Signal::TERM);
    let entry = world.entry_when("SIGTERM", pid, |entry| entry.signal == 15);
    assert_eq!(sender(&entry).0, std::process::id());
    assert_eq!(entry.flags & flag::DEAD, 0);

    for harmless in [
        Signal::CHILD,
        Signal::CONT,
        Signal::URG,
        Signal::WINCH,
        Signal::TSTP,
        Signal::STOP,
        Signal::CONT,
    ] {
        specimen.signal(harmless);
    }
    assert_eq!(world.entry(pid), entry);

    // A stopped process can be sent more while it is being killed.
    specimen.signal(Signal::STOP);
    specimen.signal(Signal::KILL);
    specimen.signal(Signal::TERM);
    let death = world.death(pid);
    assert_eq!(death.signal, 9);
    assert!(death.signal_at > entry.signal_at);
}

#[test]
fn a_signal_that_is_ignored_is_not_told() {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut specimen = Specimen::script("trap '' TERM; echo ready; read more; exit 4");
    let pid = specimen.pid();
    world.register(pid, 0);
    specimen.go();
    specimen.ready();
    specimen.signal(Signal::TERM);
    specimen.go();
    let death = world.death(pid);
    assert_eq!(death.exit_code, 4 << 8);
    assert_eq!(death.flags & flag::SIGNAL_KNOWN, 0);
}

#[test]
fn the_kernels_own_kill_is_not_blamed_on_who_runs() {
    let Some(mut world) = World::new() else {
        return;
    };
    // The end of a pid namespace's first process kills the others in it, in the
    // context of that first process.
    skip_if!(privilege::no_root());
    skip_if!(privilege::no_program("unshare"));
    let mut specimen = Specimen::script(
        "exec unshare --fork --pid sh -c 'sh -c \"read -r pid rest </proc/self/stat; echo \\$pid; exec sleep 1000\" & read more'",
    );
    specimen.go();
    // `/proc` is still the host's, and tells the host's pid.
    let inside: u32 = specimen.line().parse().unwrap();
    world.register(inside, 0);
    specimen.go();
    let death = world.death(inside);
    assert_eq!((death.signal, death.signal_code), (9, SI_KERNEL));
    assert_eq!(sender(&death), (0, 0, String::new()));
}
