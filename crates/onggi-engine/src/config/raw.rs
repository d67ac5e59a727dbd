//! The file as it is written: one type per map, one field per key. The JSON schema comes from these types, and the
//! check of the file's shape from that schema, so that the three cannot disagree.
//!
//! Values that have a form of their own (durations, sizes, rates, secrets) are text here; `resolve.rs` reads them.

use onggi_source::SourceConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::BTreeMap};

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
#[expect(dead_code, reason = "read from the tree; this is its schema")]
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
        /// How long such keys hold once they were fetched; they are fetched anew five minutes earlier.
        #[serde(default)]
        keys_lifetime: Option<String>,
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
        /// File of the private key: `file:/path`.
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
    /// Where it stands: the name of a data center, for the rule of copies.
    #[serde(default)]
    pub site: Option<String>,
    /// What it stands on: `disk`, `object`, `tape`; default `object` of S3, else `disk`.
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

/// Something that is backed up: what every source may carry, and the keys of its kind.
#[derive(Debug, Deserialize)]
pub(super) struct RawSource {
    #[serde(flatten)]
    pub run: RawRun,
    #[serde(flatten)]
    pub source: SourceConfig,
}

/// The alternatives of the kinds, each with the common keys among its own.
impl JsonSchema for RawSource {
    fn schema_name() -> Cow<'static, str> {
        "Source".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = SourceConfig::json_schema(generator);
        let common = RawRun::json_schema(generator);
        let common = common.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let kinds = schema.get_mut("oneOf").and_then(Value::as_array_mut);
        for kind in kinds.into_iter().flatten().filter_map(Value::as_object_mut) {
            inline(kind, generator);
            if let Some(properties) = kind.get_mut("properties").and_then(Value::as_object_mut) {
                properties.extend(common.clone());
            }
        }
        schema
    }
}

/// Puts the definition that an alternative refers to in its place, so that one map lists all keys of the kind.
fn inline(kind: &mut Map<String, Value>, generator: &SchemaGenerator) {
    let Some(Value::String(reference)) = kind.remove("$ref") else { return };
    let name = reference.rsplit('/').next().unwrap_or_default();
    let Some(definition) = generator.definitions().get(name).and_then(Value::as_object).cloned() else { return };
    for (key, value) in definition {
        match (kind.get_mut(&key), value) {
            (Some(Value::Object(own)), Value::Object(more)) => own.extend(more),
            (Some(Value::Array(own)), Value::Array(more)) => own.extend(more),
            (Some(_), _) => {}
            (None, value) => drop(kind.insert(key, value)),
        }
    }
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
    /// In so many runs once, all is read that the source says is unchanged; default 30, 0 never.
    #[serde(default)]
    pub full_read_every: Option<u32>,
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
