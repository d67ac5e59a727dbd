//! Whether what is stored would do: keys belong to their certificates, certificates to their authorities and to a time
//! that is not over, and keys are read by their owner alone.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::certificate::{Chain, PublicKey};
use super::listing::PKI;
use super::tree::{Missed, Tree};
use super::{encryption, kubeconfig};
use crate::path::TreePath;

/// Certificates that end sooner are told; kubeadm's are good for a year and are renewed with each upgrade.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Bits of a mode that let others than the owner read.
const OTHERS: u32 = 0o077;
/// Names of one line at most; the rest is counted.
const NAMES_MAX: usize = 6;

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub class: &'static str,
    pub weight: Weight,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// The set would not do, or is in danger.
    Problem,
    /// To be known.
    Advice,
}

impl Finding {
    /// What was stored so is of no use, whoever reads it and whenever.
    pub fn is_unfit(&self) -> bool {
        self.weight == Weight::Problem && !matches!(self.class, "certificate-expired" | "key-exposed")
    }
}

/// Looks at all files. Also gives the key management services that the API server needs.
pub(super) fn check(tree: &Tree, encryption: Option<&TreePath>, now: Timestamp) -> (Vec<Finding>, Vec<String>) {
    let mut checker = Checker { tree, chains: BTreeMap::new(), dates: Vec::new(), findings: Vec::new() };
    for Missed { path, reason } in &tree.missed {
        checker.problem("lost-file", format!("{path} is not stored: {reason}"));
    }
    checker.read_certificates();
    checker.check_keys();
    checker.check_kubeconfigs();
    checker.check_authorities();
    checker.check_dates(now);
    checker.check_modes(encryption);
    let services = checker.check_encryption(encryption);
    (checker.findings, services)
}

struct Checker<'a> {
    tree: &'a Tree,
    /// By their files.
    chains: BTreeMap<&'a TreePath, Chain>,
    /// When certificates end, and whose they are.
    dates: Vec<(Timestamp, String)>,
    findings: Vec<Finding>,
}

impl<'a> Checker<'a> {
    fn problem(&mut self, class: &'static str, text: String) {
        self.findings.push(Finding { class, weight: Weight::Problem, text });
    }

    fn advise(&mut self, class: &'static str, text: String) {
        self.findings.push(Finding { class, weight: Weight::Advice, text });
    }

    /// Files whose name ends so.
    fn named(&self, end: &str) -> Vec<(&'a TreePath, &'a [u8])> {
        let files = self.tree.files.iter().filter(|(path, _)| path.as_bytes().ends_with(end.as_bytes()));
        files.map(|(path, file)| (path, &*file.content)).collect()
    }

    fn read_certificates(&mut self) {
        for (path, content) in self.named(".crt") {
            match Chain::parse(content) {
                Ok(chain) => {
                    self.dates.push((chain.ends_at(), format!("/{path}")));
                    self.chains.insert(path, chain);
                }
                Err(fault) => self.problem("certificate", format!("/{path} {fault}")),
            }
        }
    }

    /// A key stands beside its certificate or its public half, under the same name.
    fn check_keys(&mut self) {
        for (path, content) in self.named(".key") {
            let public = match PublicKey::of_private(content) {
                Ok(public) => public,
                Err(fault) => {
                    self.problem("key", format!("/{path} {fault}"));
                    continue;
                }
            };
            let beside = |extension| with_extension(path, extension);
            if let Some(other) = beside("crt")
                && self.chains.get(&other).is_some_and(|chain| !chain.has(&public))
            {
                self.problem("key-mismatch", format!("/{path} is not the key of /{other}"));
            }
            if let Some(other) = beside("pub")
                && let Some(content) = self.tree.content(&other)
            {
                match PublicKey::parse(content) {
                    Ok(half) if half == public => {}
                    Ok(_) => self.problem("key-mismatch", format!("/{path} is not the key of /{other}")),
                    Err(fault) => self.problem("key", format!("/{other} {fault}")),
                }
            }
        }
        for (public, key) in [("ca.crt", "ca.key"), ("etcd/ca.crt", "etcd/ca.key"), ("sa.pub", "sa.key")] {
            let is_there = |name: &str| self.tree.files.contains_key(&of_pki(name));
            if is_there(public) && !is_there(key) {
                let text = format!("/{PKI}/{key} is not on this node: whoever restores must have it from elsewhere");
                self.advise("key-elsewhere", text);
            }
        }
    }

