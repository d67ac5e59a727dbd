//! One SFTP session: requests with named failures, and many of them in flight at once, since one alone would wait a
//! whole round trip for each packet.

use super::{
    error::{RequestError, of_login},
    options::SftpOptions,
};
use crate::{Clock, Result, StorageError};
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::{Either, select},
    stream,
};
use onggi_ssh::{
    Session,
    login::{self, LOGIN},
};
use russh::{Channel, ChannelMsg, client::Msg};
use russh_sftp::{
    client::{Config, RawSftpSession, error::Error as SftpError},
    protocol::{FileAttributes, OpenFlags},
};
use std::{
    collections::HashMap,
    ops::Range,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const FSYNC: &str = "fsync@openssh.com";
const HARDLINK: &str = "hardlink@openssh.com";
const STATVFS: &str = "statvfs@openssh.com";
const LIMITS: &str = "limits@openssh.com";

/// Every server takes reads and writes of this size.
const PIECE_BYTES_MIN: u64 = 32 * 1024;
/// Larger pieces save little and hold the line for longer.
const PIECE_BYTES_MAX: u64 = 128 * 1024;
/// Reads or writes of one file that are on their way at once.
const PIECES_IN_FLIGHT: usize = 32;
/// The longest wait for the answer to one request.
const ANSWER_SECONDS_MAX: u64 = 120;
/// A packet is a piece and its head, or a part of a folder.
const PACKET_BYTES_MAX: u32 = 1 << 20;
/// A folder with more names than this is not one of ours.
const NAMES_MAX: usize = 4 << 20;

pub(super) type Outcome<T> = std::result::Result<T, RequestError>;

/// A session and what its server can do.
pub(super) struct Link {
    session: RawSftpSession,
    connection: Session,
    extensions: HashMap<String, String>,
    read_bytes: u64,
    write_bytes: u64,
    is_lost: AtomicBool,
}

/// Fails with `Unreachable` when the time is up.
async fn within<T>(clock: &dyn Clock, limit: Duration, act: impl Future<Output = Result<T>>) -> Result<T> {
    match select(pin!(act), clock.reach(clock.elapsed() + limit)).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => {
            Err(StorageError::Unreachable(format!("no answer within {} seconds", limit.as_secs()).into()))
        }
    }
}

impl Link {
    /// Connects, logs in, and asks the server what it can do.
    pub(super) async fn open(options: &SftpOptions) -> Result<Self> {
        let (clock, login) = (options.clock.as_ref(), options.login());
        let connection = within(clock, LOGIN, async { login::login(&login).await.map_err(of_login) }).await?;
        within(clock, LOGIN, Self::start(connection)).await
    }

    async fn start(connection: Session) -> Result<Self> {
        let denied = |error: russh::Error| StorageError::Denied(Box::new(error));
        let mut channel = connection.ssh.channel_open_session().await.map_err(denied)?;
        channel.request_subsystem(true, "sftp").await.map_err(denied)?;
        expect_subsystem(&mut channel).await?;
        let config = Config {
            max_packet_len: PACKET_BYTES_MAX,
            max_write_packet_len: PACKET_BYTES_MAX,
            request_timeout_secs: ANSWER_SECONDS_MAX,
            ..Config::default()
        };
        let session = RawSftpSession::new_with_config(channel.into_stream(), config);
        let version = session.init().await.map_err(|error| StorageError::Unreachable(Box::new(error)))?;
        let extensions = version.extensions;
        let limits = if extensions.contains_key(LIMITS) { session.limits().await.ok() } else { None };
        // Zero means that the server tells no limit.
        let piece = |limit: Option<u64>| match limit {
            None | Some(0) => PIECE_BYTES_MIN,
            Some(limit) => limit.min(PIECE_BYTES_MAX),
        };
        Ok(Self {
            read_bytes: piece(limits.as_ref().map(|limits| limits.max_read_len)),
            write_bytes: piece(limits.as_ref().map(|limits| limits.max_write_len)),
            session,
            connection,
            extensions,
            is_lost: AtomicBool::new(false),
        })
    }

