//! What is needed to reach a cluster, fetched anew for each run, because kubeadm renews its certificates every year.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::Etcd;
use super::manifest::Manifest;
use crate::secret::{SecretKey, SecretReference};
use crate::source::{Result, SourceError};

/// Client certificates below the directory of etcd's own, in the order of preference; kubeadm's names.
const IDENTITIES: [&str; 3] = ["healthcheck-client", "../apiserver-etcd-client", "server"];

/// Addresses, certificates, user.
pub(super) struct Access {
    /// Client URLs, without a slash at the end.
    pub(super) endpoints: Vec<String>,
    /// Whether the members' own list is asked for further ones.
    pub(super) discovers: bool,
    /// The authority's certificate in PEM.
    pub(super) ca: Option<Vec<u8>>,
    /// The client's certificate in PEM, and its key.
    pub(super) identity: Option<(Vec<u8>, SecretString)>,
    /// The user and the password.
    pub(super) user: Option<(String, SecretString)>,
}

/// Where the certificates lie.
struct Places {
    ca: PathBuf,
    identity: Option<(PathBuf, SecretReference)>,
}

impl Access {
    pub(super) async fn gather(etcd: &Etcd) -> Result<Self> {
        let config = &etcd.config;
        let manifest = match config.manifest() {
            Some(path) => Some(Manifest::load(&etcd.surroundings.working_directory.join(path)).await?),
            None => None,
        };
        let mut endpoints = config.endpoints.clone();
        let discovers = endpoints.is_empty();
        if let Some(manifest) = manifest.as_ref().filter(|_| discovers) {
            endpoints = manifest.client_urls();
        }
        let endpoints: Vec<_> = endpoints.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        if endpoints.is_empty() {
            return Err(SourceError::Refused("the manifest names no client URL".to_owned()));
        }
        let mut access = Self { endpoints, discovers, ca: None, identity: None, user: None };
        if let Some(places) = places(etcd, manifest.as_ref()) {
            access.ca = Some(read(&places.ca).await?);
            if let Some((certificate, key)) = &places.identity {
                access.identity = Some((read(certificate).await?, etcd.surroundings.secrets.fetch(key).await?));
            }
        }
        if let Some(auth) = &config.auth {
            let password = auth.password.reference().ok_or(SourceError::Unsupported("a literal password"))?;
            access.user = Some((auth.user.clone(), etcd.surroundings.secrets.fetch(password).await?));
        }
        Ok(access)
    }
}

/// As configured, or where the manifest's member has them.
fn places(etcd: &Etcd, manifest: Option<&Manifest>) -> Option<Places> {
    let at = |path: &Path| etcd.surroundings.working_directory.join(path);
    if let Some(tls) = &etcd.config.tls {
        let key = tls.key.as_ref().and_then(SecretKey::reference);
        let identity = tls.cert.as_deref().zip(key).map(|(cert, key)| (at(cert), key.clone()));
        return Some(Places { ca: at(&tls.ca), identity });
    }
    let manifest = manifest?;
    let ca = manifest.on_node(Path::new(manifest.flag("trusted-ca-file")?));
    let ca = etcd.config.on_node(&ca);
    let directory = ca.parent()?;
    let pair = |name: &str| directory.join(format!("{name}.crt"));
    let certificate = IDENTITIES.iter().map(|name| pair(name)).find(|path| path.exists());
    let identity = certificate.map(|certificate| {
        let key = SecretReference::File(certificate.with_extension("key").to_string_lossy().into_owned());
        (certificate, key)
    });
    Some(Places { ca, identity })
}

async fn read(path: &Path) -> Result<Vec<u8>> {
    let denied = |error: std::io::Error| SourceError::Denied(format!("read {}: {error}", path.display()));
    tokio::fs::read(path).await.map_err(denied)
}
