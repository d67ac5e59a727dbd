//! Reads the file and what it includes, and leads the tree through its checks.

use super::{
    fault::{Fault, Faults, Place, Reach},
    raw::RawConfig,
    reserved, resolve,
    resolved::Config,
    shape,
    show::{self, Shown},
    tree::{self, Node, Value},
    value::SecretReference,
};
use serde::Deserialize;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the configuration asks of the machine.
pub trait Files {
    /// Reads a file, or lists a directory. Of a file at most one byte more than the largest one accepted.
    fn read(&self, path: &Path) -> io::Result<Found>;
    /// Why a secret cannot be used, if it cannot: absent, unreadable, readable by others. Never its content.
    fn secret_fault(&self, reference: &SecretReference) -> Option<String>;
}

/// What lies at a path.
#[derive(Debug)]
pub enum Found {
    /// A file and its content.
    File(Vec<u8>),
    /// A directory and the names in it.
    Directory(Vec<String>),
}

/// The configuration as far as it could be read.
#[derive(Debug)]
pub struct Loaded {
    /// The resolved values; `None` when something is wrong.
    pub config: Option<Config>,
    /// All faults, in the order of the file.
    pub faults: Vec<Fault>,
    /// Every value with its origin, secrets as references only.
    pub shown: Vec<Shown>,
}

impl Loaded {
    /// The configuration, if nothing in the file is wrong.
    pub fn accept(self) -> Result<Config, Vec<Fault>> {
        self.config.ok_or(self.faults)
    }

    /// Whether a fault reaches at least one source: `config check` then ends with exit code 2.
    pub fn has_faults(&self) -> bool {
        self.faults.iter().any(|fault| fault.reach != Reach::Notice)
    }
}

/// How many files may be included.
const FILES_MAX: usize = 256;

/// Loads a configuration file.
pub fn load(files: &dyn Files, path: &Path) -> Loaded {
    let mut faults = Faults::default();
    let Some(mut tree) = read(files, path, &mut faults) else {
        return Loaded { config: None, faults: faults.into_sorted(), shown: Vec::new() };
    };
    include(files, path, &mut tree, &mut faults);
    let shown = show::shown(&tree);
    let config = if faults.is_wrong() { None } else { checked(files, tree, path, &mut faults) };
    Loaded { config, faults: faults.into_sorted(), shown }
}

fn checked(files: &dyn Files, mut tree: Node, path: &Path, faults: &mut Faults) -> Option<Config> {
    let taken = reserved::take_sources(&mut tree, faults);
    shape::check(&tree, faults);
    let own = tree.get("sources").map_or(&[][..], Node::entries).iter().map(|(key, _)| key.text.clone());
    let names: Vec<String> = taken.iter().map(|(name, _)| name.clone()).chain(own).collect();
    reserved::check(&tree, &names, faults);
    if faults.is_wrong() {
        return None;
    }
    let raw = match RawConfig::deserialize(tree.to_json()) {
        Ok(raw) => raw,
        Err(error) => {
            faults.wrong(&tree.place, "", error.to_string(), None);
            return None;
        }
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut config = resolve::resolve(raw, &tree, folder, faults);
    config.without_adapter = taken.into_iter().collect();
    check_secrets(files, &config, &tree, faults);
    (!faults.is_wrong()).then_some(config)
}

fn check_secrets(files: &dyn Files, config: &Config, tree: &Node, faults: &mut Faults) {
    for (key, reference) in config.secrets() {
        if let Some(text) = files.secret_fault(reference) {
            faults.wrong(&tree.nearest(&key).place, key, text, None);
        }
    }
}

fn read(files: &dyn Files, path: &Path, faults: &mut Faults) -> Option<Node> {
    let name: Arc<str> = path.display().to_string().into();
    let start = Place { file: Arc::clone(&name), line: 1, column: 1 };
    match files.read(path) {
        Ok(Found::File(bytes)) => {
            let node = tree::parse(&name, &bytes, faults)?;
            if matches!(node.value, Value::Map(_)) {
                return Some(node);
            }
            faults.wrong(&start, "", "the file holds no keys", Some("start with version: 1".into()));
        }
        Ok(Found::Directory(_)) => faults.wrong(&start, "", "this is a directory, not a file", None),
        Err(error) => faults.wrong(&start, "", format!("the file cannot be read: {error}"), None),
    }
    None
}

/// Adds the files of `include`. Included files include no more.
fn include(files: &dyn Files, path: &Path, tree: &mut Node, faults: &mut Faults) {
    let Some(node) = tree.take("include") else { return };
    let named = if node.text().is_some() { vec![node] } else { node.items().to_vec() };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    for node in &named {
        match node.text() {
            Some(text) => found.extend(expand(files, &folder.join(text), &node.place, faults)),
            None => faults.wrong(
                &node.place,
                "include",
                "here stands no path",
                Some("write a path or a list of paths".into()),
            ),
        }
    }
    if found.len() > FILES_MAX {
        let text = format!("{} files are included, more than {FILES_MAX}", found.len());
        return faults.wrong(&tree.place, "include", text, None);
    }
    for file in found {
        let Some(mut other) = read(files, &file, faults) else { continue };
        if let Some(nested) = other.take("include") {
            faults.wrong(
                &nested.place,
                "include",
                "an included file cannot include",
                Some("name all files in the first one".into()),
            );
        }
        other.take("version");
        tree.merge(other, "", faults);
    }
}

fn expand(files: &dyn Files, path: &Path, place: &Place, faults: &mut Faults) -> Vec<PathBuf> {
    match files.read(path) {
        Ok(Found::File(_)) => vec![path.to_owned()],
        Ok(Found::Directory(mut names)) => {
            names.sort();
            let is_yaml =
                |name: &String| Path::new(name).extension().is_some_and(|end| end == "yaml") && !name.starts_with('.');
            names.into_iter().filter(is_yaml).map(|name| path.join(name)).collect()
        }
        Err(error) => {
            faults.wrong(place, "include", format!("{} cannot be read: {error}", path.display()), None);
            Vec::new()
        }
    }
}
