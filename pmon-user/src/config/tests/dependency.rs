//! Relations between entities, as files say them: what is put together, and what is
//! said about names, groups and cycles.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;

use super::*;
use crate::{
    config::{Sources, host::invented::InventedHost, load},
    core::dependency::Strategy,
};

/// One pmon.toml, and a pmon.d file for `sshd`.
fn loaded(toml: &str) -> (Loaded, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources {
        pmon_toml: directory.path().join("pmon.toml"),
        explicit: true,
        pmon_d: Some(directory.path().join("pmon.d")),
    };
    fs::create_dir(directory.path().join("pmon.d")).unwrap();
    let sshd = "[process]\nprocess = sshd\nservice = sshd\npidfile = /run/sshd.pid\nstyle = lsb\n\
                severity = minor\nrestarts = 3\ninterval = 5\ndebounce = 20\nstartuptime = 5\nmode = passive\n";
    fs::write(directory.path().join("pmon.d/sshd.conf"), sshd).unwrap();
    fs::write(&sources.pmon_toml, toml).unwrap();
    let host = InventedHost::with_systemd(&["sshd.service"]).script_at("/usr/bin/x");
    let loaded = load(&sources, &host);
    let prefix = format!("{}/", directory.path().display());
    let texts = (loaded.findings.iter())
        .map(|finding| finding.to_string().replace(&prefix, ""))
        .collect();
    (loaded, texts)
}

/// Entities of these names, each with further keys.
fn entities(rows: &[(&str, &str)]) -> String {
    rows.iter()
        .map(|(name, keys)| {
            format!("[[entity]]\nname = {name:?}\ncommand = [\"/usr/bin/x\"]\n{keys}\n")
        })
        .collect()
}

fn of<'a>(loaded: &'a Loaded, name: &str) -> &'a EntitySpec {
    loaded.entities.iter().find(|one| one.name == name).unwrap()
}

#[test]
fn relations_of_both_dialects_are_put_together() {
    let toml = entities(&[
        ("db", ""),
        ("web", "after = [\"sshd\"]\nrequires = [\"db\"]"),
    ]) + "[override.sshd]\nafter = [\"db\"]\n[group.shop]\nstrategy = \"rest\"\nmembers = [\"db\", \"sshd\"]\n";
    let (loaded, texts) = loaded(&toml);
    assert_eq!(texts, [""; 0]);
    assert!(!loaded.refused());
    let web = &of(&loaded, "web").dependencies;
    assert_eq!((web.after.len(), web.requires.len()), (1, 1));
    assert_eq!(web.group, None);
    let sshd = &of(&loaded, "sshd").dependencies;
    assert_eq!(sshd.after, ["db"]);
    let group = sshd.group.clone().unwrap();
    assert_eq!(group.strategy, Strategy::Rest);
    assert_eq!(group.members, ["db", "sshd"]);
    assert_eq!(of(&loaded, "db").dependencies.group, Some(group));
}

#[test]
fn a_cycle_is_refused_and_named_with_its_place() {
    let toml = entities(&[
        ("web", "requires = [\"cache\"]"),
        ("cache", "after = [\"db\"]"),
        ("db", "after = [\"web\"]"),
    ]);
    let (loaded, texts) = loaded(&toml);
    assert!(loaded.refused());
    assert_eq!(
        texts,
        [
            "pmon.toml:6: error: they would wait for one another: `cache` after `db` after `web` \
          after `cache` (take one `after`, `requires` or place in a group away)"
        ]
    );
}

#[test]
fn a_group_whose_order_contradicts_is_a_cycle_too() {
    let toml =
        entities(&[("db", "after = [\"sshd\"]")]) + "[group.shop]\nmembers = [\"db\", \"sshd\"]\n";
    let (loaded, texts) = loaded(&toml);
    assert!(loaded.refused());
    assert!(
        texts[0].contains("error: they would wait for one another: `db` after `sshd` after `db`"),
        "{texts:?}"
    );
}

#[test]
fn who_is_not_there_is_said_and_left_out() {
    let toml = entities(&[
        ("db", ""),
        ("web", "requires = [\"bd\"]\nafter = [\"nobody\"]"),
    ]) + "[group.shop]\nmembers = [\"db\", \"wbe\"]\n";
    let (loaded, texts) = loaded(&toml);
    assert!(!loaded.refused());
    for expected in [
        "pmon.toml:6: warning: `requires` of `web`: there is no entity `bd` (did you mean `db`?)",
        "pmon.toml:6: warning: `after` of `web`: there is no entity `nobody` (it is not waited for)",
        "warning: group `shop`: there is no entity `wbe` (did you mean `web`?)",
    ] {
        assert!(
            texts.iter().any(|text| text.contains(expected)),
            "{expected}: {texts:#?}"
        );
    }
}

#[test]
fn one_group_is_possible() {
    let toml = entities(&[("db", "")])
        + "[group.one]\nmembers = [\"db\"]\n[group.two]\nmembers = [\"db\"]\n";
    let (loaded, texts) = loaded(&toml);
    assert!(loaded.refused());
    assert!(
        texts[0].contains("error: `db` is in group `one` already, at "),
        "{texts:?}"
    );
}
