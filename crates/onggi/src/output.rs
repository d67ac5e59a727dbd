//! The two streams: stdout is data, stderr is talk. The only place that writes to either.
//!
//! A closed pipe ends talk and data silently: [`Output::is_open`] tells listings to stop, work goes on to its end. Any
//! other failure to write data is kept and reported once, by [`Output::finish`].

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::escape::to_json;

/// Version of all JSON documents.
const SCHEMA: u64 = 1;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Data, problems and errors.
    Quiet,
    /// And what was done.
    Normal,
    /// And each item that changed.
    Verbose,
    /// And each item.
    Debug,
}

/// How the streams are written to.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the streams")]
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Data as JSON.
    pub json: bool,
    /// How much is said.
    pub verbosity: Verbosity,
    /// Colors may be used on stderr.
    pub color: bool,
    /// Stdout is a terminal.
    pub data_on_terminal: bool,
    /// Stderr is a terminal.
    pub talk_on_terminal: bool,
    /// The terminal shows more than ASCII.
    pub unicode: bool,
}

/// The streams of this process.
pub struct Output {
    style: Style,
    streams: Mutex<Streams>,
}

struct Streams {
    data: Box<dyn Write + Send>,
    talk: Box<dyn Write + Send>,
    fault: Option<io::Error>,
    bar_is_shown: bool,
}

impl Output {
    /// Data and talk of this process.
    pub fn standard(style: Style) -> Self {
        Self::new(style, Box::new(BufWriter::with_capacity(1 << 16, io::stdout())), Box::new(io::stderr()))
    }

    fn new(style: Style, data: Box<dyn Write + Send>, talk: Box<dyn Write + Send>) -> Self {
        Self { style, streams: Mutex::new(Streams { data, talk, fault: None, bar_is_shown: false }) }
    }

    /// How the streams are written to.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Whether data is wanted as JSON.
    pub fn is_json(&self) -> bool {
        self.style.json
    }

    /// Whether so much is said.
    pub fn says(&self, verbosity: Verbosity) -> bool {
        self.style.verbosity >= verbosity
    }

    /// Between two figures of one line.
    pub fn dot(&self) -> &'static str {
        if self.style.unicode { " · " } else { " - " }
    }

    /// Writes one line of data for people.
    pub fn data(&self, line: impl Display) {
        let mut streams = self.streams();
        streams.hide_bar();
        let result = writeln!(streams.data, "{line}");
        streams.keep(result);
        if self.style.data_on_terminal {
            streams.flush();
        }
    }

    /// Writes one JSON document on one line; `schema` is added to every object that stands for itself.
    pub fn json(&self, mut document: Value) {
        match &mut document {
            Value::Array(items) => items.iter_mut().for_each(add_schema),
            other => add_schema(other),
        }
        self.data(to_json(&document));
    }

    /// Writes one JSON document that must be seen at once: progress, errors between data.
    pub fn json_now(&self, document: Value) {
        self.json(document);
        self.streams().flush();
    }

    /// Writes bytes as they are, for programs: completions, manual pages.
    pub fn raw(&self, bytes: &[u8]) {
        let mut streams = self.streams();
        let result = streams.data.write_all(bytes);
        streams.keep(result);
    }

    /// Says what was done, unless told to be quiet.
    pub fn talk(&self, line: impl Display) {
        if self.says(Verbosity::Normal) && !self.is_json() {
            self.say(line);
        }
    }

    /// Says what only `-v` wants to know.
    pub fn detail(&self, line: impl Display) {
        if self.says(Verbosity::Verbose) && !self.is_json() {
            self.say(line);
        }
    }

    /// Says what must be known in any case.
    pub fn say(&self, line: impl Display) {
        let mut streams = self.streams();
        streams.hide_bar();
        streams.flush();
        let _ = writeln!(streams.talk, "{line}");
    }

    /// Writes a JSON document among the talk.
    pub fn json_talk(&self, mut document: Value) {
        add_schema(&mut document);
        self.say(to_json(&document));
    }

    /// Suggests the next command, only to a person at a terminal.
    pub fn suggest(&self, command: impl Display) {
        if self.style.data_on_terminal && self.style.talk_on_terminal {
            self.talk(format_args!("next: {command}"));
        }
    }

    /// Whether a person reads what is said.
    pub fn is_attended(&self) -> bool {
        self.style.talk_on_terminal
    }

    /// A word in red or another color, where colors are wanted.
    pub fn paint(&self, color: Color, text: &str) -> String {
        if self.style.color { format!("\x1b[{}m{text}\x1b[0m", color.code()) } else { text.to_owned() }
    }

    /// Replaces the one line of progress at the bottom of the terminal.
    pub fn bar(&self, line: &str) {
        let mut streams = self.streams();
        let _ = write!(streams.talk, "\r{line}\x1b[K");
        let _ = streams.talk.flush();
        streams.bar_is_shown = true;
    }

    /// Takes the line of progress away.
    pub fn hide_bar(&self) {
        self.streams().hide_bar();
    }

    /// Whether somebody still reads the data.
    pub fn is_open(&self) -> bool {
        self.streams().fault.is_none()
    }

    /// Writes what is buffered, and says whether all data arrived; a closed pipe counts as arrived.
    pub fn finish(&self) -> io::Result<()> {
        let mut streams = self.streams();
        streams.hide_bar();
        streams.flush();
        match streams.fault.take() {
            Some(fault) if fault.kind() != io::ErrorKind::BrokenPipe => Err(fault),
            _ => Ok(()),
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn keep(&mut self, result: io::Result<()>) {
        if let Err(fault) = result {
            self.fault.get_or_insert(fault);
        }
    }

    fn flush(&mut self) {
        let result = self.data.flush();
        self.keep(result);
    }

    fn hide_bar(&mut self) {
        if self.bar_is_shown {
            let _ = write!(self.talk, "\r\x1b[K");
            let _ = self.talk.flush();
            self.bar_is_shown = false;
        }
    }
}

fn add_schema(document: &mut Value) {
    if let Value::Object(members) = document {
        members.insert("schema".to_owned(), SCHEMA.into());
    }
}

/// A color that goes with a word, never instead of one.
#[derive(Debug, Clone, Copy)]
pub enum Color {
    /// Errors.
    Red,
    /// Problems.
    Yellow,
    /// Heads.
    Bold,
}

impl Color {
    fn code(self) -> &'static str {
        match self {
            Self::Red => "1;31",
            Self::Yellow => "1;33",
            Self::Bold => "1",
        }
    }
}

