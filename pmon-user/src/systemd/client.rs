//! The same questions through systemctl(1), where the system bus does not lead to
//! systemd: there is no dbus-daemon, or it is restarted, or the host is going down and
//! it went first. As root that client speaks to systemd itself.
//!
//! It cannot tell of jobs that have ended: a stop that was complete before there was a
//! look is taken for a failure. The text is parsed by a pure function.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use super::unit::{Job, JobId, UnitState};

/// It answers within some 10 ms.
const DEADLINE: Duration = Duration::from_secs(3);

const PROPERTIES: &str =
    "Id,ActiveState,SubState,Job,MainPID,Result,Restart,InvocationID,ActiveEnterTimestampMonotonic";

/// Why the client is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// It could not be run.
    #[error("cannot run `{}`", program.display())]
    Run {
        /// The client.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("`{}` does not answer within {DEADLINE:?}", program.display())]
    Late {
        /// The client.
        program: PathBuf,
    },
    /// It says nothing about the unit.
    #[error("`{}`: `{said}`", program.display())]
    Refused {
        /// The client.
        program: PathBuf,
        /// What it says instead.
        said: String,
    },
}

/// `running`, `degraded`, `stopping`, …
pub(super) async fn system_state(program: &Path) -> Result<String, ClientError> {
    let state = ask(program, &["is-system-running"]).await?;
    Ok(state.trim().to_owned())
}

/// What systemd says of a unit.
pub(super) async fn unit(program: &Path, unit: &str) -> Result<UnitState, ClientError> {
    let shown = ["show", "--property", PROPERTIES, "--", unit];
    let (shown, system) = tokio::try_join!(ask(program, &shown), system_state(program))?;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::try_from(now).unwrap_or_default();
    parse(&shown, system == "stopping", now).ok_or_else(|| ClientError::Refused {
        program: program.to_owned(),
        said: shown.trim().to_owned(),
    })
}

/// Its output, whatever its exit code: `is-system-running` fails unless all is well.
async fn ask(program: &Path, arguments: &[&str]) -> Result<String, ClientError> {
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(DEADLINE, output).await {
        Ok(Ok(output)) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Err(source)) => Err(ClientError::Run {
            program: program.to_owned(),
            source,
        }),
        Err(_) => Err(ClientError::Late {
            program: program.to_owned(),
        }),
    }
}

/// `systemctl show`: lines of `NAME=VALUE`; what a unit does not have is left out.
fn parse(shown: &str, going_down: bool, now: Duration) -> Option<UnitState> {
    let values: HashMap<&str, &str> = shown
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let text = |name| values.get(name).map(|value| (*value).to_owned());
    let number = |name| -> Option<u64> { values.get(name)?.parse().ok().filter(|n| *n != 0) };
    let active = text("ActiveState")?;
    let since = number("ActiveEnterTimestampMonotonic").filter(|_| active == "active");
    Some(UnitState {
        id: text("Id")?,
        sub: text("SubState")?,
        invocation: text("InvocationID").map(hex).unwrap_or_default(),
        up_for: since.map(|since| now.saturating_sub(Duration::from_micros(since))),
        job: number("Job").map(|number| Job {
            id: JobId(u32::try_from(number).unwrap_or(u32::MAX)),
            kind: None,
        }),
        main_pid: number("MainPID").and_then(|pid| u32::try_from(pid).ok()),
        result: text("Result").unwrap_or_default(),
        restart: text("Restart").unwrap_or_else(|| "no".to_owned()),
        going_down,
        active,
    })
}

/// The bytes of a 128-bit id; nothing where it is none.
fn hex(text: String) -> Vec<u8> {
    let digits = text.into_bytes();
    let bytes = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    bytes.collect::<Option<Vec<u8>>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_the_client_shows_is_a_unit() {
        let shown = "Restart=always\nResult=signal\nMainPID=0\nId=web.service\n\
            ActiveState=activating\nSubState=auto-restart\nJob=\nInvocationID=0aff\n\
            ActiveEnterTimestampMonotonic=5000000\n";
        let unit = parse(shown, false, Duration::from_secs(9)).unwrap();
        let expected = UnitState {
            id: "web.service".to_owned(),
            active: "activating".to_owned(),
            sub: "auto-restart".to_owned(),
            invocation: vec![10, 255],
            up_for: None,
            job: None,
            main_pid: None,
            result: "signal".to_owned(),
            restart: "always".to_owned(),
            going_down: false,
        };
        assert_eq!(unit, expected);

        let shown = shown
            .replace("activating", "active")
            .replace("Job=", "Job=77")
            .replace("MainPID=0", "MainPID=4711");
        let unit = parse(&shown, true, Duration::from_secs(9)).unwrap();
        assert_eq!(unit.up_for, Some(Duration::from_secs(4)));
        assert_eq!(unit.job.map(|job| job.id), Some(JobId(77)));
        assert_eq!(unit.main_pid, Some(4711));
        assert!(unit.going_down);
    }

    #[test]
    fn silence_is_no_unit() {
        assert_eq!(parse("", false, Duration::ZERO), None);
    }
}
