//! `onggi etcd cronjob`: the whole YAML for a kubeadm node, its configuration read by the program's own parser, and what
//! is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use onggi_engine::config::value::SecretReference;
use onggi_engine::config::{Config, Files, Found, load};
use serde_json::Value;

use crate::environment::{Environment, Run};

/// As kubeadm 1.31 writes it on a node named master1.
const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/etcd.advertise-client-urls: https://192.168.50.11:2379
  labels:
    component: etcd
    tier: control-plane
  name: etcd
  namespace: kube-system
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://192.168.50.11:2379
    - --cert-file=/etc/kubernetes/pki/etcd/server.crt
    - --client-cert-auth=true
    - --data-dir=/var/lib/etcd
    - --key-file=/etc/kubernetes/pki/etcd/server.key
    - --listen-client-urls=https://127.0.0.1:2379,https://192.168.50.11:2379
    - --listen-metrics-urls=http://127.0.0.1:2381
    - --name=master1
    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    image: registry.k8s.io/etcd:3.5.16-0
    name: etcd
    volumeMounts:
    - mountPath: /var/lib/etcd
      name: etcd-data
    - mountPath: /etc/kubernetes/pki/etcd
      name: etcd-certs
  hostNetwork: true
  volumes:
  - hostPath:
      path: /etc/kubernetes/pki/etcd
      type: DirectoryOrCreate
    name: etcd-certs
  - hostPath:
      path: /var/lib/etcd
      type: DirectoryOrCreate
    name: etcd-data
";

fn node() -> Environment {
    let env = Environment::new();
    env.write("etcd.yaml", POD);
    env
}

fn run(env: &Environment, args: &[&str]) -> Run {
    env.run_bare(["etcd", "cronjob", "--manifest", "etcd.yaml"].iter().chain(args))
}

/// Each document of what is printed.
#[track_caller]
fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// The configuration of onggi in the first document, as its own parser reads it.
#[track_caller]
fn configuration(yaml: &str) -> Config {
    struct Disk(String);

    impl Files for Disk {
        fn read(&self, _: &Path) -> io::Result<Found> {
            Ok(Found::File(self.0.clone().into_bytes()))
        }

        fn secret_fault(&self, _: &SecretReference) -> Option<String> {
            None
        }
    }

    let text = documents(yaml)[0]["data"]["onggi.yaml"].as_str().unwrap().to_owned();
    let loaded = load(&Disk(text), Path::new("/etc/onggi/onggi.yaml"));
    assert!(loaded.faults.is_empty(), "{:#?}", loaded.faults);
    loaded.accept().unwrap()
}

#[test]
fn a_job_of_onggi_names_node_registry_and_configuration() {
    let env = node();
    let run = run(&env, &["--node", "master1", "--registry", "192.168.50.90:5000"]).expect(0);
    insta::assert_snapshot!("onggi", run.data.replace(env!("CARGO_PKG_VERSION"), "$VERSION"));
    assert_eq!(run.talk, "");
    assert_eq!(documents(&run.data).len(), 2);
    let config = configuration(&run.data);
    assert_eq!((config.sources.len(), config.repositories.len(), config.storages.len()), (1, 1, 1));
}

#[test]
fn a_job_of_etcdctl_needs_no_shell_and_no_onggi() {
    let env = node();
    let args = ["--node", "master1", "--registry", "192.168.50.90:5000", "--engine", "etcdctl"];
    let run = run(&env, &args).expect(0);
    insta::assert_snapshot!("etcdctl", run.data);
    let [job] = &documents(&run.data)[..] else { panic!("one document") };
    assert_eq!(job["kind"], "CronJob");
}

#[test]
fn no_job_has_a_shell_and_every_one_parses() {
    let env = node();
    for engine in ["onggi", "etcdctl"] {
        for more in [&["--node", "m1"][..], &["--nodes", "m1,m2,m3"], &["--node", "m1", "--claim", "backups"]] {
            let yaml = run(&env, &[&["--engine", engine], more].concat()).expect(0).data;
            assert!(!yaml.contains("/sh") && !yaml.contains("bash"), "{yaml}");
            assert!(documents(&yaml).iter().all(|document| document["metadata"]["namespace"] == "kube-system"));
        }
    }
}

