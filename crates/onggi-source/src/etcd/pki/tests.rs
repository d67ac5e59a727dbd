//! What is found in a control plane's files. The certificates are kubeadm's in miniature, made once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use super::certificate::Chain;
use super::check::check;
use super::listing::list;

const CA: &[u8] = include_bytes!("../../../../../testdata/etcd/pki/ca.crt");
const CA_KEY: &[u8] = include_bytes!("../../../../../testdata/etcd/pki/ca.key");
const APISERVER: &[u8] = include_bytes!("../../../../../testdata/etcd/pki/apiserver.crt");
const APISERVER_KEY: &[u8] = include_bytes!("../../../../../testdata/etcd/pki/apiserver.key");
const SA: &[u8] = include_bytes!("../../../../../testdata/etcd/pki/sa.pub");
const SA_KEY: &[u8] = include_bytes!("../../../../../testdata/etcd/pki/sa.key");
const POD: &str = include_str!("../../../../../testdata/etcd/pki/kube-apiserver.yaml");
const ENCRYPTION: &str = include_str!("../../../../../testdata/etcd/pki/enc.yaml");

/// A node's root with a control plane that nothing is wrong with.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        let pki = "etc/kubernetes/pki";
        for (name, content) in [
            ("ca.crt", CA),
            ("ca.key", CA_KEY),
            ("apiserver.crt", APISERVER),
            ("apiserver.key", APISERVER_KEY),
            ("sa.pub", SA),
            ("sa.key", SA_KEY),
        ] {
            node.put(&format!("{pki}/{name}"), content);
        }
        node.put("etc/kubernetes/manifests/kube-apiserver.yaml", POD.as_bytes());
        node.put("etc/kubernetes/manifests/.hidden.yaml", b"");
        node.put("etc/kubernetes/enc/enc.yaml", ENCRYPTION.as_bytes());
        node.put("etc/kubernetes/admin.conf", kubeconfig(APISERVER, APISERVER_KEY).as_bytes());
        node
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, content: &[u8]) {
        let place = self.at(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, content).unwrap();
        self.mode(path, 0o600);
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What is found, as lines of class and text.
    fn findings(&self, now: Timestamp, also_files: &[PathBuf]) -> Vec<String> {
        let listed = list(self.0.path(), true, also_files);
        let encryption = listed.encryption.clone();
        let (findings, _) = check(&listed.read(), encryption.as_ref(), now);
        findings.iter().map(|finding| format!("{:?} {}: {}", finding.weight, finding.class, finding.text)).collect()
    }
}

fn kubeconfig(certificate: &[u8], key: &[u8]) -> String {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let (certificate, key) = (encode(certificate), encode(key));
    format!("users: [{{name: a, user: {{client-certificate-data: {certificate}, client-key-data: {key}}}}}]")
}

/// Days before the end of the leaf.
fn before_the_end(days: i64) -> Timestamp {
    Chain::parse(APISERVER).unwrap().ends_at() - SignedDuration::from_hours(24 * days) - SignedDuration::from_hours(1)
}

/// What one change of a good node leads to.
#[track_caller]
fn check_after(change: impl FnOnce(&Node), expected: &[&str]) {
    let node = Node::new();
    change(&node);
    assert_eq!(node.findings(before_the_end(100), &[]), expected);
}

#[test]
fn a_good_control_plane_is_read_whole_and_nothing_is_found() {
    let node = Node::new();
    assert_eq!(node.findings(before_the_end(100), &[]), Vec::<String>::new());
    let tree = list(node.0.path(), true, &[]).read();
    let names: Vec<_> = tree.files.keys().map(ToString::to_string).collect();
    let expected = "admin.conf enc/enc.yaml manifests/kube-apiserver.yaml pki/apiserver.crt pki/apiserver.key pki/ca.crt \
                    pki/ca.key pki/sa.key pki/sa.pub";
    let expected: Vec<_> = expected.split(' ').map(|name| format!("etc/kubernetes/{name}")).collect();
    assert_eq!(names, expected);
    let folders: Vec<_> = tree.directories.keys().map(ToString::to_string).collect();
    assert_eq!(folders.len(), 5, "{folders:?}");
}

#[test]
fn a_key_of_another_certificate_is_found() {
    let another = |path: &'static str| move |node: &Node| node.put(path, SA_KEY);
    check_after(
        another("etc/kubernetes/pki/ca.key"),
        &["Problem key-mismatch: /etc/kubernetes/pki/ca.key is not the key of /etc/kubernetes/pki/ca.crt"],
    );
    check_after(
        |node| node.put("etc/kubernetes/pki/sa.key", APISERVER_KEY),
        &["Problem key-mismatch: /etc/kubernetes/pki/sa.key is not the key of /etc/kubernetes/pki/sa.pub"],
    );
    check_after(
        |node| node.put("etc/kubernetes/admin.conf", kubeconfig(APISERVER, SA_KEY).as_bytes()),
        &["Problem key-mismatch: /etc/kubernetes/admin.conf: the key in it is not that of the certificate in it"],
    );
}

