//! Pinned maps as bpftool shows and makes them, and what the daemon says of them.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

use crate::daemon::Daemon;

/// `flag::DEAD` of the ABI.
pub const DEAD: u64 = 1;

/// Runs bpftool, which must succeed; its JSON.
///
/// # Panics
///
/// When it does not.
pub fn bpftool(arguments: &[&str]) -> Value {
    let output = Command::new("bpftool")
        .arg("--json")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Entries of a pinned table, by pid, with field names.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn table(directory: &Path) -> BTreeMap<u64, Value> {
    let entries = dump(directory);
    let entries = entries.iter().map(|entry| {
        let entry = &entry["formatted"];
        (entry["key"].as_u64().unwrap(), entry["value"].clone())
    });
    entries.collect()
}

/// Keys and values of a pinned table as words for bpftool: bytes in hexadecimal.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn bytes(directory: &Path) -> Vec<(Vec<String>, Vec<String>)> {
    let words = |bytes: &Value| {
        let bytes = bytes.as_array().unwrap().iter();
        bytes.map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let entries = dump(directory);
    let entries = entries.iter();
    entries
        .map(|entry| (words(&entry["key"]), words(&entry["value"])))
        .collect()
}

fn dump(directory: &Path) -> Vec<Value> {
    let map = directory.join("pmon_pids");
    let dump = bpftool(&["map", "dump", "pinned", map.to_str().unwrap()]);
    dump.as_array().unwrap().clone()
}

/// Creates and pins a map.
pub fn create(path: &Path, kind: &str, value: usize, entries: u32, name: &str) {
    bpftool(&[
        "map",
        "create",
        path.to_str().unwrap(),
        "type",
        kind,
        "key",
        "4",
        "value",
        &value.to_string(),
        "entries",
        &entries.to_string(),
        "name",
        name,
    ]);
}

/// Writes an element, given as bytes in hexadecimal.
pub fn update(path: &Path, key: &[String], value: &[String]) {
    let mut arguments = vec![
        "map",
        "update",
        "pinned",
        path.to_str().unwrap(),
        "key",
        "hex",
    ];
    let bare = |word: &'static str, bytes: &[String]| {
        let bytes = bytes
            .iter()
            .map(|byte| byte.trim_start_matches("0x").to_owned());
        (word, bytes.collect::<Vec<_>>())
    };
    let (_, key) = bare("key", key);
    let (_, value) = bare("value", value);
    arguments.extend(key.iter().map(String::as_str));
    arguments.extend(["value", "hex"]);
    arguments.extend(value.iter().map(String::as_str));
    bpftool(&arguments);
}

/// Every death in the history of an entity: who, and when by the kernel's clock.
///
/// # Panics
///
/// When the daemon does not tell.
#[must_use]
pub fn deaths(daemon: &Daemon, name: &str) -> Vec<(String, Option<u64>)> {
    let history = daemon.json(&["history", name]);
    let incidents = history["incidents"].as_array().unwrap().iter();
    incidents
        .flat_map(|incident| incident["deaths"].as_array().unwrap().clone())
        .map(|death| {
            let identity = death["identity"].as_str().unwrap().to_owned();
            (identity, death["died_at_boot_ns"].as_u64())
        })
        .collect()
}

/// One of the counters of `pmon bpf show`.
///
/// # Panics
///
/// When there is none of that name.
#[must_use]
pub fn counter(daemon: &Daemon, name: &str) -> u64 {
    let view = daemon.json(&["bpf", "show", "--seconds", "0"]);
    view["stats"][name].as_u64().unwrap()
}

/// Where the daemon says that it pins.
///
/// # Panics
///
/// When it does not.
#[must_use]
pub fn directory(daemon: &Daemon) -> std::path::PathBuf {
    let status = daemon.status();
    status["daemon"]["pin_dir"].as_str().unwrap().into()
}
