//! Asks one device and pushes its answers, each a file, if they differ from those that are stored.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use onggi_ssh::login::LOGIN;
use onggi_ssh::store::Store;
use onggi_ssh::{HostError, Login, SshError, Trust};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::config::{Device, DeviceTrust};
use super::dialog::{ANSWER_BYTES_MAX, Dialog};
use super::line::Line;
use super::model::How;
use super::{Devices, text};
use crate::chain::chain;
use crate::context::{Context, Problem, Stop};
use crate::item::{Content, Item, Metadata};
use crate::path::TreePath;
use crate::source::{Base, Capture, Facts, Items, Result, SourceError};

/// Bytes of a connection that carries text.
const WINDOW_BYTES: u32 = 1 << 20;

/// One device, not asked yet.
pub(super) struct Reading<'a> {
    source: &'a Devices,
    device: Device,
    before: Option<Notes>,
}

/// What the next capture must know of this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Notes {
    files: BTreeMap<String, Note>,
}

/// Of one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// As it came, in bytes.
    length: u64,
    /// SHA-256 of what counts for being changed.
    digest: String,
}

impl<'a> Reading<'a> {
    pub(super) fn new(source: &'a Devices, device: Device, base: Option<&Base>) -> Self {
        let before = base.and_then(|base| serde_json::from_value(base.facts.notes.clone()).ok());
        Self { source, device, before }
    }

    async fn ask(&self, cx: &Context) -> Result<BTreeMap<String, Vec<u8>>> {
        let limited = &cx.within(self.source.config.connect.time_limit.0, Stop::TimeLimit);
        let mut line = self.dial(limited).await?;
        let (model, mut answers) = (&self.device.model, BTreeMap::new());
        if model.how == How::Exec {
            for (file, command) in &model.capture {
                let ran = limited.unless_stopped(line.run(command, ANSWER_BYTES_MAX)).await?;
                let (output, status) = ran.map_err(|error| SourceError::Unreachable(chain(&error)))?;
                if status != Some(0) {
                    return Err(SourceError::Refused(format!("`{command}` did not end with status 0")));
                }
                answers.insert(file.clone(), output);
            }
            return Ok(answers);
        }
        let mut dialog = Dialog::begin(limited, &mut *line, model, self.source.config.connect.silence_max.0).await?;
        for command in &model.prepare {
            dialog.ask(command).await?;
        }
        for (file, command) in &model.capture {
            answers.insert(file.clone(), dialog.ask(command).await?);
        }
        dialog.end().await;
        Ok(answers)
    }

    async fn dial(&self, cx: &Context) -> Result<Box<dyn Line>> {
        let login = self.login(cx).await?;
        let late = cx.world.sleep(LOGIN);
        let dialed = async {
            tokio::select! {
                biased;
                line = self.source.dialer.dial(&login) => line.map_err(|error| self.refused(cx, error)),
                () = late => Err(SourceError::Unreachable(format!("no answer within {LOGIN:?}"))),
            }
        };
        cx.unless_stopped(dialed).await?
    }

    async fn login(&self, cx: &Context) -> Result<Login> {
        let (connect, surroundings) = (&self.source.config.connect, &self.source.surroundings);
        let password: Option<SecretString> = match connect.password.as_ref().and_then(|key| key.reference()) {
            Some(reference) => Some(surroundings.secrets.fetch(reference).await?),
            None => None,
        };
        let trust = match (&self.device.host_key, connect.trust) {
            (Some(key), _) => Trust::Pinned(key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")),
            (None, DeviceTrust::Approve) => Trust::Files(vec![self.store().known()]),
            (None, DeviceTrust::Pinned) => return Err(SourceError::Refused("no host-key is pinned".to_owned())),
        };
        Ok(Login {
            alias: Some(self.device.name.clone()),
            identity_files: connect.key.iter().map(|key| surroundings.working_directory.join(key)).collect(),
            password,
            legacy: self.device.legacy,
            window_bytes: WINDOW_BYTES,
            ..Login::new(&self.device.address, self.device.port, &connect.user, trust, cx.world.now())
        })
    }

    /// The approved keys, one file for all sources.
    fn store(&self) -> Store {
        self.source.surroundings.host_keys()
    }

    /// A device that is not believed is told of; a key that nobody knows waits for a person's word.
    fn refused(&self, cx: &Context, error: SshError) -> SourceError {
        let text = chain(&error);
        match error {
            SshError::Unreachable(_) => SourceError::Unreachable(text),
            SshError::Denied(_) => SourceError::Denied(text),
            SshError::Identity(refusal) => {
                if let HostError::Unknown { host, key, .. } = &*refusal
                    && let Err(error) = self.store().ask(host, key, cx.world.now(), &self.device.address)
                {
                    let text = format!("the key of {host} cannot be put into the queue: {error}");
                    cx.problem(Problem { class: "io", path: None, text });
                }
                cx.problem(Problem {
                    class: refusal.class(),
                    path: None,
                    text: format!("{}: {text}", self.device.name),
                });
                SourceError::Denied(text)
            }
        }
    }
}

#[async_trait]
impl Capture for Reading<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let taken_at = cx.world.now();
        let answers = self.ask(cx).await?;
        let mut notes = Notes::default();
        for (file, answer) in &answers {
            let before = self.before.as_ref().and_then(|before| before.files.get(file)).map(|note| note.length);
            text::check(file, answer, &self.device.model, before)?;
            let note = Note { length: answer.len() as u64, digest: text::digest(answer, &self.device.model) };
            notes.files.insert(file.clone(), note);
        }
        let digests = |notes: &Notes| -> Vec<_> {
            notes.files.iter().map(|(file, note)| (file.clone(), note.digest.clone())).collect()
        };
        if self.before.as_ref().is_some_and(|before| digests(before) == digests(&notes)) {
            return Err(SourceError::Unchanged);
        }
        let bad = |error| SourceError::Refused(format!("name the device: {error}"));
        let root = TreePath::new("device").and_then(|root| root.join(&self.device.name)).map_err(bad)?;
        for directory in [TreePath::new("device").map_err(bad)?, root.clone()] {
            let metadata = Metadata { mode: 0o755, mtime: taken_at, ..Metadata::default() };
            out.push(Item::directory(directory).with_metadata(metadata), Content::None).await?;
        }
        for (file, answer) in answers {
            let path = root.join(&file).map_err(bad)?;
            let metadata =
                Metadata { mode: 0o600, mtime: taken_at, size: answer.len() as u64, links: 1, ..Metadata::default() };
            let item = Item::file(path).with_metadata(metadata).secret();
            out.push(item, Content::Inline(Bytes::from(answer))).await?;
        }
        out.leave(&root).await?;
        let notes = serde_json::to_value(notes).map_err(|error| SourceError::Damaged(error.to_string()))?;
        Ok(Facts { roots: vec![root], notes, ..Facts::new(taken_at) })
    }
}
