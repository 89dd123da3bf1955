//! How a process is ended, as TOML writes it: a signal, a patience, or SIGKILL at once.

use std::{borrow::Cow, fmt};

use rustix::process::Signal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor, value::MapAccessDeserializer},
};

use super::value::DurationText;
use crate::{
    config::{finding::did_you_mean, settings::STOP_TIMEOUT},
    core::entity::StopPolicy,
};

/// A signal: `"TERM"`, `"SIGTERM"` or 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalText(pub i32);

/// Every signal with a name of its own (signal(7)). STOP, CONT and those that
/// stop a terminal job do not end a process and are not offered.
const SIGNALS: [(&str, Signal); 22] = [
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("BUS", Signal::BUS),
    ("CHLD", Signal::CHILD),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("IO", Signal::IO),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("PROF", Signal::PROF),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("SYS", Signal::SYS),
    ("TERM", Signal::TERM),
    ("TRAP", Signal::TRAP),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("VTALRM", Signal::VTALARM),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
];

/// Largest signal number (`_NSIG`) of every Linux architecture but MIPS.
const MAX_SIGNAL: i64 = 64;

impl<'de> Deserialize<'de> for SignalText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = SignalText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a signal such as \"TERM\", \"SIGTERM\" or 15")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SignalText, E> {
                let short = text.strip_prefix("SIG").unwrap_or(text);
                if let Some((_, signal)) = SIGNALS.iter().find(|(name, _)| *name == short) {
                    return Ok(SignalText(signal.as_raw()));
                }
                let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
                let hint = did_you_mean(short, &names)
                    .unwrap_or_else(|| "expected a name such as `TERM` or a number".to_owned());
                Err(E::custom(format_args!(
                    "`{text}` is not a signal that ends a process, {hint}"
                )))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SignalText, E> {
                let stops = [
                    Signal::STOP,
                    Signal::TSTP,
                    Signal::TTIN,
                    Signal::TTOU,
                    Signal::CONT,
                ];
                match i32::try_from(number) {
                    Ok(raw)
                        if (1..=MAX_SIGNAL).contains(&number)
                            && stops.iter().all(|stop| stop.as_raw() != raw) =>
                    {
                        Ok(SignalText(raw))
                    }
                    Ok(_) | Err(_) => Err(E::custom(format_args!(
                        "`{number}` is not a signal that ends a process, expected 1 to {MAX_SIGNAL}"
                    ))),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for SignalText {
    fn schema_name() -> Cow<'static, str> {
        "Signal".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<String> = SIGNALS
            .iter()
            .flat_map(|(name, _)| [(*name).to_owned(), format!("SIG{name}")])
            .collect();
        json_schema!({
            "oneOf": [
                {"type": "string", "enum": names},
                {"type": "integer", "minimum": 1, "maximum": MAX_SIGNAL}
            ]
        })
    }
}

/// How a process is ended, as written: `"kill-first"`, `"graceful"`, or the
/// graceful way's particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopText {
    /// SIGKILL at once.
    KillFirst,
    /// A signal, and SIGKILL later.
    Graceful(StopTable),
}

/// `{ signal = "TERM", timeout = "10s" }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopTable {
    /// Sent first.
    pub signal: Option<SignalText>,
    /// Time to end by itself before SIGKILL.
    pub timeout: Option<DurationText>,
}

impl StopText {
    /// The policy; what is not written is as in `default`.
    pub fn policy(self, default: StopPolicy) -> StopPolicy {
        let (default_signal, default_timeout) = match default {
            StopPolicy::Graceful { signal, timeout } => (signal, timeout),
            StopPolicy::KillFirst => (Signal::TERM.as_raw(), STOP_TIMEOUT),
        };
        match self {
            Self::KillFirst => StopPolicy::KillFirst,
            Self::Graceful(StopTable { signal, timeout }) => StopPolicy::Graceful {
                signal: signal.map_or(default_signal, |signal| signal.0),
                timeout: timeout.map_or(default_timeout, |timeout| timeout.0),
            },
        }
    }
}

impl<'de> Deserialize<'de> for StopText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = StopText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"kill-first\", \"graceful\" or a table with `signal` and `timeout`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<StopText, E> {
                match text {
                    "kill-first" => Ok(StopText::KillFirst),
                    "graceful" => Ok(StopText::Graceful(StopTable::default())),
                    _ => Err(E::unknown_variant(text, &["kill-first", "graceful"])),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<StopText, A::Error> {
                StopTable::deserialize(MapAccessDeserializer::new(map)).map(StopText::Graceful)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for StopText {
    fn schema_name() -> Cow<'static, str> {
        "Stop".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<StopTable>();
        json_schema!({
            "oneOf": [{"type": "string", "enum": ["kill-first", "graceful"]}, table]
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::{super::value::tests::value, *};

    #[test]
    fn signals_by_name_and_number() {
        assert_eq!(value("\"TERM\""), Ok(SignalText(15)));
        assert_eq!(value("\"SIGINT\""), Ok(SignalText(2)));
        assert_eq!(value("9"), Ok(SignalText(9)));
        assert_eq!(value("34"), Ok(SignalText(34)));
        for bad in ["0", "-1", "65", "19", "\"STOP\"", "\"\"", "true"] {
            assert!(value::<SignalText>(bad).is_err(), "{bad}");
        }
        let error = value::<SignalText>("\"SIGTREM\"").unwrap_err();
        assert!(error.contains("did you mean `TERM`?"), "{error}");
    }

    #[test]
    fn stop_inherits_what_it_does_not_say() {
        let default = StopPolicy::Graceful {
            signal: 2,
            timeout: Duration::from_secs(3),
        };
        let policy = |text: &str| value::<StopText>(text).map(|stop| stop.policy(default));
        assert_eq!(policy("\"kill-first\""), Ok(StopPolicy::KillFirst));
        assert_eq!(policy("\"graceful\""), Ok(default));
        assert_eq!(
            policy("{ timeout = \"1min\" }"),
            Ok(StopPolicy::Graceful {
                signal: 2,
                timeout: Duration::from_secs(60)
            })
        );
        let table = value::<StopText>("{ signal = \"HUP\" }").unwrap();
        assert_eq!(
            table.policy(StopPolicy::KillFirst),
            StopPolicy::Graceful {
                signal: 1,
                timeout: STOP_TIMEOUT
            }
        );
        assert!(
            policy("{ sginal = 1 }")
                .unwrap_err()
                .contains("unknown field")
        );
        assert!(policy("\"kill\"").unwrap_err().contains("unknown variant"));
    }
}
