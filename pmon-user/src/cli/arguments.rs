//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::daemon::options::{ConfigSources, Options};

use super::exit;
use crate::control::{client::DEFAULT_SOCKET, interface::MAX_COUNTING};

/// Process monitor that learns of deaths from the kernel.
#[derive(Clone, Debug, Parser)]
#[command(name = "pmon", version, after_help = exit::HELP, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What all verbs take.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Form of the output.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    pub output: Form,
    /// Control socket of the daemon.
    #[arg(long, global = true, env = "PMON_SOCKET", default_value = DEFAULT_SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    /// No colour, even on a terminal; so does a non-empty `NO_COLOR`.
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Human,
    /// One JSON document.
    Json,
    /// One JSON object per line: one per entity, incident, event or check.
    Jsonl,
}

/// The daemon or a verb.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground.
    Daemon(Options),
    /// Everything else.
    #[command(flatten)]
    Verb(Verb),
}

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// The daemon and its entities, the ones in trouble first.
    Status {
        /// Only these entities.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// The entities by name.
    List {
        /// Only these entities.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// One entity: state, configuration as understood, last incidents.
    Show {
        /// The entity.
        name: String,
    },
    /// Start stopped or failed entities.
    Start(Operate),
    /// End processes and leave them down.
    Stop(Operate),
    /// End processes and start successors.
    Restart(Operate),
    /// Take entities out of recovery: deaths are told, nothing is started or ended.
    Hold {
        /// The entities.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// How long; until `pmon resume` without it.
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        lasts: Option<Duration>,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Take held entities back into recovery.
    Resume {
        /// The entities.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Monitor a live process that no configuration file describes.
    #[command(group = ArgGroup::new("which").required(true).args(["pid", "pidfile"]))]
    Register {
        /// Name of the new entity.
        name: String,
        /// Process id.
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
        /// File that names the process.
        #[arg(long, value_name = "FILE")]
        pidfile: Option<PathBuf>,
        /// Shell command that starts a successor; without one, a death is only reported.
        #[arg(long, value_name = "COMMAND")]
        restart: Option<String>,
        /// It goes into the background: when it exits with status 0, a living
        /// process that descends from it takes its place.
        #[arg(long, conflicts_with = "pidfile")]
        follow: bool,
    },
    /// Forget a registered entity; its process is left alone.
    Unregister {
        /// The entity.
        name: String,
    },
    /// The last events, and with -f all that follow.
    Events {
        /// Go on with every new event.
        #[arg(short, long)]
        follow: bool,
        /// How many of the last events.
        #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
        lines: u32,
        /// Also deaths that the kernel has reported and nobody has verified yet.
        #[arg(long)]
        early: bool,
    },
    /// Incidents, newest first, each with its death and its timeline.
    History {
        /// Only of this entity.
        name: Option<String>,
        /// Only the newest N.
        #[arg(short = 'n', long, value_name = "N")]
        lines: Option<usize>,
    },
    /// Why an entity is in its state, and what would happen if it died now.
    Explain {
        /// The entity.
        name: String,
    },
    /// Read the configuration again and put it into force.
    Reload {
        /// Only say what that would change.
        #[arg(long)]
        plan: bool,
    },
    /// Every prerequisite, with the exact fix; local checks only where no daemon answers.
    Doctor,
    /// The kernel side.
    Bpf {
        /// What about it.
        #[command(subcommand)]
        verb: BpfVerb,
    },
    /// Configuration files.
    Config {
        /// What about them.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
}

/// Verbs of `pmon bpf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum BpfVerb {
    /// Programs, links, maps and pins, with run counts and time per run.
    Show {
        /// For how long runs are counted, 0 = not at all; the kernel's statistics are
        /// on only meanwhile.
        #[arg(
            long,
            value_name = "N",
            default_value_t = 1,
            value_parser = clap::value_parser!(u32).range(..=MAX_COUNTING as i64)
        )]
        seconds: u32,
    },
    /// Have the programs log what they do into the daemon's log, until it restarts.
    Log {
        /// `on` or `off`.
        switch: Switch,
    },
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// From now on.
    On,
    /// No more.
    Off,
}

/// Verbs of `pmon config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigVerb {
    /// Say what is wrong with the configuration; exit code 2 when it has errors.
    Check(ConfigSources),
    /// JSON Schema of the native configuration files.
    Schema,
}

/// An operator's action.
#[derive(Clone, Debug, Args)]
pub struct Operate {
    /// The entities.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Wait until it is done, 60 s unless another time is given (`--wait=2m`).
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60s",
        value_parser = duration
    )]
    pub wait: Option<Duration>,
}

impl Operate {
    /// An action whose outcome nobody waits for.
    pub(super) const fn at_once(names: Vec<String>, reason: Option<String>) -> Self {
        Self {
            names,
            reason,
            wait: None,
        }
    }
}

/// A time: `90` (seconds), `90s`, `500ms`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "expected a time such as `90s`, `2m` or `500ms`".to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_are_understood() {
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1m30s", 90_000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "-5s", "soon", "5 parsecs"] {
            duration(text).unwrap_err();
        }
    }

    #[test]
    fn register_needs_exactly_one_way_to_find_the_process() {
        for (line, fine) in [
            ("pmon register web --pid 7", true),
            ("pmon register web --pidfile /run/web.pid", true),
            ("pmon register web", false),
            ("pmon register web --pid 7 --pidfile /run/web.pid", false),
        ] {
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), fine, "{line}");
        }
    }
}
