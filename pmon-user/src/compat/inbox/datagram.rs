//! One datagram of the command inbox, byte for byte as pmond reads it
//! (spec/pmond.md §6.1). Pure.
//!
//! Must stay true: whatever the bytes are, the outcome is a command or a reason
//! for the log, and nothing that was sent gets into the log unescaped or at
//! length.

use std::fmt;

use serde_json::Value;

/// pmond's buffer. A text must leave room in it for the NUL that ends it.
pub const BUFFER: usize = 512;
/// What a missing or null value counts as; no process of that name can be
/// addressed.
const NONE: &str = "none";
/// Characters of foreign text in a log line.
const SHOWN: usize = 64;

/// What a datagram asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub verb: Verb,
    /// With which process: the `process` key of its file, exactly.
    pub process: String,
}

/// The three commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Monitor and start what was stopped.
    Start,
    /// Kill, and do not monitor for some time.
    Stop,
    /// Kill and start.
    Restart,
}

impl Verb {
    /// As it is written in a datagram.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// Why a datagram asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// There is no end within the buffer.
    Unterminated,
    /// Nothing, or what a C program prints of nothing.
    Empty,
    /// `command` is none of the three; empty where the text is no JSON.
    UnsupportedCommand(String),
    /// A key is missing or null.
    Incomplete(&'static str),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unterminated => write!(f, "not terminated within {BUFFER} bytes"),
            Self::Empty => f.write_str("nothing in it"),
            Self::UnsupportedCommand(command) => {
                write!(f, "unsupported command `{}`", shown(command))
            }
            Self::Incomplete(key) => write!(f, "no `{key}`"),
        }
    }
}

/// Foreign text for people: escaped and cut.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Reads a datagram, of which no more than [`BUFFER`] bytes are looked at.
///
/// # Errors
///
/// Why it asks for nothing.
pub fn parse(datagram: &[u8]) -> Result<Command, Rejected> {
    let seen = &datagram[..datagram.len().min(BUFFER)];
    // The original's buffer is zeroed, and what it holds is a C string.
    let text = match seen.iter().position(|byte| *byte == 0) {
        Some(end) => &seen[..end],
        None if seen.len() == BUFFER => return Err(Rejected::Unterminated),
        None => seen,
    };
    if text.is_empty() || text.starts_with(b"(null)") {
        return Err(Rejected::Empty);
    }
    // Like json-c, the first value counts and what follows it is not looked at.
    let first = serde_json::Deserializer::from_slice(text)
        .into_iter::<Value>()
        .next();
    let Some(Ok(value)) = first else {
        return Err(Rejected::UnsupportedCommand(String::new()));
    };
    let process = string_of(&value, "process");
    let command = string_of(&value, "command");
    if command == NONE {
        return Err(Rejected::Incomplete("command"));
    }
    if process == NONE {
        return Err(Rejected::Incomplete("process"));
    }
    let verb = match command.as_str() {
        "start" => Verb::Start,
        "stop" => Verb::Stop,
        "restart" => Verb::Restart,
        _ => return Err(Rejected::UnsupportedCommand(command)),
    };
    Ok(Command { verb, process })
}

