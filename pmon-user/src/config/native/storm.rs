//! How entities are restrained, as TOML writes it: `backoff`, `intensity`,
//! `flapping`, and the host's `recovery_budget`. What is out of range is refused
//! while it is read.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor, value::MapAccessDeserializer},
};

use super::value::DurationText;
use crate::{
    config::storm::{BackoffKeys, Choice, FlappingKeys},
    core::{
        budget::Limits,
        storm::{FlappingPolicy, IntensityPolicy, jitter::WHOLE},
    },
};

/// Largest `factor`.
const MAX_FACTOR: f64 = 100.0;

/// A part or a multiple, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thousandths(u32);

impl<'de> Deserialize<'de> for Thousandths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        if !(0.0..=MAX_FACTOR).contains(&number) {
            return Err(de::Error::custom(format_args!(
                "`{number}` is out of range, expected 0 to {MAX_FACTOR}"
            )));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 100,000, as was checked"
        )]
        Ok(Self((number * f64::from(WHOLE)).round() as u32))
    }
}

impl JsonSchema for Thousandths {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": MAX_FACTOR})
    }
}

/// Longer and longer pauses between attempts, once the alarm is raised.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffTable {
    /// The first pause. Default: twice the `interval`, at least 1s
    pub initial: Option<DurationText>,
    /// Each pause is so many times the one before, 1 to 100. Default: 2
    pub factor: Option<Thousandths>,
    /// The longest pause. Default: 5min
    pub max: Option<DurationText>,
    /// Each pause is longer or shorter by at most this part of it, 0 to 1. Default: 0.1
    pub jitter: Option<Thousandths>,
    /// Uptime, after a recovery, with which the pauses begin anew. Default: 10min
    pub reset_after: Option<DurationText>,
}

/// The most restarts within a time; beyond it the entity rests until an operator
/// starts it.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntensityTable {
    /// Automatic restarts, 1 to 1000.
    pub restarts: u32,
    /// Within this time.
    pub within: DurationText,
}

/// When an entity that fails again and again, although each recovery succeeds,
/// is called flapping.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlappingTable {
    /// Failures, each after a recovery, 2 to 1000. Default: 5
    pub deaths: Option<u32>,
    /// Within this time. Default: 10min
    pub within: Option<DurationText>,
    /// It ends with this time of health. Default: 10min
    pub quiet: Option<DurationText>,
}

/// How many recoveries may begin at once on this host; critical entities first.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetTable {
    /// Starts under way, at least 1. Default: 32
    pub at_once: Option<std::num::NonZeroU32>,
    /// Starts within `within`, 1 to 10000. Default: 100
    pub starts: Option<u32>,
    /// See `starts`. Default: 1s
    pub within: Option<DurationText>,
}

fn nonzero(key: &str, given: Option<DurationText>) -> Result<Option<Duration>, String> {
    match given {
        Some(DurationText(Duration::ZERO)) => Err(format!("`{key}` must be more than 0s")),
        Some(DurationText(duration)) => Ok(Some(duration)),
        None => Ok(None),
    }
}

fn count(key: &str, given: u32, least: u32, most: u32) -> Result<u32, String> {
    if (least..=most).contains(&given) {
        Ok(given)
    } else {
        Err(format!("`{key}` must be {least} to {most}"))
    }
}

impl TryFrom<BackoffTable> for BackoffKeys {
    type Error = String;

    fn try_from(table: BackoffTable) -> Result<Self, String> {
        let BackoffTable {
            initial,
            factor,
            max,
            jitter,
            reset_after,
        } = table;
        if factor.is_some_and(|factor| factor.0 < WHOLE) {
            return Err("`factor` must be at least 1".to_owned());
        }
        if jitter.is_some_and(|jitter| jitter.0 > WHOLE) {
            return Err("`jitter` must be 0 to 1".to_owned());
        }
        let initial = nonzero("initial", initial)?;
        let max = nonzero("max", max)?;
        if let (Some(initial), Some(max)) = (initial, max)
            && max < initial
        {
            return Err("`max` must be at least `initial`".to_owned());
        }
        Ok(Self {
            initial,
            factor: factor.map(|factor| factor.0),
            max,
            jitter: jitter.map(|jitter| jitter.0),
            reset_after: reset_after.map(|given| given.0),
        })
    }
}

impl TryFrom<IntensityTable> for IntensityPolicy {
    type Error = String;

    fn try_from(table: IntensityTable) -> Result<Self, String> {
        let IntensityTable { restarts, within } = table;
        Ok(Self {
            restarts: count("restarts", restarts, 1, Self::MOST)?,
            within: nonzero("within", Some(within))?.unwrap_or_default(),
        })
    }
}

impl TryFrom<FlappingTable> for FlappingKeys {
    type Error = String;

    fn try_from(table: FlappingTable) -> Result<Self, String> {
        let FlappingTable {
            deaths,
            within,
            quiet,
        } = table;
        let deaths = deaths.map(|deaths| count("deaths", deaths, 2, FlappingPolicy::MOST));
        Ok(Self {
            deaths: deaths.transpose()?,
            within: nonzero("within", within)?,
            quiet: nonzero("quiet", quiet)?,
        })
    }
}

