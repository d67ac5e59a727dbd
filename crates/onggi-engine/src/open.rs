//! From the configuration to an open repository: its storage with limits and access, its password, and the stack of
//! decorators around it.

#[cfg(feature = "s3")]
mod keys;

use crate::{
    config::{Config, RepositoryConfig, S3Place, SftpPlace, StorageConfig, StoragePlace, value::SecretReference},
    edge::{SecretError, fetch},
};
use onggi_repo::{Environment, OpenOptions, RepoError, Repository};
use onggi_storage::{
    FileId, StorageError,
    limit::{Limits, Rate, RatePlan},
    location::Location,
    stack::{Access, CacheOptions, Stack, StackOptions},
};
use std::{collections::BTreeMap, path::PathBuf};

/// What of this machine and its user a storage may need.
#[derive(Debug, Clone)]
pub struct Habits {
    /// The environment, read once by the program.
    pub variables: BTreeMap<String, String>,
    /// The user's home: keys and known hosts of SSH lie there.
    pub home: PathBuf,
    /// Who logs in where no user is named.
    pub user: String,
}

/// How a configured repository is reached.
#[derive(Debug)]
pub struct Way<'a> {
    /// Its address.
    pub location: Location,
    /// Bytes per second and calls at once.
    pub limits: Limits,
    /// What is needed to enter.
    pub access: Access,
    /// Where its password is.
    pub password: &'a SecretReference,
    /// What the configuration says of it.
    pub repository: &'a RepositoryConfig,
}

/// Why a configured repository cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration has none of this name; the text lists those that it has.
    #[error("no repository is named {0:?} in the configuration (there are: {1})")]
    Unknown(String, String),
    /// Several are configured and none is named.
    #[error("several repositories are configured, name one of: {0}")]
    Several(String),
    /// A secret cannot be had.
    #[error("fetch the secret")]
    Secret(#[from] SecretError),
    /// A file of certificates cannot be read.
    #[error("read the certificates in {0}")]
    Certificates(PathBuf, #[source] std::io::Error),
    /// The storage cannot be entered.
    #[error("open storage {0}")]
    Storage(String, #[source] StorageError),
    /// The repository cannot be opened.
    #[error("open repository {0}")]
    Repository(String, #[source] RepoError),
}

impl OpenError {
    /// Its exit code.
    pub fn exit(&self) -> crate::exit::Exit {
        use crate::exit::Exit;
        match self {
            Self::Unknown(..) | Self::Several(_) | Self::Secret(_) | Self::Certificates(..) => Exit::Usage,
            Self::Storage(_, error) => Exit::from(error),
            Self::Repository(_, error) => Exit::from(error),
        }
    }
}

impl Config {
    /// The repository of this name; without a name the only one.
    pub fn repository(&self, name: Option<&str>) -> Result<(&str, &RepositoryConfig), OpenError> {
        let all = || self.repositories.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut named = self.repositories.iter().filter(|(own, _)| name.is_none_or(|name| *own == name));
        match (named.next(), named.next()) {
            (Some((name, repository)), None) => Ok((name, repository)),
            (Some(_), Some(_)) => Err(OpenError::Several(all())),
            (None, _) => Err(OpenError::Unknown(name.unwrap_or_default().to_owned(), all())),
        }
    }

    /// How a repository is reached; fetches what its storage needs to be entered, not its password.
    pub async fn way(&self, name: Option<&str>, habits: &Habits) -> Result<Way<'_>, OpenError> {
        let (_, repository) = self.repository(name)?;
        let missing = || OpenError::Unknown(repository.storage.clone(), String::new());
        let storage = self.storages.get(&repository.storage).ok_or_else(missing)?;
        Ok(Way {
            location: location(&storage.place),
            limits: limits(storage),
            access: access(&storage.place, habits).await?,
            password: &repository.password,
            repository,
        })
    }
}

/// Opens a configured repository with the password that the configuration names.
pub async fn open(
    way: &Way<'_>,
    cache: Option<CacheOptions>,
    habits: &Habits,
    env: Environment,
) -> Result<(Repository, Stack), OpenError> {
    let mut options = StackOptions::new(env.clock.clone());
    options.limits = way.limits.clone();
    options.access = way.access.clone();
    options.cache = cache;
    let stack = Stack::open(&way.location, options).await;
    let stack = stack.map_err(|error| OpenError::Storage(way.location.to_string(), error))?;
    let password = fetch(way.password, &habits.variables).await?;
    let options = OpenOptions { key_hint: None, fresh: Some(stack.uncached()) };
    let opened = Repository::open(stack.storage(), &password, options, env).await;
    let repo = opened.map_err(|error| OpenError::Repository(way.location.to_string(), error))?;
    stack.identify(FileId(repo.id().0));
    Ok((repo, stack))
}

fn location(place: &StoragePlace) -> Location {
    match place {
        StoragePlace::Local { path } => Location::Local(path.clone()),
        StoragePlace::S3(S3Place { endpoint, bucket, prefix, .. }) => Location::S3 {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            bucket: bucket.clone(),
            prefix: prefix.clone(),
        },
        StoragePlace::Sftp(SftpPlace { user, host, port, path, .. }) => {
            Location::Sftp { user: user.clone(), host: host.clone(), port: Some(*port), path: path.clone() }
        }
    }
}

fn limits(storage: &StorageConfig) -> Limits {
    let plan = |rate: Option<u64>| RatePlan::constant(rate.map_or(Rate::Unlimited, Rate::BytesPerSecond));
    Limits { up: plan(storage.upload), down: plan(storage.download), connections: storage.connections }
}

#[cfg_attr(
    not(any(feature = "s3", feature = "sftp")),
    expect(unused_variables, clippy::unused_async, reason = "a folder needs none")
)]
async fn access(place: &StoragePlace, habits: &Habits) -> Result<Access, OpenError> {
    match place {
        #[cfg(feature = "s3")]
        StoragePlace::S3(place) => Ok(Access { s3: s3_access(place, habits).await?, ..Access::default() }),
        #[cfg(feature = "sftp")]
        StoragePlace::Sftp(place) => Ok(Access { sftp: sftp_access(place, habits).await?, ..Access::default() }),
        _ => Ok(Access::default()),
    }
}