#[test]
fn each_node_has_its_job_at_its_minute() {
    let env = node();
    let run = run(&env, &["--nodes", "master1,m2,m3", "--engine", "etcdctl", "--time-zone", "Asia/Seoul"]).expect(0);
    let jobs = documents(&run.data);
    let fact = |path: &str| jobs.iter().map(|job| job.pointer(path).unwrap().clone()).collect::<Vec<_>>();
    assert_eq!(fact("/metadata/name"), ["onggi-etcd-master1", "onggi-etcd-m2", "onggi-etcd-m3"]);
    assert_eq!(fact("/spec/schedule"), ["*/5 * * * *", "1-59/5 * * * *", "3-59/5 * * * *"]);
    assert_eq!(fact("/spec/timeZone"), ["Asia/Seoul"; 3]);
    let host = "/spec/jobTemplate/spec/template/spec/nodeSelector/kubernetes.io~1hostname";
    assert_eq!(fact(host), ["master1", "m2", "m3"]);
}

#[test]
fn image_and_interface_are_as_asked() {
    let env = node();
    let fact = |args: &[&str], path: &str| {
        let run = run(&env, &[&["--node", "master1", "--engine", "etcdctl"], args].concat()).expect(0);
        documents(&run.data)[0].pointer(path).unwrap().as_str().unwrap().to_owned()
    };
    let image = "/spec/jobTemplate/spec/template/spec/containers/0/image";
    let original = "registry.k8s.io/etcd:3.5.16-0";
    assert_eq!(fact(&[], image), original);
    assert_eq!(fact(&["--registry", "r:5000", "--registry-mode", "none"], image), original);
    assert_eq!(fact(&["--registry", "r:5000", "--registry-mode", "replace-host"], image), "r:5000/etcd:3.5.16-0");
    assert_eq!(fact(&["--image", "mine/etcd:1"], image), "mine/etcd:1");
    assert_eq!(fact(&["--kube-version", "1.20"], "/apiVersion"), "batch/v1beta1");
    assert_eq!(fact(&["--kube-version", "1.21"], "/apiVersion"), "batch/v1");
}

#[test]
fn a_repository_elsewhere_takes_its_credentials_from_the_secret() {
    let env = node();
    for address in ["s3:s3.example/bucket/etcd", "s3:s3.example/bucket", "sftp:onggi@far.example:backups"] {
        let yaml = run(&env, &["--node", "master1", "--cluster", "prod", "-r", address]).expect(0).data;
        configuration(&yaml);
        assert!(!yaml.contains("/mnt/backup") && yaml.contains("file:/run/secrets/onggi/"), "{yaml}");
    }
    let local = run(&env, &["--node", "master1", "-r", "/srv/repo"]).expect(2);
    assert!(local.talk.contains("--directory"), "{}", local.talk);
}

#[test]
fn a_pod_that_lacks_something_is_refused_with_file_and_field() {
    let env = node();
    for (from, to, field) in [
        ("    - etcd\n", "    - sleep\n", "spec.containers"),
        ("https://127.0.0.1:2379", "http://127.0.0.1:2379", "--listen-client-urls"),
        ("--trusted-ca-file", "--other", "--trusted-ca-file"),
        ("mountPath: /etc/kubernetes/pki/etcd", "mountPath: /else", "volumeMounts"),
        ("image: registry.k8s.io/etcd:3.5.16-0", "image: ''", "image"),
        ("spec:", "spec: [", "no static pod"),
    ] {
        env.write("etcd.yaml", POD.replace(from, to).replace("name: etcd\n    volume", "name: store\n    volume"));
        let run = run(&env, &["--node", "master1"]).expect(2);
        assert!(run.talk.contains("etcd.yaml") && run.talk.contains(field), "{field}: {}", run.talk);
        assert_eq!(run.data, "");
    }
    fs::remove_file(env.path("etcd.yaml")).unwrap();
    let absent = run(&env, &["--node", "master1"]).expect(1);
    assert!(absent.talk.contains("etcd.yaml"), "{}", absent.talk);
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let env = node();
    for args in [
        &[][..],
        &["--node", "m1", "--nodes", "m2"],
        &["--node", "M_1"],
        &["--nodes", "m1,m1"],
        &["--node", "m1", "--schedule", "often"],
        &["--nodes", "m1,m2", "--schedule", "1,2 * * * *"],
        &["--node", "m1", "--kube-version", "1.7"],
        &["--node", "m1", "--kube-version", "1.20", "--time-zone", "Asia/Seoul"],
        &["--node", "m1", "--directory", "/var/lib/etcd/backup"],
        &["--node", "m1", "--engine", "etcdctl", "-r", "s3:s3.example/bucket"],
    ] {
        assert_eq!(run(&env, args).expect(2).data, "", "{args:?}");
    }
}

