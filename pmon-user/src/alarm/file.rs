//! A file that gets a line of JSON for each event.
//!
//! Opened anew each time, so that it can be moved away; appended to in one write,
//! so that a reader never sees half a line of it unless the disk is full.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use super::{AlarmSink, SinkError, event::AlarmEvent, message};

/// Appends to a file.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
}

impl FileSink {
    /// To this one; it is created when there is something to say.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl AlarmSink for FileSink {
    fn name(&self) -> String {
        format!("alarm file `{}`", self.path.display())
    }

    fn deliver(&mut self, event: &AlarmEvent) -> Result<(), SinkError> {
        let failed = |source| SinkError::Io {
            what: format!("append to `{}`", self.path.display()),
            source,
        };
        let line = message::json(event).map_err(|error| failed(error.into()))?;
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)
            .map_err(failed)?;
        file.write_all(&line).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::alarm::{event::AlarmKind, tests::event};

    #[test]
    fn each_event_is_a_line_wherever_the_file_is_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alarms.jsonl");
        let mut sink = FileSink::new(path.clone());
        sink.deliver(&event(AlarmKind::Raise, "web", 1)).unwrap();
        sink.deliver(&event(AlarmKind::Clear, "web", 2)).unwrap();
        std::fs::rename(&path, directory.path().join("rotated")).unwrap();
        sink.deliver(&event(AlarmKind::Raise, "db", 3)).unwrap();
        let rotated = std::fs::read_to_string(directory.path().join("rotated")).unwrap();
        assert_eq!(rotated.lines().count(), 2);
        let kinds: Vec<String> = rotated
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].to_string()
            })
            .collect();
        assert_eq!(kinds, ["\"raise\"", "\"clear\""]);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let mut sink = FileSink::new("/proc/no/such/file".into());
        let error = sink
            .deliver(&event(AlarmKind::Raise, "web", 1))
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot append to `/proc/no/such/file`");
    }
}
