//! The content of a file on a host: a short one in a single exchange, a long one in pieces, and of one that is stored
//! already only what the host finds changed.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use onggi_node::{Answer, Lost, RANGES_MAX, READ_BYTES_MAX, ReadRequest, Request, Stamp};
use tokio::sync::SemaphorePermit;

use super::lost;
use super::session::{Client, Silence, Stream};
use crate::context::{Context, Problem};
use crate::item::Layout;
use crate::path::TreePath;
use crate::source::{ByteStream, Known, KnownRange, ReadAt, ReadError, SourceError};

/// Files up to this length come whole, in bytes.
const WHOLE_BYTES_MAX: u64 = 256 << 10;
/// Reads up to this length need no permit of the sources' memory, in bytes.
const FREE_BYTES: u64 = 64 << 10;
/// From this length on what is stored is compared first, in bytes.
const COMPARE_BYTES_MIN: u64 = 8 << 20;
/// What a command may have sent that nobody has read, in bytes.
const DUMP_CREDIT: u64 = 4 << 20;

/// Where a file is and what it was when the walk came by.
pub(super) struct Place {
    /// The absolute path of the walk's root, which is the file itself or above it.
    pub(super) root: Arc<[u8]>,
    pub(super) stamp: Stamp,
}

pub(super) struct NodeFile<'a> {
    client: &'a Client,
    place: Place,
    path: TreePath,
    compares: bool,
    state: Mutex<State<'a>>,
}

#[derive(Default)]
struct State<'a> {
    /// What it must still be at the end.
    expected: Stamp,
    whole: Option<Bytes>,
    after: Option<Stamp>,
    _permit: Option<SemaphorePermit<'a>>,
}

/// What one request for a piece brought.
struct Piece {
    stamp: Stamp,
    data: Vec<(u64, u64)>,
    length: usize,
}

impl<'a> NodeFile<'a> {
    pub(super) fn new(client: &'a Client, place: Place, path: TreePath, compares: bool) -> Self {
        let state = State { expected: place.stamp, ..State::default() };
        Self { client, place, path, compares, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, lost: Lost) -> ReadError {
        ReadError::Item(lost::problem(lost, &self.path))
    }

    fn changed(&self, text: &str) -> ReadError {
        ReadError::Item(Problem { class: "changed", path: Some(self.path.clone()), text: text.to_owned() })
    }

    fn silent(&self, silence: Silence) -> ReadError {
        match silence {
            Silence::Slow => {
                let text = SourceError::from(Silence::Slow).to_string();
                ReadError::Item(Problem { class: "stale-mount", path: Some(self.path.clone()), text })
            }
            other => ReadError::Unit(other.into()),
        }
    }

    fn request(&self, stream: u64, offset: u64, length: u64, layout: bool) -> ReadRequest {
        let Place { root, stamp } = &self.place;
        // the path begins behind the first slash; behind the root there is another one, except behind `/`
        let root_length = if **root == *b"/" { 0 } else { root.len() };
        let path = self.path.as_bytes().get(root_length..).unwrap_or_default().to_vec();
        let root = root.to_vec();
        ReadRequest { stream, root, path, device: stamp.device, inode: stamp.inode, offset, length, layout }
    }

    fn ask(&self, offset: u64, length: u64, layout: bool) -> Stream<'a> {
        self.client.ask(|stream| Request::Read(self.request(stream, offset, length, layout)))
    }

    /// Takes a piece into a buffer; the host must not send more than fits.
    async fn take(&self, cx: &Context, stream: Stream<'_>, buffer: &mut [u8]) -> Result<Piece, ReadError> {
        let (mut at, room) = (0, buffer.len());
        let put = &mut |bytes: Vec<u8>| {
            buffer[at..at + bytes.len()].copy_from_slice(&bytes);
            at += bytes.len();
        };
        self.take_with(cx, stream, room, put).await
    }

    /// Takes a piece of this length at most, as it comes.
    async fn take_with(
        &self,
        cx: &Context,
        mut stream: Stream<'_>,
        room: usize,
        put: &mut (dyn FnMut(Vec<u8>) + Send),
    ) -> Result<Piece, ReadError> {
        let mut length = 0;
        let mut take = |bytes: Vec<u8>| {
            length += bytes.len();
            if length > room {
                return Err(against_protocol("a piece is longer than it was asked for"));
            }
            put(bytes);
            Ok(length)
        };
        loop {
            match stream.next(cx).await.map_err(|silence| self.silent(silence))? {
                Answer::Data { bytes, .. } => drop(take(bytes)?),
                Answer::ReadDone { lost: Lost::NOTHING, stamp, data, bytes, .. } => {
                    stream.done();
                    return Ok(Piece { stamp, data, length: take(bytes)? });
                }
                Answer::ReadDone { lost, .. } => {
                    stream.done();
                    return Err(self.lost(lost));
                }
                _ => return Err(against_protocol("this is no answer to a read")),
            }
        }
    }

