//! How a run ended: what standard error says, the file that is left for whoever looks for the reason, and the exit code.

use std::fmt::Write as _;

use onggi_source::bosh::{Fault, Faults};

use super::signal::{Ended, advice};
use super::words::{Request, Verb};
use super::{Run, voice};

/// How work ended.
pub type Result = std::result::Result<(), Failed>;

/// Why work failed.
#[derive(Debug)]
pub struct Failed {
    /// The exit code.
    pub code: u8,
    /// What standard error says.
    pub text: String,
    /// The same with all that is known.
    pub trace: String,
    /// What the operator is told to do next.
    pub advice: Option<String>,
}

impl Failed {
    /// What these faults mean to this verb.
    pub fn of(faults: &Faults, verb: &Verb) -> Self {
        Self {
            code: faults.exit_bits(),
            text: listed(faults, &Fault::whole),
            trace: listed(faults, &traced),
            advice: wants_clean_up(faults, verb).then(|| advice(verb)),
        }
    }
}

/// Whether a backup left something that the clean-up takes away.
pub fn wants_clean_up(faults: &Faults, verb: &Verb) -> bool {
    matches!(verb, Verb::Check | Verb::Backup(_)) && faults.0.iter().any(Fault::leaves_something)
}

/// A fault with all that is known of it.
pub fn traced(fault: &Fault) -> String {
    format!("{}\n{fault:?}", fault.whole())
}

/// Faults, numbered.
pub fn listed(faults: &Faults, show: &dyn Fn(&Fault) -> String) -> String {
    let mut text = format!("{faults}:\n");
    for (number, fault) in faults.0.iter().enumerate() {
        let _ = write!(text, "error {}:\n{}\n", number + 1, show(fault));
    }
    text
}

/// Tells it; the exit code.
pub fn show(run: &Run, request: &Request, ended: Ended) -> u8 {
    match ended {
        Ended::Done(Ok(())) => 0,
        Ended::Done(Err(failed)) => {
            keep(run, &failed.trace);
            let advice = failed.advice.map(|advice| format!("{advice}\n")).unwrap_or_default();
            voice::err(&format!("{}{advice}", failed.text));
            failed.code
        }
        Ended::Cancelled => owed(run, request, 1),
        Ended::Signal(code) => owed(run, request, code),
    }
}

/// What could not be undone in time.
fn owed(run: &Run, request: &Request, code: u8) -> u8 {
    let owed = run.owed.list();
    if !owed.is_empty() {
        let list = owed.join("\n  ");
        run.voice.plain(&format!("Not everything could be undone:\n  {list}\n{}\n", advice(&request.verb)));
    }
    code
}

/// Where it cannot be written, standard error must do.
fn keep(run: &Run, trace: &str) {
    let name = format!("bbr-{}.err.log", run.cx.world.now().strftime("%Y-%m-%dT%H:%M:%SZ"));
    if std::fs::write(run.machine.directory.join(name), trace).is_err() {
        voice::err(trace);
    }
}