    /// Whether a new one is needed.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed) || self.connection.has_ended()
    }

    /// Whether a confirmed sync is one.
    pub(super) fn can_sync(&self) -> bool {
        self.extensions.contains_key(FSYNC)
    }

    /// Whether the server can give a file a second name.
    pub(super) fn can_link(&self) -> bool {
        self.extensions.contains_key(HARDLINK)
    }

    /// Waits for an answer, but not longer than the connection lives: a request that comes between the end of its
    /// reading half and of its writing half would be kept until its time is up.
    async fn ask<T>(
        &self,
        act: &'static str,
        path: &str,
        request: impl Future<Output = Result<T, SftpError>>,
    ) -> Outcome<T> {
        let mut end = self.connection.end.clone();
        let result = match select(pin!(request), pin!(end.changed())).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(SftpError::IO("the connection has ended".into())),
        };
        self.checked(act, path, result)
    }

    fn checked<T>(&self, act: &'static str, path: &str, result: Result<T, SftpError>) -> Outcome<T> {
        result.map_err(|cause| {
            let error = RequestError { act, path: path.into(), cause };
            if error.is_lost() {
                self.is_lost.store(true, Ordering::Relaxed);
            }
            error
        })
    }

    /// Opens a file; it is closed when the value goes.
    pub(super) async fn open_file<'a>(&'a self, path: &'a str, flags: OpenFlags) -> Outcome<OpenFile<'a>> {
        let attributes = FileAttributes { permissions: Some(0o600), ..FileAttributes::empty() };
        let handle = self.ask("open", path, self.session.open(path, flags, attributes)).await?.handle;
        Ok(OpenFile { link: self, path, handle: Some(handle) })
    }

    pub(super) async fn stat(&self, path: &str) -> Outcome<FileAttributes> {
        self.ask("stat", path, self.session.stat(path)).await.map(|found| found.attrs)
    }

    pub(super) async fn remove(&self, path: &str) -> Outcome<()> {
        self.ask("remove", path, self.session.remove(path)).await.map(drop)
    }

    pub(super) async fn make_folder(&self, path: &str) -> Outcome<()> {
        let attributes = FileAttributes { permissions: Some(0o700), ..FileAttributes::empty() };
        self.ask("create folder", path, self.session.mkdir(path, attributes)).await.map(drop)
    }

    /// Gives a file a second name; an existing one is never replaced.
    pub(super) async fn link(&self, from: &str, to: &str) -> Outcome<()> {
        self.ask("link to", to, self.session.hardlink(from, to)).await.map(drop)
    }

    /// Gives a file another name. An existing one should be a `Failure`, yet some servers replace it.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Outcome<()> {
        self.ask("rename to", to, self.session.rename(from, to)).await.map(drop)
    }

    /// Makes the names in a folder durable. `Ok(false)`: this server cannot.
    pub(super) async fn sync_folder(&self, path: &str) -> Outcome<bool> {
        if !self.can_sync() {
            return Ok(false);
        }
        // OpenSSH opens a folder like a file when it is only read; others refuse.
        let folder = match self.open_file(path, OpenFlags::READ).await {
            Err(error) if !error.is_lost() && !error.is_not_found() => return Ok(false),
            folder => folder?,
        };
        folder.sync().await.map(|()| true)
    }

    /// The bytes and files that still fit, where the server tells.
    pub(super) async fn room(&self, path: &str) -> Option<Room> {
        self.extensions.get(STATVFS)?;
        let found = self.ask("stat", path, self.session.statvfs(path)).await.ok()?;
        let bytes = found.blocks_avail.saturating_mul(found.fragment_size);
        // File systems without a fixed number of files tell 0 of 0.
        Some(Room { bytes, has_files: found.inodes == 0 || found.inodes_avail > 0 })
    }

    /// The names in a folder with what is told about each, each name once.
    pub(super) async fn names(&self, path: &str) -> Outcome<HashMap<String, FileAttributes>> {
        let handle = self.ask("list", path, self.session.opendir(path)).await?.handle;
        let folder = OpenFile { link: self, path, handle: Some(handle.clone()) };
        let mut names = HashMap::new();
        loop {
            match self.ask("list", path, self.session.readdir(handle.clone())).await {
                Ok(part) => names.extend(part.files.into_iter().map(|file| (file.filename, file.attrs))),
                Err(error) if error.is_end() => break,
                Err(error) => return Err(error),
            }
            if names.len() > NAMES_MAX {
                return self.checked("list", path, Err(SftpError::Limited("too many names".into())));
            }
        }
        drop(folder);
        Ok(names)
    }
}