/// What is not a string counts as its text.
fn string_of(object: &Value, key: &str) -> String {
    match object.get(key) {
        None | Some(Value::Null) => NONE.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
            other.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn command(verb: Verb, process: &str) -> Result<Command, Rejected> {
        Ok(Command {
            verb,
            process: process.to_owned(),
        })
    }

    fn unsupported(command: &str) -> Result<Command, Rejected> {
        Err(Rejected::UnsupportedCommand(command.to_owned()))
    }

    #[test]
    fn what_the_original_obeys_and_what_it_disregards() {
        for (text, expected) in [
            (
                r#"{"command":"start","process":"sshd"}"#,
                command(Verb::Start, "sshd"),
            ),
            (
                "{\"command\":\"stop\",\"process\":\"sshd\"}\n",
                command(Verb::Stop, "sshd"),
            ),
            (
                r#" { "process" : "a b", "command" : "restart", "more" : [1] }"#,
                command(Verb::Restart, "a b"),
            ),
            // json-c leaves alone what follows the first value.
            (
                r#"{"command":"stop","process":"x"} trailing"#,
                command(Verb::Stop, "x"),
            ),
            // The last one of two keys counts.
            (
                r#"{"command":"stop","command":"start","process":"x"}"#,
                command(Verb::Start, "x"),
            ),
            // What is no string counts as its text.
            (
                r#"{"command":"stop","process":7}"#,
                command(Verb::Stop, "7"),
            ),
            (
                r#"{"command":"stop","process":true}"#,
                command(Verb::Stop, "true"),
            ),
            (r#"{"command":7,"process":"x"}"#, unsupported("7")),
            ("", Err(Rejected::Empty)),
            ("\0{}", Err(Rejected::Empty)),
            ("(null)", Err(Rejected::Empty)),
            ("(null) or more", Err(Rejected::Empty)),
            ("\n", unsupported("")),
            ("stop sshd", unsupported("")),
            (r#"{"command":"stop","process":"x""#, unsupported("")),
            ("{}", Err(Rejected::Incomplete("command"))),
            ("[]", Err(Rejected::Incomplete("command"))),
            ("7", Err(Rejected::Incomplete("command"))),
            (r#"{"process":"x"}"#, Err(Rejected::Incomplete("command"))),
            (
                r#"{"command":"stop"}"#,
                Err(Rejected::Incomplete("process")),
            ),
            (
                r#"{"command":"stop","process":null}"#,
                Err(Rejected::Incomplete("process")),
            ),
            (
                r#"{"command":"stop","process":"none"}"#,
                Err(Rejected::Incomplete("process")),
            ),
            (r#"{"command":"Stop","process":"x"}"#, unsupported("Stop")),
            (r#"{"command":"stop ","process":"x"}"#, unsupported("stop ")),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(parse(b"{\"command\":\"\xff\"}"), unsupported(""));
    }

    #[test]
    fn a_text_has_511_bytes_at_most() {
        let of_length = |length: usize| {
            let mut text = br#"{"command":"stop","process":"x"}"#.to_vec();
            text.resize(length, b' ');
            text
        };
        assert_eq!(parse(&of_length(511)), command(Verb::Stop, "x"));
        for length in [512, 513, 2000] {
            assert_eq!(parse(&of_length(length)), Err(Rejected::Unterminated));
            let mut ended = of_length(length);
            ended[511] = 0;
            assert_eq!(parse(&ended), command(Verb::Stop, "x"), "{length}");
            // Beyond the buffer a NUL is of no use.
            let mut late = of_length(length.max(513));
            late[512] = 0;
            assert_eq!(parse(&late), Err(Rejected::Unterminated));
        }
    }

    #[test]
    fn what_is_logged_of_it_is_harmless() {
        let text = "\u{1b}[2J\n".repeat(100);
        let told = Rejected::UnsupportedCommand(text).to_string();
        assert!(told.chars().all(|c| !c.is_control()), "{told}");
        assert!(told.chars().count() < 700, "{told}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
            match parse(&bytes) {
                Ok(Command { process, .. }) => prop_assert!(process != NONE),
                Err(reason) => {
                    let told = reason.to_string();
                    prop_assert!(told.chars().all(|c| !c.is_control()));
                }
            }
        }

        #[test]
        fn nearly_right_texts_too(text in r#"(\{|\[)?("command"|"process"|"x")?:? ?("start"|"stop"|null|[0-9]{1,3}|\[\{)?,?"process":("[a-z\\"u0]{0,9}"|\{"a":1\})?(\}|\])?.?"#) {
            if let Ok(Command { verb, process }) = parse(text.as_bytes()) {
                let again = serde_json::json!({
                    "command": verb.as_str(),
                    "process": process,
                });
                prop_assert_eq!(
                    parse(again.to_string().as_bytes()),
                    Ok(Command { verb, process })
                );
            }
        }

        #[test]
        fn every_name_can_be_addressed_but_one(process in "[^\\x00]{1,40}") {
            let text = serde_json::json!({ "command": "restart", "process": process });
            let parsed = parse(text.to_string().as_bytes());
            if process == NONE {
                prop_assert_eq!(parsed, Err(Rejected::Incomplete("process")));
            } else {
                prop_assert_eq!(parsed.unwrap().process, process);
            }
        }
    }
}
