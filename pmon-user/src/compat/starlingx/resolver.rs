//! Host names to addresses, with a deadline.
//!
//! getaddrinfo(3) has none: with name servers that are silent it takes as long as
//! resolv.conf(5) allows, and it cannot be cancelled. It runs on a thread of its
//! own, one question at a time; who asks waits until the deadline and no longer.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

type Addresses = Result<Vec<IpAddr>, String>;
type Lookup = dyn Fn(&str) -> Addresses + Send;

/// The thread, and what it is at.
#[derive(Debug)]
pub struct Resolver {
    questions: mpsc::Sender<String>,
    answers: mpsc::Receiver<Addresses>,
    busy: bool,
}

impl Resolver {
    /// With the host's own name service.
    ///
    /// # Errors
    ///
    /// When there can be no more threads.
    pub fn start() -> io::Result<Self> {
        Self::with(Box::new(getaddrinfo))
    }

    fn with(lookup: Box<Lookup>) -> io::Result<Self> {
        let (questions, inbox) = mpsc::channel::<String>();
        let (outbox, answers) = mpsc::channel();
        std::thread::Builder::new()
            .name("pmon-resolver".to_owned())
            .spawn(move || {
                for name in inbox {
                    if outbox.send(lookup(&name)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            questions,
            answers,
            busy: false,
        })
    }

    /// The addresses of `host`, which may be one itself.
    ///
    /// # Errors
    ///
    /// Why there are none, or that the name service does not answer in time.
    pub fn resolve(&mut self, host: &str, patience: Duration) -> Addresses {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let deadline = Instant::now() + patience;
        if self.busy {
            // Whatever it was, nobody waits for it any more.
            self.answer(deadline)?.ok();
        }
        if self.questions.send(host.to_owned()).is_err() {
            return Err("the resolver has ended".to_owned());
        }
        self.busy = true;
        self.answer(deadline)?
    }

    fn answer(&mut self, deadline: Instant) -> Result<Addresses, String> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.answers.recv_timeout(left) {
            Ok(answer) => {
                self.busy = false;
                Ok(answer)
            }
            Err(RecvTimeoutError::Timeout) => Err("the name service does not answer".to_owned()),
            Err(RecvTimeoutError::Disconnected) => Err("the resolver has ended".to_owned()),
        }
    }
}

fn getaddrinfo(host: &str) -> Addresses {
    let found = (host, 0).to_socket_addrs();
    let found = found.map_err(|error| format!("`{host}` cannot be resolved: {error}"))?;
    Ok(found.map(|address| address.ip()).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_address_is_its_own_name_and_localhost_has_one() {
        let mut resolver = Resolver::start().unwrap();
        let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(resolver.resolve("192.0.2.1", LONG), Ok(vec![address]));
        let local = resolver.resolve("localhost", LONG).unwrap();
        assert!(local.iter().all(IpAddr::is_loopback), "{local:?}");
    }

    #[test]
    fn a_name_service_that_hangs_is_left_alone_until_it_answers() {
        let (release, hang) = mpsc::channel::<()>();
        let lookup = move |host: &str| {
            if host == "slow" {
                hang.recv().unwrap();
            }
            Err(format!("no `{host}`"))
        };
        let mut resolver = Resolver::with(Box::new(lookup)).unwrap();
        let silent = Err("the name service does not answer".to_owned());
        let short = Duration::from_millis(20);
        assert_eq!(resolver.resolve("slow", short), silent);
        assert_eq!(resolver.resolve("quick", short), silent, "one at a time");
        release.send(()).unwrap();
        let other = Err("no `quick`".to_owned());
        assert_eq!(
            resolver.resolve("quick", LONG),
            other,
            "not the late answer"
        );
    }
}
