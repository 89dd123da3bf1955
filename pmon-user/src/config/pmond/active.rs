//! Keys of `mode = active`: complete, or the process is monitored passively.

use std::time::Duration;

use super::{Builder, MAX_ACTIVE_PERIOD_S, MAX_SECONDS};
use crate::{
    config::{finding::Level, number},
    core::entity::{ActiveSpec, Mode},
    pulse::wire,
};

impl Builder<'_> {
    /// Settings of active mode. Incomplete ones make it passive.
    pub(super) fn active(&mut self, name: &str) -> Option<ActiveSpec> {
        if self.mode != Mode::Active {
            return None;
        }
        let mut complete = true;
        for key in ["port", "period", "timeout", "threshold"] {
            if self.keys.has(key) {
                continue;
            }
            complete = false;
            let early = self.keys.dropped(key);
            let (message, hint) = match early {
                Some(_) => (
                    format!("`{key}` comes before `mode = active` and does not count"),
                    format!("move `{key}` below `mode`"),
                ),
                None => (
                    format!("`{key}` is missing for `mode = active`"),
                    format!("add `{key}` below `mode`"),
                ),
            };
            self.keys.say_with(
                Level::Error,
                early.unwrap_or(self.home),
                format!("{message}; monitored in passive mode only"),
                Some(hint),
            );
        }
        let port = self.port();
        if let Some(why) = wire::unusable_name(name) {
            complete = false;
            self.keys.say(
                Level::Error,
                self.home,
                format!("{why}; monitored in passive mode only"),
            );
        }
        let (true, Some(port)) = (complete, port) else {
            self.mode = Mode::Passive;
            return None;
        };
        let period = self.active_period();
        let timeout = self.at_least_one("timeout", " s");
        if timeout > period {
            self.clamped(
                "timeout",
                &format!("longer than `period`; {period} s assumed"),
            );
        }
        let threshold = self.at_least_one("threshold", "");
        Some(ActiveSpec {
            port,
            period: Duration::from_secs(period.into()),
            timeout: Duration::from_secs(timeout.min(period).into()),
            threshold,
            full_init_required: self.keys.full_init,
        })
    }

    fn port(&mut self) -> Option<u16> {
        let given = self.keys.get("port")?;
        let judged = number::judge(given.value, 0, u32::MAX, "");
        match u16::try_from(judged.value) {
            Ok(port) if port > 0 => {
                if let Some((level, message)) = judged.remark {
                    self.keys
                        .say(level, given.value_place, format!("port: {message}"));
                }
                Some(port)
            }
            Ok(_) | Err(_) => {
                self.keys.say_with(
                    Level::Error,
                    given.value_place,
                    format!(
                        "`{}` is not a UDP port; monitored in passive mode only",
                        given.text()
                    ),
                    Some("expected 1 to 65535".to_owned()),
                );
                None
            }
        }
    }

    fn active_period(&mut self) -> u32 {
        let period = self.count("period", None, 0, MAX_SECONDS, " s");
        if (1..=MAX_ACTIVE_PERIOD_S).contains(&period) {
            return period;
        }
        self.clamped(
            "period",
            &format!("not within 1 to 120 s; {MAX_ACTIVE_PERIOD_S} s assumed"),
        );
        MAX_ACTIVE_PERIOD_S
    }
}
