//! Lines 1, 2 and 5: names, files and commands by which others find the monitor.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    os::unix::{fs::symlink, net::UnixDatagram},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use jiff::Timestamp;
use pmon_tests::{
    binary,
    daemon::{self, Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, executable, foreground_entity},
    skip_if,
    starlingx::{self, Host, pulse, receive},
    wait,
};

/// The tables of a host whose commands come by datagram.
fn with_inbox(host: &Host) -> String {
    let inbox = "enabled = true\ncommand_inbox = true\n";
    host.configuration().replace("enabled = true\n", inbox)
}

fn send(port: u16, verb: &str, process: &str) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let text = format!("{{\"command\":\"{verb}\",\"process\":\"{process}\"}}\n");
    socket
        .send_to(text.as_bytes(), (Ipv4Addr::LOCALHOST, port))
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// The host's syslogd: reads at once, as one does, for the kernel queues ten messages.
struct Syslogd(Arc<Mutex<Vec<String>>>);

impl Syslogd {
    fn new(host: &Host) -> Self {
        let path = host.path("/dev/log");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let socket = UnixDatagram::bind(path).unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::downgrade(&lines);
        thread::spawn(move || {
            // Ends with the test.
            socket.set_read_timeout(Some(LONG)).unwrap();
            let mut buffer = [0; 8192];
            while let Some(lines) = written.upgrade() {
                if let Ok(length) = socket.recv(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    lines.lock().unwrap().push(text.into_owned());
                }
            }
        });
        Self(lines)
    }

    /// Waits for a line with this in it; each has this priority and ident.
    fn has(&self, line: &str, prefix: &str) {
        let look = || self.0.lock().unwrap().clone();
        let all = wait::until_seen(line, LONG, look, |all| {
            all.iter().any(|text| text.contains(line))
        });
        for text in all {
            assert!(text.starts_with(prefix), "{text}");
        }
    }
}

#[test]
fn line_01_it_is_found_by_pmonds_names() {
    skip_if!(starlingx::no_host());
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let host = Host::new(&place);
    let syslogd = Syslogd::new(&host);
    let name = place.name("web");
    place.configure(&format!(
        "{}{}",
        with_inbox(&host),
        foreground_entity(&name, &[])
    ));
    let pmond = place.path("pmond");
    symlink(binary::pmon(), &pmond).unwrap();
    let mut command = Command::new(&pmond);
    // By this name it is the daemon.
    command.args(daemon::command(&place).get_args().skip(1));
    let daemon = Daemon::launch(&place, command);
    let first = daemon.up(&name);

    // hbsClient looks for the program by its name, scripts by `pidof`.
    let proc = |file: &str| fs::read(format!("/proc/{}/{file}", daemon.pid())).unwrap();
    assert_eq!(proc("comm"), b"pmond\n");
    let cmdline = proc("cmdline");
    let program = cmdline.split(|byte| *byte == 0).next().unwrap();
    let program = Path::new(str::from_utf8(program).unwrap());
    assert_eq!(program.file_name().unwrap(), "pmond");

    let pidfile = host.path("/var/run/pmond.pid");
    let pid = daemon.pid().to_string();
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), pid, "no newline");
    assert!(host.path("/var/run/pmond.info").exists());

    // local5, always info, and the tokens that are looked for.
    let prefix = format!("<174>pmond[{pid}]: ");
    syslogd.has(&format!("Registered ({first})"), &prefix);
    send(2117, "start", &name);
    syslogd.has(
        &format!("{name} process is not in the stopped state"),
        &prefix,
    );
    Process::open(first).unwrap().kill();
    syslogd.has("Spawn", &prefix);
    let second = daemon.entity_when(&name, "a successor", LONG, |entity| {
        entity["state"] == "up" && entity["pid"] != first
    });
    let second = &second["pid"];
    for token in ["Monitor", "Stable", "Recovered"] {
        syslogd.has(&format!("{token} ({second})"), &prefix);
    }
    // What people read on stderr is the same.
    assert!(daemon.log().contains(&format!("Recovered ({second})")));
    assert!(daemon.terminate().success());
    assert!(!pidfile.exists());
}