/// Waits until the server has said whether it offers SFTP; no later message says so.
async fn expect_subsystem(channel: &mut Channel<Msg>) -> Result<()> {
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Success => return Ok(()),
            ChannelMsg::Failure => return Err(StorageError::Denied("the server offers no SFTP".into())),
            _ => {}
        }
    }
    Err(StorageError::Unreachable("the connection ended before SFTP began".into()))
}

/// What still fits on the server's file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) has_files: bool,
}

/// An open file or folder on the server.
pub(super) struct OpenFile<'a> {
    link: &'a Link,
    path: &'a str,
    /// Gone when it was closed and the answer waited for.
    handle: Option<String>,
}

impl OpenFile<'_> {
    fn handle(&self) -> String {
        self.handle.clone().unwrap_or_default()
    }

    pub(super) async fn size(&self) -> Outcome<u64> {
        let found = self.link.ask("stat", self.path, self.link.session.fstat(self.handle())).await?;
        let untold = SftpError::UnexpectedBehavior("the server tells no size".into());
        self.link.checked("stat", self.path, found.attrs.size.ok_or(untold))
    }

    /// The bytes of the range; fewer only where the file ends.
    pub(super) async fn read(&self, range: Range<u64>) -> Outcome<Vec<u8>> {
        let step = self.link.read_bytes;
        let mut content = Vec::with_capacity((range.end - range.start) as usize);
        let pieces =
            range.clone().step_by(step as usize).map(|start| self.read_piece(start..range.end.min(start + step)));
        let mut pieces = stream::iter(pieces).buffered(PIECES_IN_FLIGHT);
        while let Some(piece) = pieces.next().await {
            let (piece, is_whole) = piece?;
            content.extend_from_slice(&piece);
            if !is_whole {
                break;
            }
        }
        Ok(content)
    }

    /// A server may give less than asked for before the end of the file.
    async fn read_piece(&self, range: Range<u64>) -> Outcome<(Vec<u8>, bool)> {
        let wanted = (range.end - range.start) as usize;
        let mut piece = Vec::new();
        while piece.len() < wanted {
            let (start, left) = (range.start + piece.len() as u64, wanted - piece.len());
            let read = self.link.session.read(self.handle(), start, left as u32);
            match self.link.ask("read", self.path, read).await {
                Ok(data) if data.data.is_empty() || data.data.len() > left => {
                    let error = SftpError::UnexpectedBehavior(format!("{} bytes for {left}", data.data.len()));
                    return self.link.checked("read", self.path, Err(error));
                }
                Ok(data) if piece.is_empty() => piece = data.data,
                Ok(data) => piece.extend_from_slice(&data.data),
                Err(error) if error.is_end() => return Ok((piece, false)),
                Err(error) => return Err(error),
            }
        }
        Ok((piece, true))
    }

    /// Writes the whole content from the file's start.
    pub(super) async fn write(&self, content: &Bytes) -> Outcome<()> {
        self.write_at(0, content).await
    }

    /// Writes at an offset.
    pub(super) async fn write_at(&self, offset: u64, content: &Bytes) -> Outcome<()> {
        let step = self.link.write_bytes as usize;
        let pieces = (0..content.len()).step_by(step).map(|start| async move {
            let piece = content[start..content.len().min(start + step)].to_vec();
            self.link
                .ask("write", self.path, self.link.session.write(self.handle(), offset + start as u64, piece))
                .await
                .map(drop)
        });
        stream::iter(pieces).buffer_unordered(PIECES_IN_FLIGHT).try_collect().await
    }

    pub(super) async fn sync(&self) -> Outcome<()> {
        self.link.ask("sync", self.path, self.link.session.fsync(self.handle())).await.map(drop)
    }

    /// Closes and waits for the answer: some servers tell only now that bytes are lost.
    pub(super) async fn close(mut self) -> Outcome<()> {
        let Some(handle) = self.handle.take() else { return Ok(()) };
        self.link.ask("close", self.path, self.link.session.close(handle)).await.map(drop)
    }
}

impl Drop for OpenFile<'_> {
    /// The request leaves with the first poll; nobody waits for the answer.
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            drop(self.link.session.close(handle).now_or_never());
        }
    }
}
