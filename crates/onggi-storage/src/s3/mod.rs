//! A repository in a bucket of Amazon S3 or of a service that speaks its protocol.
//!
//! Files are objects below a prefix, under the names restic gives them. A write carries the checksum of its content and
//! is believed only when the service's echo matches; after an answer that leaves it open whether the write happened,
//! the object is looked at before anything is said. Nothing is repeated here: that is for the `Retry` decorator.

mod answer;
mod options;
mod renew;
mod wire;

pub use options::{S3Credentials, S3Options};
pub use renew::{RenewedS3, S3Keys};

use crate::{Clock, FileInfo, FileType, Handle, Properties, Result, Storage, StorageError, storage::within};
use answer::Failure;
use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{
    StreamExt,
    future::{Either, select},
    stream::{self, BoxStream},
};
use md5::{Digest, Md5};
use opendal::{HttpTransporter, Metadata, OperationContext, Operator};
use std::{
    collections::HashSet,
    fmt,
    ops::Range,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};
use wire::{Line, STALL, Wire};

/// No file of a repository is larger.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// An answer that is not a file: a page of a listing has at most 1 000 names.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// A file that may be sent twice to learn how the service takes conditional writes.
const PROBE_BYTES_MAX: usize = 64 * 1024;
/// A listing that names this many known files in a row goes round in circles.
const REPEATS_MAX: usize = 2000;
const CONNECTIONS: usize = 8;

/// A bucket, or the part of it below a prefix.
pub struct S3 {
    operator: Operator,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    location: String,
    exclusive: Exclusive,
    /// The service's ETag of a whole object is not its MD5 (seen at storages that encrypt with a key service).
    etag_is_opaque: AtomicBool,
}

/// Whether the service honors `If-None-Match: *`, which is learned from the first small file.
#[derive(Debug, Default)]
struct Exclusive(AtomicU8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Unknown,
    Honored,
    /// It is taken and has no effect.
    Ignored,
    /// A request that carries it fails.
    Refused,
}

impl Exclusive {
    const ALL: [Condition; 4] = [Condition::Unknown, Condition::Honored, Condition::Ignored, Condition::Refused];

    fn get(&self) -> Condition {
        Self::ALL[usize::from(self.0.load(Ordering::Relaxed))]
    }

    fn set(&self, condition: Condition) {
        self.0.store(condition as u8, Ordering::Relaxed);
    }
}

impl S3 {
    /// Checks the options; touches no network.
    ///
    /// TLS runs on the process's rustls provider; if none is installed yet, this installs ring.
    ///
    /// # Errors
    /// `Address` names the option that is wrong.
    pub fn open(options: S3Options) -> Result<Self> {
        let location = options.location()?;
        // The first one installed stays; a program that chose its own has done so before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = wire::client(&options.trust()).map_err(|error| StorageError::Address(error.to_string()))?;
        let operator = options.operator()?;
        Ok(Self {
            operator,
            client,
            clock: options.clock,
            location,
            exclusive: Exclusive::default(),
            etag_is_opaque: AtomicBool::new(false),
        })
    }

    /// Runs one call on a line of its own; gives up when nothing moves any more.
    async fn call<T, F>(&self, body_bytes_max: u64, act: impl FnOnce(Operator) -> F) -> (Result<T, Failure>, Arc<Line>)
    where
        F: Future<Output = opendal::Result<T>>,
    {
        let (operator, line) = self.line(body_bytes_max);
        let result = self.watch(&line, act(operator)).await;
        (result, line)
    }

    fn line(&self, body_bytes_max: u64) -> (Operator, Arc<Line>) {
        let line = Line::new(self.client.clone(), body_bytes_max);
        let transport = HttpTransporter::new(Wire(line.clone()));
        let context = OperationContext::new().with_http_transport(transport);
        (self.operator.clone().with_context(context), line)
    }

    async fn watch<T>(&self, line: &Line, act: impl Future<Output = opendal::Result<T>>) -> Result<T, Failure> {
        match select(pin!(act), pin!(self.stalled(line))).await {
            Either::Left((Ok(value), _)) => Ok(value),
            Either::Left((Err(error), _)) => Err(line.failure().unwrap_or_else(|| Failure::Malformed(Arc::new(error)))),
            Either::Right(((), _)) => Err(Failure::Stalled(STALL.as_secs())),
        }
    }

    async fn stalled(&self, line: &Line) {
        let mut moved = None;
        while moved != Some(line.moved()) {
            moved = Some(line.moved());
            self.clock.reach(self.clock.elapsed() + STALL).await;
        }
    }

    fn error(&self, handle: &Handle, failure: Failure) -> StorageError {
        failure.into_storage(Some(handle), &self.location)
    }

    async fn head(&self, handle: &Handle) -> Result<Metadata> {
        let path = handle.path();
        let (result, _) = self.call(ANSWER_BYTES_MAX, |operator| async move { operator.stat(&path).await }).await;
        result.map_err(|failure| self.error(handle, failure))
    }

