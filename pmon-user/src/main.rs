//! The one binary `pmon`; everything is in the library beside it.

use std::process::ExitCode;

use pmon_user::{
    cli::{self, ConfigFinding, ConfigReport, Seams},
    config::{self, Level, LocalHost},
    daemon::{self, options::ConfigSources},
    doctor,
};

fn main() -> ExitCode {
    cli::main(&Seams {
        run_daemon: daemon::run,
        check_config,
        config_schema: config::schema,
        local_checks: doctor::without_daemon,
    })
}

fn check_config(sources: &ConfigSources) -> anyhow::Result<ConfigReport> {
    let loaded = config::load(&sources.resolve(), &LocalHost::detect());
    Ok(ConfigReport {
        entities: loaded
            .entities
            .into_iter()
            .map(|entity| entity.name)
            .collect(),
        findings: loaded
            .findings
            .iter()
            .map(|finding| ConfigFinding {
                error: finding.severity == Level::Error,
                text: finding.to_string(),
            })
            .collect(),
    })
}
