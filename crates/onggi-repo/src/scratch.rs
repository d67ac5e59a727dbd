//! Our own local files beside the repository: the spill file of a run and its journal. The only place in this crate
//! that opens files.

use crate::error::{RepoError, Result};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A file that nobody else reads, mode 0600.
#[derive(Debug)]
pub(crate) struct Scratch {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Scratch {
    /// A new file without a name: it is gone when this is dropped, or the process ends.
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    pub fn unnamed(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let made = private().read(true).write(true).create_new(true).open(&path);
        let made = made.and_then(|file| std::fs::remove_file(&path).map(|()| file));
        let file = made.map_err(|error| local(&path, error))?;
        Ok(Self { file, path, length: 0 })
    }

    /// A file that stays, opened at its end; made if it is not there.
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    pub fn kept(path: &Path) -> Result<Self> {
        let opened = private().read(true).append(true).create(true).open(path);
        let measured = opened.and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let (file, length) = measured.map_err(|error| local(path, error))?;
        Ok(Self { file, path: path.to_path_buf(), length })
    }

    /// Removes a file that was kept, if it is there.
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    pub fn remove(path: &Path) -> Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(local(path, error)),
            _ => Ok(()),
        }
    }

    /// Appends bytes and returns where they lie.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.length;
        self.file.write_all(bytes).map_err(|error| local(&self.path, error))?;
        self.length += bytes.len() as u64;
        Ok(at)
    }

    /// Reads bytes back. The place to append is the end afterwards.
    pub fn read(&mut self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut read = || {
            self.file.seek(SeekFrom::Start(at))?;
            self.file.read_exact(&mut bytes)?;
            self.file.seek(SeekFrom::End(0))
        };
        read().map_err(|error| local(&self.path, error))?;
        Ok(bytes)
    }

    /// Gives every line with its place, offset and length. `false`: the last one has no end.
    pub fn lines(&mut self, mut take: impl FnMut((u64, u32), &[u8])) -> Result<bool> {
        let (mut at, mut line) = (0, Vec::new());
        let mut read = || {
            self.file.seek(SeekFrom::Start(0))?;
            let mut reader = BufReader::new(&self.file);
            loop {
                let is_whole = line.last().is_none_or(|byte| *byte == b'\n');
                line.clear();
                match reader.read_until(b'\n', &mut line)? as u64 {
                    0 => return Ok(is_whole),
                    length => {
                        take((at, u32::try_from(length).unwrap_or(u32::MAX)), &line);
                        at += length;
                    }
                }
            }
        };
        read().map_err(|error| local(&self.path, error))
    }
}

fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn local(path: &Path, error: io::Error) -> RepoError {
    RepoError::Local(path.display().to_string(), error)
}
