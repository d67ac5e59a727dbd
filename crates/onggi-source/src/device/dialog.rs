//! Pure but for the line: typing commands at a prompt and reading to the next one.
//!
//! The prompt is learned from the device itself, so that no text in an answer is taken for it but the prompt's own.

use std::time::Duration;

use super::line::Line;
use super::model::Model;
use super::text::{answer, render};
use crate::context::Context;
use crate::source::{Result, SourceError};
use onggi_ssh::SshError;

/// Longest answer, in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Longest prompt, in bytes.
const PROMPT_BYTES_MAX: usize = 200;
/// How often a line that could be a prompt may turn out to be none.
const GUESSES_MAX: usize = 10;
/// Keys that are pressed for one answer.
const PAGES_MAX: usize = 100_000;

/// A device that waits at its prompt.
pub(super) struct Dialog<'a> {
    cx: &'a Context,
    line: &'a mut dyn Line,
    model: &'a Model,
    silence_max: Duration,
    prompt: Vec<u8>,
}

impl<'a> Dialog<'a> {
    /// Waits for the prompt and learns it: the same line must come again after an empty one was typed.
    pub(super) async fn begin(
        cx: &'a Context,
        line: &'a mut dyn Line,
        model: &'a Model,
        silence_max: Duration,
    ) -> Result<Self> {
        let mut dialog = Self { cx, line, model, silence_max, prompt: Vec::new() };
        let mut last = dialog.read("its prompt", Self::may_be_prompt).await?.1;
        for _ in 0..GUESSES_MAX {
            dialog.type_line("").await?;
            let next = dialog.read("its prompt", Self::may_be_prompt).await?.1;
            if next == last {
                dialog.prompt = next;
                return Ok(dialog);
            }
            last = next;
        }
        Err(SourceError::Refused("no prompt comes twice: is this a login that is asked again and again?".to_owned()))
    }

    /// Types a command; its answer.
    pub(super) async fn ask(&mut self, command: &str) -> Result<Vec<u8>> {
        self.type_line(command).await?;
        let (appeared, _) = self.read(command, |dialog, tail| tail == dialog.prompt).await?;
        Ok(answer(&appeared, command))
    }

    /// Ends it; a device that has hung up already is not asked.
    pub(super) async fn end(self) {
        let quit = format!("{}\n", self.model.quit);
        let _ = self.cx.unless_stopped(self.line.send(&quit)).await; // it hangs up in any case
    }

    fn may_be_prompt(&self, tail: &[u8]) -> bool {
        let tail = tail.trim_ascii();
        !tail.is_empty()
            && tail.len() <= PROMPT_BYTES_MAX
            && self.model.prompts.iter().any(|end| tail.ends_with(end.as_bytes()))
    }

    async fn type_line(&mut self, text: &str) -> Result<()> {
        let text = format!("{text}\n");
        self.cx.unless_stopped(self.line.send(&text)).await?.map_err(|error| hung_up(&error))
    }

    /// All that appears until the last line is one that ends it, and that line. Goes on where a key must be pressed.
    async fn read(&mut self, what: &str, ends: impl Fn(&Self, &[u8]) -> bool) -> Result<(Vec<u8>, Vec<u8>)> {
        let (mut appeared, mut pages, mut from) = (Vec::new(), 0, 0);
        loop {
            let piece = self.next(what).await?;
            appeared.extend_from_slice(&piece);
            if appeared.len() > ANSWER_BYTES_MAX {
                return Err(SourceError::Refused(format!("{what}: more than {ANSWER_BYTES_MAX} bytes come")));
            }
            let start = appeared.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1).max(from);
            let tail = render(&appeared[start..]);
            let is_more = self.model.more.iter().any(|text| tail.trim_ascii().ends_with(text.as_bytes()));
            if is_more && pages < PAGES_MAX {
                // what comes next begins behind this: the same words are no second page
                (pages, from) = (pages + 1, appeared.len());
                self.cx.unless_stopped(self.line.send(" ")).await?.map_err(|error| hung_up(&error))?;
            } else if ends(self, &tail) {
                return Ok((appeared, tail));
            }
        }
    }

    async fn next(&mut self, what: &str) -> Result<bytes::Bytes> {
        let silence = self.cx.world.sleep(self.silence_max);
        let piece = async {
            tokio::select! {
                biased;
                piece = self.line.receive() => piece.map_err(|error| hung_up(&error))?.ok_or_else(|| {
                    SourceError::Refused(format!("{what}: the device hung up in the middle"))
                }),
                () = silence => Err(SourceError::Refused(format!("{what}: nothing came for {:?}", self.silence_max))),
            }
        };
        self.cx.unless_stopped(piece).await?
    }
}

fn hung_up(error: &SshError) -> SourceError {
    SourceError::Unreachable(crate::chain::chain(error))
}
