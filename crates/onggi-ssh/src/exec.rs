//! What runs at the other end: one command to its end, or a dialog on a terminal. What comes back is bounded.

use crate::error::SshError;
use crate::login::Session;
use bytes::Bytes;
use russh::{Channel, ChannelMsg, client::Msg};

/// Columns of a dialog's terminal: devices break longer lines.
const COLUMNS: u32 = 511;
/// Rows of it: devices stop after so many and ask.
const ROWS: u32 = 1000;
/// Bytes of what a command says on standard error that are kept.
const WORDS_BYTES_MAX: usize = 64 << 10;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// What it wrote.
    pub output: Vec<u8>,
    /// What it said on standard error, the first of it.
    pub words: Vec<u8>,
    /// Its exit status; `None` if it was killed, or the connection broke.
    pub status: Option<u32>,
    /// It wrote more than was allowed; the rest is lost.
    pub is_cut: bool,
}

/// A terminal on the other side.
pub struct Dialog {
    channel: Channel<Msg>,
}

impl Session {
    /// Runs a command of the other side's shell with this input, and takes at most so many bytes of its output.
    pub async fn run(&self, command: &str, input: &[u8], output_bytes_max: usize) -> Result<Ran, SshError> {
        let mut channel = self.ssh.channel_open_session().await.map_err(lost)?;
        channel.exec(true, command).await.map_err(lost)?;
        if !input.is_empty() {
            channel.data(input).await.map_err(lost)?;
        }
        channel.eof().await.map_err(lost)?;
        let mut ran = Ran { output: Vec::new(), words: Vec::new(), status: None, is_cut: false };
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    let room = output_bytes_max - ran.output.len();
                    ran.is_cut |= data.len() > room;
                    ran.output.extend_from_slice(&data[..data.len().min(room)]);
                    if ran.is_cut {
                        return Ok(ran);
                    }
                }
                ChannelMsg::ExtendedData { data, .. } => {
                    let room = WORDS_BYTES_MAX - ran.words.len();
                    ran.words.extend_from_slice(&data[..data.len().min(room)]);
                }
                ChannelMsg::ExitStatus { exit_status } => ran.status = Some(exit_status),
                ChannelMsg::Failure => return Err(SshError::Denied("the host starts no commands".into())),
                _ => {}
            }
        }
        Ok(ran)
    }

    /// Opens a terminal.
    pub async fn dialog(&self) -> Result<Dialog, SshError> {
        let channel = self.ssh.channel_open_session().await.map_err(lost)?;
        channel.request_pty(false, "vt100", COLUMNS, ROWS, 0, 0, &[]).await.map_err(lost)?;
        channel.request_shell(false).await.map_err(lost)?;
        Ok(Dialog { channel })
    }
}

impl Dialog {
    /// Types.
    pub async fn send(&self, text: &str) -> Result<(), SshError> {
        self.channel.data(text.as_bytes()).await.map_err(lost)
    }

    /// What appears next; `None` once the other side has closed. May be dropped half-way without loss.
    pub async fn receive(&mut self) -> Option<Bytes> {
        loop {
            match self.channel.wait().await? {
                ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
                    return Some(Bytes::copy_from_slice(&data));
                }
                ChannelMsg::Eof | ChannelMsg::Close => return None,
                _ => {}
            }
        }
    }
}

pub(crate) fn lost(error: russh::Error) -> SshError {
    SshError::Unreachable(error.into())
}
