//! Reading a file that nobody but us and root could have written: it names
//! commands that are run with pmon's rights.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

use super::atomic;

/// More is no file of ours: some 300 bytes per entity.
const MAX_BYTES: u64 = 256 << 20;

/// The file's content; none where there is no file. The error is for people.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(atomic::flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("expected a regular file".to_owned());
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        return Err(format!(
            "it belongs to uid {}, expected root or uid {own}",
            metadata.uid()
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!(
            "group or others may write to it (mode {:04o}), expected 0600",
            metadata.mode() & 0o7777
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Err(format!("expected at most {MAX_BYTES} bytes"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(Some(text))
}
