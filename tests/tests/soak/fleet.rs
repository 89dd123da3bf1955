//! The 25 services: programs in the foreground, daemons that a command puts
//! into the background, and daemons with an init script.

use std::path::PathBuf;

use pmon_tests::{
    place::Place,
    script::{Lsb, entity, foreground, foreground_entity, quoted},
};

/// So many of each kind.
const FOREGROUND: usize = 8;
const BACKGROUND: usize = 7;
const INIT_SCRIPT: usize = 10;

/// One monitored service.
pub(crate) struct Service {
    /// Its entity's name, and the tag of its processes.
    pub(crate) name: String,
    /// Its init script, where it has one.
    pub(crate) init_script: Option<Lsb>,
    /// Its `[[entity]]` but for what a reload changes.
    settings: Vec<(String, String)>,
}

/// All of them.
pub(crate) struct Fleet {
    services: Vec<Service>,
}

/// What every entity has, unless a reload changes it. The threshold is out of
/// reach: kills in quick succession are failed attempts.
const COMMON: [(&str, &str); 6] = [
    ("startuptime", "\"100ms\""),
    ("debounce", "\"60ms\""),
    ("interval", "\"60ms\""),
    ("restarts", "1000"),
    ("start_timeout", "\"60s\""),
    ("flapping", "\"none\""),
];

impl Fleet {
    /// Writes scripts and configuration.
    pub(crate) fn new(place: &Place) -> Self {
        let mut services = Vec::new();
        for number in 0..FOREGROUND {
            let name = place.name(&format!("fore{number}"));
            services.push(Service {
                name,
                init_script: None,
                settings: Vec::new(),
            });
        }
        for number in 0..BACKGROUND {
            let name = place.name(&format!("back{number}"));
            let pidfile: PathBuf = place.path(&format!("{name}.pid"));
            let options = ["--background", "--pidfile", &pidfile.to_string_lossy()];
            let command = foreground(&name, &options);
            let settings = vec![
                ("command".to_owned(), command),
                ("pidfile".to_owned(), quoted(&pidfile)),
                ("daemonizes".to_owned(), "true".to_owned()),
            ];
            services.push(Service {
                name,
                init_script: None,
                settings,
            });
        }
        for number in 0..INIT_SCRIPT {
            let name = place.name(&format!("init{number}"));
            services.push(Service {
                init_script: Some(Lsb::new(place, &name, &[])),
                name,
                settings: Vec::new(),
            });
        }
        let fleet = Self { services };
        fleet.configure(place, 0);
        fleet
    }

    /// Writes the configuration; every `round` differs from the one before.
    pub(crate) fn configure(&self, place: &Place, round: usize) {
        let mut toml =
            "[daemon]\naudit_interval = \"2s\"\ncanary_interval = \"1s\"\nauto_reload = false\n"
                .to_owned();
        for (number, service) in self.services.iter().enumerate() {
            let debounce = format!("\"{}ms\"", 60 + (number + round) % 3 * 20);
            let mut settings: Vec<(&str, &str)> = COMMON.to_vec();
            settings.push(("debounce", &debounce));
            let own = service.settings.iter();
            settings.extend(own.map(|(key, value)| (key.as_str(), value.as_str())));
            toml += &match &service.init_script {
                Some(lsb) => lsb.entity(&settings),
                None if service.settings.is_empty() => foreground_entity(&service.name, &settings),
                None => entity(&service.name, &settings),
            };
        }
        place.configure(&toml);
    }

    /// All services.
    pub(crate) fn services(&self) -> &[Service] {
        &self.services
    }
}
