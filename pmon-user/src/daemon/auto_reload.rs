//! Reloads when configuration files have changed and come to rest.
//!
//! Must stay true: the watches are there before the files are read; one reload
//! at a time, and what changes during one leads to another; a reload that is
//! refused is tried again when files change, and after a while in any case:
//! what was in its way may have been no file's fault.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::backend::Daemon;
use crate::{
    config::{
        plan::Wanted,
        watch::{ConfigWatch, News},
        watched::places,
    },
    sys::readable::Readable,
};

/// Files that never rest are read all the same after this many settle times.
const PATIENCE: u32 = 30;
/// After a refusal it is tried again; each time after twice as long, at most
/// [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// See [`FIRST_RETRY`].
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Who asks for these reloads.
const BY: &str = "changed files";

/// When changes have come to rest.
#[derive(Debug)]
struct Rest {
    settle: Duration,
    changing: Option<(Instant, Instant)>,
    /// The last one was refused: when the next is due, and how long that was put off.
    retry: Option<(Instant, Duration)>,
}

impl Rest {
    fn changed(&mut self, now: Instant) {
        let (first, _) = self.changing.unwrap_or((now, now));
        self.changing = Some((first, now));
    }

    fn due(&self) -> Option<Instant> {
        let rests = (self.changing)
            .map(|(first, last)| (last + self.settle).min(first + self.settle * PATIENCE));
        let retry = self.retry.map(|(due, _)| due);
        rests.into_iter().chain(retry).min()
    }

    /// The files were read, and put into force or refused.
    fn read(&mut self, now: Instant, refused: bool) {
        let before = self.retry.take().map(|(_, after)| after);
        self.retry = refused.then(|| {
            let after = before.map_or(FIRST_RETRY, |after| (after * 2).min(LAST_RETRY));
            (now + after, after)
        });
    }
}

/// Reloads until the task is ended. `watch` was there before the configuration in
/// force was read. Why it cannot, if that is so.
pub(super) async fn run(daemon: Arc<Daemon>, mut watch: ConfigWatch) -> String {
    let readable = match Readable::new(watch.descriptor()) {
        Ok(readable) => readable,
        Err(error) => return format!("no inotify: {error}"),
    };
    let mut rest = Rest {
        settle: daemon.running.daemon.reload_settle,
        changing: None,
        retry: None,
    };
    loop {
        let due = rest.due();
        tokio::select! {
            news = readable.read(|_| watch.read()) => match news {
                Ok(News { changed, moved }) => {
                    if changed {
                        rest.changed(Instant::now());
                    }
                    if moved {
                        watch = match establish(watch, &daemon).await {
                            Ok(watch) => watch,
                            Err(why) => return why,
                        };
                    }
                }
                Err(error) => return format!("inotify failed: {error}"),
            },
            () = until(due) => {
                rest.changing = None;
                watch = match establish(watch, &daemon).await {
                    Ok(watch) => watch,
                    Err(why) => return why,
                };
                let refused = match daemon.reload_for(Wanted::ByChange, BY.to_owned()).await {
                    Ok(view) => view.refused.is_some(),
                    Err(refusal) => {
                        tracing::error!(%refusal, "reload after changed files");
                        true
                    }
                };
                rest.read(Instant::now(), refused);
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Directories are read on a thread that may block.
async fn establish(mut watch: ConfigWatch, daemon: &Daemon) -> Result<ConfigWatch, String> {
    let places = places(&daemon.sources, daemon.pmon_d().as_deref());
    let established = tokio::task::spawn_blocking(move || {
        let trouble = watch.establish(&places).err();
        (watch, trouble)
    });
    let (watch, trouble) = established.await.map_err(|error| error.to_string())?;
    if let Some((path, errno)) = trouble {
        tracing::warn!(%errno, path = %path.display(), "changes of the configuration are not seen here");
    }
    Ok(watch)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn files_are_read_when_they_rest_and_after_some_time_if_they_never_do() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rest = Rest {
            settle: Duration::from_secs(1),
            changing: None,
            retry: None,
        };
        assert_eq!(rest.due(), None);
        rest.changed(at(0));
        assert_eq!(rest.due(), Some(at(1000)));
        rest.changed(at(900));
        assert_eq!(rest.due(), Some(at(1900)));
        for ms in (1000..60_000).step_by(500) {
            rest.changed(at(ms));
        }
        assert_eq!(rest.due(), Some(at(30_000)));
    }

    #[test]
    fn what_was_refused_is_tried_again_later_and_later() {
        let start = Instant::now();
        let mut rest = Rest {
            settle: Duration::from_secs(1),
            changing: None,
            retry: None,
        };
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            rest.read(now, true);
            let due = rest.due().unwrap();
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        // Changed files are read when they rest, not when the retry is due.
        rest.read(now, true);
        rest.changed(now);
        assert_eq!(rest.due(), Some(now + rest.settle));
        rest.changing = None;
        rest.read(now, false);
        assert_eq!(rest.due(), None);
    }
}
