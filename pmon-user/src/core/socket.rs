//! A listening socket that pmon holds for an entity, as configuration describes it.
//!
//! Plain data. Opening and passing it on is `effect`'s business.

use std::{fmt, net::SocketAddr, path::PathBuf};

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SocketSpec {
    /// Where it listens.
    pub listen: Listen,
    /// Its name in `LISTEN_FDNAMES` (sd_listen_fds(3)): no colon, no control
    /// characters, at most 255 bytes.
    pub name: String,
    /// Connections that may wait to be accepted; the kernel takes at most
    /// `net.core.somaxconn` (listen(2)). Of no meaning for UDP.
    pub backlog: u32,
    /// Permissions and owner, with [`Listen::Unix`] only.
    pub access: SocketAccess,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// A stream over IP.
    Tcp(SocketAddr),
    /// Datagrams over IP.
    Udp(SocketAddr),
    /// A stream in the file system (absolute path, at most 107 bytes: unix(7)).
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who may connect to a socket in the file system.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct SocketAccess {
    /// Permission bits; `0o666` unless given, as for sockets of systemd
    /// (systemd.socket(5), `SocketMode=`).
    pub mode: Option<u32>,
    /// Owner, by name or number; pmon's own user unless given.
    pub user: Option<String>,
    /// Group, by name or number; the user's, or pmon's own, unless given.
    pub group: Option<String>,
}
