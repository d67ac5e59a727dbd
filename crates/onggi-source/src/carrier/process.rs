//! Processes of this machine: a pipeline in a process group of its own, which is killed as one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::ssh::{Refusal, refusal};
use crate::context::Context;
use crate::source::{Result, SourceError};

/// How much of the standard error is kept for a message, in bytes.
const TAIL_BYTES_MAX: usize = 64 << 10;
/// Length of one read from standard error, in bytes.
const WORDS_BYTES: usize = 4096;
/// Length of one read from a pipe, in bytes.
const READ_BYTES: usize = 64 << 10;
/// How long to wait for words on standard error that a background process still holds open.
const TAIL_WAIT: Duration = Duration::from_millis(200);
/// The repository's secrets, which no started process needs.
const HIDDEN_VARIABLES: &[&str] = &["ONGGI_PASSWORD", "RESTIC_PASSWORD"];

/// What is to be started: one process, or several whose output is the next one's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments of each process.
    pub stages: Vec<Vec<OsString>>,
    /// Variables beside the inherited ones, of which the repository's secrets are left out.
    pub environment: BTreeMap<String, String>,
    /// Where they run; `None`: where onggi runs.
    pub directory: Option<PathBuf>,
    /// Whether the first one is written to; else its input is empty.
    pub takes_input: bool,
    /// Whether nobody wants to read what the last one writes; else it waits for its reader.
    pub drops_output: bool,
}

/// How one process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its program.
    pub program: String,
    /// Its exit status; `None`: killed by a signal.
    pub status: Option<i32>,
}

/// Starts processes. The only seam between adapters and the machine's processes.
#[async_trait]
pub trait Launcher: Send + Sync {
    /// Starts all stages, or none.
    async fn start(&self, launch: &Launch) -> Result<Box<dyn Running>>;
}

/// A started pipeline. Dropping it kills all of its group that still runs.
#[async_trait]
pub trait Running: Send {
    /// The next piece of the last stage's output; `None` at its end, which says nothing about success. May be dropped
    /// half-way without loss.
    async fn read(&mut self) -> Result<Option<Bytes>>;

    /// Writes to the first stage. Must not be dropped half-way.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Ends the input of the first stage.
    async fn end_input(&mut self) -> Result<()>;

    /// Awaits the end of all stages. May be dropped half-way and called again.
    async fn wait(&mut self) -> Result<Vec<Exit>>;

    /// The end of what all stages said on standard error, in one line of text.
    fn tail(&self) -> String;

    /// Of one that was to run on a host and has ended: what was in the way, as far as that was said.
    fn refusal(&self) -> Refusal {
        refusal(&self.tail())
    }
}

impl Launch {
    /// These stages without anything special.
    pub fn new<S: Into<OsString>>(stages: impl IntoIterator<Item = Vec<S>>) -> Self {
        let stages = stages.into_iter().map(|stage| stage.into_iter().map(Into::into).collect()).collect();
        Self { stages, environment: BTreeMap::new(), directory: None, takes_input: false, drops_output: false }
    }

    /// The same with these variables.
    #[must_use]
    pub fn with_environment(self, environment: BTreeMap<String, String>) -> Self {
        Self { environment, ..self }
    }

    fn name(&self, stage: usize) -> String {
        let program = self.stages[stage].first().cloned().unwrap_or_default();
        program.to_string_lossy().into_owned()
    }
}

/// Runs a pipeline without input to its end; anything but exit status 0 of all is an error that says what was on
/// standard error. Killed when the run is stopped.
pub(crate) async fn run_to_end(cx: &Context, launcher: &dyn Launcher, launch: &Launch) -> Result<()> {
    let mut running = launcher.start(launch).await?;
    while cx.unless_stopped(running.read()).await??.is_some() {}
    let exits = cx.unless_stopped(running.wait()).await??;
    check_exits(&exits, &running.tail())
}

/// Runs a pipeline to its end and answers what it wrote, which is at most `length_max` bytes of text. Else as
/// [`run_to_end`].
pub(crate) async fn run_for_text(
    cx: &Context,
    launcher: &dyn Launcher,
    launch: &Launch,
    length_max: usize,
) -> Result<String> {
    let mut running = launcher.start(launch).await?;
    let written = output(cx, &mut *running, length_max)
        .await?
        .ok_or_else(|| SourceError::Incomplete(format!("`{}` wrote more than {length_max} bytes", launch.name(0))))?;
    String::from_utf8(written).map_err(|_| SourceError::Incomplete(format!("`{}` wrote no text", launch.name(0))))
}

/// What a pipeline writes until all of it exited with 0; `None` if that is more than `length_max` bytes.
pub(crate) async fn output(cx: &Context, running: &mut dyn Running, length_max: usize) -> Result<Option<Vec<u8>>> {
    let mut written = Vec::new();
    while let Some(piece) = cx.unless_stopped(running.read()).await?? {
        if written.len() + piece.len() > length_max {
            return Ok(None);
        }
        written.extend_from_slice(&piece);
    }
    let exits = cx.unless_stopped(running.wait()).await??;
    check_exits(&exits, &running.tail())?;
    Ok(Some(written))
}

/// `Ok` if all exited with 0.
pub(crate) fn check_exits(exits: &[Exit], tail: &str) -> Result<()> {
    let Some(bad) = exits.iter().find(|exit| exit.status != Some(0)) else {
        return Ok(());
    };
    let how = bad.status.map_or("was killed by a signal".to_owned(), |status| format!("exited with status {status}"));
    let said = if tail.is_empty() { String::new() } else { format!(": {tail}") };
    Err(SourceError::Incomplete(format!("`{}` {how}{said}", bad.program)))
}

/// Starts real processes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLauncher;

