//! `bbr director`: one machine, entered by its own user.

use std::path::PathBuf;
use std::sync::Arc;

use onggi_source::bosh::{Entrance, Fault, Faults, Finding, Mode, Platform, Talk};

use super::act::{act, conclude, prepare};
use super::report::{self, Failed};
use super::words::{Access, Verb};
use super::{Run, route};

/// The variable that asks for a host key that is known before.
const STRICT_VARIABLE: &str = "ONGGI_BBR_STRICT_HOST_KEY";

/// Does it.
pub async fn perform(run: &Run, access: &Access, verb: &Verb, version: &str) -> report::Result {
    let result = work(run, access, verb, version).await;
    conclude(run, &run.voice, Mode::Director, &access.host.name, verb, &result);
    result.map_err(|faults| Failed::of(&faults, verb))
}

async fn work(run: &Run, access: &Access, verb: &Verb, version: &str) -> Result<(), Faults> {
    let prepared = prepare(run, &access.host.name, verb).await?;
    let key = read_key(run, access).await?;
    let talk: Arc<dyn Talk> = Arc::clone(&run.voice) as Arc<dyn Talk>;
    let state = run.machine.state_folder();
    let known = run.machine.variable(&["HOME"]).map(|home| PathBuf::from(home).join(".ssh/known_hosts"));
    let entrance = Entrance {
        host: &access.host.name,
        port: access.host.port,
        user: &access.user,
        key: &key,
        state: &state,
        known: known.into_iter().collect(),
        is_strict: run.machine.variable(&[STRICT_VARIABLE]) == Some("1"),
        now: run.cx.world.now(),
    };
    let finding = Finding {
        name: access.host.name.clone(),
        mode: Mode::Director,
        targets: vec![entrance.target(&talk)?],
        releases: None,
        doors: None,
        talk,
        version: version.to_owned(),
        owed: run.owed.clone(),
    };
    let route = route::of(run).map_err(|cause| Fault::Finding { name: access.host.name.clone(), cause })?;
    Platform::announce(&*run.voice);
    let platform = Platform::find_through(&run.cx, finding, Some(route)).await?;
    act(run, &run.voice, &platform, verb, &prepared, None).await
}

/// Read once and never asked for its size: it may be a pipe.
async fn read_key(run: &Run, access: &Access) -> Result<String, Fault> {
    let path = run.machine.absolute(&access.key);
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
    read.expect("it does not panic").map_err(|error| Fault::Finding {
        name: access.host.name.clone(),
        cause: format!("private key {}: {error}", access.key.display()).into(),
    })
}
