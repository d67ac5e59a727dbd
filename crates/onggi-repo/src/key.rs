//! Key files of a repository: which password opens it, adding, changing and removing passwords. The master key never
//! changes. The last key is never removed, and the one in use only when that is said.

use crate::{
    Repository, Result,
    control::{self, Control},
    environment::Environment,
    error::{Act, Problem, RepoError},
    format::{
        FormatError, KeyId, MasterKey, Reason, Time,
        key_file::{KdfCost, KeyError, KeyFile, NewKeyFile},
    },
    kernel::hash,
    lock::{Lock, LockKind},
};
use bytes::Bytes;
use futures::TryStreamExt;
use onggi_storage::{FileId, FileType, Handle, Storage};
use secrecy::{ExposeSecret, SecretString};

/// No more key files are tried with one password.
const TRIED_MAX: usize = 20;

/// A key of the repository, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its file.
    pub id: KeyId,
    /// When it was made.
    pub created: Time,
    /// Who made it.
    pub username: String,
    /// Where it was made.
    pub hostname: String,
    /// Whether this repository was opened with it.
    pub is_current: bool,
}

/// The keys that could be read, and what is wrong with the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Oldest first.
    pub found: Vec<KeyInfo>,
    /// Unreadable key files.
    pub problems: Vec<Problem>,
}

/// Whether the key that opened the repository may be removed too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveKey {
    /// Any but the one in use.
    Other,
    /// Also the one in use.
    EvenInUse,
}

/// What opening a repository's keys gave.
pub(crate) struct Unlocked {
    pub master: MasterKey,
    pub id: KeyId,
    pub problems: Vec<Problem>,
}

/// Finds a key file that the password opens: those in `keys/`, the hinted one first, then control copies of damaged or
/// lost ones.
pub(crate) async fn unlock(
    storage: &dyn Storage,
    env: &Environment,
    password: &SecretString,
    hint: Option<KeyId>,
) -> Result<Unlocked> {
    let mut ids = list(storage).await?;
    ids.sort_by_key(|id| (Some(*id) != hint, *id));
    let mut search = Search { storage, env, password, problems: Vec::new(), well_formed: 0, tried: 0 };
    for id in &ids {
        let read = read(storage, *id).await;
        if let Some(master) = search.attempt(*id, read).await? {
            return Ok(Unlocked { master, id: *id, problems: search.problems });
        }
    }
    if search.problems.is_empty() && !ids.is_empty() {
        return Err(RepoError::WrongPassword);
    }
    for id in control::keys(storage).await? {
        let copy = control::read(storage, &Control::Key(id)).await.and_then(|content| parse(id, &content));
        if let Some(master) = search.attempt(id, copy).await? {
            search.problems.push(Problem {
                class: "key-lost",
                what: id.handle().to_string(),
                text: "lost or damaged; its control copy was used".into(),
            });
            return Ok(Unlocked { master, id, problems: search.problems });
        }
    }
    Err(search.failure(ids.first().copied()))
}

struct Search<'a> {
    storage: &'a dyn Storage,
    env: &'a Environment,
    password: &'a SecretString,
    problems: Vec<Problem>,
    well_formed: usize,
    tried: usize,
}

impl Search<'_> {
    /// `None`: this one does not help, go on.
    async fn attempt(&mut self, id: KeyId, read: Result<ReadKey>) -> Result<Option<MasterKey>> {
        let is_intact = read.as_ref().is_ok_and(|read| read.is_intact);
        let opened = match read {
            Ok(_) if self.tried == TRIED_MAX => {
                return Err(RepoError::Refused {
                    guard: "key-limit",
                    reason: format!("more than {TRIED_MAX} key files; name the one to use"),
                });
            }
            Ok(ReadKey { file, .. }) => {
                self.tried += 1;
                let password = self.password.clone();
                self.env.compute.run(move || file.open(&password)).await
            }
            Err(error @ RepoError::Storage(..)) if !error.is_not_found() && !error.is_damage() => return Err(error),
            Err(error) => {
                self.problems.push(Problem::of("key-damaged", id.handle(), &error));
                return Ok(None);
            }
        };
        match opened {
            Ok(master) => Ok(Some(master)),
            Err(KeyError::WrongPassword) if is_intact => {
                self.well_formed += 1;
                Ok(None)
            }
            Err(KeyError::WrongPassword) => {
                let error = RepoError::format(id.handle(), FormatError { what: "key file", reason: Reason::Hash });
                self.problems.push(Problem::of("key-damaged", id.handle(), &error));
                Ok(None)
            }
            Err(KeyError::Damaged(fault)) => {
                let error = RepoError::format(id.handle(), fault);
                self.problems.push(Problem::of("key-damaged", id.handle(), &error));
                Ok(None)
            }
        }
    }

    fn failure(self, first: Option<KeyId>) -> RepoError {
        if self.well_formed > 0 {
            return RepoError::WrongPassword;
        }
        match first {
            Some(id) => RepoError::Damaged {
                what: format!("every key ({})", id.handle()),
                reason: FormatError {
                    what: "key file",
                    reason: Reason::Invalid(
                        self.problems.first().map_or_else(String::new, |problem| problem.text.clone()).into(),
                    ),
                },
            },
            None => RepoError::NoRepository(self.storage.properties().location),
        }
    }
}

async fn list(storage: &dyn Storage) -> Result<Vec<KeyId>> {
    match storage.list(FileType::Key).try_collect::<Vec<_>>().await {
        Ok(files) => Ok(files.iter().filter_map(|file| file.handle.id()).map(KeyId::from).collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error).act(|| "list keys".into()),
    }
}

