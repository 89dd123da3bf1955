//! The socket file: made whole, with its final owner and mode, in one step, and
//! taken away again.
//!
//! Must stay true: whoever finds the file can connect to a daemon that listens,
//! and at no moment is it open to more users than it should be. Only one daemon
//! uses a run directory (its lock file sees to that), so a socket that is there
//! already belongs to a dead one and is replaced.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use tokio::net::UnixListener;

/// Connections the kernel keeps waiting for us to accept.
const BACKLOG: i32 = 128;

/// A listening socket and the file that leads to it.
#[derive(Debug)]
pub(super) struct BoundSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

/// Binds the control socket at `path`, with `mode` and of group `gid` where one is given.
///
/// # Errors
///
/// When the directory or the socket cannot be made, or something that is not a
/// socket is in its place.
pub(super) fn bind_control(
    path: &Path,
    gid: Option<u32>,
    mode: u32,
) -> anyhow::Result<BoundSocket> {
    let shown = path.display();
    if let Some(directory) = path.parent()
        && !directory.as_os_str().is_empty()
    {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .with_context(|| format!("cannot create `{}`", directory.display()))?;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            bail!("`{shown}` is in the way: it is not a socket");
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot look at `{shown}`")),
    }
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot remove `{}`", temporary.display()));
        }
    }
    let listener = listen_at(&temporary)
        .with_context(|| format!("cannot bind the control socket `{shown}`"))?;
    let finish = || -> io::Result<(u64, u64)> {
        if let Some(gid) = gid
            && let Err(error) = std::os::unix::fs::chown(&temporary, None, Some(gid))
        {
            tracing::warn!(%error, gid, "the control socket keeps the daemon's own group");
        }
        fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))?;
        let metadata = fs::symlink_metadata(&temporary)?;
        fs::rename(&temporary, path)?;
        Ok((metadata.dev(), metadata.ino()))
    };
    match finish() {
        Ok(inode) => Ok(BoundSocket {
            listener,
            path: path.to_owned(),
            inode,
        }),
        Err(error) => {
            fs::remove_file(&temporary).ok();
            Err(error).with_context(|| format!("cannot put the control socket at `{shown}`"))
        }
    }
}

/// A listening socket whose file is 0600 from its first moment on: `bind(2)` takes
/// the mode of the unbound socket (unix_bind in the kernel's net/unix/af_unix.c).
fn listen_at(path: &Path) -> anyhow::Result<UnixListener> {
    let address = SocketAddrUnix::new(path).with_context(|| {
        format!(
            "the path `{}` is too long for a socket (107 bytes at most)",
            path.display()
        )
    })?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from_std(socket.into())?)
}

impl Drop for BoundSocket {
    /// Removes the file, unless another socket has taken its place.
    fn drop(&mut self) {
        if let Ok(metadata) = fs::symlink_metadata(&self.path)
            && (metadata.dev(), metadata.ino()) == self.inode
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the control socket");
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn the_file_has_its_mode_and_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/pmon.sock");
        let bound = bind_control(&path, None, 0o660).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        let parent = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(parent.permissions().mode() & 0o022, 0);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary name is left"
        );
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_daemons_socket_is_replaced_and_a_successors_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pmon.sock");
        let stale = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(stale);
        let first = bind_control(&path, None, 0o660).unwrap();
        let second = bind_control(&path, None, 0o660).unwrap();
        drop(first);
        assert!(path.exists());
        tokio::net::UnixStream::connect(&path).await.unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_not_a_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "precious").unwrap();
        let error = bind_control(&file, None, 0o660).unwrap_err();
        assert!(error.to_string().contains("not a socket"), "{error:#}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(bind_control(&link, None, 0o660).is_err());
        assert!(bind_control(directory.path(), None, 0o660).is_err());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x".repeat(120));
        let error = format!("{:#}", bind_control(&path, None, 0o660).unwrap_err());
        assert!(error.contains("too long"), "{error}");
    }
}
