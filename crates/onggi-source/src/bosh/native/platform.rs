//! A real platform: the scripts run as for an artifact directory, and files travel between `find`, `tar` and hashes of the
//! machines themselves.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::listing::{self, Listed};
use super::site::{Examined, Found, Lease, Made, Of, Site};
use super::{deadman, machine};
use crate::bosh::command::{self, as_root};
use crate::bosh::director::{Visit, Wait};
use crate::bosh::instance::folder;
use crate::bosh::phase::Pace;
use crate::bosh::remote::OUTPUT_BYTES_MAX;
use crate::bosh::tar::Checksums;
use crate::bosh::{Fault, Faults, Instance, Job, Platform, STORE, Script, Trouble, WIDTH};
use crate::carrier::ssh::quote;
use crate::chain::chain;
use crate::context::{Context, each};
use crate::source::{Result, SourceError};
use onggi_ssh::SshError;

pub(super) struct Real {
    platform: Platform,
    /// Instances whose jobs have scripts.
    places: Vec<usize>,
    manifest: Option<String>,
    /// Where the Director let us in.
    visit: Option<Visit>,
}

impl Real {
    pub(super) fn new(platform: Platform, manifest: Option<String>, visit: Option<Visit>) -> Self {
        let has_scripts = |(_, instance): &(usize, &Instance)| !instance.jobs.is_empty();
        let places = platform.instances.iter().enumerate().filter(has_scripts).map(|(at, _)| at).collect();
        Self { platform, places, manifest, visit }
    }

    fn instance(&self, place: usize) -> &Instance {
        &self.platform.instances[self.places[place]]
    }

    /// Jobs of a machine with an unlock script, those first that are unlocked first.
    fn unlocked_jobs(&self, place: usize, of: Of) -> Vec<&Job> {
        let kind = if of == Of::Backup { Script::Backup } else { Script::Restore };
        let layers = self.platform.layers(kind).unwrap_or_else(|_| vec![self.platform.jobs()]);
        let here = self.instance(place);
        let of_layer = |layer: &Vec<_>| Platform::with(layer, unlock_of(of)).collect::<Vec<_>>();
        let all = layers.iter().rev().flat_map(of_layer);
        all.filter(|(instance, _)| std::ptr::eq(*instance, here)).map(|(_, job)| job).collect()
    }

    async fn ask(&self, cx: &Context, place: usize, script: &str) -> Result<String> {
        self.instance(place).remote.ask(cx, &as_root(script)).await.map_err(failed)
    }

    /// Runs a command with an input; all that it writes.
    async fn gather(&self, cx: &Context, place: usize, command: &str, input: Bytes) -> Result<Vec<u8>> {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
        let gather = async move {
            let mut all = Vec::new();
            while let Some(bytes) = receiver.recv().await {
                if all.len() + bytes.len() > OUTPUT_BYTES_MAX {
                    return Err(SourceError::Refused("it has too many files".to_owned()));
                }
                all.extend_from_slice(&bytes);
            }
            Ok(all)
        };
        let (done, all) = tokio::join!(self.instance(place).remote.exchange(cx, command, input, sender), gather);
        let all = all?;
        done.map(|()| all).map_err(failed)
    }
}

#[async_trait]
impl Site for Real {
    fn places(&self) -> Vec<String> {
        (0..self.places.len()).map(|place| self.instance(place).name()).collect()
    }

    fn artifacts(&self, of: Of) -> Vec<Made> {
        let script = match of {
            Of::Backup => Script::Backup,
            Of::Restore => Script::Restore,
        };
        let mut found: Vec<Made> = Vec::new();
        for place in 0..self.places.len() {
            let instance = self.instance(place);
            for job in instance.jobs.iter().filter(|job| job.scripts.contains(&script)) {
                let artifact = match of {
                    Of::Backup => instance.made_by(job),
                    Of::Restore => instance.wanted_by(job),
                };
                found.push(Made { place, artifact });
            }
        }
        found
    }

    fn scripts(&self) -> Value {
        let instance = |place: usize| {
            let instance = self.instance(place);
            let job = |job: &Job| {
                let scripts: Vec<_> = job.scripts.iter().map(ToString::to_string).collect();
                json!({ "job": job.name, "release": job.release, "scripts": scripts })
            };
            let jobs: Vec<_> = instance.jobs.iter().map(job).collect();
            json!({ "group": instance.group, "index": instance.index, "id": instance.id, "jobs": jobs })
        };
        let layers = self.platform.layers(Script::Backup).unwrap_or_default();
        let layers: Vec<Vec<String>> = layers
            .iter()
            .map(|layer| layer.iter().map(|(instance, job)| format!("{}/{}", instance.name(), job.name)).collect())
            .collect();
        json!({ "instances": (0..self.places.len()).map(instance).collect::<Vec<_>>(), "lock-layers": layers })
    }

