//! Exit codes: what scripts rely on.

use std::process::ExitCode;

use crate::control::{client::ClientError, error::ControlError};

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// As asked.
    Ok = 0,
    /// Failed in a way that has no code of its own.
    Failed = 1,
    /// Not understood: the command line, a parameter or the configuration.
    Usage = 2,
    /// An entity is not up.
    NotUp = 3,
    /// There is no such entity.
    UnknownEntity = 4,
    /// No daemon answers.
    Unreachable = 5,
    /// Refused, by the rules of access or by the state of the entity.
    Refused = 6,
    /// Not done in time.
    TimedOut = 7,
    /// Works, with less than it could.
    Degraded = 8,
}

/// The codes, for `--help`.
pub const HELP: &str = "\
Exit codes:
  0  ok
  1  failed
  2  usage error, unacceptable parameter or configuration
  3  an entity is not up: one that `status` was asked for by name; without names,
     one that is failed, recovering, starting or unverifiable
  4  unknown entity
  5  no daemon answers
  6  refused
  7  timed out
  8  degraded (doctor)";

impl Exit {
    /// As the process's exit status.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<&ClientError> for Exit {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. } | ClientError::Lost { .. } => Self::Unreachable,
            ClientError::Forbidden { .. } => Self::Refused,
            ClientError::TimedOut { .. } => Self::TimedOut,
            ClientError::Protocol { .. } => Self::Failed,
            ClientError::Control(error) => match error {
                ControlError::UnknownEntity { .. } => Self::UnknownEntity,
                ControlError::InvalidParameter { .. } => Self::Usage,
                ControlError::InvalidRequest { .. } => Self::Failed,
                ControlError::Refused { .. } | ControlError::PermissionDenied { .. } => {
                    Self::Refused
                }
                ControlError::TimedOut { .. } => Self::TimedOut,
            },
        }
    }
}
