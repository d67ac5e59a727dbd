//! What the static pod of a node says that a job on this node needs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::etcd::manifest::Manifest;

/// A member as a job on its node meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name in the cluster, which kubeadm makes the node's.
    pub name: Option<String>,
    /// Its image.
    pub image: String,
    /// The address that only its own node reaches.
    pub endpoint: String,
    /// The authority's certificate on the node.
    pub ca: PathBuf,
    /// The directory of the node that holds it.
    pub certificates: PathBuf,
    /// Its data on the node.
    pub data: Option<PathBuf>,
}

/// What a static pod lacks, by the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberFault {
    /// Nothing to run.
    #[error("image: the container of etcd names none")]
    NoImage,
    /// A job on the node could not reach the member by a name that its certificate has.
    #[error("--listen-client-urls: no loopback https URL in {0:?}")]
    NoLoopback(String),
    /// The member could not be known.
    #[error("--trusted-ca-file: the flag is missing")]
    NoAuthority,
    /// The certificate is not on the node.
    #[error("volumeMounts: none with a hostPath contains {}, the --trusted-ca-file", .0.display())]
    NotMounted(PathBuf),
}

impl Member {
    /// Reads the pod.
    pub fn of(manifest: &Manifest) -> Result<Self, MemberFault> {
        if manifest.image.is_empty() {
            return Err(MemberFault::NoImage);
        }
        let listening = manifest.flag("listen-client-urls").unwrap_or_default();
        let endpoint = listening.split(',').map(|url| url.trim().trim_end_matches('/')).find(|url| is_loopback(url));
        let endpoint = endpoint.ok_or_else(|| MemberFault::NoLoopback(listening.to_owned()))?;
        let ca = Path::new(manifest.flag("trusted-ca-file").ok_or(MemberFault::NoAuthority)?);
        // A mount of the file alone would not bring the client's certificate, which lies beside it.
        let holds_it = |(mount, _): &&(PathBuf, PathBuf)| ca.starts_with(mount) && ca != mount;
        let mount = manifest.mounts.iter().find(holds_it);
        let (_, certificates) = mount.ok_or_else(|| MemberFault::NotMounted(ca.to_owned()))?;
        Ok(Self {
            name: manifest.flag("name").map(str::to_owned),
            image: manifest.image.clone(),
            endpoint: endpoint.to_owned(),
            ca: manifest.on_node(ca),
            certificates: certificates.clone(),
            data: manifest.flag("data-dir").map(|data| manifest.on_node(Path::new(data))),
        })
    }
}

fn is_loopback(url: &str) -> bool {
    url.strip_prefix("https://").is_some_and(|host| {
        host.parse().is_ok_and(|address: SocketAddr| address.ip().is_loopback())
            || host.strip_prefix("localhost").is_some_and(|port| port.is_empty() || port.starts_with(':'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(urls: &str) -> Manifest {
        let flags = [("listen-client-urls", urls), ("trusted-ca-file", "/pki/etcd/ca.crt"), ("data-dir", "/data")];
        Manifest {
            image: "etcd:3".into(),
            flags: flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            mounts: vec![("/pki/etcd".into(), "/etc/kubernetes/pki/etcd".into()), ("/data".into(), "/srv".into())],
        }
    }

    #[track_caller]
    fn check(manifest: &Manifest, expected: Result<&str, MemberFault>) {
        let endpoint = Member::of(manifest).map(|member| member.endpoint);
        assert_eq!(endpoint, expected.map(str::to_owned));
    }

    #[test]
    fn the_address_is_one_of_the_node_itself() {
        check(&manifest("https://10.0.1.1:2379,https://127.0.0.1:2379"), Ok("https://127.0.0.1:2379"));
        check(&manifest("https://[::1]:2379/"), Ok("https://[::1]:2379"));
        check(&manifest("https://localhost:2379"), Ok("https://localhost:2379"));
        for urls in ["", "http://127.0.0.1:2379", "https://10.0.1.1:2379", "https://localhost.example:1"] {
            check(&manifest(urls), Err(MemberFault::NoLoopback(urls.into())));
        }
    }

    #[test]
    fn paths_are_those_of_the_node() {
        let member = Member::of(&manifest("https://127.0.0.1:2379")).unwrap();
        assert_eq!(member.ca, Path::new("/etc/kubernetes/pki/etcd/ca.crt"));
        assert_eq!(member.certificates, Path::new("/etc/kubernetes/pki/etcd"));
        assert_eq!(member.data.as_deref(), Some(Path::new("/srv")));
    }

    #[test]
    fn what_lacks_is_named_by_its_field() {
        let good = manifest("https://127.0.0.1:2379");
        check(&Manifest { image: String::new(), ..good.clone() }, Err(MemberFault::NoImage));
        let mounts = vec![("/data".into(), "/srv".into()), ("/pki/etcd/ca.crt".into(), "/ca.crt".into())];
        check(&Manifest { mounts, ..good.clone() }, Err(MemberFault::NotMounted("/pki/etcd/ca.crt".into())));
        let mut bare = good;
        bare.flags.remove("trusted-ca-file");
        check(&bare, Err(MemberFault::NoAuthority));
    }
}
