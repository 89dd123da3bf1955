//! The command line: verbs in, output and an exit code out.
//!
//! What needs the rest of pmon (the daemon itself, its configuration, its local
//! checks) comes in through [`Seams`]; everything else asks a daemon through the
//! control socket.

pub mod arguments;
pub mod exit;
pub mod output;
mod verbs;
mod wait;
mod watchdog;

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::Parser;
use serde::Serialize;

use self::{
    arguments::{Arguments, BpfVerb, Command, ConfigVerb, Global, Operate, Switch, Verb},
    exit::Exit,
    output::{Output, Terminal},
    verbs::Trouble,
};
use crate::{
    control::{client::ClientError, interface::EventsParameters},
    core::event::OperatorAction,
    daemon::options::{ConfigSources, Options},
    render::text::printable,
    view::diagnosis::CheckView,
};

/// What the command line needs of the rest of pmon.
#[derive(Clone, Copy, Debug)]
pub struct Seams {
    /// Runs the daemon until it is told to end.
    pub run_daemon: fn(&Options) -> anyhow::Result<ExitCode>,
    /// Reads the configuration and says what is wrong with it.
    pub check_config: fn(&ConfigSources) -> anyhow::Result<ConfigReport>,
    /// JSON Schema of the native configuration files.
    pub config_schema: fn() -> serde_json::Value,
    /// What can be checked without a daemon; the first check, `daemon`, says why
    /// it cannot be asked.
    pub local_checks: fn(&ClientError) -> Vec<CheckView>,
}

/// What `pmon config check` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigReport {
    /// Names of the entities that would be monitored.
    pub entities: Vec<String>,
    /// What is wrong, in the order of files and lines.
    pub findings: Vec<ConfigFinding>,
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigFinding {
    /// Whether something is not monitored as it says; otherwise it is a warning.
    pub error: bool,
    /// `FILE:LINE:COLUMN: level: text`.
    pub text: String,
}

/// The whole program, from the arguments of the process to its exit code.
#[must_use]
pub fn main(seams: &Seams) -> ExitCode {
    let arguments = match Arguments::try_parse_from(by_name(std::env::args_os().collect())) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and usage errors; a closed stdout is not worth another error.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match arguments.command {
        Command::Daemon(daemon) => (seams.run_daemon)(&daemon).unwrap_or_else(|error| {
            complain(&format!("{error:#}"), &mut io::stderr());
            Exit::Failed.into()
        }),
        Command::Verb(verb) => {
            let mut stdout = io::stdout().lock();
            let terminal = Terminal::of_stdout();
            let mut output = Output::new(&mut stdout, &arguments.global, terminal);
            run(
                verb,
                &arguments.global,
                seams,
                &mut output,
                &mut io::stderr(),
            )
            .into()
        }
    }
}

/// The arguments as if the program had been called `pmon`: it also answers to
/// `pmond` and to the names of the original's three operator commands.
fn by_name(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    let verb = match name.and_then(OsStr::to_str) {
        Some("pmond") => "daemon",
        Some("pmon-start") => "start",
        Some("pmon-stop") => "stop",
        Some("pmon-restart") => "restart",
        _ => return arguments,
    };
    arguments.splice(..1, ["pmon".into(), verb.into()]);
    arguments
}

/// Runs one verb to its end; errors go to `errors`, one line each.
fn run(
    verb: Verb,
    global: &Global,
    seams: &Seams,
    output: &mut Output<'_>,
    errors: &mut dyn Write,
) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"), errors);
            return Exit::Failed;
        }
    };
    match runtime.block_on(dispatch(verb, global, seams, output)) {
        Ok(exit) => {
            if exit == Exit::TimedOut {
                complain("timed out: it is not done yet", errors);
            }
            exit
        }
        // Who reads through a pipe may stop reading.
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(trouble) => {
            let (exit, what) = match trouble {
                // Its text says what its source would.
                Trouble::Client(error) => (Exit::from(&error), error.to_string()),
                Trouble::Output(error) => {
                    (Exit::Failed, format!("cannot write the output: {error}"))
                }
                Trouble::Usage(what) => (Exit::Usage, what),
                Trouble::Failed(what) => (Exit::Failed, what),
            };
            complain(&what, errors);
            exit
        }
    }
}

