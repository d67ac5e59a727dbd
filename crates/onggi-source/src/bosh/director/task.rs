//! Tasks: what takes a Director longer than one answer. It is asked every half second how far it is.

use std::time::Duration;

use serde::Deserialize;

use super::model::{TaskAnswer, head};
use super::wire::{Answer, Ask};
use super::{Director, DirectorError, Result};
use crate::context::Context;

/// Between two questions.
const POLL: Duration = Duration::from_millis(500);
/// States of a task that goes on.
const RUNNING: [&str; 3] = ["queued", "processing", "cancelling"];

#[derive(Deserialize)]
struct Event {
    error: Option<EventError>,
}

#[derive(Deserialize)]
struct EventError {
    message: String,
}

impl Director {
    /// Asks for something that becomes a task, awaits its end, and answers its result.
    pub(super) async fn run_task(&self, cx: &Context, ask: &Ask) -> Result<String> {
        let id = self.start_task(cx, ask).await?;
        self.await_task(cx, id).await?;
        let result = self.call(cx, &Ask::get(format!("/tasks/{id}/output?type=result"))).await?;
        String::from_utf8(result.body.to_vec()).map_err(|_| DirectorError::Malformed("a result is no text".to_owned()))
    }

    /// Asks for something that becomes a task, and does not wait for it.
    pub(super) async fn start_task(&self, cx: &Context, ask: &Ask) -> Result<u64> {
        let answer = self.call(cx, ask).await?;
        let number = answer.path.strip_prefix("/tasks/").and_then(|id| id.parse().ok());
        number.ok_or_else(|| DirectorError::Malformed(format!("{} leads to {}, no task", ask.path(), answer.path)))
    }

    /// Returns when the task is done.
    pub(super) async fn await_task(&self, cx: &Context, id: u64) -> Result<()> {
        let (mut seen, mut events) = (0, Vec::new());
        loop {
            let task: TaskAnswer = self.call(cx, &Ask::get(format!("/tasks/{id}"))).await?.json()?;
            let ask = Ask::get(format!("/tasks/{id}/output?type=event")).after(seen);
            let more = self.ask_entered(cx, &ask).await?;
            seen = take(&mut events, seen, more)?;
            if task.state == "done" {
                return Ok(());
            }
            if !RUNNING.contains(&task.state.as_str()) {
                return Err(DirectorError::Task { id, state: task.state, reason: reason(&events) });
            }
            cx.sleep(POLL).await?;
        }
    }
}

/// Adds what is new of the events; answers how far they are known. 416 says that nothing is new.
fn take(events: &mut Vec<u8>, seen: usize, more: Answer) -> Result<usize> {
    match more.status {
        416 => Ok(seen),
        206 => {
            events.extend_from_slice(&more.body);
            Ok(seen + more.body.len())
        }
        _ => {
            // The range was not honored: it is the whole.
            *events = more.successful()?.body.to_vec();
            Ok(events.len())
        }
    }
}

/// The last error among the events.
fn reason(events: &[u8]) -> String {
    let errors = events.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Event>(line).ok());
    let last = errors.filter_map(|event| event.error).next_back();
    last.map(|error| format!(": {}", head(error.message.as_bytes()))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_the_events_is_the_reason() {
        let events =
            b"{\"time\":1,\"stage\":\"x\"}\n{\"time\":2,\"error\":{\"code\":1,\"message\":\"no agent\"}}\n{\"ti";
        assert_eq!(reason(events), ": no agent");
        assert_eq!(reason(b""), "");
    }
}
