//! A repository that is open: its storage, its keys, its configuration, and the index once that is loaded.

use crate::{
    archive::Writer,
    control::{self, Control},
    environment::Environment,
    error::{Act, Problem, RepoError, Result},
    format::{KeyId, MasterKey, Polynomial, RepositoryId, config::Config, key_file::KdfCost, seal},
    index::Index,
    key,
    read::TreeCache,
};
use bytes::Bytes;
use futures::TryStreamExt;
use onggi_storage::{FileType, Handle, Storage};
use secrecy::SecretString;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};

/// What a new repository is made with.
#[derive(Debug, Clone)]
pub struct NewRepository {
    /// What content is cut with; `None` draws one. Give the other repository's if snapshots are to be copied between.
    pub polynomial: Option<Polynomial>,
    /// What opening its first key costs.
    pub kdf: KdfCost,
}

/// How to open a repository.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// The key file to try first.
    pub key_hint: Option<KeyId>,
    /// The same storage without caches, for reading back and for renewing locks; `None`: it has none.
    pub fresh: Option<Arc<dyn Storage>>,
}

/// An open repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<dyn Storage>,
    fresh: Arc<dyn Storage>,
    master: MasterKey,
    key_id: KeyId,
    config: Config,
    env: Environment,
    problems: Vec<Problem>,
    index: RwLock<Arc<Index>>,
    trees: Mutex<TreeCache>,
    writer: Mutex<Weak<Writer>>,
}

impl Repository {
    /// Makes a new repository, or ends what an interrupted run began with the same password. Refused where there is a
    /// config, and where there is anything else that a repository keeps: a lifecycle rule may have deleted only the config
    /// of one full of data.
    pub async fn create(
        storage: Arc<dyn Storage>,
        password: &SecretString,
        new: NewRepository,
        env: Environment,
    ) -> Result<Self> {
        storage.prepare().await.act(|| "prepare the storage".into())?;
        let begun = begun(&*storage, &env, password).await?;
        let is_begun = begun.is_some();
        let master = begun.unwrap_or_else(|| {
            let bits: zeroize::Zeroizing<[u8; 64]> = zeroize::Zeroizing::new(env.random());
            MasterKey::from_random(&bits)
        });
        let polynomial = new.polynomial.unwrap_or_else(|| draw_polynomial(&env));
        let config = Config::new(RepositoryId(env.random()), polynomial);
        let mut sealed = Vec::new();
        seal::seal(&master, env.nonce(), &config.print(), &mut sealed);
        let sealed = Bytes::from(sealed);
        if is_begun {
            // It may have got as far as the copy of its config. A new place has none, and may allow no removal.
            control::remove(&*storage, &Control::Config).await?;
        } else {
            key::write(&*storage, &env, &master, password, new.kdf).await?;
        }
        control::write(&*storage, &Control::Config, sealed.clone()).await?;
        storage.create(Handle::Config, sealed).await.map_err(|error| match error {
            onggi_storage::StorageError::AlreadyExists(handle) => RepoError::AlreadyExists(handle.to_string()),
            error => RepoError::Storage("create config".into(), error),
        })?;
        Self::open(storage, password, OpenOptions::default(), env).await
    }

    /// Opens a repository with one of its passwords.
    pub async fn open(
        storage: Arc<dyn Storage>,
        password: &SecretString,
        options: OpenOptions,
        env: Environment,
    ) -> Result<Self> {
        let key::Unlocked { master, id, mut problems } =
            key::unlock(&*storage, &env, password, options.key_hint).await?;
        let config = read_config(&*storage, &master, &mut problems).await?;
        let fresh = options.fresh.unwrap_or_else(|| Arc::clone(&storage));
        Ok(Self {
            inner: Arc::new(Inner {
                storage,
                fresh,
                master,
                key_id: id,
                config,
                env,
                problems,
                index: RwLock::default(),
                trees: Mutex::default(),
                writer: Mutex::default(),
            }),
        })
    }

    /// Its name for caches and receipts.
    pub fn id(&self) -> RepositoryId {
        self.inner.config.id
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Where its files are.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.inner.storage
    }

    /// The same without caches.
    pub fn fresh(&self) -> &Arc<dyn Storage> {
        &self.inner.fresh
    }

    /// Time, host, computing threads.
    pub fn env(&self) -> &Environment {
        &self.inner.env
    }

