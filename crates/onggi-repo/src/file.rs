//! Whole small files of a repository: snapshots, indexes, locks. Each is authenticated and compared with its name on
//! every read; what does not match is read once more past all caches before it counts as damaged.

use crate::{
    Repository, Result,
    error::{Act, RepoError},
    format::{FormatError, MasterKey, Reason, seal, unpacked},
    kernel::hash,
};
use bytes::Bytes;
use onggi_storage::{FileId, FileType, Handle, Storage};

impl Repository {
    /// The JSON of one file.
    pub(crate) async fn load_json(&self, file_type: FileType, id: FileId) -> Result<Vec<u8>> {
        match self.load_json_from(&**self.storage(), file_type, id).await {
            Err(error) if error.is_damage() => self.load_json_from(&**self.fresh(), file_type, id).await,
            answer => answer,
        }
    }

    /// The JSON of one file as this storage has it.
    pub(crate) async fn load_json_from(
        &self,
        storage: &dyn Storage,
        file_type: FileType,
        id: FileId,
    ) -> Result<Vec<u8>> {
        let handle = Handle::new(file_type, id);
        let content = storage.read(handle.clone(), None).await.act(|| format!("read {handle}"))?;
        let key = self.master().clone();
        let opened = self.env().compute.run(move || open(&key, id, &content)).await;
        opened.map_err(|fault| RepoError::format(&handle, fault))
    }

    /// Seals and writes a file; returns its name, which is durable when this returns.
    pub(crate) async fn save_json(&self, file_type: FileType, json: Vec<u8>) -> Result<FileId> {
        let version = self.check_version();
        // All versions have bare locks in common.
        let is_bare = version.is_err() && file_type == FileType::Lock;
        if !is_bare {
            version?;
        }
        let (key, nonce) = (self.master().clone(), self.env().nonce());
        let (id, content) = self
            .env()
            .compute
            .run(move || {
                let mut sealed = Vec::new();
                let plaintext = if is_bare { json } else { unpacked::encode(&json) };
                seal::seal(&key, nonce, &plaintext, &mut sealed);
                (FileId(hash::sha256(&sealed)), Bytes::from(sealed))
            })
            .await;
        let handle = Handle::new(file_type, id);
        self.storage().create(handle.clone(), content).await.act(|| format!("create {handle}"))?;
        Ok(id)
    }
}

fn open(key: &MasterKey, id: FileId, content: &[u8]) -> Result<Vec<u8>, FormatError> {
    if hash::sha256(content) != id.0 {
        return Err(FormatError { what: "file", reason: Reason::Hash });
    }
    let mut plaintext = Vec::new();
    seal::open_into(key, content, &mut plaintext)?;
    unpacked::decode(&plaintext).map(std::borrow::Cow::into_owned)
}