    fn manifest(&self) -> Option<&str> {
        self.manifest.as_deref()
    }

    async fn examine(&self, cx: &Context, place: usize, took: u64) -> Result<Examined> {
        let answer = self.ask(cx, place, machine::QUESTION).await?;
        let mut faults = machine::faults(&answer, cx.world.now(), took);
        let pairs =
            [(Script::PreBackupLock, Script::PostBackupUnlock), (Script::PreRestoreLock, Script::PostRestoreUnlock)];
        let jobs = &self.instance(place).jobs;
        for job in jobs {
            for (lock, unlock) in pairs {
                if job.scripts.contains(&lock) && !job.scripts.contains(&unlock) {
                    faults.push(format!("job {} is locked by {lock} and unlocked by nothing", job.name));
                }
            }
        }
        let backed_up = jobs.iter().filter(|job| job.scripts.contains(&Script::Backup));
        let backed_up = backed_up.map(|job| job.name.as_str()).collect();
        let pointing = machine::pointing(&backed_up).into_iter().map(str::to_owned).collect();
        Ok(Examined { faults, pointing, scope: machine::scope(&answer, &backed_up) })
    }

    async fn look(&self, cx: &Context, place: usize) -> Result<Found> {
        let script = format!(
            "if [ -e {STORE} ] || [ -L {STORE} ]; then echo present; cat {STORE}/.onggi-* 2>/dev/null || true; fi"
        );
        let said = self.ask(cx, place, &script).await?;
        let mut lines = said.lines();
        Ok(match (lines.next(), lines.next()) {
            (None, _) => Found::Nothing,
            (Some(_), None) => Found::Foreign,
            (Some(_), Some(text)) => Found::Marked(text.to_owned()),
        })
    }

    async fn mark(&self, cx: &Context, place: usize, name: &str, text: &str) -> Result<()> {
        let (draft, path) = (quote(&format!("{STORE}/.draft{name}")), quote(&format!("{STORE}/{name}")));
        let script = format!(
            "mkdir -p {STORE} && umask 077 && printf '%s\\n' {} > {draft} && mv -f {draft} {path}",
            quote(text)
        );
        self.ask(cx, place, &script).await.map(drop)
    }

    async fn clear(&self, cx: &Context, place: usize) -> Result<()> {
        self.ask(cx, place, &format!("{}; rm -rf {STORE}", deadman::dismiss(&cx.run))).await.map(drop)
    }

    async fn watch(&self, cx: &Context, of: Of, after: Duration) -> Result<()> {
        let unlock = unlock_of(of);
        each(WIDTH, 0..self.places.len(), async |place| {
            let jobs = self.unlocked_jobs(place, of);
            if jobs.is_empty() {
                return Ok(());
            }
            self.ask(cx, place, &deadman::leave(&cx.run, after, unlock, &jobs)).await.map(drop)
        })
        .await
    }