    async fn fetch(&self, handle: &Handle) -> Result<Bytes> {
        let path = handle.path();
        let (result, _) = self.call(FILE_BYTES_MAX, async |operator| operator.read(&path).await).await;
        result.map(|buffer| buffer.to_bytes()).map_err(|failure| self.error(handle, failure))
    }

    async fn fetch_part(&self, handle: Handle, range: Range<u64>) -> Result<Bytes> {
        let (path, end, wanted) = (handle.path(), range.end, range.end - range.start);
        let read = async |operator: Operator| operator.read_with(&path).range(range).await;
        let (result, line) = self.call(wanted, read).await;
        match result {
            Ok(content) if content.len() as u64 == wanted => Ok(content.to_bytes()),
            Err(Failure::Answer(answer)) if answer.status == http::StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(StorageError::Short(handle, end))
            }
            _ if line.file_bytes().is_some_and(|size| size < end) => Err(StorageError::Short(handle, end)),
            Ok(content) => Err(StorageError::Faulty(format!("{} bytes came for {wanted}", content.len()).into())),
            Err(failure) => Err(self.error(&handle, failure)),
        }
    }

    /// One PUT. `Ok(true)`: the echo proves what was stored.
    async fn put(&self, handle: &Handle, content: &Bytes, conditional: bool) -> Result<bool, Failure> {
        let (path, content) = (handle.path(), content.clone());
        let write =
            |operator: Operator| async move { operator.write_with(&path, content).if_not_exists(conditional).await };
        let (result, line) = self.call(ANSWER_BYTES_MAX, write).await;
        let sent = line.sent_md5().and_then(|md5| BASE64_STANDARD.decode(md5).ok());
        let echo = result?.etag().and_then(etag_md5);
        Ok(sent.is_some() && echo.map(Vec::from) == sent)
    }

    /// The file was confirmed without the echo of its checksum: look at it. What differs is a fault.
    async fn look(&self, handle: &Handle, content: &Bytes) -> Result<()> {
        let known_opaque = self.etag_is_opaque.load(Ordering::Relaxed);
        let holds = if known_opaque {
            self.head(handle).await?.content_length() == content.len() as u64
        } else {
            self.holds(handle, content).await?
        };
        if !holds {
            return Err(StorageError::Faulty(format!("{handle} is confirmed, yet it differs").into()));
        }
        self.etag_is_opaque.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the file is there with exactly this content: by size and checksum, or, where the service tells no
    /// checksum that we know, by reading it.
    async fn holds(&self, handle: &Handle, content: &Bytes) -> Result<bool> {
        let found = self.head(handle).await?;
        if found.content_length() != content.len() as u64 {
            return Ok(false);
        }
        if found.etag().and_then(etag_md5) == Some(Md5::digest(content).into()) {
            return Ok(true);
        }
        Ok(self.fetch(handle).await? == *content)
    }

    /// `AlreadyExists`, unless the file has this content; `None` if there is none.
    async fn settled(&self, handle: &Handle, content: &Bytes) -> Result<Option<()>> {
        match self.holds(handle, content).await {
            Ok(true) => Ok(Some(())),
            Ok(false) => Err(StorageError::AlreadyExists(handle.clone())),
            Err(StorageError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends the file; `Unknown` and `Ignored` conditions are sent too, since they cost nothing.
    async fn store(&self, handle: &Handle, content: &Bytes) -> Result<()> {
        let condition = self.exclusive.get();
        let mut outcome = self.put(handle, content, condition != Condition::Refused).await;
        if condition == Condition::Unknown
            && matches!(&outcome, Err(Failure::Answer(answer)) if answer.is_unknown_condition())
        {
            outcome = self.put(handle, content, false).await;
            if outcome.is_ok() {
                self.exclusive.set(Condition::Refused);
            }
        }
        match outcome {
            Ok(true) => Ok(()),
            Ok(false) => self.look(handle, content).await,
            Err(Failure::Answer(answer)) if answer.is_conflict() => {
                let busy = StorageError::Busy(None, Box::new(answer));
                // Another writer of the same name was first, or is at it and not to be seen yet.
                self.settled(handle, content).await?.ok_or(busy)
            }
            Err(failure) if failure.is_ambiguous() => match self.holds(handle, content).await {
                Ok(true) => Ok(()),
                _ => Err(self.error(handle, failure)),
            },
            Err(failure) => Err(self.error(handle, failure)),
        }
    }

    /// Writes the file, which is there already, once more: whoever honors the condition refuses.
    async fn learn(&self, handle: &Handle, content: &Bytes) {
        match self.put(handle, content, true).await {
            Ok(_) => self.exclusive.set(Condition::Ignored),
            Err(Failure::Answer(answer)) if answer.is_conflict() => self.exclusive.set(Condition::Honored),
            // Nothing learned; the next small file tells.
            Err(_) => {}
        }
    }

    fn info(handle: Handle, found: &Metadata) -> FileInfo {
        FileInfo { handle, size: found.content_length(), modified_at: found.last_modified().map(Into::into) }
    }
}

#[async_trait]
impl Storage for S3 {
    fn properties(&self) -> Properties {
        Properties {
            location: self.location.clone(),
            strong_listing: true,
            exclusive_create: self.exclusive.get() == Condition::Honored,
            durable: true,
            connections: CONNECTIONS,
            is_local: false,
        }
    }

    /// A bucket is made by its owner, so this only looks whether it is there.
    async fn prepare(&self) -> Result<()> {
        let list = |operator: Operator| async move { operator.list_with("").limit(1).await };
        let (result, _) = self.call(ANSWER_BYTES_MAX, list).await;
        result.map(drop).map_err(|failure| failure.into_storage(None, &self.location))
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        let honored = self.exclusive.get() == Condition::Honored;
        if !honored && self.settled(&handle, &content).await?.is_some() {
            return Ok(());
        }
        self.store(&handle, &content).await?;
        if self.exclusive.get() == Condition::Unknown && content.len() <= PROBE_BYTES_MAX {
            self.learn(&handle, &content).await;
        }
        Ok(())
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        match range {
            None => self.fetch(&handle).await,
            // The protocol has no empty ranges, and services take an absurd one for a mistake.
            Some(range) if range.is_empty() || range.end > FILE_BYTES_MAX => {
                let size = self.stat(handle.clone()).await?.size;
                let range = within(&handle, Some(range), size)?;
                if range.is_empty() { Ok(Bytes::new()) } else { self.fetch_part(handle, range).await }
            }
            Some(range) => self.fetch_part(handle, range).await,
        }
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        let found = self.head(&handle).await?;
        Ok(Self::info(handle, &found))
    }

    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        match file_type {
            FileType::Config => {
                stream::once(self.config()).filter_map(|found| std::future::ready(found.transpose())).boxed()
            }
            _ => stream::once(self.lister(file_type))
                .flat_map(|listing| match listing {
                    Ok(listing) => listing.files().boxed(),
                    Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
                })
                .boxed(),
        }
    }

    /// A deletion answers the same whether or not the file was there, so it is looked for first.
    async fn remove(&self, handle: Handle) -> Result<()> {
        self.head(&handle).await?;
        let path = handle.path();
        let (result, _) = self.call(ANSWER_BYTES_MAX, |operator| async move { operator.delete(&path).await }).await;
        result.map_err(|failure| self.error(&handle, failure))
    }
}

/// A listing on its way.
struct Listing<'a> {
    storage: &'a S3,
    file_type: FileType,
    line: Arc<Line>,
    lister: opendal::Lister,
    seen: HashSet<Handle>,
    repeats: usize,
}

impl S3 {
    /// The one file that has no folder.
    async fn config(&self) -> Result<Option<FileInfo>> {
        match self.stat(Handle::Config).await {
            Ok(found) => Ok(Some(found)),
            // The answer is the same if the bucket is missing.
            Err(StorageError::NotFound(_)) => self.prepare().await.map(|()| None),
            Err(error) => Err(error),
        }
    }

    async fn lister(&self, file_type: FileType) -> Result<Listing<'_>> {
        let (operator, line) = self.line(ANSWER_BYTES_MAX);
        let folder = format!("{}/", file_type.folder());
        let lister = self.watch(&line, async { operator.lister_with(&folder).recursive(true).await }).await;
        let lister = lister.map_err(|failure| failure.into_storage(None, &self.location))?;
        Ok(Listing { storage: self, file_type, line, lister, seen: HashSet::new(), repeats: 0 })
    }
}