    /// All of a short file at once, with where its data is and what it was afterwards.
    async fn open_whole(&self, cx: &Context, expected: Stamp) -> Result<Layout, ReadError>
    where
        'a: 'a,
    {
        let mut bytes = Vec::new();
        let stream = self.ask(0, expected.size, true);
        let put = &mut |more: Vec<u8>| {
            // nearly always all comes at once, and nothing is copied
            if bytes.is_empty() { bytes = more } else { bytes.extend(more) }
        };
        let piece = self.take_with(cx, stream, usize::try_from(expected.size).unwrap_or(0), put).await?;
        let length = bytes.len() as u64;
        let data = checked_data(piece.data, length)?;
        let mut state = self.state();
        (state.whole, state.after) = (Some(bytes.into()), Some(piece.stamp));
        Ok(Layout { length, data, same: Vec::new() })
    }

    async fn open_long(&self, cx: &Context, known: &[KnownRange]) -> Result<Layout, ReadError> {
        let same = if self.compares && !known.is_empty() { self.compare(cx, known).await? } else { Vec::new() };
        let stream = self.ask(0, 0, true);
        let piece = self.take(cx, stream, &mut []).await?;
        let length = piece.stamp.size;
        self.state().expected = piece.stamp;
        let same = same.into_iter().map(|range| range.start..range.end.min(length)).filter(|range| !range.is_empty());
        Ok(Layout { length, data: checked_data(piece.data, length)?, same: same.collect() })
    }

    /// Which of the parent's pieces are there unchanged.
    async fn compare(&self, cx: &Context, known: &[KnownRange]) -> Result<Vec<Range<u64>>, ReadError> {
        let (mut same, mut start): (Vec<Range<u64>>, u64) = (Vec::new(), 0);
        for ranges in known.chunks(RANGES_MAX) {
            let asked = ranges.iter().map(|range| (range.length, range.sha256)).collect();
            let mut stream = self
                .client
                .ask(|stream| Request::Ranges { file: self.request(stream, start, 0, false), ranges: asked });
            let unchanged = match stream.next(cx).await.map_err(|silence| self.silent(silence))? {
                Answer::RangesDone { lost: Lost::NOTHING, unchanged, .. } => unchanged,
                Answer::RangesDone { lost, .. } => return Err(self.lost(lost)),
                _ => return Err(against_protocol("this is no answer to ranges")),
            };
            stream.done();
            for (number, range) in ranges.iter().enumerate() {
                let end = start + range.length;
                if unchanged.get(number / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1) {
                    match same.last_mut().filter(|last| last.end == start) {
                        Some(last) => last.end = end,
                        None => same.push(start..end),
                    }
                }
                start = end;
            }
        }
        Ok(same)
    }
}

/// Sorted, disjoint and inside the file, or it is against the protocol.
fn checked_data(data: Vec<(u64, u64)>, length: u64) -> Result<Vec<Range<u64>>, ReadError> {
    let (mut end, mut checked) = (0, Vec::with_capacity(data.len()));
    for (start, stop) in data {
        let stop = stop.min(length);
        if start < end {
            return Err(against_protocol("pieces of a file overlap"));
        }
        if start < stop {
            checked.push(start..stop);
            end = stop;
        }
    }
    Ok(checked)
}

fn against_protocol(text: &str) -> ReadError {
    ReadError::Unit(SourceError::Damaged(format!("the host breaks the protocol: {text}")))
}