/// A key file, and whether it is what its name promises. One that is not is tried nevertheless, as restic does, since it
/// proves itself by opening; but that it does not open says nothing about the password.
struct ReadKey {
    file: KeyFile,
    is_intact: bool,
}

async fn read(storage: &dyn Storage, id: KeyId) -> Result<ReadKey> {
    let handle = id.handle();
    let content = storage.read(handle.clone(), None).await.act(|| format!("read {handle}"))?;
    parse(id, &content)
}

fn parse(id: KeyId, content: &[u8]) -> Result<ReadKey> {
    let file = KeyFile::parse(content).map_err(|fault| RepoError::format(id.handle(), fault))?;
    Ok(ReadKey { file, is_intact: hash::sha256(content) == id.0 })
}

/// Writes a key file and its control copy, and proves that it opens.
pub(crate) async fn write(
    storage: &dyn Storage,
    env: &Environment,
    master: &MasterKey,
    password: &SecretString,
    cost: KdfCost,
) -> Result<KeyId> {
    if password.expose_secret().is_empty() {
        return Err(RepoError::Refused {
            guard: "empty-password",
            reason: "an empty password protects nothing".into(),
        });
    }
    let new = NewKeyFile {
        created: Time::utc(env.clock.now()),
        username: env.host.username.clone(),
        hostname: env.host.hostname.clone(),
        cost,
        salt: env.random(),
        nonce: env.nonce(),
    };
    let (master, secret) = (master.clone(), password.clone());
    let made = env.compute.run(move || KeyFile::create(&secret, &master, new).map(|file| file.print())).await;
    let content = Bytes::from(made.map_err(|fault| RepoError::format("new key", fault))?);
    let id = KeyId(hash::sha256(&content));
    // The copy comes second: one without its key would look like that of a removed key.
    storage.create(id.handle(), content.clone()).await.act(|| format!("create {}", id.handle()))?;
    control::write(storage, &Control::Key(id), content).await?;
    let ReadKey { file, .. } = read(storage, id).await?;
    let secret = password.clone();
    match env.compute.run(move || file.open(&secret)).await {
        Ok(_) => Ok(id),
        Err(KeyError::WrongPassword) => Err(RepoError::WrongPassword),
        Err(KeyError::Damaged(fault)) => Err(RepoError::format(id.handle(), fault)),
    }
}

impl Repository {
    /// Lists the keys.
    pub async fn keys(&self) -> Result<Keys> {
        let mut keys = Keys::default();
        for id in list(&**self.storage()).await? {
            match read(&**self.storage(), id).await {
                Ok(ReadKey { file, .. }) => keys.found.push(KeyInfo {
                    id,
                    created: file.created,
                    username: file.username,
                    hostname: file.hostname,
                    is_current: id == self.key_id(),
                }),
                Err(error) if error.is_damage() => {
                    keys.problems.push(Problem::of("key-damaged", id.handle(), &error));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        keys.found.sort_by_key(|key| (key.created, key.id));
        Ok(keys)
    }

    /// Lets one more password open the repository.
    pub async fn add_key(&self, password: &SecretString, cost: KdfCost) -> Result<KeyId> {
        write(&**self.storage(), self.env(), self.master(), password, cost).await
    }

    /// Removes a key. Needs an exclusive lock; refuses the last readable key, and the one in use unless told.
    pub async fn remove_key(&self, id: KeyId, which: RemoveKey, lock: &Lock) -> Result<()> {
        require_exclusive(lock)?;
        let keys = self.keys().await?.found;
        if !keys.iter().any(|key| key.id == id) && !list(&**self.storage()).await?.contains(&id) {
            return Err(RepoError::Missing(format!("key {}", id.short())));
        }
        if keys.iter().all(|key| key.id == id) {
            return Err(RepoError::Refused { guard: "last-key", reason: "without a key nothing can be read".into() });
        }
        if id == self.key_id() && which == RemoveKey::Other {
            return Err(RepoError::Refused { guard: "key-in-use", reason: "it opened this repository".into() });
        }
        self.erase_key(id, lock).await
    }

    /// Adds a key for the new password, then removes the one that opened this repository.
    pub async fn change_password(&self, password: &SecretString, cost: KdfCost, lock: &Lock) -> Result<KeyId> {
        require_exclusive(lock)?;
        let new = self.add_key(password, cost).await?;
        self.erase_key(self.key_id(), lock).await?;
        Ok(new)
    }

    /// The control copy goes first: a removed password must not open a copy.
    async fn erase_key(&self, id: KeyId, lock: &Lock) -> Result<()> {
        lock.check()?;
        control::remove(&**self.storage(), &Control::Key(id)).await?;
        let handle: Handle = id.handle();
        match self.storage().remove(handle.clone()).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.act(|| format!("remove {handle}")),
        }
    }
}

fn require_exclusive(lock: &Lock) -> Result<()> {
    lock.check()?;
    if lock.kind() == LockKind::Exclusive {
        return Ok(());
    }
    Err(RepoError::Refused { guard: "exclusive-lock", reason: "keys are removed under an exclusive lock only".into() })
}

/// The ids of all keys, for refusing to lay a new repository over them.
pub(crate) async fn any(storage: &dyn Storage) -> Result<Option<FileId>> {
    Ok(list(storage).await?.first().map(|id| FileId::from(*id)))
}
