//! Keys of `mode = status`: the script is needed, everything else can be assumed.

use std::time::Duration;

use super::{Builder, Outcome};
use crate::{
    config::{finding::Level, host::ScriptState},
    core::entity::{Mode, StartMethod, StatusSpec},
};

impl Builder<'_> {
    pub(super) fn status(&mut self, name: &str) -> Result<Option<StatusSpec>, Outcome> {
        if self.mode != Mode::Status {
            return Ok(None);
        }
        let Some(script) = self.keys.get("script") else {
            let reason = "`script` is missing, and `mode = status` has nothing else to ask";
            self.keys
                .say(Level::Error, self.home, format!("{reason}; not monitored"));
            return Err(self.unmonitored(name, reason));
        };
        let script = self.path_of("script", script);
        let failure_text = self.keys.get("status_failure_text");
        Ok(Some(StatusSpec {
            script,
            start_arg: self.argument("start_arg", "start"),
            status_arg: self.argument("status_arg", "status"),
            period: self.status_seconds("period", 30),
            timeout: self.status_seconds("timeout", 120),
            failure_text: failure_text.map(|given| self.path_of("status_failure_text", given)),
        }))
    }

    fn argument(&mut self, key: &'static str, default: &str) -> String {
        if let Some(given) = self.keys.get(key) {
            return given.text().into_owned();
        }
        self.missing_status_key(key, &format!("`{default}`"));
        default.to_owned()
    }

    fn status_seconds(&mut self, key: &'static str, default: u32) -> Duration {
        let seconds = if self.keys.has(key) {
            self.at_least_one(key, " s")
        } else {
            self.missing_status_key(key, &format!("{default} s"));
            default
        };
        Duration::from_secs(seconds.into())
    }

    fn missing_status_key(&mut self, key: &str, assumed: &str) {
        let early = self.keys.dropped(key);
        let (what, hint) = match early {
            Some(_) => (
                "comes before `mode = status` and does not count",
                format!("move `{key}` below `mode`"),
            ),
            None => (
                "is missing for `mode = status`",
                format!("add `{key}` below `mode`"),
            ),
        };
        self.keys.say_with(
            Level::Error,
            early.unwrap_or(self.home),
            format!("`{key}` {what}; {assumed} assumed"),
            Some(hint),
        );
    }

    pub(super) fn start_of_status(&mut self, status: &StatusSpec) -> StartMethod {
        let trouble = match self.host.script(&status.script) {
            ScriptState::Executable => {
                return StartMethod::Script {
                    path: status.script.clone(),
                };
            }
            ScriptState::NotExecutable => "is not executable",
            ScriptState::Absent => "does not exist",
        };
        let reason = format!("script `{}` {trouble}", status.script.display());
        let place = self
            .keys
            .get("script")
            .map_or(self.home, |given| given.value_place);
        self.keys.say(Level::Error, place, reason.clone());
        StartMethod::None { reason }
    }
}