#[test]
fn a_pod_of_another_node_is_noted() {
    let env = node();
    let run = run(&env, &["--node", "m7"]).expect(0);
    assert!(run.talk.contains("that of member master1"), "{}", run.talk);
}

/// Puts a kubectl into the folder `bin` that does what the script says.
fn with_kubectl(env: &Environment, script: &str) {
    env.write("bin/kubectl", format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(env.path("bin/kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn run_with_path(env: &Environment, args: &[&str]) -> Run {
    let mut command = env.bare(["etcd", "cronjob"].iter().chain(args));
    command.env("PATH", env.path("bin"));
    Run::of(command, b"")
}

#[test]
fn jobs_are_applied_by_kubectl() {
    let env = node();
    with_kubectl(&env, "echo \"$*\" > words; while read -r line; do echo \"$line\"; done > input; echo created");
    let args = ["--manifest", "etcd.yaml", "--node", "master1", "--apply"];
    let run = run_with_path(&env, &args).expect(0);
    assert_eq!((run.data.as_str(), run.talk.as_str()), ("", "created\n"));
    let read = |path: &str| fs::read_to_string(env.path(path)).unwrap();
    assert!(read("words").ends_with(" apply -f -\n"), "{}", read("words"));
    assert!(read("input").contains("kind: CronJob"));
}

#[test]
fn elsewhere_the_pod_is_read_from_the_cluster() {
    if Path::new("/etc/kubernetes/manifests/etcd.yaml").exists() {
        return eprintln!("SKIPPED: this is a control plane, whose file is taken rather than the pod");
    }
    let env = node();
    with_kubectl(
        &env,
        "echo \"$*\" >> words; while read -r line; do echo \"$line\"; done < /dev/null; exec /bin/cat etcd.yaml",
    );
    let run = run_with_path(&env, &["--nodes", "m1,m2", "--engine", "etcdctl"]).expect(0);
    assert_eq!(documents(&run.data).len(), 2);
    let words = fs::read_to_string(env.path("words")).unwrap();
    assert!(words.contains("-- etcd-m1\n") && words.contains("-- etcd-m2\n"), "{words}");
}

#[test]
fn a_kubectl_that_lacks_or_fails_is_told_with_a_remedy() {
    let env = node();
    let args = ["--manifest", "etcd.yaml", "--node", "master1", "--apply"];
    let absent = run_with_path(&env, &args).expect(1);
    assert!(absent.talk.contains("not in PATH") && absent.talk.contains("hint: install kubectl"), "{}", absent.talk);
    with_kubectl(&env, "echo 'error: connection refused' >&2; exit 1");
    let failed = run_with_path(&env, &args).expect(1);
    assert!(failed.talk.contains("connection refused"), "{}", failed.talk);
}

#[test]
fn programs_get_the_documents_as_json() {
    let env = node();
    let shown = run(&env, &["--node", "master1", "--json"]).expect(0).json();
    let kinds: BTreeMap<_, _> =
        shown["documents"].as_array().unwrap().iter().map(|d| (d["kind"].as_str(), ())).collect();
    assert_eq!(kinds.into_keys().collect::<Vec<_>>(), [Some("ConfigMap"), Some("CronJob")]);
}
