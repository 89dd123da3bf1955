//! Lines 3, 4 and 9: what is on the wire, and that it stays there.

use std::{
    cell::Cell,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use pmon_tests::{
    daemon::{self, Daemon, LONG, source},
    place::Place,
    privilege,
    script::{self, foreground_entity, quoted},
    skip_if,
    starlingx::{self, Host, Hostwd, about, healthy, pulse, receive, troubles},
    wait,
};

#[test]
fn line_03_each_message_has_its_bytes() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    // On the name of 108 bytes, as hostwd binds it.
    let hostwd = Hostwd::new();
    let daemon = host.served(&place, "");
    assert_eq!(hostwd.next(), healthy());
    assert_eq!(healthy().len(), 1060);
    host.pulsed();
    assert_eq!(pulse().len(), 100);

    let from = Cell::new(None);
    let event = receive(|buffer| {
        let (length, sender) = host.agent.recv_from(buffer)?;
        from.set(Some(sender));
        Ok(length)
    });
    let mut expected = vec![0; 100];
    expected[..17].copy_from_slice(b"mtce event msg  :");
    // ver, cmd, num, parm[0]: a controller.
    expected[64..66].copy_from_slice(&2_u16.to_ne_bytes());
    expected[72..76].copy_from_slice(&starlingx::READY.to_ne_bytes());
    expected[76..80].copy_from_slice(&1_u32.to_ne_bytes());
    expected[80..84].copy_from_slice(&1_u32.to_ne_bytes());
    expected.extend(about(Some("pmond")).into_bytes());
    expected.push(0);
    assert_eq!(event, expected, "100 + n + 1 bytes");
    // mtcAgent drops what is not from the host's own address; to this controller
    // that is the loopback one.
    let from = from.get().unwrap();
    assert!(from.ip().is_loopback(), "{from}");
    assert!(daemon.terminate().success());
}

#[test]
fn line_04_active_monitoring_is_spoken_as_clients_speak_it() {
    skip_if!(starlingx::no_host());
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let host = Host::new(&place);
    let name = place.name("hbsClient");
    let service = UdpSocket::bind((Ipv4Addr::LOCALHOST, 2202)).unwrap();
    service.set_read_timeout(Some(LONG)).unwrap();
    let active = r#"{ port = 2202, period = "1s", timeout = "500ms", threshold = 60 }"#;
    let settings = [("mode", "\"active\""), ("active", active)];
    let daemon = host.served(&place, &foreground_entity(&name, &settings));
    let mut sequence = 0;
    for _ in 0..3 {
        let request = String::from_utf8(receive(|buffer| service.recv(buffer))).unwrap();
        // No NUL, no newline.
        let number = request.strip_prefix(&format!("{name} 12345678 ")).unwrap();
        let number: u32 = number.parse().unwrap_or_else(|_| panic!("{request:?}"));
        assert!(number > sequence, "{request:?}");
        sequence = number;
        // To the port that clients have compiled in.
        let answer = format!("{name} edcba987 {sequence}");
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 2200));
        service.send_to(answer.as_bytes(), to).unwrap();
    }
    let seen = daemon.entity_when(&name, "its answers are heard", LONG, |entity| {
        entity["heartbeat"]["answers"].as_u64() >= Some(1)
    });
    for fault in ["bad_magic", "wrong_sequence"] {
        assert_eq!(seen["heartbeat"][fault], 0, "{seen:#}");
    }
}

#[test]
fn line_09_the_petting_depends_on_nothing_but_a_living_engine() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    let hostwd = Hostwd::new();
    // Its start hangs, and so does whoever is told of the failure; mtcAgent's host
    // has no address.
    let name = place.name("web");
    let script = place.path("hangs.init");
    script::executable(&script, "#!/bin/sh\nexec sleep 1000\n");
    let (script, pidfile) = (quoted(&script), quoted(&place.path("pidfile")));
    let settings = [("script", &*script), ("pidfile", &*pidfile)];
    let hook = format!("[alarm]\nhook = [{script}]\nhook_timeout = \"60s\"\n\n");
    let nowhere = host
        .configuration()
        .replace("127.0.0.1", "controller.invalid");
    let toml = format!("{nowhere}{hook}{}", script::entity(&name, &settings));
    place.configure(&toml);
    for choice in ["pidfd", "proc-connector", "auto"] {
        let mut command = daemon::command(&place);
        command.args(["--source", choice]);
        let daemon = Daemon::launch(&place, command);
        daemon.entity_when(&name, "it is tried", LONG, |entity| {
            entity["stage"] == "monitor_wait"
        });
        hostwd.petted(3);
        host.pulses_still();
        let petting = |told: &String| told.contains("watchdog") || told.contains("engine");
        let told = troubles(&daemon);
        assert!(!told.iter().any(petting), "{choice}: {told:?}");
        let status = daemon.status();
        if choice == "pidfd" {
            assert_ne!(source(&status, "ebpf")["state"], "healthy");
        }
        daemon.kill();
        wait::until("its last messages are read", LONG, || {
            hostwd.waiting().is_empty().then_some(())
        });
    }
}
