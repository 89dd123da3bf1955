//! `docs/configuration.md` tells the truth: its examples load, and it names every key.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path};

use super::{
    Finding, Settings, Sources, host::invented::InventedHost, load, native::schema::schema, pmond,
};

const DOCUMENT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/configuration.md"
));

/// Fenced blocks of `language`.
fn blocks(language: &str) -> Vec<&'static str> {
    DOCUMENT
        .split(&format!("```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

fn host() -> InventedHost {
    InventedHost::with_systemd(&["sshd.service", "nginx.service"])
        .script_at("/usr/local/bin/ticker")
        .script_at("/usr/sbin/collectord")
}

#[test]
fn toml_examples_load_without_a_word_and_the_settings_are_the_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let examples = blocks("toml");
    assert_eq!(examples.len(), 6);
    for example in examples {
        let sources = Sources {
            pmon_toml: directory.path().join("pmon.toml"),
            explicit: true,
            pmon_d: Some(empty.path().to_path_buf()),
        };
        fs::write(&sources.pmon_toml, example).unwrap();
        let loaded = load(&sources, &host());
        assert!(!loaded.refused(), "{example}: {:#?}", loaded.findings);
        let findings: Vec<_> = loaded
            .findings
            .iter()
            .map(Finding::to_string)
            // The overrides' processes are not on this host.
            .filter(|text| !text.contains("warning: override of"))
            .collect();
        assert_eq!(findings, [""; 0], "{example}");
        if example.starts_with("[daemon]") {
            assert_eq!(loaded.settings, Settings::default());
        }
    }
}

#[test]
fn the_pmon_d_example_loads_without_a_word() {
    let examples = blocks("ini");
    assert_eq!(examples.len(), 1);
    let (outcome, findings) = pmond::load(
        Path::new("/p"),
        examples[0].as_bytes(),
        &Settings::default(),
        &host(),
    );
    assert!(matches!(outcome, pmond::Outcome::Entity(_)));
    assert_eq!(findings, []);
}

#[test]
fn every_key_of_the_schema_is_documented() {
    let schema = schema();
    let mut keys = Vec::new();
    for definition in schema["$defs"].as_object().unwrap().values() {
        let properties = definition["properties"].as_object();
        keys.extend(properties.into_iter().flat_map(serde_json::Map::keys));
    }
    assert!(keys.len() > 40, "{keys:?}");
    for key in keys {
        let documented = DOCUMENT.contains(&format!("`{key}`"))
            || DOCUMENT.contains(&format!("\n{key} = "))
            || DOCUMENT.contains(&format!("{{ {key} = "));
        assert!(documented, "`{key}` is not in docs/configuration.md");
    }
}

#[test]
fn the_published_schema_is_the_one_in_force() {
    let published = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pmon.schema.json");
    let published: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(published).unwrap()).unwrap();
    assert_eq!(
        published,
        schema(),
        "renew it with `pmon config schema > docs/pmon.schema.json`"
    );
}
