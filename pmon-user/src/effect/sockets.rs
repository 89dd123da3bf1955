//! Listening sockets that are held for entities, from the first start until the
//! entity is forgotten, so that clients can queue while no process accepts.
//!
//! States of a socket: *wanted* (configured) → *held*, when it was opened for a
//! start or taken back from a living process that has it from an earlier
//! daemon → *closed*, when it is not configured any more. Must stay true: a held
//! socket is never opened anew; everything here may block and runs on blocking
//! threads; no entity waits for another.

use std::{
    collections::HashMap,
    fmt, fs, io,
    net::SocketAddr,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::FileTypeExt as _,
    },
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, chmod, chownat, fstat, openat},
    io::Errno,
    net::{
        AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
        getsockname, listen, socket_with,
        sockopt::{set_socket_reuseaddr, socket_acceptconn, socket_type},
    },
    process::{PidfdGetfdFlags, pidfd_getfd},
};

use super::errno_name;
use crate::{
    causes::in_full,
    core::socket::{Listen, SocketSpec},
    sys::{
        pidfd::VerifiedPid,
        user::{self, UserError},
    },
};

/// `SocketMode=` of systemd.socket(5).
const DEFAULT_MODE: u32 = 0o666;
/// Descriptors of a process that are looked at for a socket to take back. The
/// one that was passed to it is among the first, unless it was moved.
const LOOKED_AT: usize = 4096;

/// One that is held.
#[derive(Debug)]
struct Held {
    spec: SocketSpec,
    socket: OwnedFd,
}

/// All of one entity.
type Slot = Arc<Mutex<Vec<Held>>>;

/// The sockets of all entities.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    slots: Mutex<HashMap<Arc<str>, Slot>>,
}

/// Why a socket cannot be had.
#[derive(Debug)]
pub(super) struct SocketError {
    listen: Listen,
    what: &'static str,
    why: String,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, what, why } = self;
        write!(f, "socket `{listen}`: cannot {what}: {why}")
    }
}

impl Sockets {
    fn slot(&self, entity: &Arc<str>) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(Arc::clone(entity)).or_default())
    }

    /// The entity's sockets for a start, in this order; those that are not held
    /// yet are opened.
    ///
    /// # Errors
    ///
    /// When one cannot be had; the others stay.
    pub(super) fn for_start(
        &self,
        entity: &Arc<str>,
        wanted: &[SocketSpec],
    ) -> Result<Vec<OwnedFd>, SocketError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let slot = self.slot(entity);
        let mut held = lock(&slot);
        let mut passed = Vec::with_capacity(wanted.len());
        for spec in wanted {
            let known = held.iter().position(|one| one.spec.listen == spec.listen);
            let index = match known {
                Some(index) => index,
                None => {
                    let socket = open(spec)?;
                    let spec = spec.clone();
                    held.push(Held { spec, socket });
                    held.len() - 1
                }
            };
            let Some(one) = held.get_mut(index) else {
                continue;
            };
            if one.spec != *spec {
                adjust(&one.socket, spec)?;
                one.spec = spec.clone();
            }
            let copy = one.socket.try_clone();
            passed.push(copy.map_err(|error| failed(spec, "copy it")(errno(&error)))?);
        }
        Ok(passed)
    }

    /// Closes those that are not wanted any more.
    pub(super) fn keep(&self, entity: &Arc<str>, wanted: &[SocketSpec]) {
        let slot = self.slot(entity);
        lock(&slot).retain(|one| wanted.iter().any(|spec| spec.listen == one.spec.listen));
    }

    /// Takes back from the entity's living process what an earlier daemon has
    /// passed to it. What it does not have is opened with the next start.
    ///
    /// # Errors
    ///
    /// Why its descriptors cannot be had, for people.
    pub(super) fn take_back(
        &self,
        entity: &Arc<str>,
        wanted: &[SocketSpec],
        process: &VerifiedPid,
    ) -> Result<(), String> {
        let slot = self.slot(entity);
        let mut held = lock(&slot);
        let mut missing: Vec<&SocketSpec> = wanted
            .iter()
            .filter(|spec| held.iter().all(|one| one.spec.listen != spec.listen))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut trouble = None;
        for number in socket_numbers(process.identity().pid) {
            let found = match pidfd_getfd(process.pidfd(), number, PidfdGetfdFlags::empty()) {
                Ok(found) => found,
                // Closed meanwhile.
                Err(Errno::BADF) => continue,
                Err(errno) => {
                    trouble = Some(errno);
                    break;
                }
            };
            if let Some(index) = missing.iter().position(|spec| is_it(&found, &spec.listen)) {
                let spec = missing.swap_remove(index).clone();
                let socket = found;
                held.push(Held { spec, socket });
                if missing.is_empty() {
                    return Ok(());
                }
            }
        }
        match trouble {
            Some(errno) => Err(format!(
                "sockets of `{}` cannot be taken back: {}; they are refused to clients while no \
                 process is there",
                process.identity(),
                errno_name(errno)
            )),
            // It never had them; they are opened with the next start.
            None => Ok(()),
        }
    }

    /// Closes all of an entity.
    pub(super) fn forget(&self, entity: &str) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.remove(entity);
    }
}

