//! Hands a stored content to a process on its standard input.

use bytes::BytesMut;

use super::process::Running;
use crate::context::Context;
use crate::source::{Known, ReadAt, ReadError, Result, SourceError};

/// How much is read and written at once, in bytes.
const STEP_BYTES: u64 = 64 << 10;

/// Writes the whole content, holes as zeros, and ends the input.
pub(crate) async fn feed(cx: &Context, content: &dyn ReadAt, running: &mut dyn Running) -> Result<()> {
    let layout = content.open(cx, &Known::default()).await.map_err(lost)?;
    let mut data = layout.data.into_iter().peekable();
    let mut offset = 0;
    while offset < layout.length {
        cx.check()?;
        let _ = data.next_if(|range| range.end <= offset);
        let (in_data, until) = match data.peek() {
            Some(range) if range.start <= offset => (true, range.end),
            Some(range) => (false, range.start),
            None => (false, layout.length),
        };
        let length = (until - offset).min(STEP_BYTES);
        let mut step = BytesMut::zeroed(length as usize);
        if in_data {
            content.read(cx, offset, &mut step).await.map_err(lost)?;
        }
        cx.unless_stopped(running.write(step.freeze())).await??;
        offset += length;
    }
    content.confirm(cx).await.map_err(lost)?;
    running.end_input().await
}

/// A lost file is all that there is to restore.
pub(crate) fn lost(error: ReadError) -> SourceError {
    match error {
        ReadError::Unit(error) => error,
        ReadError::Item(problem) => SourceError::Incomplete(problem.to_string()),
    }
}
