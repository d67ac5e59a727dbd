//! The log: what libraries found on the way, on stderr, escaped, past the line of progress.

use std::io;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::escape::escape_prose;
use crate::output::{Output, Verbosity};

/// Sends the log of this process to the output's talk, from now on; of a second command in the same process to the first
/// one's.
pub fn start(output: &Arc<Output>) {
    let level = match output.style().verbosity {
        Verbosity::Quiet => LevelFilter::ERROR,
        Verbosity::Normal => LevelFilter::WARN,
        Verbosity::Verbose => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(Talk(Arc::clone(output)));
    let _ = if output.is_json() {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        builder.without_time().with_ansi(false).with_target(level >= LevelFilter::DEBUG).try_init()
    };
}

struct Talk(Arc<Output>);

impl<'a> MakeWriter<'a> for Talk {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { output: Arc::clone(&self.0), text: Vec::new() }
    }
}

/// One event on its way; it is written when it is whole.
struct Line {
    output: Arc<Output>,
    text: Vec<u8>,
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        self.output.say(escape_prose(text.trim()));
    }
}
