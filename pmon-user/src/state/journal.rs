//! `incidents.jsonl`: one line of JSON for every incident that is finished or
//! has changed; the last line of an incident counts.
//!
//! Must stay true: a line is appended with one write, a line torn by a crash or
//! a full disk costs that line only, and the journal takes at most twice
//! [`MAX_BYTES`] of disk (the present file and one old one).

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;

use super::atomic;

/// Name in the state directory.
pub const FILE: &str = "incidents.jsonl";
/// The file before the present one.
const OLD_FILE: &str = "incidents.jsonl.1";
/// A file that would grow beyond this is put away as the old one.
pub const MAX_BYTES: u64 = 4 << 20;
/// A longer line is refused: a few of them would push out everything else.
const MAX_LINE_BYTES: usize = 512 << 10;

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    file: File,
    length: u64,
    max_bytes: u64,
    /// The file does not end with a line's end.
    torn: bool,
}

impl Journal {
    /// Opens or creates the journal of a state directory.
    ///
    /// # Errors
    ///
    /// Whatever the file system says.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Self::open_with(directory, MAX_BYTES)
    }

    fn open_with(directory: &Path, max_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(atomic::flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(directory.join(FILE))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("expected a regular file"));
        }
        let length = metadata.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            file,
            length,
            max_bytes,
            torn: last != [b'\n'],
        })
    }

    /// Appends one line, given without its end.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no single line of reasonable length (nothing
    /// is written then), otherwise whatever the file system says; the line can
    /// be tried again.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        if line.contains('\n') || line.len() > MAX_LINE_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("expected one line of at most {MAX_LINE_BYTES} bytes"),
            ));
        }
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let grown = self.length + bytes.len() as u64;
        if grown > self.max_bytes && self.length > 0 {
            fs::rename(self.directory.join(FILE), self.directory.join(OLD_FILE))?;
            *self = Self::open_with(&self.directory, self.max_bytes)?;
            return self.append(line);
        }
        match self.file.write_all(&bytes) {
            Ok(()) => {
                self.length = grown;
                self.torn = false;
                Ok(())
            }
            Err(error) => {
                // Take back what has been written of it, else mark it.
                match self.file.set_len(self.length) {
                    Ok(()) => {}
                    Err(_) => self.torn = true,
                }
                Err(error)
            }
        }
    }

    /// Brings what was appended to the disk.
    ///
    /// # Errors
    ///
    /// Whatever the file system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What is known of past incidents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent<T> {
    /// The newest ones, oldest first, each as it was last written.
    pub incidents: Vec<T>,
    /// Lines that are no incidents: torn, or of another version.
    pub skipped: usize,
    /// Why a file could not be read.
    pub problem: Option<String>,
}

/// Loads the newest `count` incidents; `number` tells an incident's number.
/// Never fails: what cannot be read is skipped and told.
#[must_use]
pub fn load_recent<T: DeserializeOwned>(
    directory: &Path,
    count: usize,
    number: impl Fn(&T) -> u64,
) -> Recent<T> {
    let mut incidents = BTreeMap::new();
    let mut skipped = 0;
    let mut problem = None;
    for name in [OLD_FILE, FILE] {
        let path = directory.join(name);
        let text = match read_tail(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                problem = Some(format!("cannot read `{}`: {error}", path.display()));
                continue;
            }
        };
        let lines = text.split(|&byte| byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<T>(line) {
                Ok(incident) => {
                    incidents.insert(number(&incident), incident);
                }
                Err(_) => skipped += 1,
            }
        }
    }
    let older = incidents.len().saturating_sub(count);
    Recent {
        incidents: incidents.into_values().skip(older).collect(),
        skipped,
        problem,
    }
}

/// The end of a file, however large somebody has made it.
fn read_tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(atomic::flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(MAX_BYTES)))?;
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::{Value, json};

    use super::*;

    fn number(value: &Value) -> u64 {
        value["incident"].as_u64().unwrap()
    }

    fn line(incident: u64, state: &str) -> String {
        json!({"incident": incident, "state": state}).to_string()
    }

    fn recent(directory: &Path, count: usize) -> (Vec<(u64, String)>, usize) {
        #[derive(serde::Deserialize)]
        struct Incident {
            incident: u64,
            state: String,
        }
        let recent = load_recent(directory, count, |incident: &Incident| incident.incident);
        assert_eq!(recent.problem, None);
        let incidents = recent.incidents.into_iter();
        let incidents = incidents.map(|it| (it.incident, it.state)).collect();
        (incidents, recent.skipped)
    }

    fn expected(incidents: &[(u64, &str)]) -> Vec<(u64, String)> {
        let incidents = incidents.iter();
        incidents.map(|&(n, state)| (n, state.to_owned())).collect()
    }

    #[test]
    fn the_last_line_of_an_incident_counts() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(recent(directory.path(), 9), (vec![], 0));
        let mut journal = Journal::open(directory.path()).unwrap();
        for (incident, state) in [(1, "open"), (2, "open"), (1, "closed"), (3, "open")] {
            journal.append(&line(incident, state)).unwrap();
        }
        let all = expected(&[(1, "closed"), (2, "open"), (3, "open")]);
        assert_eq!(recent(directory.path(), 9), (all.clone(), 0));
        assert_eq!(recent(directory.path(), 2), (all[1..].to_vec(), 0));
    }

    #[test]
    fn a_torn_line_costs_that_line_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let whole = format!("{}\n{}\n", line(1, "a"), line(2, "b"));
        let first = line(1, "a").len() + 1;
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(directory.path()).unwrap();
            journal.append(&line(3, "c")).unwrap();
            let (found, skipped) = recent(directory.path(), 9);
            // A line is whole without its end, too.
            let kept = usize::from(cut >= first - 1) + usize::from(cut >= whole.len() - 1);
            let mut numbers = vec![1, 2];
            numbers.truncate(kept);
            numbers.push(3);
            let found: Vec<_> = found.into_iter().map(|(number, _)| number).collect();
            assert_eq!(found, numbers, "cut at {cut}");
            let torn = ![0, first - 1, first, whole.len() - 1, whole.len()].contains(&cut);
            assert_eq!(skipped, usize::from(torn), "cut at {cut}");
        }
    }

    #[test]
    fn the_journal_is_bounded_and_keeps_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let max = 2000;
        let mut journal = Journal::open_with(directory.path(), max).unwrap();
        for incident in 1..=500 {
            journal.append(&line(incident, "x")).unwrap();
            for name in [FILE, OLD_FILE] {
                let length = fs::metadata(directory.path().join(name)).map_or(0, |it| it.len());
                assert!(length <= max);
            }
        }
        let (found, skipped) = recent(directory.path(), 1000);
        assert_eq!(skipped, 0);
        assert_eq!(found.last().unwrap().0, 500);
        let first = found.first().unwrap().0;
        assert!(found.len() >= 60, "{}", found.len());
        assert_eq!(found.len() as u64, 500 - first + 1);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        for bad in ["a\nb".to_owned(), "x".repeat(MAX_LINE_BYTES + 1)] {
            let error = journal.append(&bad).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(fs::read(directory.path().join(FILE)).unwrap(), b"");
    }

    #[test]
    fn what_is_no_file_is_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(FILE)).unwrap();
        Journal::open(directory.path()).unwrap_err();
        let recent = load_recent(directory.path(), 9, number);
        assert!(recent.incidents.is_empty());
        assert!(recent.problem.unwrap().contains("expected a regular file"));
    }
}