    fn check_kubeconfigs(&mut self) {
        for (path, content) in self.named(".conf") {
            let identity = match kubeconfig::identity(content) {
                Ok(Some(identity)) => identity,
                Ok(None) => continue,
                // Not every file of that name is one.
                Err(_) if !is_of_kubernetes(path) => continue,
                Err(fault) => {
                    self.problem("certificate", format!("/{path} {fault}"));
                    continue;
                }
            };
            match (Chain::parse(&identity.certificate), PublicKey::of_private(&identity.key)) {
                (Ok(chain), Ok(public)) => {
                    self.dates.push((chain.ends_at(), format!("/{path}")));
                    if !chain.has(&public) {
                        let text = format!("/{path}: the key in it is not that of the certificate in it");
                        self.problem("key-mismatch", text);
                    }
                    let authority = self.chains.get(&of_pki("ca.crt"));
                    if let Some(Err(reason)) = authority.map(|authority| chain.is_signed_by(authority)) {
                        let text = format!("/{path}: its certificate is not signed by /{PKI}/ca.crt: {reason}");
                        self.problem("certificate-stranger", text);
                    }
                }
                (Err(fault), _) | (_, Err(fault)) => self.problem("certificate", format!("/{path} {fault}")),
            }
        }
    }

    fn check_authorities(&mut self) {
        let mut strangers = Vec::new();
        for (path, chain) in &self.chains {
            let signer = authority(path).and_then(|name| self.chains.get_key_value(&of_pki(name)));
            let Some((authority, signer)) = signer else { continue };
            if let Err(reason) = chain.is_signed_by(signer) {
                strangers.push(format!("/{path} is not signed by /{authority}: {reason}"));
            }
        }
        for text in strangers {
            self.problem("certificate-stranger", text);
        }
    }

    fn check_dates(&mut self, now: Timestamp) {
        self.dates.sort();
        let until = now.checked_add(SOON).unwrap_or(Timestamp::MAX);
        let (over, rest): (Vec<_>, Vec<_>) = self.dates.iter().cloned().partition(|(ends_at, _)| *ends_at <= now);
        let soon: Vec<_> = rest.into_iter().filter(|(ends_at, _)| *ends_at <= until).collect();
        let names = |some: &[(Timestamp, String)]| listed(some.iter().map(|(_, name)| name.as_str()));
        if !over.is_empty() {
            self.problem("certificate-expired", format!("the time of {} is over", names(&over)));
        }
        if let Some((first, _)) = soon.first() {
            let days = first.duration_since(now).as_hours() / 24;
            let day = first.strftime("%Y-%m-%d");
            let text = format!("the time of {} ends in {days} days or a little later, on {day} first", names(&soon));
            self.advise("certificate-expires", text);
        }
    }

    fn check_modes(&mut self, encryption: Option<&TreePath>) {
        let is_secret = |path: &TreePath| {
            let bytes = path.as_bytes();
            let is_own = is_of_kubernetes(path) && bytes.ends_with(b".conf");
            is_own || bytes.ends_with(b".key") || bytes.ends_with(b"/token") || Some(path) == encryption
        };
        let open = self.tree.files.iter().filter(|(path, file)| is_secret(path) && file.metadata.mode & OTHERS != 0);
        let open: Vec<_> = open.map(|(path, _)| format!("/{path}")).collect();
        if !open.is_empty() {
            let text = format!("others than the owner may read or change {}; `chmod 600` ends that", listed(&open));
            self.problem("key-exposed", text);
        }
    }

    fn check_encryption(&mut self, encryption: Option<&TreePath>) -> Vec<String> {
        let content = encryption.and_then(|path| Some((path, self.tree.content(path)?)));
        let Some((path, content)) = content else { return Vec::new() };
        match encryption::services(content) {
            Ok(services) => {
                for service in &services {
                    let text = format!("secrets in etcd are encrypted by {service}, whose keys no snapshot has");
                    self.advise("kms", text);
                }
                services
            }
            Err(fault) => {
                self.problem("encryption-config", format!("/{path} {fault}"));
                Vec::new()
            }
        }
    }
}

/// The authority of a certificate by kubeadm's names; `None` of an authority itself and of what kubeadm does not make.
fn authority(path: &TreePath) -> Option<&'static str> {
    let name = path.as_bytes().strip_prefix(PKI.as_bytes())?.strip_prefix(b"/")?;
    match name {
        b"apiserver.crt" | b"apiserver-kubelet-client.crt" => Some("ca.crt"),
        b"front-proxy-client.crt" => Some("front-proxy-ca.crt"),
        b"apiserver-etcd-client.crt" | b"etcd/server.crt" | b"etcd/peer.crt" | b"etcd/healthcheck-client.crt" => {
            Some("etcd/ca.crt")
        }
        _ => None,
    }
}

fn of_pki(name: &str) -> TreePath {
    TreePath::new(format!("{PKI}/{name}")).expect("a literal without dots")
}

fn is_of_kubernetes(path: &TreePath) -> bool {
    path.as_bytes().starts_with(b"etc/kubernetes/")
}

fn with_extension(path: &TreePath, extension: &str) -> Option<TreePath> {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte == b'.')?;
    TreePath::new([&bytes[..=end], extension.as_bytes()].concat()).ok()
}

/// The first names, and how many more there are.
fn listed(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len() - names.len().min(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
