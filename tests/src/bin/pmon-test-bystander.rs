//! Stands by, counts the signals it gets, and reports them when its stdin
//! ends: one line `PID COUNT` on stdout. A deadly signal leaves no line, which
//! tells as much.

use std::{
    io::{Read as _, Write as _},
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{FORBIDDEN, SIGCHLD},
    iterator::Signals,
};

fn main() -> anyhow::Result<()> {
    // Signals beyond 31 are the C library's and real-time ones.
    let signals = (1..=31).filter(|signal| !FORBIDDEN.contains(signal) && *signal != SIGCHLD);
    let mut signals = Signals::new(signals)?;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for _signal in signals.forever() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let line = format!("{} {}\n", process::id(), count.load(Ordering::SeqCst));
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(())
}
