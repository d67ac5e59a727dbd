//! Second copies of what a repository cannot be opened without: config and key files, in `onggi/control/`, which
//! restic ignores. They are read only when the first copy is lost or damaged.

use crate::{Result, error::Act, format::KeyId};
use bytes::Bytes;
use futures::TryStreamExt;
use onggi_storage::{FileType, Handle, OwnFolder, OwnName, Storage, StorageError};

/// What has a second copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Config,
    /// Of the version before; nothing reads it but people.
    OldConfig,
    Key(KeyId),
}

const KEY_PREFIX: &str = "key-";

impl Control {
    pub(crate) fn handle(self) -> Handle {
        let name = match self {
            Self::Config => "config".into(),
            Self::OldConfig => "config-1".into(),
            Self::Key(id) => format!("{KEY_PREFIX}{id}"),
        };
        Handle::Own(OwnFolder::Control, OwnName::new(name).expect("letters, digits and a dash are a name"))
    }
}

/// Writes a copy. A storage that has no room for our own files keeps the first copy only; nothing depends on this one.
pub(crate) async fn write(storage: &dyn Storage, what: &Control, content: Bytes) -> Result<()> {
    let handle = what.handle();
    match storage.create(handle.clone(), content).await {
        Err(StorageError::Denied(error)) => {
            tracing::warn!(%error, "control copies are not kept here");
            Ok(())
        }
        answer => answer.act(|| format!("create {handle}")),
    }
}

/// Writes a copy in the place of another.
pub(crate) async fn replace(storage: &dyn Storage, what: &Control, content: Bytes) -> Result<()> {
    remove(storage, what).await?;
    write(storage, what, content).await
}

/// Reads a copy.
pub(crate) async fn read(storage: &dyn Storage, what: &Control) -> Result<Bytes> {
    let handle = what.handle();
    storage.read(handle.clone(), None).await.act(|| format!("read {handle}"))
}

/// Removes a copy, if it is there.
pub(crate) async fn remove(storage: &dyn Storage, what: &Control) -> Result<()> {
    let handle = what.handle();
    match storage.remove(handle.clone()).await {
        Err(error) if error.is_not_found() => Ok(()),
        answer => answer.act(|| format!("remove {handle}")),
    }
}

/// The keys that have a copy.
pub(crate) async fn keys(storage: &dyn Storage) -> Result<Vec<KeyId>> {
    let listed = storage.list(FileType::Own(OwnFolder::Control)).try_collect::<Vec<_>>().await;
    let files = match listed {
        Err(error) if error.is_not_found() => Vec::new(),
        listed => listed.act(|| "list control copies".into())?,
    };
    let id = |handle: &Handle| match handle {
        Handle::Own(_, name) => name.as_str().strip_prefix(KEY_PREFIX).and_then(|id| id.parse().ok()),
        _ => None,
    };
    let mut keys: Vec<KeyId> = files.iter().filter_map(|file| id(&file.handle)).collect();
    keys.sort();
    Ok(keys)
}
