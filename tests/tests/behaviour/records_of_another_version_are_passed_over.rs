//! Somebody else's program writes into the ring: that is told as long as it goes
//! on, no death is lost by it, and all is well when it has ended.

use std::{
    path::Path,
    process::{Child, Command},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData},
    programs::RawTracePoint,
};
use pmon_common::{
    EVENTS_MAP, EXIT_RAW_PROGRAM, FILTER_ELEMENT_BYTES, FILTER_KEYS_BITS, FILTER_MAP, PIDS_MAP,
    Registration, Tgid,
};
use pmon_tests::{
    daemon::{Daemon, LONG, source},
    pins,
    place::{Place, is_bpffs},
    privilege,
    process::{self, Process},
    script::foreground_entity,
    skip_if, wait,
};
use pmon_user::source::programs::Selection;
use serde_json::{Value, json};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../pmon-user/bpf/pmon.bpf.o"
));

/// Our own program with a table of its own, whose log goes where the daemon
/// expects records: lines of text, of any length. Loaded as long as this exists.
struct Stranger(Ebpf);

impl Stranger {
    fn writing_into(ring: &Path) -> Self {
        let globals = Selection::of_this_host().layout.globals();
        let mut loader = EbpfLoader::new();
        for (name, value) in &globals {
            loader.override_global(name, value, true);
        }
        loader.map_pin_path("AYA_LOGS", ring);
        let mut object = loader.load(OBJECT).unwrap();
        let program = object.program_mut(EXIT_RAW_PROGRAM).unwrap();
        let program: &mut RawTracePoint = program.try_into().unwrap();
        program.load().unwrap();
        program.attach("sched_process_exit").unwrap();
        Self(object)
    }

    /// Has it write once.
    fn write(&mut self) {
        let child: Child = Command::new("sleep").arg("1000").spawn().unwrap();
        let entry = Registration {
            start_time: process::start_ticks(child.id()).unwrap(),
            generation: 1,
            ..Registration::default()
        };
        let mut bytes = [0; FILTER_ELEMENT_BYTES];
        let byte = (child.id() >> FILTER_KEYS_BITS) as usize;
        bytes[byte % FILTER_ELEMENT_BYTES] = 1;
        let element = u32::try_from(byte / FILTER_ELEMENT_BYTES).unwrap();
        let map = self.0.map_mut(FILTER_MAP).unwrap();
        let mut filter: Array<&mut MapData, [u8; FILTER_ELEMENT_BYTES]> = map.try_into().unwrap();
        filter.set(element, bytes, 0).unwrap();
        let map = self.0.map_mut(PIDS_MAP).unwrap();
        let mut pids: HashMap<&mut MapData, Tgid, Registration> = map.try_into().unwrap();
        pids.insert(child.id(), entry, 0).unwrap();
        let mut child = child;
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn and_told() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let name = place.name("web");
    place.configure(&format!(
        "[daemon]\ncanary_interval = \"1s\"\n{}",
        foreground_entity(&name, &[])
    ));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    daemon.source_when("ebpf", "healthy");
    let ring = pins::directory(&daemon).join(EVENTS_MAP);
    let mut stranger = Stranger::writing_into(&ring);
    // A canary that comes through meanwhile is believed until the next record.
    let status = wait::until("it is told", LONG, || {
        stranger.write();
        let status = daemon.status();
        (status["degraded"] != json!([])).then_some(status)
    });
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("of another version"), "{degraded}");
    assert!(degraded.contains(EVENTS_MAP), "{degraded}");
    let ebpf = source(&status, "ebpf");
    assert_eq!(ebpf["state"], "degraded", "{ebpf:#}");
    assert_eq!(ebpf["lost"], 0, "{ebpf:#}");

    // It is still the one that tells of deaths, each once.
    Process::open(pid).unwrap().kill();
    stranger.write();
    let entity = daemon.entity_when(&name, "it is up again", LONG, |entity| {
        entity["state"] == "up" && entity["pid"] != pid
    });
    stranger.write();
    assert_eq!(entity["last_death"]["detected_by"], "ebpf", "{entity:#}");
    assert_eq!(entity["deaths_24h"], 1);

    drop(stranger);
    let ebpf = daemon.source_when("ebpf", "healthy");
    assert_eq!(ebpf["reason"], Value::Null, "{ebpf:#}");
    assert_eq!(daemon.status()["degraded"], json!([]));
}
