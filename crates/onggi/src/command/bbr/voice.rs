//! Lines of the log, as `bbr` writes them, held back while a question is open.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;
use onggi_source::bosh::{Level, Talk};
use onggi_storage::Clock;

/// Writes the log.
pub struct Voice {
    to: To,
    clock: Arc<dyn Clock>,
    zone: TimeZone,
    is_debug: bool,
    state: Mutex<State>,
}

/// Where it goes.
enum To {
    Output,
    /// A file, and what went there.
    File(Mutex<(File, String)>),
    Nowhere,
}

#[derive(Default)]
struct State {
    is_paused: bool,
    /// What is to be written once the question is answered.
    waiting: String,
}

impl Voice {
    /// One that writes to standard output.
    pub fn new(clock: Arc<dyn Clock>, is_debug: bool) -> Self {
        Self { to: To::Output, clock, zone: TimeZone::system(), is_debug, state: Mutex::default() }
    }

    /// One that writes to a new file, as it happens.
    pub fn in_file(&self, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
        Ok(self.another(To::File(Mutex::new((file, String::new())))))
    }

    /// One that writes nothing, where what happens says no more than how it ended.
    pub fn nowhere(&self) -> Self {
        self.another(To::Nowhere)
    }

    fn another(&self, to: To) -> Self {
        let (clock, zone) = (Arc::clone(&self.clock), self.zone.clone());
        Self { to, clock, zone, is_debug: self.is_debug, state: Mutex::default() }
    }

    /// What went to the file.
    pub fn kept(&self) -> String {
        let To::File(file) = &self.to else { return String::new() };
        file.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// In which its times are.
    pub fn zone(&self) -> TimeZone {
        self.zone.clone()
    }

    /// Writes a text as it is.
    pub fn plain(&self, text: &str) {
        match &self.to {
            To::Output => {}
            To::Nowhere => return,
            To::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.1.push_str(text);
                let _ = file.0.write_all(text.as_bytes()); // the run matters more than its log
                return;
            }
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_paused {
            state.waiting.push_str(text);
        } else {
            out(text);
        }
    }

    /// Holds everything back.
    pub fn pause(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_paused = true;
    }

    /// Writes what was held back, and goes on.
    pub fn resume(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_paused = false;
        out(&std::mem::take(&mut state.waiting));
    }
}

impl Talk for Voice {
    fn say(&self, level: Level, line: &str) {
        let word = match level {
            Level::Debug if !self.is_debug => return,
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        };
        let now = self.clock.now().to_zoned(self.zone.clone());
        self.plain(&format!("[bbr] {} {word} - {line}\n", now.strftime("%Y/%m/%d %H:%M:%S")));
    }
}

/// Writes to standard output; a reader that is gone stops no backup.
pub fn out(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error.
pub fn err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