async fn dispatch(
    verb: Verb,
    global: &Global,
    seams: &Seams,
    output: &mut Output<'_>,
) -> Result<Exit, Trouble> {
    match verb {
        Verb::Status { names } => verbs::status(&names, global, output).await,
        Verb::List { names } => verbs::list(&names, global, output).await,
        Verb::Show { name } => verbs::show(&name, global, output).await,
        Verb::Start(what) => verbs::operate(OperatorAction::Start, &what, global, output).await,
        Verb::Stop(what) => verbs::operate(OperatorAction::Stop, &what, global, output).await,
        Verb::Restart(what) => verbs::operate(OperatorAction::Restart, &what, global, output).await,
        Verb::Hold {
            names,
            lasts,
            reason,
        } => {
            let hold = Operate::at_once(names, reason);
            verbs::operate(OperatorAction::Hold { lasts }, &hold, global, output).await
        }
        Verb::Resume { names, reason } => {
            let resume = Operate::at_once(names, reason);
            verbs::operate(OperatorAction::Resume, &resume, global, output).await
        }
        Verb::Register {
            name,
            pid,
            pidfile,
            restart,
            follow,
        } => verbs::register(&name, pid, pidfile, restart, follow, global, output).await,
        Verb::Unregister { name } => verbs::unregister(&name, global, output).await,
        Verb::Events {
            follow,
            lines,
            early,
        } => {
            let wanted = EventsParameters::recent(lines).with_early(early);
            if follow {
                verbs::follow(wanted, global, output).await
            } else {
                verbs::events(wanted, global, output).await
            }
        }
        Verb::History { name, lines } => {
            verbs::history(name.as_deref(), lines, global, output).await
        }
        Verb::Explain { name } => verbs::explain(&name, global, output).await,
        Verb::Reload { plan } => verbs::reload(plan, global, output).await,
        Verb::Doctor => verbs::doctor(seams.local_checks, global, output).await,
        Verb::Bpf {
            verb: BpfVerb::Show { seconds },
        } => verbs::bpf(seconds, global, output).await,
        Verb::Bpf {
            verb: BpfVerb::Log { switch },
        } => verbs::bpf_log(switch == Switch::On, global, output).await,
        Verb::Config {
            verb: ConfigVerb::Check(sources),
        } => check_config(&sources, seams, output),
        Verb::Config {
            verb: ConfigVerb::Schema,
        } => {
            output.document(&(seams.config_schema)())?;
            Ok(Exit::Ok)
        }
    }
}

fn check_config(
    sources: &ConfigSources,
    seams: &Seams,
    output: &mut Output<'_>,
) -> Result<Exit, Trouble> {
    let report = match (seams.check_config)(sources) {
        Ok(report) => report,
        Err(error) => return Err(Trouble::Usage(format!("{error:#}"))),
    };
    let ConfigReport { entities, findings } = &report;
    output.show(&report, findings, |_look| {
        let mut text: String = findings
            .iter()
            .map(|finding| printable(&finding.text) + "\n")
            .collect();
        let errors = findings.iter().filter(|finding| finding.error).count();
        text.push_str(&format!(
            "{} would be monitored; {}, {}\n",
            match entities.len() {
                1 => "1 entity".to_owned(),
                count => format!("{count} entities"),
            },
            crate::render::text::counted(errors, "error"),
            crate::render::text::counted(findings.len() - errors, "warning"),
        ));
        text
    })?;
    Ok(if findings.iter().any(|finding| finding.error) {
        Exit::Usage
    } else {
        Exit::Ok
    })
}

/// One line on stderr; there is nobody left to tell when that fails.
fn complain(what: &str, errors: &mut dyn Write) {
    writeln!(errors, "pmon: {}", printable(what)).ok();
}

#[cfg(test)]
mod tests;
