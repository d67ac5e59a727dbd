//! The documents of one node: the job, and for onggi the configuration that it reads.

use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Backups, Engine, Member, Order, RegistryMode, SECRETS};
use crate::hex::hexadecimal;

/// Where static pods of the control plane live too, so that its priority class may be used.
const NAMESPACE: &str = "kube-system";
/// Where the container has the backups.
const BACKUPS: &str = "/backup";
/// Below it the repository, so that files of etcdctl that lie there already are not among its own.
const REPOSITORY: &str = "/backup/onggi";
/// The configuration that onggi reads if it is told of no other.
const CONFIGURATION: &str = "onggi.yaml";
/// Kubernetes appends eleven characters to the name of a CronJob for its jobs, which may have 63.
const NAME_MAX: usize = 52;
/// How late a run may begin, in seconds: within ten of the control plane's looks, and before the next of the usual five
/// minutes.
const START_DEADLINE: u32 = 200;
/// How long etcdctl may take, in seconds: it copies gigabytes in one minute, and waits for ever if its certificate is
/// refused.
const ETCDCTL_DEADLINE: u32 = 600;
/// How long onggi may take, in seconds: the first run stores everything, over a line of its own speed.
const ONGGI_DEADLINE: u32 = 3600;

/// All documents of a node, in the order in which they are needed.
pub(super) fn of(order: &Order, node: &str, member: &Member, schedule: &str) -> Vec<Value> {
    let name = name(node);
    let job = job(order, node, &name, member, schedule);
    match order.engine {
        Engine::Onggi => vec![configuration(order, &name, member), job],
        Engine::Etcdctl => vec![job],
    }
}

/// A document as YAML.
pub(super) fn text(document: &Value) -> String {
    serde_saphyr::to_string(document).expect("texts and numbers have a form in YAML")
}

/// The name of a node that is too long is cut, and told from others by its hash.
fn name(node: &str) -> String {
    let name = format!("onggi-etcd-{node}");
    if name.len() <= NAME_MAX {
        return name;
    }
    let hash = hexadecimal(&Sha256::digest(node)[..4]);
    let start = name[..NAME_MAX - hash.len() - 1].trim_end_matches(['.', '-']);
    format!("{start}-{hash}")
}

fn labels() -> Value {
    json!({ "app.kubernetes.io/name": "onggi", "app.kubernetes.io/component": "etcd" })
}

fn metadata(name: &str) -> Value {
    json!({ "name": name, "namespace": NAMESPACE, "labels": labels() })
}

fn configuration(order: &Order, name: &str, member: &Member) -> Value {
    let storage = match &order.backups {
        Backups::Storage(storage) => storage.clone(),
        Backups::Directory(_) | Backups::Claim(_) => json!({ "kind": "local", "path": REPOSITORY }),
    };
    let (certificate, key) = pair(order, member);
    let mut source = json!({ "kind": "etcd" });
    if let Some(cluster) = &order.cluster {
        source["cluster"] = json!(cluster);
    }
    source["endpoints"] = json!([member.endpoint]);
    source["tls"] = json!({ "ca": member.ca, "cert": certificate, "key": format!("file:{key}") });
    // The container has the certificates of etcd alone, and a part of a control plane's keys would pass for all of them.
    source["pki"] = json!("never");
    let configuration = json!({
        "version": 1,
        "storages": { "backup": storage },
        "repositories": { "main": { "storage": "backup", "password": format!("file:{SECRETS}/password") } },
        "sources": { "etcd": source },
    });
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name),
        "data": { CONFIGURATION: text(&configuration) },
    })
}

fn job(order: &Order, node: &str, name: &str, member: &Member, schedule: &str) -> Value {
    let mut spec = json!({ "schedule": schedule });
    if let Some(zone) = &order.time_zone {
        spec["timeZone"] = json!(zone);
    }
    let deadline = match order.engine {
        Engine::Onggi => ONGGI_DEADLINE,
        Engine::Etcdctl => ETCDCTL_DEADLINE,
    };
    let rest = json!({
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": START_DEADLINE,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": { "spec": {
            "activeDeadlineSeconds": deadline,
            "backoffLimit": 1,
            "template": { "metadata": { "labels": labels() }, "spec": pod(order, node, name, member) },
        } },
    });
    add(&mut spec, rest);
    let api = order.version.map_or("batch/v1", super::KubeVersion::api);
    json!({ "apiVersion": api, "kind": "CronJob", "metadata": metadata(name), "spec": spec })
}

fn pod(order: &Order, node: &str, name: &str, member: &Member) -> Value {
    let places = places(order, name, member);
    let mut container = json!({ "name": "backup", "image": image(order, member) });
    add(&mut container, call(order, member));
    container["securityContext"] = json!({
        "runAsUser": 0,
        "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
    });
    container["volumeMounts"] = places.iter().map(Place::mount).collect();
    json!({
        "restartPolicy": "Never",
        "nodeSelector": { "kubernetes.io/hostname": node },
        "tolerations": [{ "operator": "Exists", "effect": "NoSchedule" }],
        "hostNetwork": true,
        "priorityClassName": "system-cluster-critical",
        "automountServiceAccountToken": false,
        "containers": [container],
        "volumes": places.iter().map(Place::volume).collect::<Vec<_>>(),
    })
}