fn lock(slot: &Slot) -> MutexGuard<'_, Vec<Held>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn failed(spec: &SocketSpec, what: &'static str) -> impl Fn(Errno) -> SocketError {
    let listen = spec.listen.clone();
    move |errno| SocketError {
        listen: listen.clone(),
        what,
        why: errno_name(errno),
    }
}

fn open(spec: &SocketSpec) -> Result<OwnedFd, SocketError> {
    let cannot = |what| failed(spec, what);
    let (family, kind) = match &spec.listen {
        Listen::Tcp(address) => (family(address), SocketType::STREAM),
        Listen::Udp(address) => (family(address), SocketType::DGRAM),
        Listen::Unix(_) => (AddressFamily::UNIX, SocketType::STREAM),
    };
    let socket =
        socket_with(family, kind, SocketFlags::CLOEXEC, None).map_err(cannot("create it"))?;
    match &spec.listen {
        Listen::Tcp(address) => {
            // Connections of before may linger in TIME_WAIT (socket(7)).
            set_socket_reuseaddr(&socket, true).map_err(cannot("set SO_REUSEADDR"))?;
            bind(&socket, address).map_err(cannot("bind it"))?;
        }
        Listen::Udp(address) => bind(&socket, address).map_err(cannot("bind it"))?,
        Listen::Unix(path) => {
            let address = SocketAddrUnix::new(&**path).map_err(cannot("bind it"))?;
            remove_stale(path, &address).map_err(cannot("replace what is there"))?;
            bind(&socket, &address).map_err(cannot("bind it"))?;
        }
    }
    adjust(&socket, spec)?;
    Ok(socket)
}

/// Removes a socket file that nobody listens on any more; anything else stays.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), Errno> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(errno(&error)),
        Ok(found) if !found.file_type().is_socket() => return Err(Errno::EXIST),
        Ok(_) => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&client, address) {
        Err(Errno::CONNREFUSED) => {}
        // Somebody listens there, perhaps with a full backlog.
        Ok(()) | Err(Errno::AGAIN) => return Err(Errno::ADDRINUSE),
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    fs::remove_file(path).map_err(|error| errno(&error))
}

/// Gives a bound socket its owner, permissions and backlog, in this order, so that
/// nobody connects who may not.
fn adjust(socket: &OwnedFd, spec: &SocketSpec) -> Result<(), SocketError> {
    match &spec.listen {
        Listen::Udp(_) => return Ok(()),
        Listen::Tcp(_) => {}
        Listen::Unix(path) => give_access(path, spec)?,
    }
    let backlog = i32::try_from(spec.backlog).unwrap_or(i32::MAX);
    listen(socket, backlog).map_err(failed(spec, "listen on it"))
}

