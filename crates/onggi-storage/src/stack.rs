//! From an address to a storage ready for use: the connection with its decorators in the right order.

#[cfg(test)]
mod tests;

#[cfg(feature = "s3")]
use crate::s3::{RenewedS3, S3, S3Credentials, S3Keys, S3Options};
#[cfg(feature = "sftp")]
use crate::sftp::{Sftp, SftpOptions};
use crate::{
    Clock, FileId, Result, Storage, StorageError,
    cache::{Cache, CacheStatistics},
    limit::{Limit, Limits, Rate, RatePlan},
    local::Local,
    location::Location,
    retry::{self, Retry, RetryLimits},
    stall::{STALL_LIMIT, Stall},
};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// A connection in its decorators: cache(retry(limit(stall(connection)))).
///
/// Decorators that would do nothing are left out: a local folder needs neither cache nor stall limit.
#[derive(Debug, Clone)]
pub struct Stack {
    storage: Arc<dyn Storage>,
    retry: Arc<Retry>,
    cache: Option<Arc<Cache>>,
}

/// How to treat a storage.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Bytes per second and calls at once.
    pub limits: Limits,
    /// How long to repeat what failed.
    pub retry: RetryLimits,
    /// How long it may say nothing.
    pub stall: Duration,
    /// Where to keep copies; `None` for none. Verifying must not use any.
    pub cache: Option<CacheOptions>,
    /// What is needed to enter.
    pub access: Access,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
}

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder of all caches; each repository has one of its own in it.
    pub root: PathBuf,
    /// Of one repository.
    pub bytes_max: u64,
}

/// What is needed to enter storages of any kind; the engine resolves it from configuration, files and environment.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// For buckets.
    #[cfg(feature = "s3")]
    pub s3: S3Access,
    /// For folders of other machines.
    #[cfg(feature = "sftp")]
    pub sftp: SftpAccess,
}

/// What is needed to enter a bucket.
#[cfg(feature = "s3")]
#[derive(Debug, Clone, Default)]
pub struct S3Access {
    /// Who asks; nobody for a public bucket.
    pub credentials: Option<S3Credentials>,
    /// Where they came from, if others may come from there later.
    pub keys: Option<Arc<dyn S3Keys>>,
    /// Where the endpoint does not tell it.
    pub region: Option<String>,
    /// Whether the bucket is a part of the path; by default it is, but at Amazon.
    pub path_style: Option<bool>,
    /// Trusted authorities beside the machine's own, in PEM.
    pub ca_certificates: Vec<Vec<u8>>,
    /// The proxy's URL.
    pub proxy: Option<String>,
}

/// What is needed to enter a folder of another machine.
#[cfg(feature = "sftp")]
#[derive(Debug, Clone, Default)]
pub struct SftpAccess {
    /// Where the address names none.
    pub user: Option<String>,
    /// Private keys, tried in this order.
    pub identity_files: Vec<PathBuf>,
    /// What opens those of them that are encrypted.
    pub identity_passphrase: Option<secrecy::SecretString>,
    /// The socket of an agent.
    pub agent: Option<PathBuf>,
    /// Tried last.
    pub password: Option<secrecy::SecretString>,
    /// Files that say which keys a host may show.
    pub known_hosts: Vec<PathBuf>,
    /// The one key to accept; then no file is asked.
    pub host_key: Option<String>,
}

impl StackOptions {
    /// No limits but those of time, no cache, no credentials.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let unlimited = RatePlan::constant(Rate::Unlimited);
        Self {
            limits: Limits { up: unlimited.clone(), down: unlimited, connections: None },
            retry: RetryLimits::STANDARD,
            stall: STALL_LIMIT,
            cache: None,
            access: Access::default(),
            clock,
        }
    }
}

impl Stack {
    /// Opens the storage at an address. It connects where that is needed, but does not ask for any file.
    ///
    /// # Errors
    /// `Address` if the address or an option is wrong or the kind of storage was left out of this build; else what
    /// the storage answers.
    pub async fn open(location: &Location, options: StackOptions) -> Result<Self> {
        let connection =
            retry::open(options.retry, &*options.clock, async || connect(location, &options).await).await?;
        Ok(Self::over(connection, options))
    }

