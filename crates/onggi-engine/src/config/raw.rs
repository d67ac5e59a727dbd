//! The file as it is written: one type per map, one field per key. The JSON schema comes from these types, and the
//! check of the file's shape from that schema, so that the three cannot disagree.
//!
//! Values that have a form of their own (durations, sizes, rates, secrets) are text here; `resolve.rs` reads them.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(dead_code, reason = "what has no effect is checked in the tree; its fields are the schema")]
pub(super) struct RawConfig {
    /// Version of this format: 1.
    pub version: u64,
    /// Name of this installation, shown in every message.
    #[serde(default)]
    pub name: Option<String>,
    /// Time zone in which times are shown: `Asia/Seoul`.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// Further files, or directories whose `*.yaml` files are read in the order of their names.
    #[serde(default)]
    pub include: Option<OneOrMany>,
    /// Where repositories keep their files.
    #[serde(default)]
    pub storages: BTreeMap<String, RawStorage>,
    /// Encrypted, deduplicated stores.
    #[serde(default)]
    pub repositories: BTreeMap<String, RawRepository>,
    /// What is backed up.
    #[serde(default)]
    pub sources: BTreeMap<String, RawSource>,
    /// Which sources run when; checked for shape and names.
    #[serde(default)]
    pub policies: BTreeMap<String, Map<String, Value>>,
    /// Snapshots from repository to repository; checked for shape and names.
    #[serde(default)]
    pub copies: Vec<Map<String, Value>>,
    /// When repositories are read back; checked for shape and names.
    #[serde(default)]
    pub verify: Vec<Map<String, Value>>,
    /// Rehearsed restores; checked for shape and names.
    #[serde(default)]
    pub drills: Vec<Map<String, Value>>,
    /// Channels for messages; checked for shape.
    #[serde(default)]
    pub notify: BTreeMap<String, Map<String, Value>>,
    /// Which message goes to which channel; checked for shape.
    #[serde(default)]
    pub rules: Vec<Map<String, Value>>,
    /// The daemon; checked for shape.
    #[serde(default)]
    pub server: Map<String, Value>,
}

/// One text or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A place for files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(super) enum RawStorage {
    /// A directory of this machine.
    Local {
        /// The directory; made by `init`.
        path: String,
        #[serde(flatten)]
        common: Common,
    },
    /// A bucket of an object store.
    S3 {
        /// URL of the service without the bucket.
        endpoint: String,
        /// The bucket's name.
        bucket: String,
        /// What the names of all files start with.
        #[serde(default)]
        prefix: Option<String>,
        /// Region that requests are signed for; `us-east-1` where the service has none.
        #[serde(default)]
        region: Option<String>,
        /// Name of the access key: a secret reference.
        #[serde(default)]
        access_key: Option<String>,
        /// Its secret: a secret reference.
        #[serde(default)]
        secret_key: Option<String>,
        /// Token of a session: a secret reference.
        #[serde(default)]
        session_token: Option<String>,
        /// The bucket is a part of the path, not of the host name; default true.
        #[serde(default)]
        path_style: Option<bool>,
        /// File with further certificates that are trusted.
        #[serde(default)]
        ca: Option<String>,
        /// How long the bucket's object lock holds files; told to the operator, set up in the bucket.
        #[serde(default)]
        immutable: Option<String>,
        #[serde(flatten)]
        common: Common,
    },
    /// A directory of another machine, over SSH.
    Sftp {
        /// Name or address.
        host: String,
        /// Default 22.
        #[serde(default)]
        port: Option<u16>,
        /// Who logs in; default the user who runs onggi.
        #[serde(default)]
        user: Option<String>,
        /// The directory; relative to the login directory unless it starts with `/`.
        path: String,
        /// Private key: a secret reference.
        #[serde(default)]
        key: Option<String>,
        /// Passphrase of the key: a secret reference.
        #[serde(default)]
        key_passphrase: Option<String>,
        /// Password: a secret reference.
        #[serde(default)]
        password: Option<String>,
        /// The host's public key, `ssh-ed25519 AAAA…`; else it must be in `known-hosts`.
        #[serde(default)]
        host_key: Option<String>,
        /// File of known hosts; default `~/.ssh/known_hosts`.
        #[serde(default)]
        known_hosts: Option<String>,
        #[serde(flatten)]
        common: Common,
    },
}

