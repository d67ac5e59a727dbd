//! What a Director answers, as far as it is needed; all else in an answer is passed over.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{DirectorError, Result};

/// Bytes of a senseless answer that are shown.
const SHOWN_BYTES_MAX: usize = 200;

/// One instance of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Instance {
    /// Its instance group.
    #[serde(rename = "job_name")]
    pub group: String,
    /// Its id within the Director; old ones have none.
    #[serde(default, deserialize_with = "or_empty")]
    pub id: String,
    /// Its number within the group.
    #[serde(default)]
    pub index: Option<u32>,
    /// It is the one of its group that does what only one may do.
    #[serde(default)]
    pub bootstrap: bool,
    /// Its addresses.
    #[serde(default, deserialize_with = "or_empty")]
    pub ips: Vec<String>,
}

/// An instance on which a user was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its instance group.
    pub group: String,
    /// Its number within the group, as text.
    pub index: String,
    /// Its id within the Director.
    pub id: String,
    /// Whether it is the bootstrap instance of its group.
    pub bootstrap: bool,
    /// Where SSH listens: an address, in tests with a port.
    pub address: String,
    /// Who may log in.
    pub user: String,
    /// The key by which the host proves who it is, as a line `ssh-rsa AAAA…`; empty where the Director knows none.
    pub host_key: String,
}

/// A task that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Task {
    /// Its number.
    pub id: u64,
    /// `queued`, `processing` or `cancelling`.
    #[serde(default, deserialize_with = "or_empty")]
    pub state: String,
    /// What it does: `create deployment`.
    #[serde(default, deserialize_with = "or_empty")]
    pub description: String,
    /// To which deployment, if to one.
    #[serde(default)]
    pub deployment: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    pub uuid: String,
    pub user_authentication: Authentication,
}

#[derive(Deserialize)]
pub(super) struct Authentication {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub options: AuthenticationOptions,
}

#[derive(Default, Deserialize)]
pub(super) struct AuthenticationOptions {
    pub url: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Named {
    pub name: String,
}

#[derive(Deserialize)]
pub(super) struct DeploymentAnswer {
    #[serde(default, deserialize_with = "or_empty")]
    pub manifest: String,
}

#[derive(Deserialize)]
pub(super) struct TaskAnswer {
    pub state: String,
}

/// What became of a user on one instance.
#[derive(Deserialize)]
pub(super) struct SetupResult {
    pub status: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub ip: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub host_public_key: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub id: String,
    #[serde(default)]
    pub index: Option<u32>,
}

/// Order for the agents of some instances.
#[derive(Serialize)]
pub(super) struct SshOrder<'a> {
    pub command: &'static str,
    pub deployment_name: &'a str,
    pub target: SshTarget<'a>,
    pub params: SshParameters<'a>,
}

/// Which instances; none named means all of the group.
#[derive(Serialize)]
pub(super) struct SshTarget<'a> {
    #[serde(rename = "job")]
    pub group: &'a str,
    pub indexes: Vec<&'a str>,
    pub ids: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum SshParameters<'a> {
    Setup { user: &'a str, public_key: &'a str },
    Cleanup { user_regex: String },
}

/// Reads JSON, showing the head of what is none. Only for answers without secrets.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| DirectorError::Malformed(format!("{error} in {:?}", head(bytes))))
}

/// The first of a text.
pub(super) fn head(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).trim().to_owned()
}

/// What is `null` counts as absent.
fn or_empty<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
