//! Services in active mode: in Rust with `pmon-client`, and in C from the
//! description alone; and UDP ports for them.

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

use crate::{binary, place::Place, privilege, script};

/// Below the ports that the kernel gives away by itself
/// (`net.ipv4.ip_local_port_range`), so that only tests compete for them.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A UDP port of 127.0.0.1 that nobody has, and that no other test of this run
/// gets.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Two runs at the same time begin in different places.
    let begin = u16::try_from(std::process::id() % u32::from(count / 64)).unwrap() * 64;
    let mut candidates = (0..count).map(|_| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        PORTS.start + (begin.wrapping_add(next)) % count
    });
    candidates
        .find(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `pmon-test-answering`.
    Rust,
    /// `tests/c/active-monitor.c`.
    C,
}

/// A service in active mode.
#[derive(Debug)]
pub struct Answering {
    /// Name of the entity, and the tag of the process.
    pub name: String,
    /// Where it is asked.
    pub port: u16,
    /// Where it answers.
    pub reply_port: u16,
    debug: PathBuf,
    program: PathBuf,
}

impl Answering {
    /// One with ports of its own.
    #[must_use]
    pub fn new(place: &Place, language: Language) -> Self {
        Self {
            name: place.name("web"),
            port: free_port(),
            reply_port: free_port(),
            debug: place.path("web.debug"),
            program: match language {
                Language::Rust => binary::answering(),
                Language::C => compiled(place),
            },
        }
    }

    /// From now on its answers are wrong in this way, or right again.
    pub fn fault(&self, word: Option<&str>) {
        match word {
            // At once: half a word is no fault.
            Some(word) => {
                let beside = self.debug.with_extension("new");
                fs::write(&beside, word).unwrap();
                fs::rename(&beside, &self.debug).unwrap();
            }
            None => fs::remove_file(&self.debug).unwrap(),
        }
    }

    /// The program and its arguments.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let words = [
            self.program.to_str().expect("plain paths in tests"),
            "--tag",
            &self.name,
            "--port",
            &self.port.to_string(),
            "--reply-port",
            &self.reply_port.to_string(),
            "--debug",
            self.debug.to_str().expect("plain paths in tests"),
        ];
        words.map(str::to_owned).to_vec()
    }

    /// The configuration: this service, asked as `active` says.
    #[must_use]
    pub fn configuration(&self, active: &str, settings: &[(&str, &str)]) -> String {
        let (port, reply_port) = (self.port.to_string(), self.reply_port.to_string());
        let words: Vec<String> = (self.command().iter())
            .map(|word| format!("{word:?}"))
            .collect();
        let command = format!("[{}]", words.join(", "));
        let active = format!("{{ port = {port}, {active} }}");
        let mut all = vec![
            ("mode", "\"active\""),
            ("command", &command),
            ("active", &active),
            ("stop", "{ signal = \"TERM\", timeout = \"200ms\" }"),
        ];
        all.extend(settings);
        format!(
            "[daemon]\nauto_reload = false\nactive_reply_port = {reply_port}\n\n{}",
            script::entity(&self.name, &all)
        )
    }
}

/// Why there is no service of this language; `None` when there is.
#[must_use]
pub fn no_compiler(language: Language) -> Option<String> {
    match language {
        Language::Rust => None,
        Language::C => privilege::no_program("cc"),
    }
}

/// The program in C, compiled once for this run and copied for this place.
fn compiled(place: &Place) -> PathBuf {
    static COMPILED: OnceLock<Vec<u8>> = OnceLock::new();
    let program = COMPILED.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/active-monitor.c");
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("active-monitor");
        let output = Command::new("cc")
            .args(["-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"])
            .arg("-o")
            .args([&program, &source])
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cc: {complaint}");
        fs::read(&program).unwrap()
    });
    let path = place.path("active-monitor");
    script::executable_bytes(&path, program);
    path
}