impl Style {
    /// What the streams of this process are, and what the command line wants of them.
    pub fn detect(json: bool, verbosity: Verbosity, color: bool, unicode: bool) -> Self {
        let talk_on_terminal = io::stderr().is_terminal();
        Self {
            json,
            verbosity,
            color: color && talk_on_terminal,
            data_on_terminal: io::stdout().is_terminal(),
            talk_on_terminal,
            unicode,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    const PLAIN: Style = Style {
        json: false,
        verbosity: Verbosity::Normal,
        color: false,
        data_on_terminal: false,
        talk_on_terminal: false,
        unicode: true,
    };

    #[track_caller]
    fn check(style: Style, act: impl FnOnce(&Output), data: &str, talk: &str) {
        let (kept_data, kept_talk) = (Kept::default(), Kept::default());
        let output = Output::new(style, Box::new(kept_data.clone()), Box::new(kept_talk.clone()));
        act(&output);
        output.finish().unwrap();
        assert_eq!(String::from_utf8_lossy(&kept_data.0.lock().unwrap()), data);
        assert_eq!(String::from_utf8_lossy(&kept_talk.0.lock().unwrap()), talk);
    }

    #[test]
    fn data_and_talk_go_different_ways() {
        check(PLAIN, |o| (o.data("a"), o.talk("b"), o.detail("c")).0, "a\n", "b\n");
    }

    #[test]
    fn quiet_says_only_what_must_be_known() {
        let style = Style { verbosity: Verbosity::Quiet, ..PLAIN };
        check(style, |o| (o.talk("b"), o.say("c")).0, "", "c\n");
    }

    #[test]
    fn every_document_bears_the_schema() {
        let style = Style { json: true, ..PLAIN };
        check(style, |o| o.json(json!([{"a": 1}])), "[{\"a\":1,\"schema\":1}]\n", "");
    }

    #[test]
    fn a_suggestion_is_for_terminals() {
        check(PLAIN, |o| o.suggest("onggi snapshots"), "", "");
        let terminal = Style { data_on_terminal: true, talk_on_terminal: true, ..PLAIN };
        check(terminal, |o| o.suggest("onggi snapshots"), "", "next: onggi snapshots\n");
    }

    #[test]
    fn data_takes_the_bar_away_first() {
        check(PLAIN, |o| (o.bar("50%"), o.data("a")).0, "a\n", "\r50%\x1b[K\r\x1b[K");
    }

    #[test]
    fn a_closed_pipe_is_silent_and_a_full_disk_is_not() {
        for (kind, arrives) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let output = Output::new(PLAIN, Box::new(Failing(kind)), Box::new(io::sink()));
            output.data("a");
            assert!(!output.is_open());
            assert_eq!(output.finish().is_ok(), arrives);
        }
    }
}
