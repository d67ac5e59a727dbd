//! Jobs of Kubernetes that back up etcd on its own control plane: documents only, nothing is touched.
//!
//! [`Member`] is what the static pod of a node says, [`Order`] what the operator wants; [`Order::documents`] joins them.
//! No job needs a shell, because images of etcd have none.

mod document;
mod member;
mod schedule;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

pub use self::member::{Member, MemberFault};
pub use self::schedule::{BadSchedule, BadVersion, KubeVersion, Schedule};

/// Where the jobs' containers find the repository's credentials: a Secret with the keys `password`, and `access-key` and
/// `secret-key` for a bucket, or `id_ed25519` and `known_hosts` for a machine over SSH.
pub const SECRETS: &str = "/run/secrets/onggi";

/// What the operator wants.
#[derive(Debug, Clone)]
pub struct Order {
    /// Who takes the snapshot.
    pub engine: Engine,
    /// The image as the nodes pull it, instead of the one that is found.
    pub image: Option<String>,
    /// A registry of one's own, and how references lead to it.
    pub registry: Option<(String, RegistryMode)>,
    /// When.
    pub schedule: Schedule,
    /// The zone that the schedule is meant in; that of the control plane if absent.
    pub time_zone: Option<String>,
    /// The cluster's version; a new one if absent.
    pub version: Option<KubeVersion>,
    /// Where backups go.
    pub backups: Backups,
    /// Name of the Secret with the repository's credentials.
    pub secret: String,
    /// Name of the cluster in the snapshots.
    pub cluster: Option<String>,
    /// Name of the client's certificate and key beside the authority's, without `.crt` and `.key`.
    pub pair: String,
}

/// Who takes the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// onggi, which proves it and stores it in a repository.
    Onggi,
    /// The program of the member's own image, which leaves files.
    Etcdctl,
}

/// How the reference of an image leads to a registry of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryMode {
    /// The whole reference is appended.
    Prefix,
    /// The registry's host takes the place of the one named.
    ReplaceHost,
    /// It stays.
    None,
}

/// Where backups go.
#[derive(Debug, Clone, PartialEq)]
pub enum Backups {
    /// A directory of the node.
    Directory(PathBuf),
    /// A claim of a persistent volume in the namespace of the jobs.
    Claim(String),
    /// A storage, as the configuration has it below `storages:`; for onggi only.
    Storage(Value),
}

/// Why there can be no such job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderFault {
    /// No node of Kubernetes has such a name.
    #[error("{0:?} is no name of a node")]
    Node(String),
    /// Two jobs would have one name.
    #[error("the node {0} is named twice")]
    Twice(String),
    /// Jobs of several nodes would run at once.
    #[error("the minutes of {0:?} cannot be spread over the nodes; write */N or one number")]
    Spread(String),
    /// The field came later.
    #[error("a time zone needs Kubernetes 1.25")]
    Zone,
    /// It is none.
    #[error("{0:?} is no time zone; write one such as Asia/Seoul")]
    BadZone(String),
    /// Backups would grow inside what they are taken of.
    #[error("{0} lies in the data directory of etcd")]
    InData(PathBuf),
    /// A path of the node begins at its root.
    #[error("{0} is not absolute")]
    Relative(PathBuf),
    /// etcdctl writes files only.
    #[error("etcdctl writes into a directory or a claim, not into a repository")]
    OnlyFiles,
}

impl Order {
    /// The documents of the jobs, one job for each node.
    pub fn documents(&self, nodes: &[(String, Member)]) -> Result<Vec<Value>, OrderFault> {
        self.check(nodes)?;
        let mut documents = Vec::new();
        for (index, (node, member)) in nodes.iter().enumerate() {
            let schedule = self.schedule.shifted(index, nodes.len());
            let schedule = schedule.ok_or_else(|| OrderFault::Spread(self.schedule.to_string()))?;
            documents.extend(document::of(self, node, member, &schedule));
        }
        Ok(documents)
    }

