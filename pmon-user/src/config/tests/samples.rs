//! Every shipped pmon.d file that was collected, against a table of what it says.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use super::{Level, Loaded, directory, host::invented::InventedHost, pmond};
use crate::core::entity::UnitPolicy;
use crate::core::entity::{ActiveSpec, Mode, Severity, StartMethod};
use Mode::{Active, Passive};
use Severity::{Critical, Major, Minor};

/// File, name, service, pidfile, severity, restarts, interval, debounce, startuptime, mode, quorum, subfunction.
type Row = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
    Severity,
    u32,
    u64,
    u64,
    u64,
    Mode,
    bool,
    Option<&'static str>,
);

#[rustfmt::skip]
const TABLE: [Row; 26] = [
    ("config-files__containerd-config-files-containerd-pmon.conf", "containerd", Some("containerd"), "/var/run/containerd.pid", Critical, 3, 5, 20, 5, Passive, false, None),
    ("config-files__containerd-config-source-debian-containerd-pmon.conf", "containerd", Some("containerd"), "/var/run/containerd.pid", Critical, 3, 5, 20, 5, Passive, false, None),
    ("config-files__docker-config-files-docker-pmond.conf", "dockerd", Some("docker"), "/var/run/dockerd.pid", Critical, 3, 5, 20, 5, Passive, false, Some("last-config")),
    ("config-files__docker-config-source-debian-docker.conf", "dockerd", Some("docker"), "/var/run/dockerd.pid", Critical, 3, 7, 20, 7, Passive, false, Some("last-config")),
    ("config-files__openvswitch-config-files-ovs-vswitchd.pmon.conf", "ovs-vswitchd", Some("ovs-vswitchd"), "/var/run/openvswitch/ovs-vswitchd.pid", Critical, 0, 0, 20, 5, Passive, false, Some("worker")),
    ("config-files__openvswitch-config-files-ovsdb-server.pmon.conf", "ovsdb-server", Some("ovsdb-server"), "/var/run/openvswitch/ovsdb-server.pid", Critical, 3, 5, 20, 5, Passive, false, Some("worker")),
    ("config__sysinv-sysinv-agent-sysinv-agent.conf", "sysinv-agent", None, "/var/run/sysinv-agent.pid", Major, 3, 5, 20, 1, Passive, false, None),
    ("fault__fm-rest-api-fm-fm-api-pmond.conf", "fm-api", None, "/var/run/fm-api.pid", Major, 3, 5, 20, 1, Passive, false, None),
    ("ha__service-mgmt-api-sm-api-scripts-sm-api.conf", "sm-api", None, "/var/run/sm-api.pid", Major, 3, 5, 20, 1, Passive, false, None),
    ("ha__service-mgmt-sm-common-scripts-sm-eru.conf", "sm-eru", None, "/var/run/sm-eru.pid", Minor, 3, 5, 20, 5, Passive, false, None),
    ("ha__service-mgmt-sm-scripts-sm.conf", "sm", None, "/var/run/sm.pid", Critical, 3, 5, 20, 5, Passive, true, None),
    ("metal__mtce-control-src-scripts-hbsAgent.conf", "hbsAgent", Some("hbsAgent"), "/var/run/hbsAgent.pid", Major, 1, 5, 20, 5, Passive, false, None),
    ("metal__mtce-control-src-scripts-ipsec-server.conf", "ipsec-server", Some("ipsec-server"), "/var/run/ipsec-server.pid", Major, 3, 5, 20, 5, Passive, false, None),
    ("metal__mtce-src-alarm-scripts-mtcalarm.pmon.conf", "mtcalarmd", Some("mtcalarm"), "/var/run/mtcalarmd.pid", Major, 5, 5, 20, 5, Passive, false, None),
    ("metal__mtce-src-fsmon-scripts-fsmon.conf", "fsmond", Some("fsmon"), "/var/run/fsmond.pid", Major, 5, 5, 20, 5, Passive, true, None),
    ("metal__mtce-src-lmon-scripts-lmon.pmon.conf", "lmond", Some("lmon"), "/var/run/lmond.pid", Major, 3, 5, 20, 5, Passive, false, None),
    ("metal__mtce-src-pmon-scripts-acpid.conf", "acpid", Some("acpid"), "/var/run/acpid.pid", Minor, 3, 5, 20, 5, Passive, false, None),
    ("metal__mtce-src-pmon-scripts-nslcd.conf", "nslcd", Some("nslcd"), "/var/run/nslcd/nslcd.pid", Major, 3, 5, 20, 5, Passive, false, None),
    ("metal__mtce-src-pmon-scripts-sshd.conf", "sshd", Some("sshd"), "/var/run/sshd.pid", Minor, 10, 5, 20, 5, Passive, false, None),
    ("metal__mtce-src-pmon-scripts-sssd.conf", "sssd", Some("sssd"), "/var/run/sssd.pid", Major, 3, 5, 20, 5, Passive, false, None),
    ("metal__mtce-src-pmon-scripts-syslog-ng.conf", "syslog-ng", Some("syslog-ng"), "/var/run/syslog-ng/syslog-ng.pid", Minor, 2, 2, 20, 5, Passive, false, None),
    ("metal__mtce-src-scripts-hbsClient.conf", "hbsClient", Some("hbsClient"), "/var/run/hbsClient.pid", Major, 5, 5, 10, 5, Active, true, Some("last-config")),
    ("metal__mtce-src-scripts-mtcClient.conf", "mtcClient", Some("mtcClient"), "/var/run/mtcClient.pid", Major, 5, 5, 10, 5, Active, true, None),
    ("metal__mtce-src-scripts-mtclogd.conf", "mtclogd", Some("mtclog"), "/var/run/mtclogd.pid", Minor, 5, 5, 20, 5, Passive, false, None),
    ("monitoring__collectd-extensions-src-collectd.conf.pmon.conf", "collectd", Some("collectd"), "/var/run/collectd.pid", Major, 3, 5, 10, 10, Passive, false, None),
    ("nfv__mtce-guest-src-scripts-guestServer.pmon.conf", "guestServer", Some("guestServer"), "/var/run/guestServer.pid", Major, 3, 3, 10, 1, Passive, false, Some("worker")),
];

