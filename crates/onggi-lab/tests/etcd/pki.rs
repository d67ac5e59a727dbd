//! Certificates and keys of a control plane: stored beside the snapshot, looked at, and brought back; and never stored
//! where nobody is asked for a password.

use crate::place::{Place, source};
use onggi_lab::peer;
use onggi_lab::service::EtcdCluster;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const API_SERVER: &str = include_str!("../../../../testdata/etcd/pki/kube-apiserver.yaml");
const ENCRYPTION: &str = include_str!("../../../../testdata/etcd/pki/enc.yaml");

/// The root of a control-plane node of a cluster, as kubeadm would have made it.
struct Node(TempDir);

impl Node {
    fn new(cluster: &EtcdCluster) -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        fs::create_dir(node.0.path().join("etc")).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(cluster.state().join("kubernetes")).arg(node.0.path().join("etc"));
        assert!(copy.status().unwrap().success());
        fs::create_dir(node.at("enc")).unwrap();
        for (name, text) in [("manifests/kube-apiserver.yaml", API_SERVER), ("enc/enc.yaml", ENCRYPTION)] {
            fs::write(node.at(name), text).unwrap();
            fs::set_permissions(node.at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::set_permissions(node.at("pki/ca.crt"), fs::Permissions::from_mode(0o644)).unwrap();
        // Only root gives files away.
        let _ = chown(node.at("pki/ca.crt"), Some(1234), Some(4321));
        node
    }

    /// A place of its below `/etc/kubernetes`.
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join("etc/kubernetes").join(name)
    }

    /// A repository and a source that finds this node.
    fn place(&self, cluster: &EtcdCluster) -> Place {
        let own = |pki: &str| source(cluster, json!({ "node-root": self.0.path(), "pki": pki }));
        Place::new(&json!({ "lab": own("auto"), "bare": own("never") }))
    }

    fn files(&self) -> BTreeMap<PathBuf, Found> {
        files(self.0.path())
    }
}

/// What is at a place: mode, owner, group and content.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    mode: u32,
    owner: (u32, u32),
    content: Vec<u8>,
}

/// All files below a root, by their path within.
fn files(root: &Path) -> BTreeMap<PathBuf, Found> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                open.push(path);
                continue;
            }
            let content = fs::read(&path).unwrap();
            let one = Found { mode: metadata.mode() & 0o7777, owner: (metadata.uid(), metadata.gid()), content };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), one);
        }
    }
    found
}

/// Nothing of a key is in what was said.
#[track_caller]
fn assert_quiet(said: &str) {
    assert!(!said.contains("PRIVATE KEY") && !said.contains("aHVudGVyMg"), "{said}");
}

#[test]
fn a_control_plane_is_stored_with_its_cluster_and_comes_back_into_a_folder() {
    let Some(cluster) = EtcdCluster::start("--fill 20") else { return };
    let node = Node::new(&cluster);
    let place = node.place(&cluster);
    let preflight = place.onggi("source preflight").ends(0);
    assert!(!preflight.err.contains("/etc/kubernetes"), "{}", preflight.err);
    place.onggi("backup bare").ends(0);
    assert!(!place.tags().contains(&"pki".to_owned()));
    place.onggi("etcd pki latest --in-place").ends(5).says("no certificates and keys of a control plane");
    place.onggi("backup lab").ends(0);
    assert!(place.tags().contains(&"pki".to_owned()));
    let (notes, _) = place.newest("lab");
    let expected = json!({
        "files": node.files().len(), "encryption": "/etc/kubernetes/enc/enc.yaml", "kms": [], "findings": [],
    });
    assert_eq!(notes["pki"], expected);
    let target = place.path("keys");
    let line = format!("--json etcd pki latest --target {} --prove", target.display());
    let done = place.onggi(&line).ends(0);
    assert!(done.out.contains("keys belong to their certificates"), "{}", done.out);
    assert_quiet(&done.out);
    let staged = files(&target.join("control-plane"));
    let contents = |files: &BTreeMap<PathBuf, Found>| -> Vec<_> {
        files.iter().map(|(path, file)| (path.clone(), file.content.clone())).collect()
    };
    assert_eq!(contents(&staged), contents(&node.files()));
    assert!(staged.values().all(|file| file.mode == 0o600), "{:?}", staged.keys());
    let folder = fs::metadata(target.join("control-plane/etc/kubernetes/pki")).unwrap();
    assert_eq!(folder.mode() & 0o7777, 0o700);
    place.onggi(&line).ends(5).says("is not empty");
    let plan = place.onggi(&format!("restore latest --to source --dry-run --target {}", place.path("x").display()));
    assert!(plan.ends(0).out.contains("`onggi etcd pki` brings them back"));
}

