//! Both dialects together, as the daemon loads them.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path};

use super::{host::invented::InventedHost, *};
use crate::core::entity::StopPolicy;

const PMON_D: &str = "[process]\nprocess = a\nservice = a\npidfile = /run/a.pid\nstyle = lsb\n\
    severity = minor\nrestarts = 1\ninterval = 1\ndebounce = 1\n";

fn tree(directory: &Path, files: &[(&str, &str)]) -> Sources {
    fs::create_dir_all(directory.join("conf.d")).unwrap();
    fs::create_dir_all(directory.join("pmon.d")).unwrap();
    for (name, text) in files {
        fs::write(directory.join(name), text).unwrap();
    }
    Sources {
        pmon_toml: directory.join("pmon.toml"),
        explicit: false,
        pmon_d: Some(directory.join("pmon.d")),
    }
}

fn loaded(files: &[(&str, &str)]) -> (Loaded, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let sources = tree(directory.path(), files);
    let host = InventedHost::with_systemd(&["a.service"]);
    let loaded = load(&sources, &host);
    let prefix = format!("{}/", directory.path().display());
    let texts = loaded
        .findings
        .iter()
        .map(|finding| finding.to_string().replace(&prefix, ""))
        .collect();
    (loaded, texts)
}

#[test]
fn nothing_configured_is_fine() {
    let (loaded, texts) = loaded(&[]);
    assert!(!loaded.refused());
    assert_eq!(texts, [""; 0]);
    assert_eq!(loaded.settings, Settings::default());
}

#[test]
fn a_named_file_must_exist() {
    let sources = Sources {
        pmon_toml: "/nonexistent/pmon.toml".into(),
        explicit: true,
        pmon_d: None,
    };
    let loaded = load(&sources, &InventedHost::default());
    assert!(loaded.refused());
    assert_eq!(
        loaded.errors().next().unwrap().to_string(),
        "/nonexistent/pmon.toml: error: configuration file does not exist"
    );
}

#[test]
fn a_broken_main_file_refuses_but_the_rest_is_there() {
    let (loaded, texts) = loaded(&[
        ("pmon.toml", "[daemon]\nrun_dri = \"/x\"\n"),
        ("pmon.d/a", PMON_D),
        (
            "conf.d/1.toml",
            "[[entity]]\nname = \"b\"\npidfile = \"/run/b.pid\"\ncommand = [\"/bin/b\"]\n",
        ),
    ]);
    assert!(loaded.refused());
    assert_eq!(
        texts[0],
        "pmon.toml:2:1: error: unknown key `run_dri` (did you mean `run_dir`?)"
    );
    let names: Vec<_> = loaded.entities.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
}

#[test]
fn a_bad_pmon_d_file_refuses_nothing() {
    let (loaded, texts) = loaded(&[("pmon.d/a", PMON_D), ("pmon.d/b", "rubbish")]);
    assert!(!loaded.refused());
    assert_eq!(loaded.entities.len(), 1);
    assert!(!texts.is_empty());
}

#[test]
fn overrides_reach_pmon_d_entities_and_strays_are_told() {
    let (loaded, texts) = loaded(&[
        (
            "pmon.toml",
            "[override.a]\nstop = \"kill-first\"\n[override.aa]\nstop = \"graceful\"\n[override.n]\n\
             [[entity]]\nname = \"n\"\npidfile = \"/run/n\"\nservice = \"a\"\n",
        ),
        ("conf.d/x.toml", "[override.a]\nstart_timeout = \"1min\"\n"),
        ("pmon.d/a", PMON_D),
    ]);
    let a = loaded.entities.iter().find(|e| e.name == "a").unwrap();
    assert_eq!(a.stop, StopPolicy::KillFirst);
    assert_eq!(a.start_timeout.as_secs(), 60);
    assert_eq!(
        texts,
        [
            "pmon.toml:3:11: warning: override of `aa` has no effect: no pmon.d file has that process (did you mean `a`?)",
            "pmon.toml:5:11: warning: override of `n` has no effect: it comes from a TOML file (set the keys in its `[[entity]]` table)",
        ]
    );
}

#[test]
fn a_native_entity_goes_before_a_pmon_d_one() {
    let (loaded, texts) = loaded(&[
        (
            "pmon.toml",
            "[[entity]]\nname = \"a\"\npidfile = \"/run/a.pid\"\nservice = \"a\"\nrestarts = 9\n",
        ),
        ("pmon.d/a", PMON_D),
    ]);
    assert_eq!(loaded.entities.len(), 1);
    assert_eq!(loaded.entities[0].restarts, 9);
    assert!(
        texts[0].starts_with("pmon.d/a:2: error: process `a` is already configured at pmon.toml:2")
    );
    assert!(!loaded.refused());
}

#[test]
fn the_pmon_d_directory_can_be_named_and_switched_off() {
    let directory = tempfile::tempdir().unwrap();
    let mut sources = tree(directory.path(), &[("pmon.d/a", PMON_D)]);
    sources.pmon_d = None;
    let host = InventedHost::with_systemd(&["a.service"]);
    let toml = format!(
        "[pmon_d]\ndirectory = \"{}/pmon.d\"\n",
        directory.path().display()
    );
    fs::write(&sources.pmon_toml, toml).unwrap();
    assert_eq!(load(&sources, &host).entities.len(), 1);
    fs::write(&sources.pmon_toml, "[pmon_d]\ndirectory = \"none\"\n").unwrap();
    let none = load(&sources, &host);
    assert_eq!((none.entities.len(), none.findings.len()), (0, 0));
}

#[test]
fn two_cannot_be_asked_at_one_port_and_none_at_the_port_of_the_answers() {
    let entity = |name: &str, port: u16| {
        format!(
            "[[entity]]\nname = \"{name}\"\nservice = \"a\"\npidfile = \"/run/{name}.pid\"\n\
             mode = \"active\"\nactive = {{ port = {port}, period = \"5s\", timeout = \"4s\", \
             threshold = 5 }}\n"
        )
    };
    let toml = entity("a", 2201) + &entity("b", 2201) + &entity("c", 2200);
    let (loaded, texts) = loaded(&[("pmon.toml", &toml)]);
    assert_eq!(loaded.entities.len(), 3);
    assert_eq!(
        texts,
        [
            "pmon.toml:8: warning: `b` has the same port as `a` at pmon.toml:2 (one of the two \
             will not be asked)",
            "pmon.toml:14: error: `c` has the port 2200, where processes answer (give it a port \
             of its own)",
        ]
    );
}

#[test]
fn a_name_that_does_not_fit_into_a_request_cannot_be_active() {
    let name = "n".repeat(80);
    let ini = format!(
        "{}mode = active\nport = 1\nperiod = 5\ntimeout = 4\nthreshold = 5\n",
        PMON_D.replace("process = a", &format!("process = {name}"))
    );
    let (pmon_d, texts) = loaded(&[("pmon.d/a.conf", &ini)]);
    assert_eq!(pmon_d.entities[0].mode, crate::core::entity::Mode::Passive);
    assert!(
        texts
            .iter()
            .any(|text| text.contains("79 bytes") && text.contains("passive mode only")),
        "{texts:?}"
    );
    let toml = format!(
        "[[entity]]\nname = \"{name}\"\nservice = \"a\"\npidfile = \"/run/a.pid\"\n\
         mode = \"active\"\nactive = {{ port = 1, period = \"5s\", timeout = \"4s\", threshold = 5 }}\n"
    );
    let (native, texts) = loaded(&[("pmon.toml", &toml)]);
    assert!(native.refused());
    assert!(texts[0].contains("79 bytes"), "{texts:?}");
}
