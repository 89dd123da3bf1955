//! Values that TOML has no type for: durations, absolute paths, names.
//!
//! Each checks itself while it is read, so that an error carries the place of
//! the value, and each brings its own JSON Schema.

use std::{borrow::Cow, fmt, path::PathBuf, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use crate::config::name::bad_name;

/// A duration with its unit: `"500ms"`, `"10s"`, `"5min"`, `"1h 30min"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = DurationText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"500ms\", \"10s\" or \"5min\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DurationText, E> {
                parse_duration(text).map(DurationText).ok_or_else(|| {
                    E::custom(format_args!(
                        "`{text}` is not a duration, expected a number with its unit such as \"500ms\", \"10s\" or \"5min\""
                    ))
                })
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<DurationText, E> {
                Err(E::custom(format_args!(
                    "a duration carries its unit, expected for instance \"{number}s\""
                )))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// jiff's friendly format, without signs.
fn parse_duration(text: &str) -> Option<Duration> {
    let parsed: jiff::SignedDuration = text.trim().parse().ok()?;
    parsed.try_into().ok()
}

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*\d",
            "examples": ["500ms", "10s", "5min", "1h 30min"]
        })
    }
}

/// A string type that is checked by `$check`, with a JSON Schema pattern.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident($inner:ty), $schema:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Checked by a visitor, so that the error is placed at the value
                // even inside an array.
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        let check: fn(&str) -> Result<(), String> = $check;
                        check(text).map_err(E::custom)?;
                        Ok($name(text.to_owned().into()))
                    }
                }
                deserializer.deserialize_str(Reader)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $schema.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}

/// No NUL byte, which no C string can hold.
fn without_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("NUL characters cannot be passed to a program".to_owned());
    }
    Ok(())
}

checked_text!(
    /// An absolute path.
    AbsolutePath(PathBuf), "Absolute path", "^/[^\u{0}]*$",
    |text| {
        if !text.starts_with('/') {
            return Err(format!("`{text}` is not an absolute path, expected one that begins with `/`"));
        }
        without_nul(text)
    }
);

checked_text!(
    /// An absolute path, or `none`.
    PathOrNone(String), "Absolute path or none", "^(/[^\u{0}]*|none)$",
    |text| {
        if text != "none" && !text.starts_with('/') {
            return Err(format!("`{text}` is not an absolute path, expected one that begins with `/`, or \"none\""));
        }
        without_nul(text)
    }
);

impl PathOrNone {
    /// The path, if there is one.
    pub fn path(self) -> Option<PathBuf> {
        (self.0 != "none").then(|| self.0.into())
    }
}

checked_text!(
    /// Name of an entity.
    EntityName(String), "Entity name", "^[^-/\u{0}-\u{1f}][^/\u{0}-\u{1f}]*$",
    |text| match bad_name(text) {
        Some(why) => Err(format!("name `{}` {why}", text.escape_default())),
        None => Ok(()),
    }
);

checked_text!(
    /// An argument or the value of an environment variable.
    Argument(String), "Argument", "^[^\u{0}]*$", without_nul
);

checked_text!(
    /// Name of an environment variable.
    VariableName(String), "Variable name", "^[^=\u{0}]+$",
    |text| {
        if text.is_empty() || text.contains('=') {
            return Err(format!("`{text}` cannot be the name of an environment variable, expected one without `=`"));
        }
        without_nul(text)
    }
);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct One<T> {
        x: T,
    }

    pub(crate) fn value<T: de::DeserializeOwned>(toml: &str) -> Result<T, String> {
        toml::from_str::<One<T>>(&format!("x = {toml}"))
            .map(|one| one.x)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, expected) in [
            ("500ms", Duration::from_millis(500)),
            ("10s", Duration::from_secs(10)),
            ("5min", Duration::from_secs(300)),
            ("1h 30m", Duration::from_secs(5400)),
            ("0s", Duration::ZERO),
            ("1.5s", Duration::from_millis(1500)),
        ] {
            assert_eq!(
                value(&format!("\"{text}\"")),
                Ok(DurationText(expected)),
                "{text}"
            );
        }
        for bad in [
            "10",
            "-5s",
            "5s ago",
            "ten seconds",
            "",
            "5 parsec",
            "99999999999999999999s",
        ] {
            let error = value::<DurationText>(&format!("\"{bad}\"")).unwrap_err();
            assert!(
                error.contains("is not a duration, expected"),
                "{bad}: {error}"
            );
        }
        let error = value::<DurationText>("10").unwrap_err();
        assert!(error.contains("expected for instance \"10s\""), "{error}");
    }

    #[test]
    fn texts_check_themselves() {
        assert!(value::<AbsolutePath>("\"/x\"").is_ok());
        assert!(value::<AbsolutePath>("\"x\"").is_err());
        assert!(value::<AbsolutePath>("\"/x\\u0000\"").is_err());
        assert_eq!(value::<PathOrNone>("\"none\"").unwrap().path(), None);
        assert!(value::<PathOrNone>("\"nome\"").is_err());
        assert!(value::<EntityName>("\"a/b\"").is_err());
        assert!(value::<EntityName>("\"\"").is_err());
        assert!(value::<Argument>("\"a\\u0000\"").is_err());
        assert!(value::<VariableName>("\"A=B\"").is_err());
    }
}