#[test]
fn line_02_pmond_conf_is_the_file_of_record() {
    skip_if!(starlingx::no_host());
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let host = Host::new(&place);
    // Blanks around `=`: scripts read it by awk, with them.
    let conf = "[config]\naudit_period = 100\nhostwd_update_period = 1\npmon_amon_port = 3200\n\
                pmon_event_port = 3101\npmon_pulse_port = 3109\npmon_cmd_port = 3117\n\
                [timeouts]\nstart_delay = 1\n";
    host.write("/etc/mtc/pmond.conf", conf);
    let path = host.path("/etc/mtc/pmond.conf");
    let port = Command::new("awk")
        .args([
            "$1 == \"pmon_cmd_port\" { print $3 }",
            path.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let port: u16 = String::from_utf8(port.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(port, 3117);
    let listener = |port: u16| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    };
    let (pulses, events) = (listener(3109), listener(3101));
    let hostwd = starlingx::Hostwd::new();
    let name = place.name("web");
    let active = r#"{ port = 2202, period = "1s", timeout = "1s", threshold = 100 }"#;
    let settings = [("mode", "\"active\""), ("active", active)];
    let entity = foreground_entity(&name, &settings);
    place.configure(&format!("{}{entity}", with_inbox(&host)));
    let daemon = Daemon::start(&place);
    let registered =
        |entity: &serde_json::Value| entity["stage"] == "manage" && entity["registered"] == true;
    let first = daemon.entity_when(&name, "it runs", LONG, registered)["pid"].clone();

    assert_eq!(receive(|buffer| pulses.recv(buffer)), pulse());
    assert!(receive(|buffer| events.recv(buffer)).len() > 100);
    // `hostwd_update_period`, beyond the start delay.
    hostwd.petted(4);
    send(port, "restart", &name);
    daemon.entity_when(&name, "it is restarted", LONG, |entity| {
        registered(entity) && entity["pid"] != first
    });
    // Answers of processes in active mode come to its port, which is taken.
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 3200)).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    // Nobody else's file is written.
    assert!(daemon.terminate().success());
    assert_eq!(fs::read_to_string(path).unwrap(), conf);
}

#[test]
fn line_05_commands_come_by_datagram_and_are_not_answered() {
    skip_if!(starlingx::no_host());
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let host = Host::new(&place);
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    let name = &lsb.name;
    place.configure(&format!("{}{}", with_inbox(&host), lsb.entity(&[])));
    let daemon = Daemon::start(&place);
    let first = daemon.up(name);
    let mut senders = vec![send(2117, "restart", name)];
    let second = daemon.entity_when(name, "it is restarted", LONG, |entity| {
        entity["state"] == "up" && entity["pid"] != first
    });
    senders.push(send(2117, "stop", name));
    let stopped = daemon.entity_when(name, "it is down", LONG, |entity| entity["state"] == "down");
    assert!(process::instances(name).is_empty());
    // 1800 s, and then it is monitored again.
    let until: Timestamp = stopped["next_action_at"].as_str().unwrap().parse().unwrap();
    let seconds = until.duration_since(Timestamp::now()).as_secs();
    assert!((1500..=1800).contains(&seconds), "{seconds}");
    senders.push(send(2117, "start", name));
    let third = daemon.up(name);
    assert_ne!(second["pid"], third);
    for sender in &senders {
        let answer = sender.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(answer.kind(), std::io::ErrorKind::WouldBlock, "silence");
    }

    // `pmon-restart hostwd` is systemd's.
    let (bin, said) = (place.path("bin"), place.path("said"));
    fs::create_dir(&bin).unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >>'{}'\n", said.display());
    executable(&bin.join("systemctl"), &script);
    let path = format!("{}:/usr/bin:/bin", bin.display());
    for verb in ["pmon-start", "pmon-stop", "pmon-restart"] {
        let link = place.path(verb);
        symlink(binary::pmon(), &link).unwrap();
        let mut command = Command::new(link);
        command
            .env("PATH", &path)
            .env("PMON_SOCKET", daemon.socket());
        let answer = daemon::answer(command.arg("hostwd"));
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    assert_eq!(
        fs::read_to_string(said).unwrap(),
        "restart hostw\n".repeat(3)
    );

    // `restart` of `pmond` ends it, for its unit to start it again.
    send(2117, "restart", "pmond");
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(process::instances(name), [third]);
}