impl BudgetTable {
    /// Laid over these limits.
    pub fn limits(self, limits: Limits) -> Result<Limits, String> {
        let Self {
            at_once,
            starts,
            within,
        } = self;
        Ok(Limits {
            at_once: at_once.map_or(limits.at_once, std::num::NonZeroU32::get),
            starts: match starts {
                Some(starts) => count("starts", starts, 1, Limits::MOST)?,
                None => limits.starts,
            },
            within: nonzero("within", within)?.unwrap_or(limits.within),
        })
    }
}

/// `"none"`, or a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrNone<Keys>(pub Choice<Keys>);

/// What [`OrNone`] reads: a table and what is made of it.
pub trait Keys: Sized + TryFrom<Self::Table, Error = String> {
    /// As it is written.
    type Table: for<'de> Deserialize<'de> + JsonSchema;
    /// Name in the schema.
    const NAME: &'static str;
}

impl Keys for BackoffKeys {
    type Table = BackoffTable;
    const NAME: &'static str = "Backoff";
}

impl Keys for IntensityPolicy {
    type Table = IntensityTable;
    const NAME: &'static str = "Intensity";
}

impl Keys for FlappingKeys {
    type Table = FlappingTable;
    const NAME: &'static str = "Flapping";
}

impl<'de, K: Keys> Deserialize<'de> for OrNone<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<K>(std::marker::PhantomData<K>);
        impl<'de, K: Keys> Visitor<'de> for Reader<K> {
            type Value = OrNone<K>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table or \"none\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "none" => Ok(OrNone(Choice::Off)),
                    _ => Err(E::unknown_variant(text, &["none"])),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let table = K::Table::deserialize(MapAccessDeserializer::new(map))?;
                let keys = K::try_from(table).map_err(de::Error::custom)?;
                Ok(OrNone(Choice::On(keys)))
            }
        }
        deserializer.deserialize_any(Reader(std::marker::PhantomData))
    }
}

impl<K: Keys> JsonSchema for OrNone<K> {
    fn schema_name() -> Cow<'static, str> {
        K::NAME.into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<K::Table>();
        json_schema!({"oneOf": [{"type": "string", "enum": ["none"]}, table]})
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{super::value::tests::value, *};

    #[test]
    fn what_is_written_is_what_is_meant() {
        let off = value::<OrNone<BackoffKeys>>("\"none\"").unwrap();
        assert_eq!(off.0, Choice::Off);
        let on = value::<OrNone<BackoffKeys>>("{ factor = 1.5, jitter = 0.25, max = \"1h\" }");
        let expected = BackoffKeys {
            factor: Some(1500),
            jitter: Some(250),
            max: Some(Duration::from_secs(3600)),
            ..BackoffKeys::default()
        };
        assert_eq!(on.unwrap().0, Choice::On(expected));
        let whole = value::<OrNone<BackoffKeys>>("{ factor = 3 }").unwrap();
        let expected = BackoffKeys {
            factor: Some(3000),
            ..BackoffKeys::default()
        };
        assert_eq!(whole.0, Choice::On(expected));
        let intensity = value::<OrNone<IntensityPolicy>>("{ restarts = 3, within = \"1min\" }");
        let expected = IntensityPolicy {
            restarts: 3,
            within: Duration::from_secs(60),
        };
        assert_eq!(intensity.unwrap().0, Choice::On(expected));
        let limits = value::<BudgetTable>("{ at_once = 4 }").unwrap();
        let limits = limits.limits(Limits::default()).unwrap();
        assert_eq!((limits.at_once, limits.starts), (4, 100));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let backoff = |text: &str| value::<OrNone<BackoffKeys>>(text).unwrap_err();
        for (text, expected) in [
            ("\"off\"", "unknown variant `off`"),
            ("5", "expected a table or \"none\""),
            ("{ factor = 0.5 }", "`factor` must be at least 1"),
            ("{ factor = 101 }", "`101` is out of range"),
            ("{ jitter = 1.5 }", "`jitter` must be 0 to 1"),
            ("{ initial = \"0s\" }", "`initial` must be more than 0s"),
            (
                "{ initial = \"2s\", max = \"1s\" }",
                "`max` must be at least `initial`",
            ),
            ("{ intial = \"2s\" }", "unknown field `intial`"),
        ] {
            let error = backoff(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let intensity = |text: &str| value::<OrNone<IntensityPolicy>>(text).unwrap_err();
        let error = intensity("{ restarts = 0, within = \"1s\" }");
        assert!(error.contains("`restarts` must be 1 to 1000"), "{error}");
        let error = intensity("{ restarts = 1 }");
        assert!(error.contains("missing field `within`"), "{error}");
        let flapping = value::<OrNone<FlappingKeys>>("{ deaths = 1 }").unwrap_err();
        assert!(
            flapping.contains("`deaths` must be 2 to 1000"),
            "{flapping}"
        );
        let budget = value::<BudgetTable>("{ starts = 0 }").unwrap();
        assert!(budget.limits(Limits::default()).is_err());
    }
}
