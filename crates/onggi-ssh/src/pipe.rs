//! A command whose input and output flow: for what is too long to hold. Nobody is read faster than it is taken.

use crate::error::SshError;
use crate::exec::lost;
use crate::login::Session;
use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

/// A command that runs at the other end. Its two directions are independent, so that neither waits for the other.
pub struct Pipe {
    /// What comes from it.
    pub output: Output,
    /// What goes to it.
    pub input: Input,
}

/// The direction to us.
pub struct Output(ChannelReadHalf);

/// The direction to the command.
pub struct Input(ChannelWriteHalf<Msg>);

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It writes.
    Output(Bytes),
    /// It says something on standard error.
    Words(Bytes),
    /// It has ended with this status. What it still had to say may follow.
    Exit(u32),
    /// A signal ended it.
    Killed(String),
}

/// A channel on which nothing runs yet.
pub struct Opened(Channel<Msg>);

impl Session {
    /// Opens a channel. It may be refused for a moment: servers count those that are just closing.
    pub async fn open(&self) -> Result<Opened, SshError> {
        self.ssh.channel_open_session().await.map(Opened).map_err(lost)
    }
}

impl Opened {
    /// Starts a command of the other side's shell. After an error it may run nevertheless.
    pub async fn start(mut self, command: &str) -> Result<Pipe, SshError> {
        self.0.exec(true, command).await.map_err(lost)?;
        loop {
            match self.0.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure) => return Err(SshError::Denied("the host starts no commands".into())),
                Some(_) => {}
                None => return Err(lost(russh::Error::Disconnect)),
            }
        }
        let (output, input) = self.0.split();
        Ok(Pipe { output: Output(output), input: Input(input) })
    }
}

impl Output {
    /// What happens next; `None` once the other side has closed. May be dropped half-way without loss.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.0.wait().await? {
                ChannelMsg::Data { data } => return Some(Event::Output(data)),
                ChannelMsg::ExtendedData { data, .. } => return Some(Event::Words(data)),
                ChannelMsg::ExitStatus { exit_status } => return Some(Event::Exit(exit_status)),
                ChannelMsg::ExitSignal { signal_name, .. } => return Some(Event::Killed(format!("{signal_name:?}"))),
                ChannelMsg::Close => return None,
                _ => {}
            }
        }
    }
}

impl Input {
    /// Hands over bytes; waits while the other side does not take them.
    pub async fn send(&self, bytes: Bytes) -> Result<(), SshError> {
        self.0.data_bytes(bytes).await.map_err(lost)
    }

    /// Nothing more comes.
    pub async fn end(&self) -> Result<(), SshError> {
        self.0.eof().await.map_err(lost)
    }

    /// Nobody listens any more, either: a command that still writes is told so.
    pub async fn close(&self) -> Result<(), SshError> {
        self.0.close().await.map_err(lost)
    }
}
