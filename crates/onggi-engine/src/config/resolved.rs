//! The configuration as the engine uses it: every value read, every name checked, paths absolute. Secrets stay
//! references until they are needed.

use super::value::SecretReference;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// The whole configuration.
#[derive(Debug, Default)]
pub struct Config {
    /// Name of this installation.
    pub name: Option<String>,
    /// Zone in which times are shown; the machine's if absent.
    pub time_zone: Option<jiff::tz::TimeZone>,
    /// Places for files, by name.
    pub storages: BTreeMap<String, StorageConfig>,
    /// Repositories, by name.
    pub repositories: BTreeMap<String, RepositoryConfig>,
    /// What is backed up, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Sources of kinds that this build has no adapter for: name and kind.
    pub without_adapter: BTreeMap<String, String>,
}

/// A place for files.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// Where and how.
    pub place: StoragePlace,
    /// Where it stands.
    pub site: Option<String>,
    /// What it stands on.
    pub media: Option<String>,
    /// It is not always connected, or what lies there cannot be deleted before its time.
    pub is_out_of_reach: bool,
    /// Bytes per second towards it.
    pub upload: Option<u64>,
    /// Bytes per second from it.
    pub download: Option<u64>,
    /// Calls at once; the protocol's own number if absent.
    pub connections: Option<usize>,
}

impl StorageConfig {
    /// What it stands on, also where nobody says so.
    pub fn media(&self) -> &str {
        let usual = if matches!(self.place, StoragePlace::S3(_)) { "object" } else { "disk" };
        self.media.as_deref().unwrap_or(usual)
    }
}

/// Where a storage is and how it is entered.
#[derive(Debug, Clone)]
pub enum StoragePlace {
    /// A directory of this machine.
    Local {
        /// Absolute.
        path: PathBuf,
    },
    /// A bucket.
    S3(S3Place),
    /// A directory of another machine.
    Sftp(SftpPlace),
}

/// A bucket and how it is entered.
#[derive(Debug, Clone)]
pub struct S3Place {
    /// URL without the bucket.
    pub endpoint: String,
    /// Name of the bucket.
    pub bucket: String,
    /// What all names start with; may be empty.
    pub prefix: String,
    /// For the signature.
    pub region: Option<String>,
    /// Name of the key.
    pub access_key: Option<SecretReference>,
    /// Its secret.
    pub secret_key: Option<SecretReference>,
    /// Token of a session.
    pub session_token: Option<SecretReference>,
    /// How long keys hold once they were fetched.
    pub keys_lifetime: Option<Duration>,
    /// The bucket is a part of the path; the protocol's habit if absent.
    pub path_style: Option<bool>,
    /// File of further trusted certificates.
    pub ca: Option<PathBuf>,
    /// How long its object lock holds, as the operator set it up.
    pub immutable: Option<Duration>,
}

/// A directory over SSH and how it is entered.
#[derive(Debug, Clone)]
pub struct SftpPlace {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Who logs in; the user of this process if absent.
    pub user: Option<String>,
    /// Directory there.
    pub path: String,
    /// File of the private key.
    pub key: Option<PathBuf>,
    /// Its passphrase.
    pub key_passphrase: Option<SecretReference>,
    /// Password.
    pub password: Option<SecretReference>,
    /// The host's public key.
    pub host_key: Option<String>,
    /// File of known hosts; `~/.ssh/known_hosts` if absent.
    pub known_hosts: Option<PathBuf>,
}

/// An encrypted store.
#[derive(Debug, Clone)]
pub struct RepositoryConfig {
    /// Name of its storage, which exists.
    pub storage: String,
    /// Its password.
    pub password: SecretReference,
    /// Whose chunks it shares when it is made.
    pub chunker_from: Option<String>,
    /// Deletions need more than one person.
    pub is_protected: bool,
    /// Everything that is written is read back.
    pub verifies_writes: bool,
}

/// Something that is backed up.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// What it is: the keys of its kind.
    pub source: onggi_source::SourceConfig,
    /// The most that is read, in bytes per second.
    pub rate: Option<u64>,
    /// The longest that one unit may take.
    pub time_limit: Option<Duration>,
    /// Where its contents are cut, if not as the source says.
    pub chunker: Option<Chunker>,
    /// zstd level, 0 is off; the repository's default if absent.
    pub compression: Option<u8>,
    /// In so many runs once, all is read that the source says is unchanged; 0 never.
    pub full_read_every: Option<u32>,
    /// Further tags of the snapshots.
    pub tags: Vec<String>,
}

/// Where contents are cut. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunker {
    /// As the repository cuts.
    Default,
    /// At multiples.
    Fixed(u32),
    /// By content, with this mean.
    Content(u32),
}