/// The file's keys, else those of the environment as every tool reads them.
#[cfg(feature = "s3")]
async fn s3_access(place: &S3Place, habits: &Habits) -> Result<onggi_storage::stack::S3Access, OpenError> {
    use onggi_storage::s3::{S3Credentials, S3Keys};
    use std::sync::Arc;
    let variable = |names: &[&str]| names.iter().find_map(|name| habits.variables.get(*name)).cloned();
    let keys = keys::PlaceKeys::of(place, habits);
    let credentials = match &keys {
        Some(keys) => Some(keys.fetch_now().await?),
        None => variable(&["AWS_ACCESS_KEY_ID"]).zip(variable(&["AWS_SECRET_ACCESS_KEY"])).map(|(name, secret)| {
            let session_token = variable(&["AWS_SESSION_TOKEN"]).map(Into::into);
            S3Credentials { access_key: name, secret_key: secret.into(), session_token }
        }),
    };
    Ok(onggi_storage::stack::S3Access {
        credentials,
        keys: keys.map(|keys| Arc::new(keys) as Arc<dyn S3Keys>),
        region: place.region.clone().or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"])),
        path_style: place.path_style,
        ca_certificates: place.ca.iter().map(|path| certificates(path)).collect::<Result<_, _>>()?,
        proxy: variable(&["HTTPS_PROXY", "https_proxy"]),
    })
}

#[cfg(feature = "s3")]
fn certificates(path: &std::path::Path) -> Result<Vec<u8>, OpenError> {
    use crate::config::{Files as _, Found};
    let files = crate::edge::SystemFiles { variables: &BTreeMap::new() };
    match files.read(path) {
        Ok(Found::File(pem)) => Ok(pem),
        Ok(Found::Directory(_)) => {
            Err(OpenError::Certificates(path.to_owned(), std::io::ErrorKind::IsADirectory.into()))
        }
        Err(error) => Err(OpenError::Certificates(path.to_owned(), error)),
    }
}

/// The file's keys, else those of the user.
#[cfg(feature = "sftp")]
async fn sftp_access(place: &SftpPlace, habits: &Habits) -> Result<onggi_storage::stack::SftpAccess, OpenError> {
    let ssh = habits.home.join(".ssh");
    let usual = ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| ssh.join(name));
    let fetched = async |reference: &Option<SecretReference>| match reference {
        Some(reference) => fetch(reference, &habits.variables).await.map(Some),
        None => Ok(None),
    };
    let known_hosts = match &place.known_hosts {
        Some(file) => vec![file.clone()],
        None => [ssh.join("known_hosts"), PathBuf::from("/etc/ssh/ssh_known_hosts")]
            .into_iter()
            .filter(|path| path.exists())
            .collect(),
    };
    Ok(onggi_storage::stack::SftpAccess {
        user: place.user.clone().or_else(|| Some(habits.user.clone())),
        identity_files: match &place.key {
            Some(key) => vec![key.clone()],
            None => usual.into_iter().filter(|path| path.exists()).collect(),
        },
        identity_passphrase: fetched(&place.key_passphrase).await?,
        agent: habits.variables.get("SSH_AUTH_SOCK").map(PathBuf::from),
        password: fetched(&place.password).await?,
        known_hosts,
        host_key: place.host_key.clone(),
    })
}