    /// Puts the decorators around a connection.
    pub fn over(connection: Arc<dyn Storage>, options: StackOptions) -> Self {
        let StackOptions { limits, retry, stall, cache, clock, .. } = options;
        let is_local = connection.properties().is_local;
        let is_limited = !limits.up.is_unlimited() || !limits.down.is_unlimited() || limits.connections.is_some();
        let mut storage = connection;
        if !is_local {
            storage = Arc::new(Stall::new(storage, stall, clock.clone()));
        }
        if !is_local || is_limited {
            storage = Arc::new(Limit::new(storage, limits, clock.clone()));
        }
        let retry = Arc::new(Retry::new(storage, retry, clock.clone()));
        let cache = cache
            .filter(|_| !is_local)
            .map(|CacheOptions { root, bytes_max }| Arc::new(Cache::new(retry.clone(), root, bytes_max, clock)));
        let storage = cache.clone().map_or(retry.clone() as Arc<dyn Storage>, |cache| cache);
        Self { storage, retry, cache }
    }

    /// The whole stack.
    pub fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    /// The stack without the cache: what is really there.
    pub fn uncached(&self) -> Arc<dyn Storage> {
        self.retry.clone()
    }

    /// Tells the cache which repository this is; before it, the cache is not used.
    pub fn identify(&self, repository: FileId) {
        if let Some(cache) = &self.cache {
            cache.identify(repository);
        }
    }

    /// How many calls were repeated so far.
    pub fn repeated(&self) -> u64 {
        self.retry.repeated()
    }

    /// How the cache did, if there is one.
    pub fn cache_statistics(&self) -> Option<CacheStatistics> {
        self.cache.as_ref().map(|cache| cache.statistics())
    }
}

#[cfg_attr(not(any(feature = "s3", feature = "sftp")), expect(unused_variables, reason = "local needs none"))]
#[cfg_attr(not(feature = "sftp"), expect(clippy::unused_async, reason = "only SFTP connects"))]
async fn connect(location: &Location, options: &StackOptions) -> Result<Arc<dyn Storage>> {
    match location {
        Location::Local(path) => Ok(Arc::new(Local::new(path.clone()))),
        #[cfg(feature = "s3")]
        Location::S3 { .. } => {
            let bucket = s3_options(location, options)?;
            Ok(match options.access.s3.keys.clone() {
                Some(keys) => Arc::new(RenewedS3::open(bucket, keys)?),
                None => Arc::new(S3::open(bucket)?),
            })
        }
        #[cfg(feature = "sftp")]
        Location::Sftp { .. } => Ok(Arc::new(Sftp::open(sftp_options(location, options)?).await?)),
        #[cfg(not(all(feature = "s3", feature = "sftp")))]
        _ => Err(StorageError::Address(format!("{location}: this build has no {}: storages", location.kind()))),
    }
}

#[cfg(feature = "s3")]
fn s3_options(location: &Location, options: &StackOptions) -> Result<S3Options> {
    let Location::S3 { endpoint, bucket, prefix } = location else { return Err(not_of_kind(location)) };
    let access = options.access.s3.clone();
    Ok(S3Options {
        endpoint: endpoint.clone(),
        bucket: bucket.clone(),
        prefix: prefix.clone(),
        region: access.region.or_else(|| location.region().map(Into::into)).unwrap_or_default(),
        credentials: access.credentials,
        path_style: access.path_style.unwrap_or(!location.is_amazon()),
        ca_certificates: access.ca_certificates,
        proxy: access.proxy,
        clock: options.clock.clone(),
    })
}

#[cfg(feature = "sftp")]
fn sftp_options(location: &Location, options: &StackOptions) -> Result<SftpOptions> {
    let Location::Sftp { user, host, port, path } = location else { return Err(not_of_kind(location)) };
    let access = options.access.sftp.clone();
    let Some(user) = user.clone().or(access.user) else {
        return Err(StorageError::Address(format!("{location} names no user; write sftp:user@{host}:{path}")));
    };
    Ok(SftpOptions {
        host: host.clone(),
        port: port.unwrap_or(22),
        user,
        path: path.clone(),
        identity_files: access.identity_files,
        identity_passphrase: access.identity_passphrase,
        agent: access.agent,
        password: access.password,
        known_hosts: access.known_hosts,
        host_key: access.host_key,
        clock: options.clock.clone(),
    })
}

#[cfg(any(feature = "s3", feature = "sftp"))]
fn not_of_kind(location: &Location) -> StorageError {
    StorageError::Address(format!("{location} is of another kind"))
}
