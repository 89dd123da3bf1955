//! The one binary `pmon`; everything is in the library beside it.

use std::process::ExitCode;

use anyhow::bail;
use pmon_user::cli::{self, Seams};

fn main() -> ExitCode {
    cli::main(&Seams {
        run_daemon: |_arguments| bail!("the daemon is not part of this build"),
        check_config: |_sources| bail!("configuration is not part of this build"),
        config_schema: || serde_json::Value::Null,
        local_checks: Vec::new,
    })
}
