//! The daemon's command line: what it says goes before what is configured.

use std::path::PathBuf;

use clap::Args;

use crate::config::{
    Sources,
    settings::{Settings, SourceChoice},
};

/// Where configuration is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct ConfigSources {
    /// Native configuration file, instead of /etc/pmon/pmon.toml; the conf.d
    /// beside it is read, too.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of pmon.d files, instead of the configured one (/etc/pmon.d).
    #[arg(long, value_name = "DIR")]
    pub pmon_d: Option<PathBuf>,
}

/// How the daemon is to run; what is not given comes from `[daemon]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Options {
    /// Its configuration.
    #[command(flatten)]
    pub sources: ConfigSources,
    /// Directory of the control socket and the lock [default: /run/pmon].
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Directory of what survives restarts, and of logs [default: /var/lib/pmon].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// bpffs directory to pin links and maps in; `none` pins nothing
    /// [default: /sys/fs/bpf/pmon].
    #[arg(long, value_name = "DIR|none", value_parser = pin_dir)]
    pub pin_dir: Option<PinDir>,
    /// Kernel source of deaths [default: auto].
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub source: Option<SourceChoice>,
    /// Take over from the daemon that runs in the same run directory, if there is
    /// one: it ends, and no death in between is missed.
    #[arg(long, conflicts_with = "check")]
    pub handoff: bool,
    /// Check the configuration, say what is wrong, and end.
    #[arg(long)]
    pub check: bool,
}

/// Where to pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinDir {
    /// Nowhere: the kernel side ends with the daemon.
    None,
    /// Under this bpffs directory.
    At(PathBuf),
}

// clap wants a `Result`, whatever the parser.
#[expect(clippy::unnecessary_wraps, reason = "clap's interface")]
fn pin_dir(text: &str) -> Result<PinDir, String> {
    Ok(match text {
        "none" => PinDir::None,
        path => PinDir::At(PathBuf::from(path)),
    })
}

impl ConfigSources {
    /// For the configuration reader.
    #[must_use]
    pub fn resolve(&self) -> Sources {
        let Self { config, pmon_d } = self;
        let default = Sources::default();
        Sources {
            explicit: config.is_some(),
            pmon_toml: config.clone().unwrap_or(default.pmon_toml),
            pmon_d: pmon_d.clone(),
        }
    }
}

impl Options {
    pub(super) fn apply_to(&self, settings: &mut Settings) {
        let Self {
            sources: _,
            run_dir,
            state_dir,
            pin_dir,
            source,
            handoff: _,
            check: _,
        } = self;
        let daemon = &mut settings.daemon;
        if let Some(directory) = run_dir {
            daemon.run_dir.clone_from(directory);
        }
        if let Some(directory) = state_dir {
            daemon.state_dir.clone_from(directory);
        }
        match pin_dir {
            Some(PinDir::None) => daemon.pin_dir = None,
            Some(PinDir::At(directory)) => daemon.pin_dir = Some(directory.clone()),
            None => {}
        }
        if let Some(source) = source {
            daemon.source = *source;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_line_says_goes_before_what_is_configured() {
        let mut settings = Settings::default();
        let configured = settings.clone();
        Options::default().apply_to(&mut settings);
        assert_eq!(settings, configured);
        let options = Options {
            run_dir: Some("/r".into()),
            state_dir: Some("/s".into()),
            pin_dir: Some(PinDir::None),
            source: Some(SourceChoice::Pidfd),
            ..Options::default()
        };
        options.apply_to(&mut settings);
        assert_eq!(settings.daemon.run_dir, PathBuf::from("/r"));
        assert_eq!(settings.daemon.state_dir, PathBuf::from("/s"));
        assert_eq!(settings.daemon.pin_dir, None);
        assert_eq!(settings.daemon.source, SourceChoice::Pidfd);
    }

    #[test]
    fn a_named_file_must_exist() {
        assert!(!ConfigSources::default().resolve().explicit);
        let named = ConfigSources {
            config: Some("/x.toml".into()),
            pmon_d: None,
        };
        assert!(named.resolve().explicit);
    }
}
