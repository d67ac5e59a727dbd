//! Which files belong to a control plane: kubeadm's, those that its API server names, and those that an operator names.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::super::manifest::Manifest;
use super::tree::{Missed, Tree};
use crate::path::TreePath;

/// The authority that members of etcd are known by.
pub(super) const ETCD_AUTHORITY: &str = "/etc/kubernetes/pki/etcd/ca.crt";
/// Certificates and keys, with all below.
pub(super) const PKI: &str = "etc/kubernetes/pki";
/// Static pods.
const MANIFESTS: &str = "etc/kubernetes/manifests";
/// Credentials of the control plane's own parts, and what the kubelet is told. The tokens are those of k3s and RKE2,
/// which encrypt what etcd holds of their certificates with them.
const FILES: [&str; 8] = [
    "etc/kubernetes/admin.conf",
    "etc/kubernetes/super-admin.conf",
    "etc/kubernetes/controller-manager.conf",
    "etc/kubernetes/scheduler.conf",
    "etc/kubernetes/kubelet.conf",
    "var/lib/kubelet/config.yaml",
    "var/lib/rancher/k3s/server/token",
    "var/lib/rancher/rke2/server/token",
];
/// The flag that names what the API server encrypts with.
const ENCRYPTION: &str = "encryption-provider-config";
/// A control plane has some fifty.
const FILES_MAX: usize = 2000;
/// The largest file that is taken, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
/// All files together, in bytes.
const BYTES_MAX: u64 = 8 << 20;
/// Folders within each other; a link may lead in a circle.
const DEPTH_MAX: usize = 16;

/// The files that are there, each by its path on the node.
#[derive(Default)]
pub(super) struct Listed {
    root: PathBuf,
    files: BTreeSet<TreePath>,
    bytes: u64,
    missed: Vec<Missed>,
    /// What the API server is told to encrypt with.
    pub encryption: Option<TreePath>,
}

/// Looks for them below the node's root.
pub(super) fn list(root: &Path, takes_pki: bool, also_files: &[PathBuf]) -> Listed {
    let mut listed = Listed { root: root.to_owned(), ..Listed::default() };
    if takes_pki {
        listed.take_control_plane();
    }
    for path in also_files {
        match relative(path) {
            Some(path) => listed.take(&path, Wanted::Named),
            None => listed.miss(path.display().to_string(), "this cannot be a path in a snapshot".to_owned()),
        }
    }
    listed
}

/// Whether it is a fault if something is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Named,
    IfThere,
}

impl Listed {
    /// How much memory they take, in bytes.
    pub fn bytes(&self) -> u32 {
        u32::try_from(self.bytes).unwrap_or(u32::MAX)
    }

    pub fn read(self) -> Tree {
        Tree::read(&self.root, &self.files, self.missed)
    }

    fn take_control_plane(&mut self) {
        self.take(&usual(PKI), Wanted::Named);
        for path in FILES {
            self.take(&usual(path), Wanted::IfThere);
        }
        for path in self.entries(&usual(MANIFESTS)).unwrap_or_default() {
            if path.name().is_some_and(|name| name.ends_with(b".yaml") && !name.starts_with(b".")) {
                self.take(&path, Wanted::IfThere);
            }
        }
        let pod = fs::read(self.root.join(MANIFESTS).join("kube-apiserver.yaml")).ok();
        let pod = pod.and_then(|bytes| Manifest::of(&bytes, "kube-apiserver").ok());
        if let Some(path) = pod.and_then(|pod| Some(pod.on_node(Path::new(pod.flag(ENCRYPTION)?))))
            && let Some(path) = relative(&path)
        {
            self.take(&path, Wanted::Named);
            self.encryption = Some(path);
        }
    }

    /// Takes a file, or a folder with all below.
    fn take(&mut self, path: &TreePath, wanted: Wanted) {
        let mut open = vec![(path.clone(), 0)];
        while let Some((path, depth)) = open.pop() {
            let metadata = match fs::metadata(self.root.join(at(&path))) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound && wanted == Wanted::IfThere => continue,
                Err(error) => {
                    self.miss(format!("/{path}"), error.to_string());
                    continue;
                }
            };
            if !metadata.is_dir() {
                self.take_file(path, &metadata);
            } else if depth == DEPTH_MAX {
                self.miss(format!("/{path}"), format!("more than {DEPTH_MAX} folders lie within each other"));
            } else {
                match self.entries(&path) {
                    Ok(entries) => open.extend(entries.into_iter().map(|entry| (entry, depth + 1))),
                    Err(error) => self.miss(format!("/{path}"), error.to_string()),
                }
            }
        }
    }

    fn take_file(&mut self, path: TreePath, metadata: &Metadata) {
        let refusal = if !metadata.is_file() {
            Some("this is no file".to_owned())
        } else if metadata.len() > FILE_BYTES_MAX {
            Some(format!("more than {FILE_BYTES_MAX} bytes; a source of kind paths takes it"))
        } else if self.files.len() == FILES_MAX || self.bytes + metadata.len() > BYTES_MAX {
            Some(format!("more than {FILES_MAX} files or {BYTES_MAX} bytes; a source of kind paths takes them"))
        } else {
            None
        };
        match refusal {
            Some(text) => self.miss(format!("/{path}"), text),
            None if self.files.insert(path) => self.bytes += metadata.len(),
            None => {}
        }
    }

    fn entries(&self, folder: &TreePath) -> io::Result<Vec<TreePath>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.root.join(at(folder)))? {
            let name = entry?.file_name();
            entries.extend(folder.join(name.as_bytes()).ok());
        }
        entries.sort();
        Ok(entries)
    }

    fn miss(&mut self, path: String, reason: String) {
        // One line for all that would be too many.
        if self.missed.last().is_none_or(|last| last.reason != reason) {
            self.missed.push(Missed { path, reason });
        }
    }
}

/// Where a path of the tree lies below the node's root.
pub(super) fn at(path: &TreePath) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

fn relative(path: &Path) -> Option<TreePath> {
    TreePath::new(path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes()).ok()
}

fn usual(path: &str) -> TreePath {
    TreePath::new(path).expect("a literal without dots")
}