/// What the container runs: a program and its arguments, which the kubelet fills in; no shell reads them.
fn call(order: &Order, member: &Member) -> Value {
    if order.engine == Engine::Onggi {
        return json!({ "command": ["onggi"], "args": ["backup", "etcd"] });
    }
    let (certificate, key) = pair(order, member);
    let pod = json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
    json!({
        "command": ["etcdctl"],
        "args": [
            format!("--endpoints={}", member.endpoint),
            format!("--cacert={}", member.ca.display()),
            format!("--cert={certificate}"),
            format!("--key={key}"),
            "snapshot",
            "save",
            format!("{BACKUPS}/etcd-snapshot-$(POD_NAME).db"),
        ],
        // Before 3.4 etcdctl spoke the older protocol unless told otherwise.
        "env": [pod, { "name": "ETCDCTL_API", "value": "3" }],
    })
}

/// Certificate and key of the client.
fn pair(order: &Order, member: &Member) -> (String, String) {
    let beside = |end: &str| member.ca.with_file_name(format!("{}.{end}", order.pair)).display().to_string();
    (beside("crt"), beside("key"))
}

fn image(order: &Order, member: &Member) -> String {
    if let Some(image) = &order.image {
        return image.clone();
    }
    let found = match order.engine {
        Engine::Onggi => concat!("onggi:", env!("CARGO_PKG_VERSION")),
        Engine::Etcdctl => &member.image,
    };
    let Some((registry, mode)) = &order.registry else { return found.to_owned() };
    let registry = registry.trim_end_matches('/');
    match mode {
        RegistryMode::Prefix => format!("{registry}/{found}"),
        RegistryMode::ReplaceHost => format!("{registry}/{}", without_host(found)),
        RegistryMode::None => found.to_owned(),
    }
}

/// The first part of a reference is a host if it could not be a folder of the usual registry.
fn without_host(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => reference,
    }
}

/// A volume and where the container has it.
struct Place {
    name: &'static str,
    at: String,
    is_read_only: bool,
    volume: Value,
}

impl Place {
    fn mount(&self) -> Value {
        let mut mount = json!({ "name": self.name, "mountPath": self.at });
        if self.is_read_only {
            mount["readOnly"] = json!(true);
        }
        mount
    }

    fn volume(&self) -> Value {
        let mut volume = json!({ "name": self.name });
        add(&mut volume, self.volume.clone());
        volume
    }
}

fn places(order: &Order, name: &str, member: &Member) -> Vec<Place> {
    let read = |name, at: &str, volume| Place { name, at: at.to_owned(), is_read_only: true, volume };
    let write = |name, at: &str, volume| Place { name, at: at.to_owned(), is_read_only: false, volume };
    // On a node without them the job fails at once and says so; an empty directory made there would hide it.
    let certificates = host(&member.certificates, "Directory");
    let mut places = vec![read("certificates", &member.certificates.to_string_lossy(), certificates)];
    match &order.backups {
        Backups::Directory(path) => places.push(write("backup", BACKUPS, host(path, "DirectoryOrCreate"))),
        Backups::Claim(claim) => {
            let volume = json!({ "persistentVolumeClaim": { "claimName": claim } });
            places.push(write("backup", BACKUPS, volume));
        }
        Backups::Storage(_) => {}
    }
    if order.engine == Engine::Onggi {
        // Only the owner may read them, or onggi refuses them.
        let secret = json!({ "secret": { "secretName": order.secret, "defaultMode": 0o400 } });
        places.push(read("configuration", "/etc/onggi", json!({ "configMap": { "name": name } })));
        places.push(read("credentials", SECRETS, secret));
        // The spool is as large as the database.
        places.push(write("state", "/var/lib/onggi", json!({ "emptyDir": {} })));
        places.push(write("cache", "/var/cache/onggi", json!({ "emptyDir": {} })));
    }
    places
}

fn host(path: &Path, kind: &str) -> Value {
    json!({ "hostPath": { "path": path, "type": kind } })
}

/// Adds the members of one object to another.
fn add(to: &mut Value, from: Value) {
    if let (Value::Object(to), Value::Object(from)) = (to, from) {
        to.extend::<Map<String, Value>>(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_of_nodes_are_cut_and_stay_apart() {
        assert_eq!(name("master1"), "onggi-etcd-master1");
        let long = "control-plane-number-one.of-a-datacenter-far-away.example.org";
        let (one, two) = (name(long), name(&long.replace("one", "two")));
        assert!(one.len() <= NAME_MAX && two.len() <= NAME_MAX && one != two, "{one} {two}");
    }

    #[test]
    fn only_a_host_is_taken_from_a_reference() {
        assert_eq!(without_host("registry.k8s.io/etcd:3.5.16-0"), "etcd:3.5.16-0");
        assert_eq!(without_host("localhost/a/etcd@sha256:00"), "a/etcd@sha256:00");
        assert_eq!(without_host("bitnami/etcd:3"), "bitnami/etcd:3");
        assert_eq!(without_host("etcd:3"), "etcd:3");
    }
}