/// What every storage may carry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Common {
    /// Where it stands, for the rule of copies in two places.
    #[serde(default)]
    pub site: Option<String>,
    /// What it stands on: `disk`, `object`, `tape`.
    #[serde(default)]
    pub media: Option<String>,
    /// It is not always connected.
    #[serde(default)]
    pub offline: Option<bool>,
    /// Limits of traffic.
    #[serde(default)]
    pub limits: Option<RawLimits>,
    /// How many calls at once.
    #[serde(default)]
    pub connections: Option<u16>,
}

/// Limits of traffic.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawLimits {
    /// Both directions together: `40MB/s`.
    #[serde(default)]
    pub rate: Option<String>,
    /// Towards the storage.
    #[serde(default)]
    pub upload: Option<String>,
    /// From the storage.
    #[serde(default)]
    pub download: Option<String>,
}

/// An encrypted store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawRepository {
    /// Name of its storage.
    pub storage: String,
    /// Its password: a secret reference.
    pub password: String,
    /// Name of the repository whose chunks `init` makes it share, so that copies need no cutting.
    #[serde(default)]
    pub chunker_from: Option<String>,
    /// Deletions need more than one person; honored by `forget` and `prune`.
    #[serde(default)]
    pub protected: Option<bool>,
    /// Read back everything that is written, not a sample.
    #[serde(default)]
    pub verify_writes: Option<bool>,
}

/// Something that is backed up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(super) enum RawSource {
    /// Files of this machine.
    Paths {
        /// Absolute paths.
        paths: Vec<RawPath>,
        /// Patterns, as of `--exclude`.
        #[serde(default)]
        exclude: Vec<String>,
        /// Directories that hold a file of this name, or of this name and first line (`name:line`), are left out.
        #[serde(default)]
        exclude_if_present: Option<OneOrMany>,
        /// Directories with a valid `CACHEDIR.TAG` are left out.
        #[serde(default)]
        exclude_caches: Option<bool>,
        /// Other file systems mounted below are left out.
        #[serde(default)]
        one_file_system: Option<bool>,
        #[serde(flatten)]
        run: RawRun,
    },
    /// The standard output of a command as one file, stored only after exit status 0.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Name of the file.
        file: String,
        /// Whether no output at all is stored, not refused.
        #[serde(default)]
        allow_empty: Option<bool>,
        #[serde(flatten)]
        run: RawRun,
    },
}

/// A path, or a path with its conditions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum RawPath {
    /// Must be there.
    Required(String),
    /// With conditions.
    Detailed(RawDetailedPath),
}

/// A path with its conditions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawDetailedPath {
    /// Absolute.
    pub path: String,
    /// It may be absent.
    #[serde(default)]
    pub optional: bool,
}

/// What every source may carry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RawRun {
    /// Limits of reading.
    #[serde(default)]
    pub limits: Option<RawSourceLimits>,
    /// The longest that one unit may take: `5h`.
    #[serde(default)]
    pub time_limit: Option<String>,
    /// `default`, `fixed:64KiB` or `cdc:128KiB`.
    #[serde(default)]
    pub chunker: Option<String>,
    /// zstd level, 0 (off) to 22.
    #[serde(default)]
    pub compression: Option<u8>,
    /// Command that runs before; the unit fails if it does.
    #[serde(default)]
    pub before: Option<Vec<String>>,
    /// Command that runs after, in every case.
    #[serde(default)]
    pub after: Option<Vec<String>>,
    /// Further tags of the snapshots.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Limits of reading.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawSourceLimits {
    /// The most that is read: `500MB/s`.
    #[serde(default)]
    pub rate: Option<String>,
}
