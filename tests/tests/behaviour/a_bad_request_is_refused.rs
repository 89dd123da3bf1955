//! The control socket: requests that are too long, malformed or not permitted
//! get one clear error, and the daemon serves the next client.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::{net::UnixStream, process::CommandExt as _},
};

use pmon_tests::{
    daemon::{self, Daemon, LONG, answer},
    place::Place,
    privilege,
    script::foreground_entity,
    skip_if,
};
use serde_json::{Value, json};

/// Writes bytes to the socket and reads until the daemon closes it or has said
/// enough: the first reply, if there is one.
fn say(place: &Place, bytes: &[u8]) -> Option<Value> {
    let mut socket = UnixStream::connect(place.socket()).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    // The daemon may have closed it before everything was written.
    let written = socket.write_all(bytes);
    if written.is_ok() {
        socket.shutdown(Shutdown::Write).ok();
    }
    let mut reply = Vec::new();
    // A reset connection after an over-long request is an answer as well.
    socket.read_to_end(&mut reply).ok();
    let first = reply.split(|&byte| byte == 0).next()?;
    serde_json::from_slice(first).ok()
}

fn request(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(0);
    bytes
}

fn error(reply: Option<Value>) -> String {
    let reply = reply.unwrap();
    println!("{reply}");
    reply["error"]
        .as_str()
        .unwrap_or_else(|| panic!("no error: {reply}"))
        .to_owned()
}

#[test]
fn when_it_is_malformed() {
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let status = "io.pmon.Monitor.Status";

    // 1 MB, as one string and as one object.
    for long in [
        vec![b'x'; 1 << 20],
        request(&json!({"method": status, "parameters": {"names": ["n".repeat(1 << 20)]}})),
    ] {
        if let Some(reply) = say(&place, &long) {
            println!("1 MB: {reply}");
            assert!(reply["error"].is_string(), "{reply}");
            assert!(reply.to_string().contains("longer than"), "{reply}");
        }
        assert!(daemon.is_running());
    }
    for no_object in ["17", "[]", "\"status\"", "null", "{", "nonsense", ""] {
        let reply = say(&place, &[no_object.as_bytes(), &[0]].concat());
        let named = error(reply);
        assert!(named.ends_with("InvalidRequest"), "{no_object}: {named}");
    }
    let unknown = say(
        &place,
        &request(&json!({"method": "io.pmon.Monitor.Destroy"})),
    );
    assert!(error(unknown).ends_with("MethodNotFound"));
    let interface = say(
        &place,
        &request(&json!({"method": "org.example.Other.Status"})),
    );
    assert!(error(interface).ends_with("InterfaceNotFound"));
    let parameter = json!({"method": status, "parameters": {"nmaes": []}});
    assert!(error(say(&place, &request(&parameter))).ends_with("InvalidParameter"));
    let wrong = json!({"method": "io.pmon.Monitor.Stop", "parameters": {"name": 17}});
    assert!(error(say(&place, &request(&wrong))).ends_with("InvalidParameter"));
    let path = json!({"method": "io.pmon.Monitor.Register",
        "parameters": {"name": "../etc", "pid": 1, "pidfile": null, "restart": null}});
    assert!(error(say(&place, &request(&path))).ends_with("InvalidParameter"));

    // Half a request, a client that says nothing, and many of them.
    let half = UnixStream::connect(place.socket()).unwrap();
    (&half).write_all(b"{\"method\":").unwrap();
    let silent: Vec<_> = (0..40)
        .filter_map(|_| UnixStream::connect(place.socket()).ok())
        .collect();
    let answered = daemon.status();
    assert_eq!(answered["version"], 1);
    drop((half, silent));
    let good = say(
        &place,
        &request(&json!({"method": status, "parameters": {}})),
    );
    assert_eq!(good.unwrap()["parameters"]["version"], 1);
}

#[test]
fn when_it_comes_from_a_stranger() {
    skip_if!(privilege::no_root());
    let place = Place::new();
    let (name, ours) = (place.name("web"), place.name("ours"));
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    let as_nobody = |socket: &std::path::Path, arguments: &[&str]| {
        let mut client = daemon::client(socket, arguments);
        client.uid(65534).gid(65534);
        answer(&mut client)
    };
    for verb in [
        &["status"][..],
        &["stop", &name],
        &["restart", &name],
        &["reload"],
        &["unregister", &name],
        &["register", &ours, "--pid", "1"],
        &["events", "-n", "5"],
    ] {
        let refused = as_nobody(&place.socket(), verb);
        assert_eq!(refused.code, Some(6), "{verb:?}: {refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
        println!("{verb:?}: {}", refused.stderr.trim());
    }
    assert_eq!(daemon.up(&name), pid);

    // Who may read may not write: a group of the configuration, and the group of
    // the socket.
    drop(daemon);
    for table in [
        "[control]\nread_gids = [65534]\n",
        "[daemon]\nsocket_group = \"65534\"\n",
    ] {
        place.configure(&format!("{table}{}", foreground_entity(&name, &[])));
        let daemon = Daemon::start(&place);
        let pid = daemon.up(&name);
        let read = as_nobody(&place.socket(), &["status", "-o", "json"]);
        assert_eq!(read.code, Some(0), "{table}: {read:?}");
        assert_eq!(read.json()["entities"][0]["name"], name);
        let refused = as_nobody(&place.socket(), &["stop", &name]);
        assert_eq!(refused.code, Some(6), "{table}: {refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
        println!("{}", refused.stderr.trim());
        assert_eq!(daemon.up(&name), pid);
    }
    // And who may write may.
    place.configure(&format!(
        "[control]\nwrite_uids = [65534]\n{}",
        foreground_entity(&name, &[])
    ));
    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&name);
    let written = as_nobody(&place.socket(), &["stop", &name, "--wait"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    let events = daemon.events();
    let told = events.after(0, "who asked", LONG, |event| event.is(&name, "operator"));
    assert!(told.text.contains("uid 65534"), "{}", told.text);
}

#[test]
fn when_it_names_nothing_that_exists() {
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let misspelt = name.replacen("web", "wbe", 1);
    for verb in ["stop", "start", "restart", "show", "explain", "unregister"] {
        let refused = daemon.ask(&[verb, &misspelt]);
        assert_eq!(refused.code, Some(4), "{verb}: {refused:?}");
        assert!(refused.stderr.contains(&name), "no suggestion: {refused:?}");
    }
    let configured = daemon.ask(&["unregister", &name]);
    assert_eq!(configured.code, Some(6), "{configured:?}");
    let dead = daemon.ask(&["register", "gone", "--pid", "4194303"]);
    assert_eq!(dead.code, Some(2), "{dead:?}");
    let own_pid = std::process::id().to_string();
    let twice = daemon.ask(&["register", &name, "--pid", &own_pid]);
    assert_eq!(twice.code, Some(6), "{twice:?}");
    for (pid, what) in [(1, "init"), (daemon.pid(), "pmon itself")] {
        let never = daemon.ask(&["register", "never", "--pid", &pid.to_string()]);
        assert_eq!(never.code, Some(2), "{never:?}");
        assert!(never.stderr.contains(what), "{never:?}");
    }
    assert_eq!(daemon.ask(&["frobnicate"]).code, Some(2));
    let nobody = answer(&mut daemon::client(&place.path("no.sock"), &["status"]));
    assert_eq!(nobody.code, Some(5), "{nobody:?}");
}