/// Files whose continuation line the original delivers, too.
const CONTINUED: &str = "metal__mtce-src-scripts-hbsClient.conf";
/// Files that carry the keys of active mode in passive mode.
const DROPPED: [&str; 2] = [
    "metal__mtce-control-src-scripts-hbsAgent.conf",
    "metal__mtce-src-fsmon-scripts-fsmon.conf",
];

/// The collection, which is not part of this repository.
fn collection() -> Option<PathBuf> {
    let shared = std::env::var_os("PMON_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let samples = shared.join("samples/pmon.d");
    if samples.is_dir() {
        return Some(samples);
    }
    println!(
        "SKIP: no sample files at {} (set PMON_SHARED)",
        samples.display()
    );
    None
}

/// A host with every unit and script of the table.
fn host() -> InventedHost {
    let units: Vec<String> = TABLE
        .iter()
        .map(|row| format!("{}.service", row.2.unwrap_or(row.1)))
        .collect();
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    InventedHost::with_systemd(&units)
}

#[test]
fn every_sample_says_exactly_what_the_table_says() {
    let Some(samples) = collection() else { return };
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(&samples).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let path = samples.join(&file);
        let bytes = fs::read(&path).unwrap();
        let (outcome, findings) = pmond::load(&path, &bytes, &super::Settings::default(), &host());
        let pmond::Outcome::Entity(e) = outcome else {
            panic!("{file}: {outcome:?}")
        };
        let row = TABLE
            .iter()
            .find(|row| row.0 == file)
            .unwrap_or_else(|| panic!("{file} is new"));
        let (
            _,
            name,
            service,
            pidfile,
            severity,
            restarts,
            interval,
            debounce,
            startup,
            mode,
            quorum,
            subfunction,
        ) = *row;
        let seconds = Duration::from_secs;
        assert_eq!(e.name, name, "{file}");
        let unit = format!("{}.service", service.unwrap_or(name));
        assert_eq!(
            e.start,
            StartMethod::Unit {
                unit,
                policy: UnitPolicy::Leave
            },
            "{file}"
        );
        assert_eq!(e.pidfile, Some(pidfile.into()), "{file}");
        assert_eq!(e.severity, severity, "{file}");
        assert_eq!(e.restarts, restarts, "{file}");
        assert_eq!(e.interval, seconds(interval), "{file}");
        assert_eq!(e.debounce, seconds(debounce), "{file}");
        assert_eq!(e.startuptime, seconds(startup), "{file}");
        assert_eq!(e.start_timeout, seconds(30), "{file}");
        assert_eq!(e.mode, mode, "{file}");
        assert_eq!(e.quorum, quorum, "{file}");
        assert_eq!(e.subfunction.as_deref(), subfunction, "{file}");
        assert_eq!(e.status, None, "{file}");
        let active = (mode == Active).then_some(ActiveSpec {
            port: if name == "hbsClient" { 2202 } else { 2201 },
            period: seconds(5),
            timeout: seconds(4),
            threshold: 5,
            full_init_required: name == "hbsClient",
        });
        assert_eq!(e.active, active, "{file}");
        let texts: Vec<_> = findings.iter().map(ToString::to_string).collect();
        if file == CONTINUED {
            assert_eq!(texts.len(), 1, "{texts:#?}");
            assert!(
                texts[0]
                    .contains("warning: indented line counts as another value of `full_init_reqd`")
            );
        } else if DROPPED.contains(&file.as_str()) {
            assert_eq!(texts.len(), 4, "{texts:#?}");
            assert!(findings.iter().all(|f| f.severity == Level::Note));
        } else {
            assert_eq!(texts, [""; 0], "{file}");
        }
        seen.insert(file);
    }
    let missing: Vec<_> = TABLE.iter().filter(|row| !seen.contains(row.0)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_whole_collection_loads_as_one_directory() {
    let Some(samples) = collection() else { return };
    let mut loaded = Loaded::default();
    directory::load(&mut loaded, &samples, true, &host());
    // Two files each for containerd and dockerd.
    assert_eq!(loaded.entities.len(), 24);
    assert_eq!(loaded.unmonitored, []);
    let errors: Vec<_> = loaded.errors().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(
        errors
            .iter()
            .all(|error| error.contains("already configured at"))
    );
}
