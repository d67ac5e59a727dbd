//! Secrets: where they lie, as the configuration names it, and who fetches them. A secret itself never stands in the
//! configuration, and what stands there by mistake is not kept.

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use crate::config::ConfigFault;
use crate::source::Result;

/// Fetches secrets from where they lie.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The secret without the white space around it. One that cannot be had is `Denied`, with the reference and the
    /// reason, never its content.
    async fn fetch(&self, reference: &SecretReference) -> Result<SecretString>;
}

/// A secret's reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretReference {
    /// A variable of the environment.
    Environment(String),
    /// A file that only its owner can read.
    File(String),
    /// The standard output of a command, split at blanks.
    Command(Vec<String>),
    /// A credential that systemd hands over in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl SecretReference {
    /// Reads `env:NAME`, `file:/path`, `command:program argument…`, `credential:name`. What is none of these is taken
    /// for the secret itself and never repeated.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once(':').ok_or(LITERAL)?;
        match scheme {
            "env" | "file" | "command" | "credential" if rest.trim().is_empty() => Err("the reference names nothing"),
            "env" => Ok(Self::Environment(rest.to_owned())),
            "file" => Ok(Self::File(rest.to_owned())),
            "command" => Ok(Self::Command(rest.split_ascii_whitespace().map(ToOwned::to_owned).collect())),
            "credential" if rest.contains('/') => Err("a credential is a name, not a path"),
            "credential" => Ok(Self::Credential(rest.to_owned())),
            _ => Err(LITERAL),
        }
    }
}

const LITERAL: &str = "a secret must not stand in the file";

/// How to mend a literal secret.
pub const SECRET_FORM: &str =
    "put it in a file of mode 0600 and write file:/path, or use env:NAME, command:program, credential:name";

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Command(words) => write!(f, "command:{}", words.join(" ")),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

/// A key of the configuration whose value refers to a secret. A text that is no reference is dropped when it is read:
/// it may be the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey(Result<SecretReference, &'static str>);

impl SecretKey {
    /// Reads the text of the key.
    pub fn new(text: &str) -> Self {
        Self(SecretReference::parse(text))
    }

    /// Where the secret lies, if the text says so.
    pub fn reference(&self) -> Option<&SecretReference> {
        self.0.as_ref().ok()
    }

    /// What is wrong with the text.
    pub(crate) fn fault(&self, key: &str) -> Option<ConfigFault> {
        self.0.as_ref().err().map(|text| ConfigFault::new(key, *text, SECRET_FORM))
    }
}

impl<'de> Deserialize<'de> for SecretKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

impl JsonSchema for SecretKey {
    fn schema_name() -> Cow<'static, str> {
        "SecretKey".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_secret_is_refused_and_not_repeated() {
        for text in ["hunter2", "https://user:hunter2@host", "pass:hunter2"] {
            assert!(!SecretReference::parse(text).unwrap_err().contains("hunter2"));
        }
        for text in ["env:A", "file:/etc/key", "command:vault read x", "credential:main"] {
            assert_eq!(SecretReference::parse(text).unwrap().to_string(), text);
        }
        assert!(SecretReference::parse("credential:../x").is_err());
        assert!(SecretReference::parse("file:").is_err());
    }

    #[test]
    fn a_literal_is_dropped_when_it_is_read() {
        let key: SecretKey = serde_json::from_str(r#""hunter2""#).unwrap();
        assert_eq!((key.reference(), format!("{key:?}").contains("hunter2")), (None, false));
        assert_eq!(key.fault("auth.password").unwrap().key, "auth.password");
        assert_eq!(SecretKey::new("env:A").fault("x"), None);
    }
}