impl<'a> Listing<'a> {
    fn files(self) -> impl futures::Stream<Item = Result<FileInfo>> + Send + 'a {
        stream::try_unfold(self, async |mut listing| {
            let next = listing.next().await?;
            Ok(next.map(|file| (file, listing)))
        })
    }

    async fn next(&mut self) -> Result<Option<FileInfo>> {
        loop {
            let (storage, lister) = (self.storage, &mut self.lister);
            let entry = storage.watch(&self.line, async { lister.next().await.transpose() }).await;
            let Some(entry) = entry.map_err(|failure| failure.into_storage(None, &storage.location))? else {
                return Ok(None);
            };
            let Some(handle) = self.handle(entry.path()) else { continue };
            if self.seen.insert(handle.clone()) {
                self.repeats = 0;
                return Ok(Some(S3::info(handle, entry.metadata())));
            }
            self.repeats += 1;
            if self.repeats > REPEATS_MAX {
                return Err(StorageError::Faulty("listing repeats itself".into()));
            }
        }
    }

    /// The file of that path, if it is where such a file belongs.
    fn handle(&self, path: &str) -> Option<Handle> {
        let (_, name) = path.rsplit_once('/')?;
        Handle::from_name(self.file_type, name).filter(|handle| handle.path() == path)
    }
}

/// The MD5 in an ETag, if it has the form of one.
fn etag_md5(etag: &str) -> Option<[u8; 16]> {
    let digits = etag.trim_matches('"');
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("location", &self.location).finish_non_exhaustive()
    }
}