fn give_access(path: &Path, spec: &SocketSpec) -> Result<(), SocketError> {
    let refused = |what| failed(spec, what);
    // Held, so that another file cannot be put in its place meanwhile.
    let file = openat(
        CWD,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(refused("open it"))?;
    let found = fstat(&file).map_err(refused("look at it"))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(refused("look at it")(Errno::NOTSOCK));
    }
    let access = &spec.access;
    let unknown = |error: UserError| SocketError {
        listen: spec.listen.clone(),
        what: "find its owner",
        why: in_full(&error),
    };
    if access.user.is_some() || access.group.is_some() {
        let account = user::resolve(access.user.as_deref(), access.group.as_deref());
        if let Some(owner) = account.map_err(unknown)?.credentials {
            let uid = rustix::fs::Uid::from_raw(owner.uid);
            let gid = rustix::fs::Gid::from_raw(owner.gid);
            chownat(&file, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
                .map_err(refused("change its owner"))?;
        }
    }
    let mode = Mode::from_raw_mode(access.mode.unwrap_or(DEFAULT_MODE));
    // fchmod(2) does not take a descriptor of this kind.
    chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
        .map_err(refused("change its permissions"))
}

/// The numbers of a process's sockets.
fn socket_numbers(pid: u32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let is_socket = |path: &Path| {
        fs::read_link(path).is_ok_and(|target| {
            target
                .as_os_str()
                .as_encoded_bytes()
                .starts_with(b"socket:")
        })
    };
    entries
        .flatten()
        .take(LOOKED_AT)
        .filter(|entry| is_socket(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether a socket is the one that listens there.
fn is_it(socket: &OwnedFd, wanted: &Listen) -> bool {
    let Ok(address) = getsockname(socket) else {
        return false;
    };
    let is_stream = socket_type(socket) == Ok(SocketType::STREAM);
    let listens = socket_acceptconn(socket) == Ok(true);
    match wanted {
        Listen::Tcp(wanted) => is_stream && listens && is_at(&address, *wanted),
        Listen::Udp(wanted) => {
            socket_type(socket) == Ok(SocketType::DGRAM) && is_at(&address, *wanted)
        }
        Listen::Unix(path) => {
            let named = SocketAddrUnix::try_from(address);
            let named = named
                .ok()
                .and_then(|it| it.path().map(|it| it.into_owned()));
            is_stream
                && listens
                && named.is_some_and(|it| it.to_bytes() == path.as_os_str().as_encoded_bytes())
        }
    }
}

fn is_at(address: &SocketAddrAny, wanted: SocketAddr) -> bool {
    SocketAddr::try_from(address.clone()).is_ok_and(|address| address == wanted)
}

const fn family(address: &SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        os::unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    };

    use super::*;
    use crate::{core::socket::SocketAccess, sys::pidfd::verify};

    fn spec(listen: Listen) -> SocketSpec {
        SocketSpec {
            listen,
            name: "x".to_owned(),
            backlog: 16,
            access: SocketAccess::default(),
        }
    }

    /// A port that nobody has, of an address that no other process uses: pids fit
    /// into 22 bits.
    fn free_port() -> SocketAddr {
        let [_, a, b, c] = std::process::id().to_be_bytes();
        let listener = TcpListener::bind(SocketAddr::from(([127, 64 | a, b, c], 0)));
        listener.unwrap().local_addr().unwrap()
    }

    fn inode(socket: &OwnedFd) -> u64 {
        fstat(socket).unwrap().st_ino
    }

    fn entity() -> Arc<str> {
        Arc::from("web")
    }

    #[test]
    fn a_held_socket_is_the_same_at_every_start() {
        let sockets = Sockets::default();
        let (address, entity) = (free_port(), entity());
        let wanted = [spec(Listen::Tcp(address)), spec(Listen::Udp(address))];
        let first = sockets.for_start(&entity, &wanted).unwrap();
        // Nobody accepts: the connection waits.
        let _client = TcpStream::connect(address).unwrap();
        assert!(UdpSocket::bind(address).is_err());
        let inodes: Vec<u64> = first.iter().map(inode).collect();
        drop(first);
        let mut louder = wanted.clone();
        louder[0].backlog = 32;
        louder.reverse();
        let second = sockets.for_start(&entity, &louder).unwrap();
        let again: Vec<u64> = second.iter().rev().map(inode).collect();
        assert_eq!(inodes, again);
        drop(second);
        sockets.keep(&entity, &wanted[..1]);
        assert!(
            UdpSocket::bind(address).is_ok(),
            "it is not wanted any more"
        );
        assert!(TcpStream::connect(address).is_ok());
        sockets.forget(&entity);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (sockets, entity) = (Sockets::default(), entity());
        let mut wanted = spec(Listen::Unix(path.clone()));
        wanted.access.mode = Some(0o640);
        drop(UnixListener::bind(&path).unwrap());
        sockets
            .for_start(&entity, std::slice::from_ref(&wanted))
            .unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        // It is in use, by somebody else's entity for instance.
        let other: Arc<str> = Arc::from("other");
        let error = sockets
            .for_start(&other, std::slice::from_ref(&wanted))
            .unwrap_err();
        assert!(error.to_string().contains("EADDRINUSE"), "{error}");
        assert!(UnixStream::connect(&path).is_ok());
        sockets.forget(&entity);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        let error = sockets.for_start(&entity, &[wanted]).unwrap_err();
        assert!(error.to_string().contains("EEXIST"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn sockets_are_taken_back_from_a_living_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let address = free_port();
        let wanted = [
            spec(Listen::Tcp(address)),
            spec(Listen::Unix(path)),
            spec(Listen::Udp(address)),
        ];
        let before = Sockets::default();
        let theirs = before.for_start(&entity(), &wanted).unwrap();
        let inodes: Vec<u64> = theirs.iter().map(inode).collect();
        // Another one at the same address, which does not listen.
        let _client = TcpStream::connect(address).unwrap();
        drop(before);
        // This process is the one that has them.
        let process = verify(std::process::id()).unwrap();
        let after = Sockets::default();
        after.take_back(&entity(), &wanted, &process).unwrap();
        drop(theirs);
        let ours = after.for_start(&entity(), &wanted).unwrap();
        assert_eq!(ours.iter().map(inode).collect::<Vec<_>>(), inodes);
    }
}
