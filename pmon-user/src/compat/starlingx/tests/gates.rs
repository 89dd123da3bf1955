//! The gates of an invented host.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use super::*;
use crate::core::gate::SystemState;

const LONG: Duration = Duration::from_secs(60);
const AIO: &str =
    "subfunction=controller,worker\nsystem_type=All-in-one\nmanagement_interface=lo\n";

fn write(root: &Root, path: &str, text: &str) {
    let path = root.path(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn invented(directory: &Path) -> Root {
    Root::new(directory.to_path_buf())
}

#[test]
fn the_gate_files_are_waited_for_in_their_order_and_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = invented(directory.path());
    let mut watch = Watch::new(root.clone(), Duration::ZERO);
    let mut missing = || {
        let knowledge = watch.look(System::Unmanaged);
        let names = knowledge.missing.iter().map(|path| {
            let path = Path::new(path).strip_prefix(directory.path()).unwrap();
            path.display().to_string()
        });
        names.collect::<Vec<_>>()
    };
    let all = [
        "etc/platform/platform.conf",
        "etc/platform/.initial_config_complete",
        "var/run/.goenabled",
    ];
    assert_eq!(missing(), all);
    // Half written is not there yet.
    write(&root, PLATFORM_CONF, "system_type=Standard\n");
    assert_eq!(missing(), all);
    write(&root, PLATFORM_CONF, AIO);
    write(&root, GATE_FILES[0], "");
    assert_eq!(missing(), all[2..]);
    write(&root, GATE_FILES[1], "");
    assert_eq!(missing(), [""; 0]);
    std::fs::remove_file(root.path(GATE_FILES[1])).unwrap();
    assert_eq!(missing(), [""; 0], "it has been open");
}

#[test]
fn flags_are_of_interest_on_hosts_with_several_functions() {
    let directory = tempfile::tempdir().unwrap();
    let root = invented(directory.path());
    let mut watch = Watch::new(root.clone(), Duration::from_secs(7));
    let conditions = watch.look(System::Unmanaged).conditions;
    assert!(conditions.several_functions, "as long as nothing is known");
    assert_eq!(conditions.pause, Duration::from_secs(7));
    write(&root, PLATFORM_CONF, AIO);
    write(&root, "/var/run/.worker_config_complete", "");
    let conditions = watch.look(System::Unmanaged).conditions;
    assert_eq!(conditions.met, BTreeSet::from([Flag::WorkerConfigured]));

    let standard = AIO.replace("All-in-one", "standard");
    write(&root, PLATFORM_CONF, &standard);
    let mut watch = Watch::new(root, Duration::ZERO);
    let knowledge = watch.look(System::Unmanaged);
    assert!(!knowledge.conditions.several_functions);
}

/// A service manager that says what the test wants, and counts.
#[derive(Clone)]
struct Said(Arc<Mutex<(SystemState, u32)>>);

impl SystemStateSource for Said {
    fn ask(&mut self) -> System {
        let mut said = self.0.lock().unwrap();
        said.1 += 1;
        System::Is(said.0)
    }
}

#[test]
fn every_question_is_answered_and_a_closed_gate_is_watched() {
    let directory = tempfile::tempdir().unwrap();
    let root = invented(directory.path());
    let source = Said(Arc::new(Mutex::new((SystemState::Running, 0))));
    let (sender, reports) = mpsc::channel();
    let watch = Watch::new(root.clone(), Duration::ZERO);
    let gates = start(watch, source.clone(), Troubles::default(), move |report| {
        sender.send(report).unwrap();
    })
    .unwrap();
    let next = || reports.recv_timeout(LONG).unwrap();

    let first = next();
    assert_eq!(first.question, 0);
    assert!(matches!(first.knowledge.verdict(), Verdict::Closed { .. }));
    assert_eq!(source.0.lock().unwrap().1, 0, "the files come first");
    write(&root, PLATFORM_CONF, &AIO.replace("All-in-one", "standard"));
    for file in GATE_FILES {
        write(&root, file, "");
    }
    while next().knowledge.verdict() != Verdict::Open {}

    let asked = source.0.lock().unwrap().1;
    gates.ask(1);
    let answer = next();
    assert_eq!(answer.question, 1);
    assert_eq!(answer.knowledge.verdict(), Verdict::Open);
    assert_eq!(source.0.lock().unwrap().1, asked + 1, "asked anew");

    // A shutdown, and its end.
    source.0.lock().unwrap().0 = SystemState::Stopping;
    gates.ask(2);
    let why = "the host is shutting down".to_owned();
    let answer = next();
    assert_eq!(answer.question, 2);
    assert_eq!(answer.knowledge.verdict(), Verdict::Closed { why });
    source.0.lock().unwrap().0 = SystemState::Running;
    assert_eq!(next().knowledge.verdict(), Verdict::Open, "by itself");
}
