//! `bbr deployment`: one deployment of a Director, or all of them.

use std::path::PathBuf;
use std::sync::Arc;

use onggi_source::bosh::deployment::{Deployment, find};
use onggi_source::bosh::director::{Authorities, Director, Target, Trace};
use onggi_source::bosh::{Cause, Fault, Faults, Level, Mode, Talk};
use secrecy::SecretString;

use super::act::{Prepared, act, conclude, prepare};
use super::report::{self, Failed};
use super::voice::Voice;
use super::words::{Choice, Client, Verb};
use super::{Run, all, route};
use crate::machine::Machine;

/// Does it.
pub async fn perform(run: &Run, client: &Client, verb: &Verb, version: &str) -> report::Result {
    match &client.choice {
        Choice::One(name) => {
            let result = single(run, client, name, verb, version).await;
            conclude(run, &run.voice, Mode::Deployment, name, verb, &result);
            result.map_err(|faults| Failed::of(&faults, verb))
        }
        Choice::All => all::perform(run, client, verb, version).await,
    }
}

async fn single(run: &Run, client: &Client, name: &str, verb: &Verb, version: &str) -> Result<(), Faults> {
    let prepared = prepare(run, name, verb).await?;
    let director = connect(run, &run.voice, client).await?;
    on(run, &run.voice, &Work { director, name, verb, version, prepared }).await
}

/// A verb for one deployment.
pub struct Work<'a> {
    /// Where it is.
    pub director: Arc<Director>,
    /// Its name.
    pub name: &'a str,
    /// What to do.
    pub verb: &'a Verb,
    /// The version that scripts are told.
    pub version: &'a str,
    /// What is known before.
    pub prepared: Prepared,
}

/// Enters a deployment and does it.
pub async fn on(run: &Run, voice: &Arc<Voice>, work: &Work<'_>) -> Result<(), Faults> {
    let Work { director, name, verb, version, prepared } = work;
    let deployment = Deployment {
        name: (*name).to_owned(),
        talk: Arc::clone(voice) as Arc<dyn Talk>,
        version: (*version).to_owned(),
        owed: run.owed.clone(),
        route: route::of(run).map_err(|cause| unreachable(name, cause))?,
    };
    let platform = find(&run.cx, director, deployment).await?;
    let manifest = match verb {
        Verb::Backup(how) if how.with_manifest => match director.manifest(&run.cx, name).await {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                platform.abandon(&run.cx).await?;
                return Err(unreachable(name, error.into()).into());
            }
        },
        _ => None,
    };
    act(run, voice, &platform, verb, prepared, manifest).await
}

/// Asks the Director how it lets clients in.
pub async fn connect(run: &Run, voice: &Arc<Voice>, client: &Client) -> Result<Arc<Director>, Fault> {
    let fault = |cause| unreachable(&client.target, cause);
    let talk = Arc::clone(voice);
    let trace: Trace = Arc::new(move |line: &str| talk.say(Level::Debug, line));
    let target = Target {
        url: client.target.clone(),
        client: client.user.clone(),
        secret: SecretString::from(client.password.clone()),
        authorities: authorities(run, client.authority.as_deref()).await.map_err(fault)?,
        route: route::of(run).map_err(fault)?,
        trace: Some(trace),
    };
    Director::connect(&run.cx, target).await.map(Arc::new).map_err(|error| fault(error.into()))
}

/// A text that holds a certificate, or a file of it; without either what this machine trusts.
async fn authorities(run: &Run, given: Option<&str>) -> Result<Authorities, Cause> {
    let Some(given) = given else { return Ok(Authorities::System) };
    if given.contains("BEGIN") {
        return Ok(Authorities::Given(given.as_bytes().to_vec()));
    }
    let path = certificate(&run.machine, given);
    let read = tokio::fs::read(&path).await;
    Ok(Authorities::Given(read.map_err(|error| format!("certificate {}: {error}", path.display()))?))
}

/// Where the file of a certificate is.
pub fn certificate(machine: &Machine, given: &str) -> PathBuf {
    let home = machine.variable(&["HOME"]).map(PathBuf::from);
    match (given.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below),
        _ => machine.absolute(given.as_ref()),
    }
}

fn unreachable(name: &str, cause: Cause) -> Fault {
    Fault::Finding { name: name.to_owned(), cause }
}
