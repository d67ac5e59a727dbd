//! Archives on their way: one that arrives is taken apart into files while it does, one that leaves is put together out of
//! what is stored. Neither is ever whole anywhere.

use std::io::{self, Read};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tar::EntryType;
use tokio::sync::mpsc;

use crate::carrier::lost;
use crate::context::Context;
use crate::hex::hexadecimal;
use crate::item::{Kind, Metadata};
use crate::source::{ByteStream, Entry, Known, ReadError, Result, SourceError, Stored};

/// How much of a file is handled at once, in bytes.
pub(super) const STEP_BYTES: usize = 64 << 10;
/// Archives come in blocks of so many bytes.
const BLOCK_BYTES: usize = 512;
/// What fits into a header; longer names come before it.
const NAME_BYTES_MAX: usize = 100;
/// The name of what holds a long name.
const LONG: &[u8] = b"././@LongLink";

/// A piece of an archive that is taken apart.
#[derive(Debug)]
pub(super) enum Part {
    /// An entry begins; only a file has what follows.
    Member(Box<Arrived>),
    Data(Bytes),
    /// A file ends; its SHA-256.
    End(String),
}

/// An entry of an archive.
#[derive(Debug)]
pub(super) struct Arrived {
    /// Without the dot, empty for the archive's own folder.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) metadata: Metadata,
}

/// Takes an archive apart. Blocks its thread.
pub(super) fn split(archive: impl Read, to: &mpsc::Sender<Part>) -> io::Result<()> {
    let send = |part| to.blocking_send(part).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
    let mut archive = tar::Archive::new(archive);
    for member in archive.entries()? {
        let mut member = member?;
        let arrived = arrived(&member)?;
        let is_file = arrived.kind.is_file();
        send(Part::Member(Box::new(arrived)))?;
        if !is_file {
            continue;
        }
        let (mut left, mut hash) = (member.size(), Sha256::new());
        while left > 0 {
            let mut step = BytesMut::zeroed(left.min(STEP_BYTES as u64) as usize);
            member.read_exact(&mut step)?;
            hash.update(&step);
            left -= step.len() as u64;
            send(Part::Data(step.freeze()))?;
        }
        send(Part::End(hexadecimal(&hash.finalize())))?;
    }
    // What fills the last record.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

fn arrived(member: &tar::Entry<'_, impl Read>) -> io::Result<Arrived> {
    let header = member.header();
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Symlink => Kind::Symlink(member.link_name_bytes().unwrap_or_default().into_owned()),
        EntryType::Fifo => Kind::Fifo,
        _ => return Err(io::Error::other("an entry is neither file nor folder")),
    };
    let name = member.path_bytes();
    let name = name.strip_prefix(b"./").unwrap_or(&name);
    let name = name.strip_suffix(b"/").unwrap_or(name).to_vec();
    let id = |id: io::Result<u64>| id.and_then(|id| u32::try_from(id).map_err(io::Error::other));
    let seconds = i64::try_from(header.mtime()?).map_err(io::Error::other)?;
    let metadata = Metadata {
        mode: header.mode()? & 0o7777,
        uid: id(header.uid())?,
        gid: id(header.gid())?,
        mtime: Timestamp::from_second(seconds).map_err(io::Error::other)?,
        size: if kind.is_file() { member.size() } else { 0 },
        links: 1,
        ..Metadata::default()
    };
    Ok(Arrived { name, kind, metadata })
}

/// The file that arrives now.
pub(super) struct Member<'a> {
    parts: &'a mut mpsc::Receiver<Part>,
    sum: Option<String>,
}

impl<'a> Member<'a> {
    pub(super) fn new(parts: &'a mut mpsc::Receiver<Part>) -> Self {
        Self { parts, sum: None }
    }

    /// Passes over what nobody read of it; its SHA-256.
    pub(super) async fn finish(mut self, cx: &Context) -> Result<String> {
        loop {
            if let Some(sum) = self.sum {
                return Ok(sum);
            }
            self.next(cx).await.map_err(lost)?;
        }
    }
}