    /// The key that opened it.
    pub fn key_id(&self) -> KeyId {
        self.inner.key_id
    }

    /// Whether anybody who reads the storage can read it: a key of it opens with an empty password, as restic makes one
    /// if it is told to.
    pub async fn opens_without_password(&self) -> Result<bool> {
        let nothing = SecretString::default();
        match key::unlock(&**self.fresh(), self.env(), &nothing, None).await {
            Ok(_) => Ok(true),
            Err(RepoError::WrongPassword) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Faults found while opening: damaged keys or config whose copies were used.
    pub fn problems(&self) -> &[Problem] {
        &self.inner.problems
    }

    /// The index as it was last loaded, with what was written since; empty before that.
    pub fn index(&self) -> Arc<Index> {
        Arc::clone(&self.inner.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace_index(&self, index: Arc<Index>) {
        *self.inner.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    pub(crate) fn master(&self) -> &MasterKey {
        &self.inner.master
    }

    pub(crate) fn trees(&self) -> &Mutex<TreeCache> {
        &self.inner.trees
    }

    /// What archives that are written now have in common.
    pub(crate) fn writer(&self) -> &Mutex<Weak<Writer>> {
        &self.inner.writer
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({} at {})", self.id().short(), self.storage().properties().location)
    }
}

/// What a repository consists of beside config and keys.
const REMAINS: [FileType; 3] = [FileType::Snapshot, FileType::Index, FileType::Pack];

/// The master key of a repository that was begun and has no config yet. Refuses the place where there is more.
async fn begun(storage: &dyn Storage, env: &Environment, password: &SecretString) -> Result<Option<MasterKey>> {
    match storage.stat(Handle::Config).await {
        Ok(_) => return Err(RepoError::AlreadyExists("config".into())),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error).act(|| "look for a config".into()),
    }
    for what in REMAINS {
        match storage.list(what).try_next().await {
            Ok(None) => {}
            Ok(Some(file)) => return Err(RepoError::AlreadyExists(format!("no config, but {}", file.handle))),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error).act(|| "look for what is there".into()),
        }
    }
    let Some(id) = key::any(storage).await? else { return Ok(None) };
    match key::unlock(storage, env, password, None).await {
        Ok(unlocked) => Ok(Some(unlocked.master)),
        Err(error @ RepoError::Storage(..)) => Err(error),
        // Of somebody else, or torn.
        Err(_) => {
            Err(RepoError::AlreadyExists(format!("no config, but key {id:.8}, which this password does not open")))
        }
    }
}

/// About one number in 27 is irreducible; a thousand draws fail once in 10^16 runs, and then it draws on.
fn draw_polynomial(env: &Environment) -> Polynomial {
    loop {
        if let Some(polynomial) = Polynomial::from_random(u64::from_le_bytes(env.random())) {
            return polynomial;
        }
    }
}

/// The problem of a config whose copy was used.
pub(crate) const CONFIG_DAMAGED: &str = "config-damaged";

/// Reads the config, or its control copy when it is lost or damaged.
async fn read_config(storage: &dyn Storage, master: &MasterKey, problems: &mut Vec<Problem>) -> Result<Config> {
    let first = storage.read(Handle::Config, None).await.act(|| "read config".into());
    let error = match first.and_then(|sealed| open_config(master, &sealed)) {
        Ok(config) => return Ok(config),
        // What a newer program wrote is no damage, and its copy may be of before.
        Err(error @ RepoError::Newer { .. }) => return Err(error),
        Err(error) if error.is_damage() || error.is_not_found() => error,
        Err(error) => return Err(error),
    };
    let copy = control::read(storage, &Control::Config).await.and_then(|sealed| open_config(master, &sealed));
    match copy {
        Ok(config) => {
            problems.push(Problem::of(CONFIG_DAMAGED, "config", &error));
            Ok(config)
        }
        Err(_) if error.is_not_found() => Err(RepoError::NoRepository(storage.properties().location)),
        Err(_) => Err(error),
    }
}

pub(crate) fn open_config(master: &MasterKey, sealed: &[u8]) -> Result<Config> {
    let mut plaintext = Vec::new();
    let opened = seal::open_into(master, sealed, &mut plaintext).and_then(|()| Config::parse(&plaintext));
    opened.map_err(|fault| RepoError::format("config", fault))
}