#[test]
fn a_control_plane_comes_back_to_its_places_with_modes_and_owners() {
    let Some(cluster) = EtcdCluster::start("--fill 20") else { return };
    let node = Node::new(&cluster);
    let place = node.place(&cluster);
    place.onggi("backup lab").ends(0);
    let before = node.files();
    fs::remove_file(node.at("pki/ca.key")).unwrap();
    fs::remove_dir_all(node.at("pki/etcd")).unwrap();
    fs::write(node.at("pki/ca.crt"), "altered").unwrap();
    let altered = node.files();
    let plan = place.onggi("etcd pki latest --host lab --in-place --dry-run").ends(0);
    assert!(plan.out.contains("pki/ca.key") && !plan.out.contains("pki/sa.key"), "{}", plan.out);
    place.onggi("etcd pki latest --in-place").ends(2).says("there is no terminal to ask at");
    assert_eq!(node.files(), altered);
    let done = place.onggi("--yes --json etcd pki latest --in-place --prove").ends(0);
    assert!(done.out.contains("keys belong to their certificates"), "{}", done.out);
    assert_quiet(&done.out);
    let mut after = node.files();
    let hidden: Vec<_> =
        after.extract_if(.., |path, _| path.file_name().unwrap().as_encoded_bytes()[0] == b'.').collect();
    assert_eq!(after, before);
    assert_eq!(hidden.iter().map(|(_, file)| &*file.content).collect::<Vec<_>>(), [b"altered"]);
    assert!(place.state().iter().all(|name| !name.contains("etcd-")), "{:?}", place.state());
}

#[test]
fn a_key_of_another_certificate_and_a_certificate_of_another_authority_are_told() {
    let Some(cluster) = EtcdCluster::start("--fill 20") else { return };
    let node = Node::new(&cluster);
    let place = node.place(&cluster);
    fs::copy(node.at("pki/front-proxy-ca.crt"), node.at("pki/ca.crt")).unwrap();
    for end in ["crt", "key"] {
        fs::copy(node.at(&format!("pki/stranger.{end}")), node.at(&format!("pki/etcd/server.{end}"))).unwrap();
    }
    let words = [
        "/etc/kubernetes/pki/ca.key is not the key of /etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/pki/etcd/server.crt is not signed by /etc/kubernetes/pki/etcd/ca.crt",
    ];
    for done in [place.onggi("source preflight lab").ends(3), place.onggi("backup lab").ends(3)] {
        words.iter().for_each(|word| assert!(done.err.contains(word), "{word}: {}", done.err));
        assert_quiet(&done.err);
    }
    let preflight = place.onggi("--json source preflight").ends(3).json();
    let problems: Vec<_> = preflight.as_array().unwrap().iter().map(|one| (&one["source"], &one["problems"])).collect();
    assert_eq!(problems, [(&json!("bare"), &json!(0)), (&json!("lab"), &json!(2))]);
    let line = format!("etcd pki latest --target {} --prove", place.path("keys").display());
    place.onggi(&line).ends(4).says("is not the key of");
}

#[test]
fn keys_go_to_no_repository_that_opens_without_a_password() {
    let Some(program) = peer::newest("restic") else { return };
    let Some(cluster) = EtcdCluster::start("--fill 20") else { return };
    let node = Node::new(&cluster);
    let place = node.place(&cluster);
    let (repository, password) = (place.path("open"), place.path("password"));
    let (repository, password) = (repository.display(), password.display());
    let restic = |line: &str| {
        let mut command = Command::new(&program);
        command.args(["--no-cache", "--repo", &repository.to_string()]).args(line.split(' '));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    restic("init --insecure-no-password");
    restic(&format!("key add --insecure-no-password --new-password-file {password}"));
    let onggi = |verb: &str| place.onggi(&format!("--repo {repository} --password-file {password} {verb}"));
    onggi("backup lab").ends(5).says("has a key with an empty password: it protects nothing");
    onggi("backup bare").ends(0);
    let keys = restic(&format!("key list --json --password-file {password}"));
    let keys: Vec<Value> = serde_json::from_slice(&keys).unwrap();
    let open = keys.iter().find(|key| key["current"] == false).unwrap();
    restic(&format!("key remove --password-file {password} {}", open["id"].as_str().unwrap()));
    onggi("backup lab").ends(0);
}
