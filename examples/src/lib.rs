//! What the example services share: a Unix socket that answers one line.
//!
//! The services know nothing of pmon; that is their point.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
    time::Duration,
};

/// How long a client may keep the service waiting.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed accept, so that running out of descriptors doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on a Unix socket. A socket file that nobody answers on is what a
/// killed predecessor left, and is replaced.
///
/// # Errors
///
/// `AddrInUse` when somebody does answer.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            format!("somebody already answers on `{}`", path.display()),
        )),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        Err(_) => UnixListener::bind(path),
    }
}

/// Answers every client with `answer`, one after the other, for ever.
pub fn serve(listener: &UnixListener, mut answer: impl FnMut(&mut UnixStream) -> io::Result<()>) {
    loop {
        let outcome = listener.accept().and_then(|(mut client, _)| {
            client.set_read_timeout(Some(CLIENT_TIMEOUT))?;
            client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
            answer(&mut client)
        });
        if let Err(error) = outcome {
            eprintln!("client lost: {error}");
            thread::sleep(ACCEPT_PAUSE);
        }
    }
}
