//! The messages of StarlingX's maintenance programs: `mtc_message_type`
//! (spec/pmond.md §7.1), packed and in the host's byte order.
//!
//! Pure: bytes only. When what is sent is told by who sends it.

/// Bytes of a whole message.
pub const SIZE: usize = 1060;
/// Bytes before the text.
pub const PREFIX: usize = 100;
/// Bytes for text.
const TEXT: usize = SIZE - PREFIX;
/// Bytes for the name of the kind of message.
const HEADER: usize = 64;

/// `MTC_CMD_VERSION`.
const VERSION: u16 = 1;
/// Version of events: their text is JSON.
const EVENT_VERSION: u16 = 2;

/// `cmd` of a message to hostwd: the quorum has failed.
pub const QUORUM_FAILURE: u32 = 0x0404_0404;

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pulse,
    Event,
    Watchdog,
}

impl Kind {
    /// 17 characters each; a NUL follows.
    const fn header(self) -> &'static [u8; 17] {
        match self {
            Self::Pulse => b"pmond alive pulse",
            Self::Event => b"mtce event msg  :",
            Self::Watchdog => b"cgts mtc cmd req:",
        }
    }
}

/// The first 100 bytes.
fn prefix(kind: Kind, version: u16, command: u32, number: u32, parameter: u32) -> [u8; PREFIX] {
    let mut bytes = [0; PREFIX];
    let header = kind.header();
    bytes[..header.len()].copy_from_slice(header);
    bytes[HEADER..66].copy_from_slice(&version.to_ne_bytes());
    // 66 `rev`, 68 `res`: 0.
    bytes[72..76].copy_from_slice(&command.to_ne_bytes());
    bytes[76..80].copy_from_slice(&number.to_ne_bytes());
    bytes[80..84].copy_from_slice(&parameter.to_ne_bytes());
    bytes
}

/// The pulse to hbsClient: a header and zeros (spec/pmond.md §7.3).
#[must_use]
pub fn pulse() -> [u8; PREFIX] {
    prefix(Kind::Pulse, 0, 0, 0, 0)
}

/// The message to hostwd (spec/pmond.md §7.4): all is well, or the process whose
/// failure the host cannot recover from.
#[must_use]
pub fn watchdog(failed: Option<&str>) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let command = if failed.is_some() { QUORUM_FAILURE } else { 0 };
    bytes[..PREFIX].copy_from_slice(&prefix(Kind::Watchdog, VERSION, command, 0, 0));
    if let Some(process) = failed {
        let text = format!("PMON detected {process} failure");
        // A C string: there is always a NUL behind it.
        let text = &text.as_bytes()[..text.len().min(TEXT - 1)];
        bytes[PREFIX..PREFIX + text.len()].copy_from_slice(text);
    }
    bytes
}

/// What mtcAgent is told (spec/pmond.md §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventCommand {
    /// The monitor has come up.
    Ready,
    /// Nothing major or critical is wrong.
    Clear,
    /// First failure of a process.
    Log,
    /// A critical process has failed.
    Critical,
    /// A major process has failed.
    Major,
}

impl EventCommand {
    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Ready => 0xf0f0_f0f0,
            Self::Clear => 0x0202_0202,
            Self::Log => 0x0303_0303,
            Self::Critical => 0x0404_0404,
            Self::Major => 0x0505_0505,
        }
    }
}

/// The text of an event; mtcAgent's parser wants this order and no blanks.
#[derive(serde::Serialize)]
struct EventText<'a> {
    hostname: &'a str,
    service: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<&'a str>,
}

/// An event to mtcAgent: 100 bytes, JSON, NUL. `mask` is `parm[0]`. Nothing if
/// the names are too long for mtcAgent's buffer.
#[must_use]
pub fn event(
    command: EventCommand,
    mask: u32,
    hostname: &str,
    process: Option<&str>,
) -> Option<Vec<u8>> {
    let text = serde_json::to_vec(&EventText {
        hostname,
        service: "pmond",
        process,
    })
    .ok()?;
    if text.len() >= TEXT {
        return None;
    }
    let mut bytes = Vec::with_capacity(PREFIX + text.len() + 1);
    bytes.extend_from_slice(&prefix(Kind::Event, EVENT_VERSION, command.code(), 1, mask));
    bytes.extend_from_slice(&text);
    bytes.push(0);
    Some(bytes)
}

#[cfg(test)]
#[path = "tests/message.rs"]
mod tests;