    async fn renew(&self, cx: &Context) -> Result<Lease> {
        let worst = Mutex::new(Lease::None);
        each(WIDTH, 0..self.places.len(), async |place| {
            let lease = deadman::lease(&self.ask(cx, place, &deadman::renew(&cx.run, cx.world.random())).await?);
            let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
            *worst = lease.max(*worst);
            Ok(())
        })
        .await?;
        Ok(worst.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn dismiss(&self, cx: &Context) -> Result<()> {
        let dismiss = async |place| self.ask(cx, place, &deadman::dismiss(&cx.run)).await.map(drop);
        each(WIDTH, 0..self.places.len(), dismiss).await
    }

    async fn lock(&self, cx: &Context, of: Of) -> Result<()> {
        let (script, pace) = match of {
            Of::Backup => (Script::PreBackupLock, Pace::Parallel),
            Of::Restore => (Script::PreRestoreLock, Pace::Serial),
        };
        told(cx, self.platform.lock(cx, script, pace).await)
    }

    async fn work(&self, cx: &Context, of: Of, wanted: &[Made]) -> Result<()> {
        let is_wanted = |instance: &Instance, job: &Job| {
            let reads = instance.wanted_by(job);
            wanted.iter().any(|made| made.artifact == reads && self.instance(made.place).name() == instance.name())
        };
        let done = match of {
            Of::Backup => self.platform.back_up_jobs(cx).await,
            Of::Restore => self.platform.restore_jobs(cx, &is_wanted).await,
        };
        told(cx, done)
    }

    async fn unlock(&self, cx: &Context, of: Of, is_success: bool) -> Result<()> {
        let done = match of {
            Of::Backup => self.platform.unlock_backup(cx, is_success).await,
            Of::Restore => self.platform.unlock_restore(cx).await,
        };
        told(cx, done)
    }

    async fn list(&self, cx: &Context, made: &Made) -> Result<Vec<Listed>> {
        let script = format!("cd {} && find . -printf '{}'", quote(&folder(&made.artifact)), listing::FORMAT);
        let output = self.gather(cx, made.place, &as_root(&script), Bytes::new()).await?;
        listing::parse(&output).ok_or_else(|| SourceError::Incomplete("the list of an artifact is cut".to_owned()))
    }

    async fn sums(&self, cx: &Context, made: &Made, names: &[Vec<u8>]) -> Result<Checksums> {
        let script = format!("cd {} && {}", quote(&folder(&made.artifact)), hashing(names));
        let output = self.gather(cx, made.place, &as_root(&script), list(names)).await?;
        let sums = command::parse_checksums(&String::from_utf8_lossy(&output));
        let sums = sums.ok_or_else(|| SourceError::Incomplete("hashes of an artifact cannot be read".to_owned()))?;
        Ok(sums.into_iter().collect())
    }

    async fn pack(&self, cx: &Context, made: &Made, names: &[Vec<u8>], to: mpsc::Sender<Bytes>) -> Result<()> {
        let folder = quote(&folder(&made.artifact));
        let command = format!("sudo -n tar -C {folder} --no-recursion --hard-dereference --null -T - -c");
        self.instance(made.place).remote.exchange(cx, &command, list(names), to).await.map_err(failed)
    }

    async fn unpack(&self, cx: &Context, made: &Made, from: mpsc::Receiver<Bytes>) -> Result<()> {
        let (instance, folder) = (self.instance(made.place), folder(&made.artifact));
        self.platform.make(cx, instance, &folder).await.map_err(failed)?;
        instance.remote.send(cx, &command::unpack(&folder), from).await.map_err(failed)
    }

    async fn leave(&self, _cx: &Context) -> Result<()> {
        let Some(visit) = &self.visit else { return Ok(()) };
        visit.leave(Wait::Briefly).await.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
    }
}

fn unlock_of(of: Of) -> Script {
    match of {
        Of::Backup => Script::PostBackupUnlock,
        Of::Restore => Script::PostRestoreUnlock,
    }
}

/// Hashes what is named on standard input. The library of OpenSSL uses what processors have for it and takes a third of
/// the time, but says names as they are: where a line would not tell them apart, coreutils say them with escapes.
fn hashing(names: &[Vec<u8>]) -> String {
    let is_odd = |name: &Vec<u8>| name.iter().any(|byte| matches!(byte, b'\n' | b'\r' | b'\\'));
    let usual = "if command -v sha256sum >/dev/null; then xargs -0 -r sha256sum; else xargs -0 -r shasum -a 256; fi";
    if names.iter().any(is_odd) {
        return usual.to_owned();
    }
    format!("if command -v openssl >/dev/null; then xargs -0 -r openssl dgst -sha256 -r; else {usual}; fi")
}

/// Names as `tar` and `xargs` read them.
fn list(names: &[Vec<u8>]) -> Bytes {
    names.iter().flat_map(|name| [b"./", name.as_slice(), b"\0"].concat()).collect::<Vec<_>>().into()
}

/// What a step of the scripts means for the run. A script that fails would do so again.
pub(super) fn told(cx: &Context, done: Result<(), Faults>) -> Result<()> {
    let Err(faults) = done else { return Ok(()) };
    cx.check()?;
    let text = faults.0.iter().map(Fault::whole).collect::<Vec<_>>().join("; ");
    let is_lost = |fault: &Fault| matches!(fault, Fault::Instance { .. } | Fault::Finding { .. });
    Err(if faults.0.iter().any(is_lost) { SourceError::Unreachable(text) } else { SourceError::Refused(text) })
}

fn failed(trouble: Trouble) -> SourceError {
    match trouble {
        Trouble::Stopped(stop) => stop.into(),
        Trouble::Ssh(error @ SshError::Unreachable(_)) => SourceError::Unreachable(chain(&error)),
        Trouble::Ssh(error) => SourceError::Denied(chain(&error)),
        Trouble::Lost(text) => SourceError::Unreachable(text),
        Trouble::Failed(text) => SourceError::Incomplete(text),
    }
}