#[async_trait]
impl ReadAt for NodeFile<'_> {
    async fn open(&self, cx: &Context, known: &Known<'_>) -> Result<Layout, ReadError> {
        cx.check()?;
        let expected = {
            let mut state = self.state();
            state.whole = None;
            // what changed while it was read is read once more as it became
            state.expected = state.after.take().unwrap_or(state.expected);
            state.expected
        };
        match expected.size {
            0 => Ok(Layout::dense(0)),
            1..=WHOLE_BYTES_MAX => {
                let _permit = match expected.size {
                    ..=FREE_BYTES => None,
                    size => cx.unless_stopped(cx.memory.acquire_many(size as u32)).await?.ok(),
                };
                self.open_whole(cx, expected).await
            }
            _ => {
                let known = if expected.size >= COMPARE_BYTES_MIN { known.ranges } else { &[] };
                self.open_long(cx, known).await
            }
        }
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        cx.check()?;
        let whole = self.state().whole.clone();
        if let Some(whole) = whole {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let bytes = whole.get(start..start.saturating_add(buffer.len()));
            buffer.copy_from_slice(bytes.ok_or_else(|| self.changed("it became shorter while it was read"))?);
            return Ok(());
        }
        let step = READ_BYTES_MAX as usize;
        let starts = (0..buffer.len()).step_by(step);
        let lengths = starts.map(|start| (start, step.min(buffer.len() - start)));
        // all are asked for before the first is awaited
        let asked: Vec<_> =
            lengths.map(|(start, length)| self.ask(offset + start as u64, length as u64, false)).collect();
        for (stream, part) in asked.into_iter().zip(buffer.chunks_mut(step)) {
            let piece = self.take(cx, stream, part).await?;
            if piece.length < part.len() {
                self.state().after = Some(piece.stamp);
                return Err(self.changed("it became shorter while it was read"));
            }
        }
        Ok(())
    }

    async fn confirm(&self, cx: &Context) -> Result<(), ReadError> {
        let (expected, after) = {
            let state = self.state();
            (state.expected, state.after)
        };
        if expected.size == 0 {
            return Ok(());
        }
        let after = if let Some(after) = after {
            after
        } else {
            let stream = self.ask(0, 0, false);
            self.take(cx, stream, &mut []).await?.stamp
        };
        if (after.size, after.mtime) == (expected.size, expected.mtime) {
            return Ok(());
        }
        self.state().after = Some(after);
        Err(self.changed("it changed while it was read"))
    }
}

/// The output of a command on a host, whose end is exit status 0.
pub(super) struct NodeDump<'a> {
    pub(super) client: &'a Client,
    pub(super) name: String,
    pub(super) command: Vec<String>,
    pub(super) seconds: u64,
    pub(super) allow_empty: bool,
    stream: Option<Stream<'a>>,
    sent: u64,
}

impl<'a> NodeDump<'a> {
    pub(super) fn new(client: &'a Client, dump: &super::config::Dump) -> Self {
        Self {
            client,
            name: dump.name.clone(),
            command: dump.command.clone(),
            seconds: dump.time_limit.map_or(0, |limit| limit.0.as_secs().max(1)),
            allow_empty: dump.allow_empty,
            stream: None,
            sent: 0,
        }
    }

    fn begin(&mut self) -> &mut Stream<'a> {
        let client = self.client;
        let (name, seconds) = (self.name.as_bytes().to_vec(), self.seconds);
        let command = self.command.iter().map(|word| word.as_bytes().to_vec()).collect();
        self.stream.get_or_insert_with(|| {
            let stream = client.ask(|stream| Request::Dump { stream, name, command, seconds });
            client.tell(Request::Credit { stream: stream.id, bytes: DUMP_CREDIT });
            stream
        })
    }

    fn failed(&self, text: &str) -> ReadError {
        ReadError::Unit(SourceError::Incomplete(format!("dump {}: {text}", self.name)))
    }

    fn end(&self, lost: Lost, status: i32, tail: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let said = String::from_utf8_lossy(tail);
        let said: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let said = if said.is_empty() { String::new() } else { format!(": {}", said.join(" | ").escape_debug()) };
        match (lost, status) {
            (Lost::NOTHING, 0) if self.sent == 0 && !self.allow_empty => Err(self.failed("it wrote nothing")),
            (Lost::NOTHING, 0) => Ok(None),
            (Lost::NOTHING, -1) => Err(self.failed(&format!("it was killed by a signal{said}"))),
            (Lost::NOTHING, status) => Err(self.failed(&format!("it exited with status {status}{said}"))),
            (lost, _) => Err(self.failed(&lost::text(lost))),
        }
    }
}

#[async_trait]
impl ByteStream for NodeDump<'_> {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        loop {
            match self.begin().next(cx).await {
                // a command may think for as long as it is let
                Err(Silence::Slow) => {}
                Err(silence) => return Err(ReadError::Unit(silence.into())),
                Ok(Answer::Data { stream, bytes }) => {
                    self.sent += bytes.len() as u64;
                    self.client.tell(Request::Credit { stream, bytes: bytes.len() as u64 });
                    return Ok(Some(bytes.into()));
                }
                Ok(Answer::DumpDone { lost, status, tail, .. }) => {
                    if let Some(stream) = &mut self.stream {
                        stream.done();
                    }
                    return self.end(lost, status, &tail);
                }
                Ok(_) => return Err(against_protocol("this is no answer to a dump")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_host_says_data_is_must_make_sense() {
        assert_eq!(checked_data(vec![(0, 5), (7, 20)], 10).unwrap(), [0..5, 7..10]);
        assert_eq!(checked_data(vec![(3, 3), (12, 20)], 10).unwrap(), []);
        assert!(checked_data(vec![(0, 5), (4, 8)], 10).is_err());
    }
}
