//! Each value with where it came from, for `config show`. Secrets appear as their references, literal ones not at all.

use super::{
    fault::Place,
    resolved::{Config, StoragePlace},
    tree::{Node, Value, join},
    value::SecretReference,
};
use std::fmt;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The key with its parents, joined by dots.
    pub key: String,
    /// The value as text.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a value came from, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An option of the command line.
    CommandLine(&'static str),
    /// A variable of the environment.
    Environment(&'static str),
    /// The file.
    File(Place),
    /// Compiled in.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine(option) => write!(f, "command line ({option})"),
            Self::Environment(name) => write!(f, "environment ({name})"),
            Self::File(place) => write!(f, "{place}"),
            Self::BuiltIn => f.write_str("built-in"),
        }
    }
}

/// Keys whose values are secret references.
const SECRET_KEYS: [&str; 8] =
    ["password", "access-key", "secret-key", "session-token", "key", "key-passphrase", "client-secret", "url"];

/// Every value of the tree, in the order of the file.
pub(super) fn shown(tree: &Node) -> Vec<Shown> {
    let mut out = Vec::new();
    add(tree, "", false, &mut out);
    out
}

fn add(node: &Node, key: &str, is_secret: bool, out: &mut Vec<Shown>) {
    let value = match &node.value {
        Value::Map(entries) => {
            for (name, child) in entries {
                add(child, &join(key, &name.text), SECRET_KEYS.contains(&name.text.as_str()), out);
            }
            return;
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                add(item, &format!("{key}[{index}]"), is_secret, out);
            }
            return;
        }
        Value::Text(text) if is_secret && SecretReference::parse(text).is_err() => "***".to_owned(),
        Value::Text(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
    };
    out.push(Shown { key: key.to_owned(), value, origin: Origin::File(node.place.clone()) });
}

impl Config {
    /// All secret references with their keys.
    pub fn secrets(&self) -> Vec<(String, &SecretReference)> {
        let mut found = Vec::new();
        for (name, storage) in &self.storages {
            let of_storage = match &storage.place {
                StoragePlace::Local { .. } => Vec::new(),
                StoragePlace::S3(place) => vec![
                    ("access-key", &place.access_key),
                    ("secret-key", &place.secret_key),
                    ("session-token", &place.session_token),
                ],
                StoragePlace::Sftp(place) => {
                    vec![("key-passphrase", &place.key_passphrase), ("password", &place.password)]
                }
            };
            let given = of_storage.into_iter().filter_map(|(key, reference)| Some((key, reference.as_ref()?)));
            found.extend(given.map(|(key, reference)| (format!("storages.{name}.{key}"), reference)));
        }
        let passwords = self.repositories.iter();
        found.extend(
            passwords.map(|(name, repository)| (format!("repositories.{name}.password"), &repository.password)),
        );
        for (name, config) in &self.sources {
            let named = config.source.secrets().into_iter();
            found.extend(named.map(|(key, reference)| (format!("sources.{name}.{key}"), reference)));
        }
        found
    }
}
