//! All deployments of a Director, several at once: short lines for people, and a log of each that is written as it
//! happens, so that it can be read after a crash.

use std::sync::Arc;

use futures::StreamExt as _;
use onggi_source::bosh::{Fault, Faults, Mode, WIDTH};

use super::Run;
use super::act::{Prepared, conclude};
use super::deployment::{Work, connect, on};
use super::report::{self, Failed, listed, traced, wants_clean_up};
use super::voice::Voice;
use super::words::{Client, Verb};

const RULE: &str = "-------------------------";

/// What is said of a verb.
struct Talk {
    /// `backup`: what begins and ends.
    act: &'static str,
    /// What was done.
    done: &'static str,
    /// What was not.
    not_done: &'static str,
}

fn talk(verb: &Verb) -> Talk {
    match verb {
        Verb::Check => Talk { act: "pre-backup-check", done: "can be backed up", not_done: "cannot be backed up" },
        Verb::Backup(_) => Talk { act: "backup", done: "backed up", not_done: "cannot be backed up" },
        _ => Talk { act: "cleanup", done: "cleaned up", not_done: "cannot be cleaned up" },
    }
}

/// Does it.
pub async fn perform(run: &Run, client: &Client, verb: &Verb, version: &str) -> report::Result {
    let talk = talk(verb);
    let names = names(run, client).await.map_err(|fault| Failed::of(&fault.into(), verb))?;
    say(run, &format!("Pending: {}", names.join(", ")));
    say(run, RULE);
    let work = names.iter().map(|name| async { (name.clone(), single(run, client, name, verb, version, &talk).await) });
    let results: Vec<(String, Result<(), Faults>)> =
        futures::stream::iter(work).buffer_unordered(WIDTH).collect().await;
    let is_well = |name: &&String| results.iter().any(|(other, result)| other == *name && result.is_ok());
    let (well, failed): (Vec<&String>, Vec<&String>) = names.iter().partition(is_well);
    say(run, RULE);
    say(run, &format!("Successfully {}: {}", talk.done, joined(&well)));
    if failed.is_empty() {
        return Ok(());
    }
    say(run, &format!("FAILED: {}", joined(&failed)));
    Err(summary(&results, &failed, names.len(), verb, &talk))
}

fn summary(
    results: &[(String, Result<(), Faults>)],
    failed: &[&String],
    total: usize,
    verb: &Verb,
    talk: &Talk,
) -> Failed {
    let mut text = format!("{} out of {total} deployments {}:\n", failed.len(), talk.not_done);
    text.extend(failed.iter().map(|name| format!("  {name}\n")));
    let (mut trace, mut leaves_something) = (text.clone(), false);
    for (name, faults) in results.iter().filter_map(|(name, result)| Some((name, result.as_ref().err()?))) {
        let block = |show: &dyn Fn(&Fault) -> String| format!("Deployment '{name}':\n{}", listed(faults, show));
        text.push_str(&block(&Fault::whole));
        trace.push_str(&block(&traced));
        leaves_something |= wants_clean_up(faults, verb);
    }
    let advice = "Run `bbr deployment --all-deployments backup-cleanup`: it removes what is left on instances and unlocks \
                  all jobs.";
    Failed { code: 1, text, trace, advice: leaves_something.then(|| advice.to_owned()) }
}

async fn names(run: &Run, client: &Client) -> Result<Vec<String>, Fault> {
    let fault = |cause| Fault::Finding { name: client.target.clone(), cause };
    let director = connect(run, &run.voice, client).await?;
    let names = director.deployments(&run.cx).await.map_err(|error| fault(error.into()))?;
    if names.is_empty() { Err(fault("it has no deployments".into())) } else { Ok(names) }
}

async fn single(run: &Run, client: &Client, name: &str, verb: &Verb, version: &str, talk: &Talk) -> Result<(), Faults> {
    let folder = match verb {
        Verb::Backup(how) => how.parent.as_deref(),
        _ => None,
    };
    let path =
        folder.unwrap_or(".".as_ref()).join(format!("{name}_{}.log", run.cx.world.now().strftime("%Y%m%dT%H%M%SZ")));
    let unwritable = |cause| Fault::Directory { path: path.display().to_string(), cause };
    let voice = Arc::new(run.voice.in_file(&run.machine.absolute(&path)).map_err(unwritable)?);
    if !matches!(verb, Verb::Check) {
        say(run, &format!("Starting {} of {name}, log file: {}", talk.act, path.display()));
    }
    let result = enter(run, &voice, client, name, verb, version).await;
    match (verb, &result) {
        (Verb::Check, Ok(())) => say(run, &format!("Deployment '{name}' can be backed up.")),
        (Verb::Check, Err(faults)) => {
            say(run, &format!("Deployment '{name}' cannot be backed up."));
            run.voice.plain(&listed(faults, &Fault::whole));
        }
        (_, Ok(())) => say(run, &format!("Finished {} of {name}", talk.act)),
        (_, Err(_)) => {
            say(run, &format!("ERROR: failed to {} {name}", talk.act));
            run.voice.plain(&voice.kept());
        }
    }
    result
}

async fn enter(
    run: &Run,
    voice: &Arc<Voice>,
    client: &Client,
    name: &str,
    verb: &Verb,
    version: &str,
) -> Result<(), Faults> {
    let work = async {
        let director = connect(run, voice, client).await?;
        on(run, voice, &Work { director, name, verb, version, prepared: Prepared::Nothing }).await
    };
    let result = work.await;
    conclude(run, voice, Mode::Deployment, name, verb, &result);
    result
}

fn joined(names: &[&String]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn say(run: &Run, line: &str) {
    run.voice.plain(&format!("[{}] {line}\n", run.cx.world.now().strftime("%H:%M:%S")));
}