#[async_trait]
impl ByteStream for Member<'_> {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        if self.sum.is_some() {
            return Ok(None);
        }
        match cx.unless_stopped(self.parts.recv()).await.map_err(SourceError::from)? {
            Some(Part::Data(bytes)) => Ok(Some(bytes)),
            Some(Part::End(sum)) => {
                self.sum = Some(sum);
                Ok(None)
            }
            Some(Part::Member(_)) | None => Err(SourceError::Incomplete("an archive ends in a file".to_owned()).into()),
        }
    }
}

/// Puts an archive together out of stored entries, the names of which are those below an artifact.
pub(super) struct Builder<'a> {
    pub(super) cx: &'a Context,
    pub(super) from: &'a dyn Stored,
    pub(super) to: mpsc::Sender<Bytes>,
}

impl Builder<'_> {
    /// Adds one entry; what cannot be in an archive is passed over.
    pub(super) async fn add(&self, name: &[u8], entry: &Entry) -> Result<()> {
        let mut path = [b"./", name].concat();
        let (kind, target) = match &entry.kind {
            Kind::Directory => {
                if !name.is_empty() {
                    path.push(b'/');
                }
                (EntryType::Directory, &[][..])
            }
            Kind::File => (EntryType::Regular, &[][..]),
            Kind::Symlink(target) => (EntryType::Symlink, target.as_slice()),
            Kind::Fifo => (EntryType::Fifo, &[][..]),
            Kind::BlockDevice(_) | Kind::CharDevice(_) | Kind::Socket => return Ok(()),
        };
        if path.len() > NAME_BYTES_MAX {
            self.long(EntryType::GNULongName, &path).await?;
        }
        if target.len() > NAME_BYTES_MAX {
            self.long(EntryType::GNULongLink, target).await?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(entry.metadata.mode);
        header.set_uid(entry.metadata.uid.into());
        header.set_gid(entry.metadata.gid.into());
        header.set_mtime(entry.metadata.mtime.as_second().max(0).cast_unsigned());
        header.set_size(entry.length);
        self.header(header, &path, target).await?;
        if entry.kind.is_file() { self.content(entry).await } else { Ok(()) }
    }

    /// Says that nothing more comes.
    pub(super) async fn end(self) -> Result<()> {
        self.send(Bytes::from_static(&[0; 2 * BLOCK_BYTES])).await
    }

    async fn long(&self, kind: EntryType, text: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(text.len() as u64 + 1);
        self.header(header, LONG, &[]).await?;
        let mut padded = text.to_vec();
        padded.resize((text.len() + 1).next_multiple_of(BLOCK_BYTES), 0);
        self.send(padded.into()).await
    }

    /// The library takes the dot out of a name that it is given, which the other side compares.
    async fn header(&self, mut header: tar::Header, path: &[u8], target: &[u8]) -> Result<()> {
        if let Some(fields) = header.as_gnu_mut() {
            let cut = |text: &'_ [u8]| text.len().min(NAME_BYTES_MAX);
            fields.name[..cut(path)].copy_from_slice(&path[..cut(path)]);
            fields.linkname[..cut(target)].copy_from_slice(&target[..cut(target)]);
        }
        header.set_cksum();
        self.send(Bytes::copy_from_slice(header.as_bytes())).await
    }

    async fn content(&self, entry: &Entry) -> Result<()> {
        let content = self.from.open(&entry.path).await?;
        let layout = content.open(self.cx, &Known::default()).await.map_err(lost)?;
        if layout.length != entry.length {
            return Err(SourceError::Damaged(format!("{} is not as long as its entry says", entry.path)));
        }
        let mut offset = 0;
        while offset < layout.length {
            self.cx.check()?;
            let mut step = BytesMut::zeroed((layout.length - offset).min(STEP_BYTES as u64) as usize);
            content.read(self.cx, offset, &mut step).await.map_err(lost)?;
            offset += step.len() as u64;
            self.send(step.freeze()).await?;
        }
        content.confirm(self.cx).await.map_err(lost)?;
        let rest = (layout.length as usize).next_multiple_of(BLOCK_BYTES) - layout.length as usize;
        self.send(Bytes::from(vec![0; rest])).await
    }

    async fn send(&self, bytes: Bytes) -> Result<()> {
        let sent = self.cx.unless_stopped(self.to.send(bytes)).await?;
        sent.map_err(|_| SourceError::Incomplete("the other side takes no more of the archive".to_owned()))
    }
}