    fn check(&self, nodes: &[(String, Member)]) -> Result<(), OrderFault> {
        let mut seen = BTreeSet::new();
        for (node, member) in nodes {
            if !is_node(node) {
                return Err(OrderFault::Node(node.clone()));
            }
            if !seen.insert(node) {
                return Err(OrderFault::Twice(node.clone()));
            }
            if let Backups::Directory(path) = &self.backups {
                if !path.is_absolute() {
                    return Err(OrderFault::Relative(path.clone()));
                }
                if member.data.as_ref().is_some_and(|data| path.starts_with(data)) {
                    return Err(OrderFault::InData(path.clone()));
                }
            }
        }
        if matches!((self.engine, &self.backups), (Engine::Etcdctl, Backups::Storage(_))) {
            return Err(OrderFault::OnlyFiles);
        }
        match &self.time_zone {
            Some(_) if self.version.is_some_and(|version| !version.has_time_zones()) => Err(OrderFault::Zone),
            Some(zone) if !is_zone(zone) => Err(OrderFault::BadZone(zone.clone())),
            _ => Ok(()),
        }
    }
}

/// Documents as one stream of YAML.
pub fn yaml(documents: &[Value]) -> String {
    documents.iter().flat_map(|document| ["---\n".to_owned(), document::text(document)]).collect()
}

/// A DNS subdomain, as Kubernetes wants it.
fn is_node(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// `Local` is refused by Kubernetes too: nobody could say whose zone that is.
fn is_zone(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.bytes().all(is_part) && name != "Local"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn order() -> Order {
        Order {
            engine: Engine::Etcdctl,
            image: None,
            registry: None,
            schedule: "*/5 * * * *".parse().unwrap(),
            time_zone: None,
            version: None,
            backups: Backups::Directory("/mnt/backup".into()),
            secret: "onggi-etcd".into(),
            cluster: None,
            pair: "healthcheck-client".into(),
        }
    }

    fn member() -> Member {
        Member {
            name: Some("m1".into()),
            image: "registry.k8s.io/etcd:3.5.16-0".into(),
            endpoint: "https://127.0.0.1:2379".into(),
            ca: "/etc/kubernetes/pki/etcd/ca.crt".into(),
            certificates: "/etc/kubernetes/pki/etcd".into(),
            data: Some("/var/lib/etcd".into()),
        }
    }

    #[track_caller]
    fn check(order: &Order, nodes: &[&str], expected: Result<usize, OrderFault>) {
        let nodes: Vec<_> = nodes.iter().map(|node| ((*node).to_owned(), member())).collect();
        assert_eq!(order.documents(&nodes).map(|documents| documents.len()), expected);
    }

    #[test]
    fn one_job_for_each_node() {
        check(&order(), &["m1"], Ok(1));
        check(&order(), &["m1", "m2.example.org"], Ok(2));
        check(&Order { engine: Engine::Onggi, ..order() }, &["m1", "m2"], Ok(4));
    }

    #[test]
    fn what_kubernetes_would_refuse_is_refused_before() {
        for name in ["", "M1", "a_b", "-a", "a..b"] {
            check(&order(), &[name], Err(OrderFault::Node(name.into())));
        }
        check(&order(), &["m1", "m1"], Err(OrderFault::Twice("m1".into())));
        for zone in ["", "Local", "Asia/Seoul\n", "5"] {
            check(&Order { time_zone: Some(zone.into()), ..order() }, &["m1"], Err(OrderFault::BadZone(zone.into())));
        }
        let old = Order { time_zone: Some("Asia/Seoul".into()), version: Some("1.24".parse().unwrap()), ..order() };
        check(&old, &["m1"], Err(OrderFault::Zone));
        check(&Order { version: Some("1.25".parse().unwrap()), ..old }, &["m1"], Ok(1));
        let often = Order { schedule: "0,30 * * * *".parse().unwrap(), ..order() };
        check(&often, &["m1"], Ok(1));
        check(&often, &["m1", "m2"], Err(OrderFault::Spread("0,30 * * * *".into())));
    }

    #[test]
    fn backups_do_not_go_where_they_cannot_or_must_not() {
        let inside = Path::new("/var/lib/etcd/backup").to_owned();
        check(
            &Order { backups: Backups::Directory(inside.clone()), ..order() },
            &["m1"],
            Err(OrderFault::InData(inside)),
        );
        let relative = Path::new("backup").to_owned();
        let order_there = Order { backups: Backups::Directory(relative.clone()), ..order() };
        check(&order_there, &["m1"], Err(OrderFault::Relative(relative)));
        check(&Order { backups: Backups::Storage(Value::Null), ..order() }, &["m1"], Err(OrderFault::OnlyFiles));
    }
}
