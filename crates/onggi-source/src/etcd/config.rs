//! The keys of kind `etcd`.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{ConfigFault, Outline};
use crate::path::TreePath;
use crate::quantity::Period;
use crate::secret::{SecretKey, SecretReference};

/// Where kubeadm puts the static pod of a member.
const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
/// Shorter intervals of fulls cost more than they save.
const FULL_EVERY_MIN: Duration = Duration::from_mins(5);

/// The key-value store of a Kubernetes control plane, or any other etcd cluster from 3.4 on.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EtcdConfig {
    /// Name of the cluster: the snapshots' host name and their directory below `/etcd`. By default the source's name.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Client URLs of the members. Without them they are found in `manifest`.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// The static pod of a member, whose flags name endpoints and certificates. By default kubeadm's, where neither
    /// `endpoints` nor this is given.
    #[serde(default)]
    pub manifest: Option<PathBuf>,
    /// Certificates. By default those that `manifest` leads to.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// The user, where the cluster has authentication enabled; it needs the role `root`.
    #[serde(default)]
    pub auth: Option<AuthConfig>,
    /// For `onggi etcd follow`: how long a chain of changes grows before the next full.
    #[serde(default = "full_every")]
    pub full_every: Period,
    /// How many raft entries a member may lag behind to be read.
    #[serde(default = "lag_max")]
    pub lag_max: u64,
    /// Whether a member is read although the cluster has no leader. By default only in a run that a person started.
    #[serde(default)]
    pub allow_no_quorum: Option<bool>,
    /// Whether a cluster that reports corruption is read all the same.
    #[serde(default)]
    pub allow_corrupt: bool,
    /// Certificates and keys of the control plane, without which a restored cluster cannot be entered: whether they are
    /// stored beside the snapshot.
    #[serde(default)]
    pub pki: Pki,
    /// Further files and folders of this machine that are stored beside the snapshot; absolute.
    #[serde(default)]
    pub also_files: Vec<PathBuf>,
    /// Where the node's own files lie, if not at `/`: for a container that they are mounted into.
    #[serde(default)]
    pub node_root: Option<PathBuf>,
    /// Whether pages that etcd has freed are stored as zeros: what was deleted is then not in the snapshot either.
    #[serde(default)]
    pub zero_free_pages: bool,
}

/// When certificates and keys of the control plane are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pki {
    /// On a control-plane node of this very cluster: its etcd authority is the one that the members are known by.
    #[default]
    Auto,
    /// Always; what is missing is a problem.
    Always,
    /// Never.
    Never,
}

/// The certificates of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsConfig {
    /// File of the authority that signed the members' certificates.
    pub ca: PathBuf,
    /// File of the client's certificate.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Its private key: a secret reference, `file:/path`.
    #[serde(default)]
    pub key: Option<SecretKey>,
}

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuthConfig {
    /// Name of the user.
    pub user: String,
    /// The password: a secret reference.
    pub password: SecretKey,
}

fn full_every() -> Period {
    Period(Duration::from_hours(6))
}

fn lag_max() -> u64 {
    1000
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            cluster: None,
            endpoints: Vec::new(),
            manifest: None,
            tls: None,
            auth: None,
            full_every: full_every(),
            lag_max: lag_max(),
            allow_no_quorum: None,
            allow_corrupt: false,
            pki: Pki::Auto,
            also_files: Vec::new(),
            node_root: None,
            zero_free_pages: false,
        }
    }
}

impl EtcdConfig {
    /// The static pod that says what the configuration does not; `None` where it says all.
    pub(super) fn manifest(&self) -> Option<PathBuf> {
        let default = self.endpoints.is_empty().then(|| self.on_node(Path::new(MANIFEST)));
        self.manifest.clone().or(default)
    }

