//! All deployments of a Director, several at once: short lines for people, and a log of each that is written as it
//! happens, so that it can be read after a crash.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt as _;
use onggi_source::bosh::director::Director;
use onggi_source::bosh::{Fault, Faults, Mode, WIDTH};

use super::Run;
use super::act::{Prepared, conclude, indented, timed};
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
        _ => Talk { act: "cleanup", done: "cleaned up", not_done: "could not be cleaned up" },
    }
}

/// Does it.
pub async fn perform(run: &Run, client: &Client, verb: &Verb, version: &str) -> report::Result {
    let talk = talk(verb);
    if !matches!(verb, Verb::Check) {
        run.voice.plain(&format!("Starting {}...\n", talk.act));
    }
    let (director, names) = names(run, client).await.map_err(|fault| Failed::of(&fault.into(), verb))?;
    timed(run, &format!("Pending: {}", names.join(", ")));
    timed(run, RULE);
    let all = All { run, client, director, verb, version, talk: &talk };
    let work = names.iter().map(|name| async { (name.clone(), all.single(name).await) });
    let results: Vec<(String, Result<(), Faults>)> =
        futures::stream::iter(work).buffer_unordered(WIDTH).collect().await;
    let is_well = |name: &&String| results.iter().any(|(other, result)| other == *name && result.is_ok());
    let (well, failed): (Vec<&String>, Vec<&String>) = names.iter().partition(is_well);
    timed(run, RULE);
    timed(run, &format!("Successfully {}: {}", talk.done, joined(&well)));
    if failed.is_empty() {
        return Ok(());
    }
    timed(run, &format!("FAILED: {}", joined(&failed)));
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
        let block =
            |show: &dyn Fn(&Fault) -> String| format!("\nDeployment '{name}':\n{}", indented(&listed(faults, show)));
        text.push_str(&block(&Fault::whole));
        trace.push_str(&block(&traced));
        leaves_something |= wants_clean_up(faults, verb);
    }
    let advice = "Run `bbr deployment --all-deployments backup-cleanup`: it removes what is left on instances and unlocks \
                  all jobs.";
    Failed { code: 1, text, trace, advice: leaves_something.then(|| advice.to_owned()) }
}

/// What there is, and who says so.
async fn names(run: &Run, client: &Client) -> Result<(Arc<Director>, Vec<String>), Fault> {
    let fault = |cause| Fault::Finding { name: client.target.clone(), cause };
    let director = connect(run, &run.voice, client).await?;
    let names = director.deployments(&run.cx).await.map_err(|error| fault(error.into()))?;
    if names.is_empty() { Err(fault("it has no deployments".into())) } else { Ok((director, names)) }
}

/// What is done to each of them.
struct All<'a> {
    run: &'a Run,
    client: &'a Client,
    director: Arc<Director>,
    verb: &'a Verb,
    version: &'a str,
    talk: &'a Talk,
}

impl All<'_> {
    /// A check leaves no log; its lines would say nothing that its answer does not.
    async fn single(&self, name: &str) -> Result<(), Faults> {
        let Self { run, verb, .. } = self;
        if matches!(verb, Verb::Check) {
            let voice = Arc::new(run.voice.nowhere());
            let result = self.on(&voice, Arc::clone(&self.director), name).await;
            conclude(run, &run.voice, Mode::Deployment, name, verb, &result);
            return result;
        }
        let at = run.cx.world.now().strftime("%Y%m%dT%H%M%SZ");
        let file = format!("{name}_{at}.log");
        let path = match verb {
            Verb::Backup(how) => how.parent.as_deref().map_or_else(|| file.clone().into(), |parent| parent.join(&file)),
            _ => PathBuf::from(file),
        };
        let unwritable = |cause| Fault::Directory { path: path.display().to_string(), cause };
        let voice = Arc::new(run.voice.in_file(&run.machine.absolute(&path)).map_err(unwritable)?);
        let act = self.talk.act;
        timed(run, &format!("Starting {act} of {name}, log file: {}", path.display()));
        let result = match connect(run, &voice, self.client).await {
            Ok(director) => self.on(&voice, director, name).await,
            Err(fault) => Err(fault.into()),
        };
        conclude(run, &voice, Mode::Deployment, name, verb, &result);
        if result.is_ok() {
            timed(run, &format!("Finished {act} of {name}"));
            return result;
        }
        if !matches!(verb, Verb::Backup(_)) {
            run.voice.plain(&format!("Failed to cleanup deployment '{name}'\n"));
        }
        timed(run, &format!("ERROR: failed to {act} {name}"));
        run.voice.plain(&voice.kept());
        result
    }

    async fn on(&self, voice: &Arc<Voice>, director: Arc<Director>, name: &str) -> Result<(), Faults> {
        let work = Work { director, name, verb: self.verb, version: self.version, prepared: Prepared::Nothing };
        on(self.run, voice, &work).await
    }
}

fn joined(names: &[&String]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}