#[test]
fn what_an_authority_did_not_sign_is_found() {
    let node = Node::new();
    node.put("etc/kubernetes/pki/etcd/ca.crt", CA);
    node.put("etc/kubernetes/pki/etcd/ca.key", CA_KEY);
    node.put("etc/kubernetes/pki/etcd/server.crt", APISERVER);
    assert_eq!(node.findings(before_the_end(100), &[]), Vec::<String>::new());
    node.put("etc/kubernetes/pki/etcd/ca.crt", APISERVER);
    node.put("etc/kubernetes/pki/etcd/ca.key", APISERVER_KEY);
    let found = node.findings(before_the_end(100), &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    let expected = "Problem certificate-stranger: /etc/kubernetes/pki/etcd/server.crt is not signed by \
                    /etc/kubernetes/pki/etcd/ca.crt: ";
    assert!(found[0].starts_with(expected), "{found:?}");
}

#[test]
fn the_end_of_a_certificate_is_told_before_it_comes() {
    let node = Node::new();
    let all = "/etc/kubernetes/admin.conf, /etc/kubernetes/pki/apiserver.crt";
    let found = node.findings(before_the_end(29), &[]);
    let day = Chain::parse(APISERVER).unwrap().ends_at().strftime("%Y-%m-%d").to_string();
    let expected =
        format!("Advice certificate-expires: the time of {all} ends in 29 days or a little later, on {day} first");
    assert_eq!(found, [expected]);
    let found = node.findings(before_the_end(-1), &[]);
    assert_eq!(found, [format!("Problem certificate-expired: the time of {all} is over")]);
}

#[test]
fn keys_that_others_read_are_found() {
    check_after(
        |node| {
            node.mode("etc/kubernetes/pki/sa.key", 0o640);
            node.mode("etc/kubernetes/admin.conf", 0o604);
            node.mode("etc/kubernetes/enc/enc.yaml", 0o644);
            node.mode("etc/kubernetes/pki/ca.crt", 0o644);
        },
        &["Problem key-exposed: others than the owner may read or change /etc/kubernetes/admin.conf, \
           /etc/kubernetes/enc/enc.yaml, /etc/kubernetes/pki/sa.key; `chmod 600` ends that"],
    );
}

#[test]
fn what_is_no_certificate_or_key_is_found_and_not_repeated() {
    check_after(
        |node| {
            node.put("etc/kubernetes/pki/apiserver.crt", b"hunter2");
            node.put("etc/kubernetes/pki/sa.key", b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n");
            node.put("etc/kubernetes/enc/enc.yaml", b"hunter2: [");
            node.put("etc/kubernetes/admin.conf", b"hunter2: [");
        },
        &[
            "Problem certificate: /etc/kubernetes/pki/apiserver.crt holds no certificate",
            "Problem key: /etc/kubernetes/pki/sa.key holds a key that cannot be checked: RSA of 2048 to 4096 bits, P-256, \
             P-384 and Ed25519 can",
            "Problem certificate: /etc/kubernetes/admin.conf is no kubeconfig",
            "Problem encryption-config: /etc/kubernetes/enc/enc.yaml is no EncryptionConfiguration",
        ],
    );
}

#[test]
fn what_is_not_there_is_told() {
    check_after(
        |node| {
            fs::remove_file(node.at("etc/kubernetes/pki/ca.key")).unwrap();
            fs::remove_file(node.at("etc/kubernetes/enc/enc.yaml")).unwrap();
        },
        &[
            "Problem lost-file: /etc/kubernetes/enc/enc.yaml is not stored: No such file or directory (os error 2)",
            "Advice key-elsewhere: /etc/kubernetes/pki/ca.key is not on this node: whoever restores must have it from \
             elsewhere",
        ],
    );
}

#[test]
fn links_and_further_files_are_followed_and_what_is_too_large_is_told() {
    let node = Node::new();
    node.put("srv/real/token", b"t");
    node.put("srv/large", &vec![0; (1 << 20) + 1]);
    std::os::unix::fs::symlink(node.at("srv/real"), node.at("srv/link")).unwrap();
    std::os::unix::fs::symlink(node.at("srv"), node.at("srv/real/circle")).unwrap();
    let listed = list(node.0.path(), false, &["/srv/link/token".into(), "/srv/large".into(), "/absent".into()]);
    assert_eq!(listed.bytes(), 1);
    let tree = listed.read();
    assert_eq!(tree.files.keys().map(ToString::to_string).collect::<Vec<_>>(), ["srv/link/token"]);
    let missed: Vec<_> = tree.missed.iter().map(|missed| missed.path.as_str()).collect();
    assert_eq!(missed, ["/srv/large", "/absent"]);
    // A circle ends somewhere.
    assert!(!list(node.0.path(), false, &[Path::new("/srv").to_owned()]).read().missed.is_empty());
}