    /// Where this process finds a file of the node.
    pub(super) fn on_node(&self, path: &Path) -> PathBuf {
        let root = self.node_root.as_deref().unwrap_or(Path::new("/"));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(crate) fn outline(&self, source: &str) -> Outline {
        let cluster = self.cluster.as_deref().unwrap_or(source);
        let root = TreePath::new("etcd").and_then(|root| root.join(cluster)).ok();
        Outline { hostname: Some(cluster.to_owned()), ..Outline::below(root) }
    }

    pub(crate) fn secrets(&self) -> Vec<(&'static str, &SecretReference)> {
        let key = self.tls.as_ref().and_then(|tls| tls.key.as_ref()).and_then(SecretKey::reference);
        let password = self.auth.as_ref().and_then(|auth| auth.password.reference());
        let named = [("tls.key", key), ("auth.password", password)];
        named.into_iter().filter_map(|(name, reference)| Some((name, reference?))).collect()
    }

    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if self.cluster.as_ref().is_some_and(|name| TreePath::root().join(name).is_err()) {
            faults.push(ConfigFault::new("cluster", "this cannot be a directory's name", "use a name without `/`"));
        }
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
            if host.is_none_or(|host| host.trim_end_matches('/').is_empty() || host.trim_end_matches('/').contains('/'))
            {
                let (key, text) = (format!("endpoints[{number}]"), format!("{endpoint:?} is no URL of a member"));
                faults.push(ConfigFault::new(key, text, "write https://10.0.1.1:2379"));
            }
        }
        if self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://"))
            && self.tls.is_none()
            && self.manifest.is_none()
        {
            let remedy = "add `tls: { ca: …, cert: …, key: file:… }`, or `manifest`, which leads to them";
            faults.push(ConfigFault::new("tls", "https endpoints need an authority to be known by", remedy));
        }
        faults.extend(self.secret_faults());
        faults.extend(self.file_faults());
        if self.full_every.0 < FULL_EVERY_MIN {
            faults.push(ConfigFault::new("full-every", "this is too often", "write 5m or longer"));
        }
        faults
    }

    fn file_faults(&self) -> Vec<ConfigFault> {
        let is_plain = |path: &Path| {
            path.is_absolute()
                && path.components().all(|part| !matches!(part, Component::CurDir | Component::ParentDir))
        };
        let numbered = self.also_files.iter().enumerate().map(|(number, path)| (format!("also-files[{number}]"), path));
        let named = numbered.chain(self.node_root.iter().map(|path| ("node-root".to_owned(), path)));
        let faults = named.filter(|(_, path)| !is_plain(path));
        faults
            .map(|(key, _)| ConfigFault::new(key, "this is no absolute path", "write it from `/` on, without `..`"))
            .collect()
    }

    fn secret_faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if let Some(tls) = &self.tls {
            faults.extend(tls.key.as_ref().and_then(|key| key.fault("tls.key")));
            if tls.cert.is_some() != tls.key.is_some() {
                let text = "a client's certificate and its key belong together";
                faults.push(ConfigFault::new("tls.cert", text, "give both `cert` and `key`, or neither"));
            }
        }
        if let Some(auth) = &self.auth {
            faults.extend(auth.password.fault("auth.password"));
            if auth.user.is_empty() {
                faults.push(ConfigFault::new("auth.user", "the name is empty", "write root"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: serde_json::Value, expected: &[&str]) {
        let config: EtcdConfig = serde_json::from_value(json).unwrap();
        let keys: Vec<_> = config.faults().into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_control_plane_node_needs_no_key() {
        check(serde_json::json!({}), &[]);
        assert_eq!(EtcdConfig::default().manifest(), Some(PathBuf::from(MANIFEST)));
        assert_eq!(serde_json::from_str::<EtcdConfig>("{}").unwrap(), EtcdConfig::default());
    }

    #[test]
    fn all_faults_are_found_at_once() {
        let json = serde_json::json!({
            "cluster": "a/b",
            "endpoints": ["10.0.1.1:2379", "https://", "https://10.0.1.1:2379/", "https://10.0.1.1:2379/v3"],
            "tls": { "ca": "/ca", "key": "hunter2" },
            "auth": { "user": "", "password": "hunter2" },
            "full-every": "1m",
            "also-files": ["/etc/fstab", "fstab", "/etc/../fstab"],
            "node-root": "host",
        });
        let endpoints = ["endpoints[0]", "endpoints[1]", "endpoints[3]"];
        let rest = [
            "tls.key",
            "tls.cert",
            "auth.password",
            "auth.user",
            "also-files[1]",
            "also-files[2]",
            "node-root",
            "full-every",
        ];
        check(json, &[&["cluster"][..], &endpoints, &rest].concat());
    }

    #[test]
    fn encrypted_endpoints_need_an_authority() {
        check(serde_json::json!({ "endpoints": ["https://a:1"] }), &["tls"]);
        check(serde_json::json!({ "endpoints": ["http://a:1"] }), &[]);
        check(serde_json::json!({ "endpoints": ["https://a:1"], "manifest": "/etcd.yaml" }), &[]);
    }
}
