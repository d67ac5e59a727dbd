//! Checksums of what an archive holds, taken while it passes by.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::hex::hexadecimal;

/// SHA-256 of each file, by the name that it has in the archive.
pub(crate) type Checksums = BTreeMap<String, String>;

/// How much is hashed at once, in bytes.
const STEP_BYTES: usize = 64 << 10;

/// Hashes every member that is no folder, and reads to the archive's end.
pub(crate) fn checksums(mut archive: impl Read) -> io::Result<Checksums> {
    let mut found = Checksums::new();
    let mut members = tar::Archive::new(&mut archive);
    for member in members.entries()? {
        let mut member = member?;
        if member.header().entry_type().is_dir() {
            continue;
        }
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        found.insert(name, digest(&mut member)?);
    }
    io::copy(&mut archive, &mut io::sink())?;
    Ok(found)
}

fn digest(content: &mut impl Read) -> io::Result<String> {
    let (mut hash, mut step) = (Sha256::new(), vec![0; STEP_BYTES]);
    loop {
        match content.read(&mut step)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            length => hash.update(&step[..length]),
        }
    }
}

/// Shows what arrives to a reader, and keeps it on the way. Its end is the end of what is sent.
pub(crate) struct Kept<W> {
    arriving: mpsc::Receiver<Bytes>,
    shown: Bytes,
    file: W,
}

impl<W: Write> Kept<W> {
    /// Keeps it in this file. Reading blocks the thread.
    pub(crate) fn new(arriving: mpsc::Receiver<Bytes>, file: W) -> Self {
        Self { arriving, shown: Bytes::new(), file }
    }
}

impl<W: Write> Read for Kept<W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.shown.is_empty() {
            let Some(bytes) = self.arriving.blocking_recv() else { return Ok(0) };
            self.file.write_all(&bytes)?;
            self.shown = bytes;
        }
        let step = self.shown.split_to(buffer.len().min(self.shown.len()));
        buffer[..step.len()].copy_from_slice(&step);
        Ok(step.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            if name.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
            }
            header.set_cksum();
            // the library takes the dot out of a name that it is given as a path
            let field = &mut header.as_gnu_mut().unwrap().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, io::empty()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn folders_are_not_counted_and_names_stay_as_they_are() {
        let sums = checksums(archive(&["./", "./a", "./sub/", "./sub/b"]).as_slice()).unwrap();
        let expected = [("./a", EMPTY), ("./sub/b", EMPTY)];
        assert_eq!(sums, expected.map(|(name, sum)| (name.to_owned(), sum.to_owned())).into());
    }

    #[test]
    fn an_archive_that_ends_in_the_middle_of_a_file_is_an_error() {
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size(5000);
        header.set_cksum();
        let cut = [header.as_bytes().as_slice(), &[7; 512]].concat();
        assert!(checksums(cut.as_slice()).is_err());
        assert!(checksums([1; 700].as_slice()).is_err());
    }

    #[test]
    fn what_arrives_in_pieces_is_kept_whole() {
        let whole = archive(&["./", "./a"]);
        let (sender, receiver) = mpsc::channel(whole.len());
        for piece in whole.chunks(7) {
            sender.blocking_send(Bytes::copy_from_slice(piece)).unwrap();
        }
        drop(sender);
        let mut file = Vec::new();
        assert_eq!(checksums(Kept::new(receiver, &mut file)).unwrap().len(), 1);
        assert_eq!(file, whole);
    }
}