#[async_trait]
impl Launcher for SystemLauncher {
    async fn start(&self, launch: &Launch) -> Result<Box<dyn Running>> {
        let mut pipeline = Pipeline {
            launch: launch.clone(),
            group: None,
            children: Vec::new(),
            exits: Vec::new(),
            input: None,
            output: None,
            words: None,
            tail: Vec::new(),
        };
        pipeline.start_all()?;
        Ok(Box::new(pipeline))
    }
}

struct Pipeline {
    launch: Launch,
    group: Option<Pid>,
    children: Vec<Child>,
    exits: Vec<Exit>,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    words: Option<pipe::Receiver>,
    tail: Vec<u8>,
}

impl Pipeline {
    fn start_all(&mut self) -> Result<()> {
        let (words, speaker) = io::pipe().map_err(|error| SourceError::Busy(format!("open a pipe: {error}")))?;
        let words = pipe::Receiver::from_owned_fd(OwnedFd::from(words));
        self.words = Some(words.map_err(|error| SourceError::Busy(format!("open a pipe: {error}")))?);
        for stage in 0..self.launch.stages.len() {
            let started = self.start_stage(stage, &speaker);
            started.map_err(|error| start_failed(&self.launch.name(stage), &error))?;
        }
        Ok(())
    }

    fn start_stage(&mut self, stage: usize, speaker: &io::PipeWriter) -> io::Result<()> {
        let arguments = &self.launch.stages[stage];
        let program = arguments.first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut command = Command::new(program);
        command.args(&arguments[1..]).envs(&self.launch.environment);
        for hidden in HIDDEN_VARIABLES {
            command.env_remove(hidden);
        }
        if let Some(directory) = &self.launch.directory {
            command.current_dir(directory);
        }
        let input = match self.output.take() {
            Some(previous) => Stdio::from(previous.into_owned_fd()?),
            None if self.launch.takes_input => Stdio::piped(),
            None => Stdio::null(),
        };
        let is_last = stage + 1 == self.launch.stages.len();
        let output = if is_last && self.launch.drops_output { Stdio::null() } else { Stdio::piped() };
        command.stdin(input).stdout(output).stderr(speaker.try_clone()?).kill_on_drop(true);
        // the first leads the group; it cannot be reaped before the others have joined
        command.process_group(self.group.map_or(0, |group| group.as_raw_nonzero().get()));
        let mut child = command.spawn()?;
        if self.group.is_none() {
            self.group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            self.input = child.stdin.take();
        }
        self.output = child.stdout.take();
        self.children.push(child);
        Ok(())
    }

    /// Awaits the next words on standard error, or once its end; after that never ends.
    async fn hear(words: &mut Option<pipe::Receiver>) -> BytesMut {
        let mut said = BytesMut::with_capacity(WORDS_BYTES);
        let Some(open) = words else { return std::future::pending().await };
        if !matches!(open.read_buf(&mut said).await, Ok(1..)) {
            *words = None;
        }
        said
    }
}

#[async_trait]
impl Running for Pipeline {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(output) = &mut self.output else { return Ok(None) };
            let mut piece = BytesMut::with_capacity(READ_BYTES);
            tokio::select! {
                biased;
                said = Self::hear(&mut self.words) => keep_tail(&mut self.tail, &said),
                read = output.read_buf(&mut piece) => match read {
                    Ok(0) => self.output = None,
                    Ok(_) => return Ok(Some(piece.freeze())),
                    Err(error) => return Err(SourceError::Incomplete(format!("read output: {error}"))),
                },
            }
        }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let Some(input) = &mut self.input else {
                return Err(SourceError::Incomplete("its input is closed".to_owned()));
            };
            tokio::select! {
                biased;
                said = Self::hear(&mut self.words) => keep_tail(&mut self.tail, &said),
                written = input.write_buf(&mut left) => {
                    written.map_err(|error| SourceError::Incomplete(format!("write input: {error}")))?;
                }
            }
        }
        Ok(())
    }

    async fn end_input(&mut self) -> Result<()> {
        self.input = None; // a pipe has no buffer on this side
        Ok(())
    }

    async fn wait(&mut self) -> Result<Vec<Exit>> {
        while self.exits.len() < self.children.len() {
            let stage = self.exits.len();
            tokio::select! {
                biased;
                said = Self::hear(&mut self.words) => keep_tail(&mut self.tail, &said),
                ended = self.children[stage].wait() => {
                    let status = ended.map_err(|error| SourceError::Incomplete(format!("wait: {error}")))?;
                    self.exits.push(Exit { program: self.launch.name(stage), status: status.code() });
                }
            }
        }
        while self.words.is_some() {
            let Ok(said) = tokio::time::timeout(TAIL_WAIT, Self::hear(&mut self.words)).await else { break };
            keep_tail(&mut self.tail, &said);
        }
        Ok(self.exits.clone())
    }

    fn tail(&self) -> String {
        shown_tail(&self.tail)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // once all are reaped the number of the group may belong to others
        if let Some(group) = self.group
            && self.exits.len() < self.children.len()
        {
            let _ = kill_process_group(group, Signal::KILL); // nobody is left to tell
        }
    }
}

/// Adds words, of which the last are kept.
pub(super) fn keep_tail(tail: &mut Vec<u8>, said: &[u8]) {
    tail.extend_from_slice(said);
    let surplus = tail.len().saturating_sub(TAIL_BYTES_MAX);
    tail.drain(..surplus);
}

/// Words in one line.
pub(super) fn shown_tail(tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(tail);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.escape_debug().to_string()).collect::<Vec<_>>().join(" | ")
}

fn start_failed(program: &str, error: &io::Error) -> SourceError {
    let text = format!("start `{program}`: {error}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => {
            SourceError::Denied(text)
        }
        _ => SourceError::Busy(text),
    }
}
