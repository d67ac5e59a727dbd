//! The static pod that a kubeadm node runs a member from: its flags, its image, and where its files lie on the node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::source::{Result, SourceError};

/// The largest manifest that is read, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// What a static pod says of its member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The image with its tag or digest, as it is written there.
    pub image: String,
    /// The flags without their dashes; of one given twice, the last.
    pub flags: BTreeMap<String, String>,
    /// Paths in the container and where they lie on the node, longest first.
    pub mounts: Vec<(PathBuf, PathBuf)>,
}

impl Manifest {
    /// Reads the file of a static pod.
    pub async fn load(path: &Path) -> Result<Self> {
        let denied = |reason: String| SourceError::Denied(format!("read {}: {reason}", path.display()));
        let bytes = tokio::fs::read(path).await.map_err(|error| denied(error.to_string()))?;
        Self::parse(&bytes).map_err(denied)
    }

    /// Reads the text of a member's static pod.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        Self::of(bytes, "etcd")
    }

    /// Reads the text of a program's static pod. Of several containers it is the one of the program's name, or the first
    /// that runs it.
    pub fn of(bytes: &[u8], program: &str) -> Result<Self, String> {
        if bytes.len() > BYTES_MAX {
            return Err(format!("more than {BYTES_MAX} bytes"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
        let pod: Pod = serde_saphyr::from_str(text).map_err(|error| format!("no static pod: {error}"))?;
        let named = pod.spec.containers.iter().find(|container| container.name == program);
        let container = named.or_else(|| pod.spec.containers.iter().find(|container| container.runs(program)));
        let container = container.ok_or_else(|| format!("spec.containers: none is named {program} or runs it"))?;
        Ok(Self { image: container.image.clone(), flags: container.flags(), mounts: pod.spec.mounts(container) })
    }

    /// The value of a flag, unless it is empty.
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The client URLs that the member announces, or else those that it listens on.
    pub fn client_urls(&self) -> Vec<String> {
        let urls = self.flag("advertise-client-urls").or_else(|| self.flag("listen-client-urls"));
        urls.into_iter().flat_map(|urls| urls.split(',')).map(|url| url.trim().to_owned()).collect()
    }

    /// Where a path of the container lies on the node.
    pub fn on_node(&self, path: &Path) -> PathBuf {
        let below = |(mount, host): &(PathBuf, PathBuf)| path.strip_prefix(mount).ok().map(|rest| host.join(rest));
        // Joining nothing would leave a slash behind.
        self.mounts.iter().find_map(below).map_or_else(|| path.to_owned(), |found| found.components().collect())
    }
}

#[derive(Deserialize)]
struct Pod {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    containers: Vec<Container>,
    #[serde(default)]
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    volume_mounts: Vec<Mount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    name: String,
    mount_path: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    #[serde(default)]
    host_path: Option<HostPath>,
}

#[derive(Deserialize)]
struct HostPath {
    path: PathBuf,
}

impl Container {
    fn runs(&self, program: &str) -> bool {
        let first = self.command.first().map(Path::new);
        first.and_then(Path::file_name).is_some_and(|name| name == program)
    }

    fn flags(&self) -> BTreeMap<String, String> {
        let mut words = self.command.iter().chain(&self.args).peekable();
        let mut flags = BTreeMap::new();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (flag, words.next_if(|next| !next.starts_with('-')).cloned().unwrap_or_default()),
            };
            flags.insert(name.to_owned(), value);
        }
        flags
    }
}

impl Spec {
    fn mounts(&self, container: &Container) -> Vec<(PathBuf, PathBuf)> {
        let host = |mount: &Mount| {
            let volume = self.volumes.iter().find(|volume| volume.name == mount.name)?;
            Some((mount.mount_path.clone(), volume.host_path.as_ref()?.path.clone()))
        };
        let mut mounts: Vec<_> = container.volume_mounts.iter().filter_map(host).collect();
        mounts.sort_by_key(|(mount, _)| std::cmp::Reverse(mount.components().count()));
        mounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: etcd, namespace: kube-system}
spec:
  containers:
  - name: etcd
    image: registry.k8s.io/etcd:3.5.16-0
    command:
    - etcd
    - --advertise-client-urls=https://10.0.1.1:2379
    - --listen-client-urls=https://127.0.0.1:2379,https://10.0.1.1:2379
    - --data-dir
    - /var/lib/etcd
    - --client-cert-auth
    - --trusted-ca-file=/pki/etcd/ca.crt
    volumeMounts:
    - {mountPath: /var/lib/etcd, name: etcd-data}
    - {mountPath: /pki/etcd, name: etcd-certs}
  volumes:
  - {name: etcd-certs, hostPath: {path: /etc/kubernetes/pki/etcd, type: DirectoryOrCreate}}
  - {name: etcd-data, hostPath: {path: /srv/etcd, type: DirectoryOrCreate}}
";

    #[test]
    fn flags_image_and_places_are_those_of_the_pod() {
        let manifest = Manifest::parse(POD.as_bytes()).unwrap();
        assert_eq!(manifest.image, "registry.k8s.io/etcd:3.5.16-0");
        assert_eq!(manifest.client_urls(), ["https://10.0.1.1:2379"]);
        assert_eq!((manifest.flag("data-dir"), manifest.flag("client-cert-auth")), (Some("/var/lib/etcd"), None));
        let on_node = |path: &str| manifest.on_node(Path::new(path)).display().to_string();
        assert_eq!(on_node("/pki/etcd/ca.crt"), "/etc/kubernetes/pki/etcd/ca.crt");
        assert_eq!((on_node("/var/lib/etcd"), on_node("/else")), ("/srv/etcd".to_owned(), "/else".to_owned()));
    }

    #[test]
    fn without_announced_addresses_those_listened_on_count() {
        let pod = POD.replace("--advertise-client-urls", "--other");
        let manifest = Manifest::parse(pod.as_bytes()).unwrap();
        assert_eq!(manifest.client_urls(), ["https://127.0.0.1:2379", "https://10.0.1.1:2379"]);
    }

    #[test]
    fn what_is_no_pod_of_etcd_is_refused() {
        for text in ["", "a: 1", "spec: {containers: []}", "spec: {containers: [{name: x, command: [sh]}]}", "\u{0}"] {
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Manifest::parse(&vec![b' '; BYTES_MAX + 1]).is_err());
    }
}
