//! `start = "early"` and `[[entity.socket]]`.

#![expect(clippy::panic, reason = "tests")]

use super::tests::{entity, error};
use crate::core::{
    entity::StartMethod,
    socket::{Listen, SocketAccess, SocketSpec},
};

const COMMAND: &str = "command = [\"/usr/bin/x\"]\n";

#[test]
fn a_command_in_the_foreground_may_be_started_early() {
    for (keys, expected) in [
        ("start = \"early\"", true),
        ("start = \"released\"", false),
        ("", false),
    ] {
        let (x, texts) = entity(&format!("{COMMAND}{keys}\n"));
        assert_eq!(texts, [""; 0]);
        let StartMethod::Command(command) = x.start else {
            panic!("{keys}");
        };
        assert_eq!(command.early, expected, "{keys}");
    }
}

#[test]
fn an_early_start_needs_a_process_that_pmon_executes_itself() {
    for (keys, expected) in [
        (
            "daemonizes = true\npidfile = \"/run/x\"",
            "is not possible with `daemonizes`",
        ),
        ("follow = true", "is not possible with `follow`"),
    ] {
        let text = format!("[[entity]]\nname = \"x\"\n{COMMAND}start = \"early\"\n{keys}\n");
        let said = error(&text);
        assert!(said.starts_with("pmon.toml:4:9: error:"), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    let without = "[[entity]]\nname = \"x\"\nscript = \"/etc/init.d/x\"\npidfile = \"/run/x\"\nstart = \"early\"\n";
    let said = error(without);
    assert!(
        said.contains("`start` has no effect without `command`"),
        "{said}"
    );
    let (_, texts) = entity(&format!(
        "{COMMAND}script = \"/etc/init.d/x\"\npidfile = \"/run/x\"\nstart = \"early\"\n[[entity.socket]]\nlisten = \"unix:/run/s\"\n"
    ));
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].contains(":6:9: warning: `start` has no effect on this host"),
        "{texts:?}"
    );
    assert!(
        texts[1].contains("warning: `socket` has no effect on this host"),
        "{texts:?}"
    );
}

#[test]
fn sockets_are_passed_in_their_order() {
    let (x, texts) = entity(&format!(
        r#"{COMMAND}
        [[entity.socket]]
        listen = "tcp:127.0.0.1:8080"
        [[entity.socket]]
        listen = "unix:/run/x.sock"
        name = "admin"
        backlog = 7
        mode = "0660"
        user = "www"
        group = "www"
        "#
    ));
    assert_eq!(texts, [""; 0]);
    let StartMethod::Command(command) = x.start else {
        panic!("a command");
    };
    let expected = [
        SocketSpec {
            listen: Listen::Tcp(([127, 0, 0, 1], 8080).into()),
            name: "x".to_owned(),
            backlog: 4096,
            access: SocketAccess::default(),
        },
        SocketSpec {
            listen: Listen::Unix("/run/x.sock".into()),
            name: "admin".to_owned(),
            backlog: 7,
            access: SocketAccess {
                mode: Some(0o660),
                user: Some("www".to_owned()),
                group: Some("www".to_owned()),
            },
        },
    ];
    assert_eq!(command.sockets, expected);
}

#[test]
fn a_socket_that_cannot_be_meant_is_refused() {
    for (table, expected) in [
        ("listen = \"80\"", "is no place to listen"),
        (
            "listen = \"tcp:[::1]:80\"\nmode = \"0600\"",
            "`mode` is for unix sockets only",
        ),
        (
            "listen = \"udp:[::1]:80\"\nuser = \"www\"",
            "`user` is for unix sockets only",
        ),
        (
            "listen = \"unix:/s\"\nmode = \"0999\"",
            "is no permission mode",
        ),
        (
            "listen = \"unix:/s\"\nname = \"a:b\"",
            "cannot be a socket's name",
        ),
        (
            "listen = \"unix:/s\"\n[[entity.socket]]\nlisten = \"unix:/s\"",
            "the entity has `unix:/s` twice",
        ),
    ] {
        let text = format!("[[entity]]\nname = \"x\"\n{COMMAND}[[entity.socket]]\n{table}\n");
        let said = error(&text);
        assert!(said.contains(expected), "{said}");
    }
    let mut many = format!("[[entity]]\nname = \"x\"\n{COMMAND}");
    for port in 1..=17 {
        many += &format!("[[entity.socket]]\nlisten = \"tcp:127.0.0.1:{port}\"\n");
    }
    assert!(error(&many).contains("more than 16 sockets"));
    let without = "[[entity]]\nname = \"x\"\nscript = \"/etc/init.d/x\"\npidfile = \"/run/x\"\n[[entity.socket]]\nlisten = \"unix:/s\"\n";
    let said = error(without);
    assert!(
        said.contains("`socket` has no effect without `command`"),
        "{said}"
    );
}
