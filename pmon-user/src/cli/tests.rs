//! Whole runs of the command line against a daemon on a real socket.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use super::*;
use crate::{
    control::{
        access::AccessRules,
        fake::Fake,
        server::{ControlSocket, serve},
    },
    view::{
        diagnosis::CheckResult,
        entity::StateWord,
        samples::{entity, status},
        status::StatusView,
    },
};

struct Daemon {
    directory: tempfile::TempDir,
    fake: Arc<Fake>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fake = Fake::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let path = directory.path().join("pmon.sock");
        let backend = Arc::clone(&fake);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let rules = AccessRules::for_host();
                let socket = ControlSocket::bind(&path, &rules).unwrap();
                ready.send(()).unwrap();
                serve(socket, rules, backend, async {
                    stopped.await.ok();
                })
                .await;
            });
        });
        is_ready.recv().unwrap();
        Self {
            directory,
            fake,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("pmon.sock")
    }

    fn run(&self, line: &str) -> Ran {
        run_line(line, &self.socket())
    }

    fn end(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            stop.send(()).unwrap();
            thread.join().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Ran {
    exit: u8,
    out: String,
    err: String,
}

const SEAMS: Seams = Seams {
    run_daemon: |_arguments| Ok(ExitCode::SUCCESS),
    check_config: |sources| {
        let finding = |error, text: &str| ConfigFinding {
            error,
            text: text.to_owned(),
        };
        Ok(ConfigReport {
            entities: vec!["web".to_owned()],
            findings: match &sources.config {
                None => Vec::new(),
                Some(path) if path.ends_with("warn.toml") => {
                    vec![finding(false, "warn.toml:1:1: warning: unused")]
                }
                Some(path) if path.ends_with("bad.toml") => vec![
                    finding(true, "bad.toml:2:3: error: unknown key"),
                    finding(false, "bad.toml:9:1: warning: unused"),
                ],
                Some(path) => anyhow::bail!("cannot read `{}`", path.display()),
            },
        })
    },
    config_schema: || serde_json::json!({"type": "object"}),
    local_checks: |error| {
        let check = |name: &str, result, found: String| CheckView {
            name: name.to_owned(),
            result,
            found,
            fix: None,
        };
        vec![
            check("daemon", CheckResult::Failed, error.to_string()),
            check("btf", CheckResult::Ok, "there".to_owned()),
        ]
    },
};

fn verb(command: Command) -> Verb {
    match command {
        Command::Verb(verb) => verb,
        Command::Daemon(arguments) => panic!("{arguments:?}"),
    }
}

fn run_line(line: &str, socket: &Path) -> Ran {
    let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    words.extend(["--socket".into(), socket.into()]);
    let arguments = Arguments::try_parse_from(by_name(words)).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Output::new(&mut out, &arguments.global, Terminal::default());
    let exit = run(
        verb(arguments.command),
        &arguments.global,
        &SEAMS,
        &mut output,
        &mut err,
    );
    Ran {
        exit: exit.code(),
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

#[test]
fn status_and_its_exit_codes() {
    let daemon = Daemon::start();
    for (line, exit) in [
        ("pmon status web", 0),
        ("pmon status log", 3),
        ("pmon status web db", 3),
        // `db` is failed.
        ("pmon status", 3),
        ("pmon status wob", 4),
    ] {
        assert_eq!(daemon.run(line).exit, exit, "{line}");
    }
    daemon.fake.set(entity("db", StateWord::Up));
    // `log` is down, on purpose.
    assert_eq!(daemon.run("pmon status").exit, 0);
    let unknown = daemon.run("pmon status wob");
    assert_eq!(
        unknown.err,
        "pmon: unknown entity `wob`; did you mean `web`?\n"
    );
    assert_eq!(unknown.out, "");
}

#[test]
fn json_is_the_view_itself() {
    let daemon = Daemon::start();
    daemon.fake.set(entity("web", StateWord::Up));
    let ran = daemon.run("pmon status web -o json");
    let view: StatusView = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(view, status(vec![entity("web", StateWord::Up)]));
    let value: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(value["version"], 1);
    assert_eq!(value["entities"][0]["alarm"], serde_json::Value::Null);
    assert_eq!(value["entities"][0]["start_time"], "2026-08-01T10:59:59Z");

    let lines = daemon.run("pmon -o jsonl status").out;
    let names: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["name"].clone())
        .collect();
    assert_eq!(names, ["db", "log", "web"]);
}

#[test]
fn every_form_of_every_reading_verb_says_something_valid() {
    let daemon = Daemon::start();
    daemon.fake.say("web", "Killed (4700)");
    for verb in [
        "status",
        "list",
        "show web",
        "history",
        "history web",
        "explain web",
        "doctor",
        "bpf show",
        "bpf log on",
        "events",
        "events --early",
        "reload",
        "config check",
        "config schema",
    ] {
        let human = daemon.run(&format!("pmon {verb}"));
        assert!(human.out.ends_with('\n'), "{verb}: {human:?}");
        assert_eq!(human.err, "", "{verb}");
        assert!(!human.out.contains('\u{1b}'), "no colour off a terminal");
        let json = daemon.run(&format!("pmon {verb} -o json"));
        serde_json::from_str::<serde_json::Value>(&json.out).unwrap();
        if verb != "config schema" {
            for line in daemon.run(&format!("pmon {verb} -o jsonl")).out.lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
    }
    assert_eq!(daemon.run("pmon doctor").exit, 8);
    let history = daemon.run("pmon history -n 0").out;
    assert_eq!(history, "no incidents\n");
}

#[test]
fn operators_act_and_are_told_what_came_of_it() {
    let daemon = Daemon::start();
    let ran = daemon.run("pmon stop web log --reason maintenance");
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (0, "web: down, pid 4711\nlog: down\n")
    );
    let ran = daemon.run("/usr/sbin/pmon-start log");
    assert_eq!((ran.exit, ran.out.as_str()), (0, "log: starting\n"));
    // A misspelt name is found before anything is done.
    let ran = daemon.run("pmon restart web wob");
    assert_eq!(ran.exit, 4);
    let asked: Vec<_> = daemon
        .fake
        .asked()
        .into_iter()
        .map(|(what, _)| what)
        .collect();
    assert_eq!(
        asked,
        ["Stop web maintenance", "Stop log maintenance", "Start log "]
    );
    assert_eq!(daemon.run("pmon register new --pid 7").exit, 0);
    assert_eq!(daemon.run("pmon register new --pid 7").exit, 6);
    assert_eq!(daemon.run("pmon register other --pid 0").exit, 2);
    assert_eq!(daemon.run("pmon register other --pid 8 --follow").exit, 0);
    assert_eq!(
        daemon.run("pmon unregister new").out,
        "new: forgotten; its process is left alone\n"
    );
    assert_eq!(daemon.run("pmon unregister new").exit, 4);
}

#[test]
fn waiting_ends_with_the_state_or_the_deadline() {
    let daemon = Daemon::start();
    let ran = daemon.run("pmon stop web --wait");
    assert_eq!(ran.exit, 0, "{ran:?}");

    let ran = daemon.run("pmon start log --wait=50ms");
    assert_eq!(
        (ran.exit, ran.err.as_str()),
        (7, "pmon: timed out: it is not done yet\n")
    );

    for (state, exit) in [(StateWord::Up, 0), (StateWord::Failed, 3)] {
        daemon.fake.set(entity("log", StateWord::Down));
        let fake = Arc::clone(&daemon.fake);
        let asked = fake.asked().len();
        let helper = thread::spawn(move || {
            while fake.asked().len() == asked {
                thread::yield_now();
            }
            thread::sleep(std::time::Duration::from_millis(20));
            fake.set(entity("log", state));
            fake.say("log", "something happened");
        });
        let began = std::time::Instant::now();
        let ran = daemon.run("pmon start log --wait=10m");
        helper.join().unwrap();
        assert_eq!(ran.exit, exit, "{ran:?}");
        assert!(began.elapsed().as_secs() < 60);
    }
}

#[test]
fn following_ends_with_the_daemon() {
    let mut daemon = Daemon::start();
    daemon.fake.say("web", "first");
    let socket = daemon.socket();
    let follower = thread::spawn(move || run_line("pmon events -f -n 5", &socket));
    while daemon.fake.followers() == 0 {
        thread::yield_now();
    }
    daemon.fake.say("web", "second");
    daemon.end();
    let ran = follower.join().unwrap();
    assert_eq!(ran.exit, 5);
    let texts: Vec<_> = ran
        .out
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(texts, ["first", "second"]);
    assert!(ran.err.contains("ended the connection"), "{}", ran.err);
}

#[test]
fn without_a_daemon_it_says_so_and_the_doctor_still_looks() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("pmon.sock");
    let ran = run_line("pmon status", &socket);
    assert_eq!(ran.exit, 5);
    assert_eq!(
        ran.err,
        format!(
            "pmon: no daemon at `{}`: there is no such socket; start one with `pmon daemon`\n",
            socket.display()
        )
    );
    let ran = run_line("pmon doctor", &socket);
    assert_eq!(ran.exit, 5);
    assert!(ran.out.contains("ok        btf     there\n"), "{}", ran.out);
}

#[test]
fn configuration_errors_have_the_usage_code() {
    let nowhere = Path::new("/nonexistent/pmon.sock");
    assert_eq!(run_line("pmon config check", nowhere).exit, 0);
    let warned = run_line("pmon config check --config warn.toml", nowhere);
    assert_eq!(warned.exit, 0);
    let bad = run_line("pmon config check --config bad.toml", nowhere);
    assert_eq!(bad.exit, 2);
    assert_eq!(
        bad.out,
        "bad.toml:2:3: error: unknown key\nbad.toml:9:1: warning: unused\n\
         1 entity would be monitored; 1 error, 1 warning\n"
    );
    let none = run_line("pmon config check --config none.toml", nowhere);
    assert_eq!(
        (none.exit, none.err.as_str()),
        (2, "pmon: cannot read `none.toml`\n")
    );
}

/// A reader that went away.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let arguments = Arguments::try_parse_from(["pmon", "config", "schema"]).unwrap();
    let (mut closed, mut err) = (Closed, Vec::new());
    let mut output = Output::new(&mut closed, &arguments.global, Terminal::default());
    let exit = run(
        verb(arguments.command),
        &arguments.global,
        &SEAMS,
        &mut output,
        &mut err,
    );
    assert_eq!((exit, err), (Exit::Ok, Vec::new()));
}

