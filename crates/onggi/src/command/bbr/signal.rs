//! Control-C, which asks before it ends a run, and the signals that do not ask.
//!
//! Whatever ends a run, scripts that run are ended, jobs are unlocked and instances are cleaned up, as long as that does
//! not take too long; a further signal ends the process at once.

use std::io::BufRead as _;
use std::time::Duration;

use onggi_source::Stop;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::words::Verb;
use super::{Run, report};
use crate::interrupt::next;

/// How long undoing may take when somebody waits for it at a terminal.
const GRACE_ASKED: Duration = Duration::from_secs(8);
/// How long it may take otherwise.
const GRACE: Duration = Duration::from_mins(2);
/// Exit codes of processes that these signals ended.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;
const HUNG_UP: u8 = 129;

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Done(report::Result),
    /// The operator wanted it.
    Cancelled,
    /// A signal wanted it; the exit code.
    Signal(u8),
}

/// What watches over a run.
pub struct Tail<'a> {
    /// The run.
    pub run: &'a Run,
    /// Ends it.
    pub stop: watch::Sender<Option<Stop>>,
    /// What it does.
    pub verb: &'a Verb,
}

/// What was answered to the question.
#[derive(Clone, Copy)]
enum Answer {
    Yes,
    No,
    /// There is nobody to ask.
    Closed,
}

enum Event {
    Done(report::Result),
    Interrupt,
    Signal(u8),
    Answer(Answer),
    TooLate,
}

impl Tail<'_> {
    /// Lets the work run to its end, or to that which somebody wants.
    pub async fn watch(&self, work: impl Future<Output = report::Result>) -> Ended {
        let mut work = std::pin::pin!(work);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [mut interrupt, mut terminate, mut hang_up] = kinds.map(|kind| signal(kind).ok());
        let (answers, mut answered) = mpsc::channel(1);
        let (mut is_asking, mut ending, mut limit) = (false, None, None);
        loop {
            let event = tokio::select! {
                biased;
                done = &mut work => Event::Done(done),
                () = next(interrupt.as_mut()) => Event::Interrupt,
                () = next(terminate.as_mut()) => Event::Signal(TERMINATED),
                () = next(hang_up.as_mut()) => Event::Signal(HUNG_UP),
                Some(answer) = answered.recv() => Event::Answer(answer),
                () = self.reach(limit) => Event::TooLate,
            };
            let (end, grace) = match (event, ending.take()) {
                (Event::Done(done), ending) => {
                    self.run.voice.resume();
                    return ending.unwrap_or(Ended::Done(done));
                }
                (Event::TooLate | Event::Interrupt | Event::Signal(_), Some(ending)) => return ending,
                (Event::Interrupt, None) if matches!(self.verb, Verb::Check) => (Ended::Signal(INTERRUPTED), GRACE),
                (Event::Interrupt, None) => {
                    if !is_asking {
                        self.ask(answers.clone());
                    }
                    is_asking = true;
                    continue;
                }
                (Event::Answer(answer), kept) => {
                    is_asking = false;
                    ending = kept;
                    if !self.is_yes(answer) || ending.is_some() {
                        continue;
                    }
                    (Ended::Cancelled, GRACE_ASKED)
                }
                (Event::Signal(code), None) => (Ended::Signal(code), GRACE),
                (Event::TooLate, None) => continue,
            };
            ending = Some(end);
            limit = Some(self.run.cx.world.elapsed() + grace);
            self.run.voice.resume();
            self.stop.send_replace(Some(Stop::Cancelled));
        }
    }

    async fn reach(&self, limit: Option<Duration>) {
        match limit {
            Some(limit) => self.run.cx.world.reach(limit).await,
            None => std::future::pending().await,
        }
    }

    /// Asks, on a thread that nobody waits for: reading cannot be given up.
    fn ask(&self, answers: mpsc::Sender<Answer>) {
        self.run.voice.pause();
        let what = if is_restore(self.verb) { "restore" } else { "backup" };
        super::voice::out(&format!(
            "\nStopping a {what} can leave the system in bad state. Are you sure you want to cancel? [yes/no]\n"
        ));
        std::thread::spawn(move || {
            let mut line = String::new();
            let answer = match std::io::stdin().lock().read_line(&mut line) {
                Ok(0) | Err(_) => Answer::Closed,
                Ok(_) if line.trim().eq_ignore_ascii_case("yes") => Answer::Yes,
                Ok(_) => Answer::No,
            };
            let _ = answers.blocking_send(answer); // the run may have ended meanwhile
        });
    }

    fn is_yes(&self, answer: Answer) -> bool {
        match answer {
            Answer::Yes => super::voice::out(&format!("{}\n", advice(self.verb))),
            Answer::No => self.run.voice.resume(),
            Answer::Closed => {
                super::voice::out(
                    "\nNo answer can be read from standard input; SIGTERM ends the run without asking.\n",
                );
                self.run.voice.resume();
            }
        }
        matches!(answer, Answer::Yes)
    }
}

/// What takes away what a run left.
pub fn advice(verb: &Verb) -> String {
    let command = if is_restore(verb) { "restore-cleanup" } else { "backup-cleanup" };
    format!("Run `bbr {command}`: it removes what is left on instances and unlocks all jobs.")
}

fn is_restore(verb: &Verb) -> bool {
    matches!(verb, Verb::Restore { .. } | Verb::RestoreCleanup)
}
