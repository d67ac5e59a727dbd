//! The output of running processes as a stream whose end is confirmed by their exit status.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::Command;
use crate::carrier::{Exit, Launch, Running, check_exits};
use crate::context::Context;
use crate::item::{Chunking, Content, Item, Metadata};
use crate::path::TreePath;
use crate::sabotage;
use crate::source::{ByteStream, Capture, Facts, Items, ReadError, Result, SourceError};

/// Mean length of a chunk: dumps change in small places.
pub(super) const CHUNKING: Chunking = Chunking::Content(128 << 10);

/// Where the output lies in the tree.
pub(super) struct Place {
    /// The virtual root.
    pub(super) root: TreePath,
    /// The file in it.
    pub(super) file: TreePath,
}

/// A started command.
pub(super) struct Output<'a> {
    command: &'a Command,
    launch: Launch,
    running: Option<Box<dyn Running>>,
    place: Place,
    taken_at: Timestamp,
}

impl<'a> Output<'a> {
    pub(super) fn new(
        command: &'a Command,
        launch: Launch,
        running: Box<dyn Running>,
        place: Place,
        taken_at: Timestamp,
    ) -> Self {
        Self { command, launch, running: Some(running), place, taken_at }
    }
}

#[async_trait]
impl Capture for Output<'_> {
    /// Once: what a process wrote is gone when it was read. Another attempt needs another capture.
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        cx.check()?;
        let running = match self.running.take() {
            Some(running) => running,
            None if sabotage::COMMAND_STARTED_AGAIN.is_on() => {
                self.command.surroundings.launcher.start(&self.launch).await?
            }
            None => return Err(SourceError::Incomplete("the output was already read once".to_owned())),
        };
        let allow_empty = self.command.config.allow_empty;
        let mut stream = Confirmed { running, length: 0, allow_empty, exits: Vec::new() };
        push_file(out, &self.place, self.taken_at, &mut stream).await?;
        let exits: Vec<_> = stream.exits.iter().map(|exit| (&exit.program, exit.status)).collect();
        let notes = serde_json::json!({ "length": stream.length, "exits": exits });
        Ok(Facts { roots: vec![self.place.root.clone()], notes, ..Facts::new(self.taken_at) })
    }
}

/// Pushes the directories down to the file and the file, and leaves them.
pub(super) async fn push_file(
    out: &dyn Items,
    place: &Place,
    taken_at: Timestamp,
    stream: &mut dyn ByteStream,
) -> Result<()> {
    let directories: Vec<_> = std::iter::successors(place.file.parent(), TreePath::parent).collect();
    for directory in directories.iter().rev().filter(|directory| !directory.is_root()) {
        let metadata = Metadata { mode: 0o755, mtime: taken_at, ..Metadata::default() };
        out.push(Item::directory(directory.clone()).with_metadata(metadata), Content::None).await?;
    }
    let metadata = Metadata { mode: 0o600, mtime: taken_at, links: 1, ..Metadata::default() };
    let item = Item::file(place.file.clone()).with_metadata(metadata).with_chunking(CHUNKING);
    out.push(item, Content::Stream(stream)).await?;
    for directory in &directories {
        out.leave(directory).await?;
    }
    Ok(())
}

/// Standard output until its end, which counts only after exit status 0 of all.
struct Confirmed {
    running: Box<dyn Running>,
    length: u64,
    allow_empty: bool,
    exits: Vec<Exit>,
}

#[async_trait]
impl ByteStream for Confirmed {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        cx.check()?;
        if let Some(bytes) = cx.unless_stopped(self.running.read()).await?? {
            self.length += bytes.len() as u64;
            return Ok(Some(bytes));
        }
        self.exits = cx.unless_stopped(self.running.wait()).await??;
        check_exits(&self.exits, &self.running.tail())?;
        refuse_empty(self.length, self.allow_empty)?;
        Ok(None)
    }
}

/// An empty output is hardly ever what was meant: a failed pipe looks the same.
pub(super) fn refuse_empty(length: u64, allow_empty: bool) -> Result<()> {
    if length > 0 || allow_empty || sabotage::EMPTY_STREAM_ACCEPTED.is_on() {
        return Ok(());
    }
    Err(SourceError::Incomplete("there was no output at all".to_owned()))
}
