//! bpf(2) calls that aya does not offer: pinning any descriptor, opening a pin
//! for reading only, and reading a map whose value size is only known at run
//! time, as another version of pmon has left it behind.
//!
//! Must stay true: a buffer handed to the kernel is as large as the kernel says
//! the map's value is. What the bytes mean is not decided here.

use std::{
    collections::HashSet,
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use aya::maps::{MapData, MapInfo, MapType};

/// Commands of `enum bpf_cmd` (`include/uapi/linux/bpf.h`).
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
/// `BPF_F_RDONLY` of the same file: the descriptor reads only.
const RDONLY: u32 = 1 << 3;

/// What a link's descriptor is called: opened by a pin or id, and as it is made
/// (`bpf_link_new_fd`, `bpf_link_prime` of `kernel/bpf/syscall.c`).
const LINK: [&str; 2] = ["anon_inode:bpf-link", "anon_inode:bpf_link"];

/// The part of `union bpf_attr` that the object commands read.
#[repr(C)]
struct ObjectAttributes {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` that the element commands read.
#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    padding: u32,
    key: u64,
    value_or_next_key: u64,
    flags: u64,
}

/// What a pin is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Also on a bpffs that is mounted read-only.
    Read,
    /// Everything.
    ReadWrite,
}

/// Pins what a descriptor stands for.
///
/// # Errors
///
/// What the kernel says: `EEXIST` when there is something, `EROFS`, `EPERM` for
/// a path that is not on a bpffs.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = ObjectAttributes {
        pathname: path.as_ptr() as u64,
        bpf_fd: object.as_raw_fd().cast_unsigned(),
        file_flags: 0,
    };
    // SAFETY: the attributes name a C string that lives until after the call,
    // which writes nothing.
    unsafe { bpf(OBJ_PIN, &attributes) }.map(|_| ())
}

fn open(path: &Path, access: Access) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = ObjectAttributes {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: match access {
            Access::Read => RDONLY,
            Access::ReadWrite => 0,
        },
    };
    // SAFETY: as in `pin`.
    let descriptor = unsafe { bpf(OBJ_GET, &attributes) }?;
    // SAFETY: the kernel has just opened it for us, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether a link is pinned there.
#[must_use]
pub fn is_link(path: &Path) -> bool {
    open(path, Access::ReadWrite)
        .and_then(|descriptor| kind(&descriptor))
        .is_ok_and(|kind| LINK.iter().any(|name| kind == Path::new(name)))
}

/// What a descriptor of bpf(2) stands for, in the kernel's words.
fn kind(descriptor: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// A pinned map of whatever shape.
#[derive(Debug)]
pub struct PinnedMap {
    data: MapData,
    info: MapInfo,
    /// What a lookup writes.
    value_bytes: usize,
}

impl PinnedMap {
    /// Opens the map pinned at `path`.
    ///
    /// # Errors
    ///
    /// What the kernel says, and `InvalidData` when something else than a map is
    /// pinned there.
    pub fn open(path: &Path, access: Access) -> io::Result<Self> {
        let descriptor = open(path, access)?;
        // The kernel tells of a link or program in the same call as of a map.
        let what = kind(&descriptor)?;
        if what != Path::new("anon_inode:bpf-map") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("expected a map, found `{}`", what.display()),
            ));
        }
        let data = MapData::from_fd(descriptor).map_err(io::Error::other)?;
        let info = data.info().map_err(io::Error::other)?;
        let value_size = usize::try_from(info.value_size()).map_err(io::Error::other)?;
        let per_cpu = matches!(
            info.map_type(),
            Ok(MapType::PerCpuArray | MapType::PerCpuHash | MapType::LruPerCpuHash)
        );
        let value_bytes = if per_cpu {
            // One value per possible CPU, each on an 8 byte boundary
            // (`bpf_map_value_size` of `kernel/bpf/syscall.c`).
            let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
            value_size.next_multiple_of(8) * cpus
        } else {
            value_size
        };
        Ok(Self {
            data,
            info,
            value_bytes,
        })
    }

    /// What the kernel says of it.
    #[must_use]
    pub const fn info(&self) -> &MapInfo {
        &self.info
    }

    /// All keys, of a map with keys of four bytes. One that is inserted or
    /// removed meanwhile may be told or not.
    ///
    /// # Errors
    ///
    /// What the kernel says; `InvalidInput` when keys have another size.
    pub fn keys(&self) -> io::Result<HashSet<u32>> {
        let mut keys = HashSet::new();
        let mut after = None;
        // Where the last key was removed the kernel begins anew; so often it
        // does that only when somebody plays with us.
        for _ in 0..u64::from(self.info.max_entries()) * 4 + 64 {
            let Some(key) = self.next_key(after)? else {
                break;
            };
            keys.insert(key);
            after = Some(key);
        }
        Ok(keys)
    }

    fn next_key(&self, after: Option<u32>) -> io::Result<Option<u32>> {
        self.check_keys()?;
        let mut next = 0_u32;
        let attributes = ElementAttributes {
            map_fd: self.descriptor(),
            padding: 0,
            key: after
                .as_ref()
                .map_or(0, |key| std::ptr::from_ref(key) as u64),
            value_or_next_key: std::ptr::from_mut(&mut next) as u64,
            flags: 0,
        };
        // SAFETY: `key` is null or points to the four bytes of `after`, `next`
        // has room for four; keys have four bytes (checked above).
        match unsafe { bpf(MAP_GET_NEXT_KEY, &attributes) } {
            Ok(_) => Ok(Some(next)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of an element, all CPUs' one after the other in a per-CPU map.
    ///
    /// # Errors
    ///
    /// What the kernel says; `InvalidInput` when keys have another size.
    pub fn value(&self, key: u32) -> io::Result<Option<Vec<u8>>> {
        self.check_keys()?;
        let mut value = vec![0_u8; self.value_bytes];
        let attributes = ElementAttributes {
            map_fd: self.descriptor(),
            padding: 0,
            key: std::ptr::from_ref(&key) as u64,
            value_or_next_key: value.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: `key` points to four bytes, which is the size of a key
        // (checked above), and `value` has room for what the kernel writes
        // (see `value_bytes`).
        match unsafe { bpf(MAP_LOOKUP_ELEM, &attributes) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_keys(&self) -> io::Result<()> {
        if self.info.key_size() == 4 {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::InvalidInput))
        }
    }

    fn descriptor(&self) -> u32 {
        self.data.fd().as_fd().as_raw_fd().cast_unsigned()
    }
}

/// # Safety
///
/// The attributes must be what the command reads, and every address in them
/// valid for what it reads and writes there.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the size is that of the attributes; the rest is the caller's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}
