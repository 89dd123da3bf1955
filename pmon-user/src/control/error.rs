//! The typed errors of the control service.
//!
//! One enum for both ends: the server makes them, the wire carries them under
//! their Varlink names, the client gives them to people and to exit codes.

use std::fmt;

use zlink::{ReplyError, introspect};

use super::backend::Refusal;

/// An error reply of `io.pmon.Monitor`.
#[derive(Clone, Debug, PartialEq, Eq, ReplyError, introspect::ReplyError)]
#[zlink(interface = "io.pmon.Monitor")]
pub enum ControlError {
    /// No such entity.
    UnknownEntity {
        /// The name asked for.
        name: String,
        /// The nearest name there is.
        nearest: Option<String>,
    },
    /// A parameter is not acceptable.
    InvalidParameter {
        /// The parameter.
        field: String,
        /// What was expected.
        reason: String,
    },
    /// The message is not a method call; the connection is closed after this.
    InvalidRequest {
        /// What was expected.
        reason: String,
    },
    /// The daemon does not do that now.
    Refused {
        /// Why.
        reason: String,
    },
    /// The peer may not ask for that.
    PermissionDenied {
        /// Who may.
        needed: String,
    },
    /// The daemon did not get to it in time.
    TimedOut {
        /// The deadline in seconds.
        seconds: u64,
    },
}

// By hand: zlink's derive repeats the variants with their attributes, where
// those of thiserror are unknown.
impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEntity {
                name,
                nearest: Some(nearest),
            } => write!(f, "unknown entity `{name}`; did you mean `{nearest}`?"),
            Self::UnknownEntity {
                name,
                nearest: None,
            } => write!(f, "unknown entity `{name}`"),
            Self::InvalidParameter { field, reason } => write!(f, "`{field}`: {reason}"),
            Self::InvalidRequest { reason } => write!(f, "invalid request: {reason}"),
            Self::Refused { reason } => write!(f, "refused: {reason}"),
            Self::PermissionDenied { needed } => {
                write!(f, "permission denied: this needs {needed}")
            }
            Self::TimedOut { seconds } => {
                write!(f, "timed out: the daemon did not answer within {seconds} s")
            }
        }
    }
}

impl std::error::Error for ControlError {}

impl From<Refusal> for ControlError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownEntity { name, nearest } => Self::UnknownEntity { name, nearest },
            Refusal::InvalidParameter { field, reason } => Self::InvalidParameter { field, reason },
            Refusal::Refused { reason } => Self::Refused { reason },
            Refusal::TimedOut { seconds } => Self::TimedOut { seconds },
        }
    }
}