#[test]
fn the_other_names_are_verbs() {
    let words = |line: &str| by_name(line.split(' ').map(OsString::from).collect());
    assert_eq!(
        words("/usr/bin/pmond --check"),
        ["pmon", "daemon", "--check"]
    );
    assert_eq!(words("pmon-restart web"), ["pmon", "restart", "web"]);
    assert_eq!(words("pmon-stop"), ["pmon", "stop"]);
    assert_eq!(words("pmon status"), ["pmon", "status"]);
    assert_eq!(words("other status"), ["other", "status"]);
}

#[test]
fn the_documents_know_every_verb_and_every_code() {
    use clap::CommandFactory;
    let text = include_str!("../../../docs/cli.md");
    for command in Arguments::command().get_subcommands() {
        let name = command.get_name();
        assert!(
            text.contains(&format!("`{name}")),
            "`{name}` is not in docs/cli.md"
        );
    }
    for exit in 0..=8 {
        assert!(text.contains(&format!("| {exit} |")), "exit code {exit}");
    }
    let text = include_str!("../../../docs/control-socket.md");
    for verb in crate::control::interface::Verb::ALL {
        let name = format!("`{}`", verb.name());
        assert!(
            text.contains(&name),
            "{name} is not in docs/control-socket.md"
        );
    }
    for error in <crate::control::error::ControlError as zlink::introspect::ReplyError>::VARIANTS {
        let name = format!("`{}`", error.name().as_str());
        assert!(
            text.contains(&name),
            "{name} is not in docs/control-socket.md"
        );
    }
}
