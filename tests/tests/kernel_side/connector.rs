//! The proc connector as this kernel has it. No BPF, but the kernel's other way
//! to tell of deaths, and as different from kernel to kernel.

use pmon_tests::{
    daemon::LONG,
    kernel::{self, Version, fact},
    privilege, skip_if, wait,
};
use pmon_user::source::connector::{Connector, ConnectorError, Heard};

use crate::{
    namespaces::{Inside, is_inside, no_namespaces},
    specimen::Specimen,
};

/// A listener can ask for exits alone.
const MASKS: Version = Version(6, 6);

#[test]
fn exits_are_heard_and_where_it_can_nothing_else() {
    skip_if!(privilege::no_root());
    let mut connector = Connector::start().unwrap();
    let narrowed = connector.is_filtered();
    fact(
        "the proc connector sends",
        if narrowed {
            "exits"
        } else {
            "forks, execs and exits"
        },
    );
    assert_eq!(narrowed, kernel::version() >= MASKS);
    let mut specimen = Specimen::script("exit 3");
    specimen.go();
    let exit = wait::until("its exit", LONG, || match connector.next()? {
        Heard::Exit(exit) if exit.pid == specimen.pid() => Some(exit),
        Heard::Exit(_) | Heard::Overrun => None,
        Heard::Broken(errno) => panic!("{errno}"),
    });
    assert_eq!((exit.tgid, exit.status.0), (specimen.pid(), 3 << 8));
    connector.stop().unwrap();
}

/// LISTEN is taken in silence there.
#[test]
fn nobody_answers_in_another_pid_namespace() {
    skip_if!(no_namespaces());
    if is_inside() {
        let error = Connector::start().err().unwrap();
        assert!(
            matches!(error, ConnectorError::NotAcknowledged { .. }),
            "{error:?}"
        );
    } else {
        Inside::same_test("connector::nobody_answers_in_another_pid_namespace", "").succeeds();
    }
}
