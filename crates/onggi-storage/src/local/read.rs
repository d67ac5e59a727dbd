//! Reading: whole files and ranges straight into the buffer that is handed out, and lists folder by folder.

use super::{
    buffers::{Buffers, lend},
    error::DiskError,
    write::TEMPORARY_INFIX,
};
use crate::{FileInfo, FileType, Handle, Result, StorageError, sabotage, storage::within};
use bytes::Bytes;
use jiff::Timestamp;
use rustix::{
    buffer::spare_capacity,
    fs::{AtFlags, Dir, FileType as EntryType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{
    fs::File,
    io,
    ops::Range,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How much of an existing file is compared at a time.
const COMPARED_AT_ONCE: usize = 256 * 1024;

/// Opens a file for reading; never through a link, and without waiting for the writer of a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Reads a range of a file, or all of it.
pub(super) fn read(root: &Path, handle: &Handle, range: Option<Range<u64>>, buffers: &Arc<Buffers>) -> Result<Bytes> {
    let path = root.join(handle.path());
    let failed = |error: io::Error| DiskError::new("read", &path, error).for_file(handle, root);
    let file = open(&path).map_err(failed)?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?;
    let Some(size) = size_of_file(&stat) else { return Err(StorageError::NotFound(handle.clone())) };
    let range = within(handle, range, size)?;
    let content = read_range(&file, &range, buffers).map_err(failed)?;
    if (content.len() as u64) < range.end - range.start && !sabotage::SHORT_BODY_ACCEPTED.is_on() {
        return Err(StorageError::Short(handle.clone(), range.end));
    }
    Ok(lend(content, buffers))
}

/// Reads until the range or the file ends, into a buffer that is as large as the range and was not zeroed first.
fn read_range(file: &File, range: &Range<u64>, buffers: &Buffers) -> io::Result<Vec<u8>> {
    let length = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut content = buffers.take(length).ok_or(io::ErrorKind::OutOfMemory)?;
    while content.len() < length {
        let at = range.start + content.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut content), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // The buffer may have more room than was asked for.
    content.truncate(length);
    Ok(content)
}

/// Whether a file holds exactly these bytes.
pub(super) fn equals(file: &File, content: &[u8]) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut buffer = vec![0; COMPARED_AT_ONCE.min(content.len())];
    let mut at = 0;
    for expected in content.chunks(COMPARED_AT_ONCE) {
        let found = &mut buffer[..expected.len()];
        match file.read_exact_at(found, at) {
            Ok(()) if found == expected => at += expected.len() as u64,
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Tells size and time of one file; what is not a plain file is not there.
pub(super) fn stat(root: &Path, handle: &Handle) -> Result<FileInfo> {
    let path = root.join(handle.path());
    match rustix::fs::lstat(&path) {
        Ok(stat) => info(handle.clone(), &stat).ok_or_else(|| StorageError::NotFound(handle.clone())),
        Err(errno) => Err(DiskError::new("stat", &path, errno.into()).for_file(handle, root)),
    }
}

fn info(handle: Handle, stat: &Stat) -> Option<FileInfo> {
    let size = size_of_file(stat)?;
    let modified_at = i32::try_from(stat.st_mtime_nsec).ok().and_then(|ns| Timestamp::new(stat.st_mtime, ns).ok());
    Some(FileInfo { handle, size, modified_at })
}

/// `None` for what is not a plain file.
fn size_of_file(stat: &Stat) -> Option<u64> {
    let is_file = EntryType::from_raw_mode(stat.st_mode) == EntryType::RegularFile;
    u64::try_from(stat.st_size).ok().filter(|_| is_file)
}

/// The folders to look into for files of a type.
pub(super) fn folders(root: &Path, file_type: FileType) -> Result<Vec<PathBuf>> {
    let folder = root.join(file_type.folder());
    if file_type != FileType::Pack {
        return Ok(vec![folder]);
    }
    let is_shard = |name: &[u8]| name.len() == 2 && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut shards = Vec::new();
    each_entry(root, &folder, |_, name, _| {
        if is_shard(name.as_bytes()) {
            shards.push(folder.join(name));
        }
        Ok(())
    })?;
    Ok(shards)
}

/// The files of a type in one folder.
pub(super) fn list(root: &Path, file_type: FileType, folder: &Path) -> Result<Vec<FileInfo>> {
    let mut found = Vec::new();
    let shard = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    each_entry(root, folder, |directory, name, entry_type| {
        let in_place = file_type != FileType::Pack || name.starts_with(shard);
        let may_be_file = matches!(entry_type, EntryType::RegularFile | EntryType::Unknown);
        if let Some(handle) = Handle::from_name(file_type, name).filter(|_| in_place && may_be_file) {
            match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => found.extend(info(handle, &stat)),
                // Removed since the folder was read.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Removes the temporaries of a folder that were written before an instant; tells how many.
pub(super) fn remove_temporaries(root: &Path, folder: &Path, before: Timestamp) -> Result<u64> {
    let mut removed = 0;
    each_entry(root, folder, |directory, name, entry_type| {
        if !is_temporary(name) || !matches!(entry_type, EntryType::RegularFile | EntryType::Unknown) {
            return Ok(());
        }
        match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_older(&stat, before) => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) => removed += 1,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    })?;
    Ok(removed)
}

fn is_older(stat: &Stat, before: Timestamp) -> bool {
    info(Handle::Config, stat).and_then(|info| info.modified_at).is_some_and(|modified_at| modified_at < before)
}

/// `.<name>.tmp-<16 hex digits>`: exactly what the writer makes.
fn is_temporary(name: &str) -> bool {
    let parts = name.strip_prefix('.').and_then(|name| name.rsplit_once(TEMPORARY_INFIX));
    let is_hex = |end: &str| end.len() == 16 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.is_some_and(|(name, end)| !name.is_empty() && is_hex(end))
}

/// Visits the names in a folder that are text. A folder that is not there is empty if the root is there.
fn each_entry(
    root: &Path,
    folder: &Path,
    mut visit: impl FnMut(&OwnedFd, &str, EntryType) -> Result<(), Errno>,
) -> Result<()> {
    let failed = |errno: Errno| DiskError::new("list", folder, errno.into()).into_storage_error();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(folder, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) if root.is_dir() => return Ok(()),
        Err(Errno::NOENT) => return Err(StorageError::NoPlace(root.display().to_string())),
        Err(errno) => return Err(failed(errno)),
    };
    for entry in Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().to_str() {
            visit(&directory, name, entry.file_type()).map_err(failed)?;
        }
    }
    Ok(())
}
