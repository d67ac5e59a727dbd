//! The roots of a backup as one tree, with restic's rules: an absolute path brings the chain of its directories, a
//! relative one appears under its own name, and one that is nothing but `.`, `..` or `/` stands for what lies in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onggi_node::pattern::clean;

/// A root after it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Components as given, cleaned; `..` only in front, and never in an absolute one.
    components: Vec<Vec<u8>>,
    absolute: bool,
    pub(super) root: Root,
}

/// A directory of the tree above the roots, or a root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// By name in the tree.
    pub(super) children: BTreeMap<Vec<u8>, Arc<Node>>,
    /// The directory or root in the file system.
    pub(super) path: PathBuf,
    /// If all that lies there is wanted: why.
    pub(super) root: Option<Root>,
    /// Where relative paths of this name start from; the same name from elsewhere gets another.
    start: PathBuf,
}

/// Why something is a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Root {
    /// It lies in a directory that was named as `.` or `/`.
    Listed,
    /// It was named, and its absence is in order.
    Optional,
    /// It was named, and must be there.
    Required,
}

impl Target {
    pub(super) fn new(path: &Path, optional: bool) -> Self {
        let bytes = path.as_os_str().as_bytes();
        let root = if optional { Root::Optional } else { Root::Required };
        Self { components: clean(bytes), absolute: bytes.starts_with(b"/"), root }
    }

    /// Whether it names no entry but only a directory to take the entries of.
    fn is_bare(&self) -> bool {
        self.components.iter().all(|component| component == b"..")
    }

    /// Where it lies.
    pub(super) fn path(&self, working_directory: &Path) -> PathBuf {
        let start = if self.absolute { Path::new("/") } else { working_directory };
        let mut path = clean(start.as_os_str().as_bytes());
        for component in &self.components {
            if component == b".." {
                path.pop();
            } else {
                path.push(component.clone());
            }
        }
        absolute(&path)
    }
}

fn absolute(components: &[Vec<u8>]) -> PathBuf {
    let mut path = vec![b'/'];
    path.extend_from_slice(&components.join(&b'/'));
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

/// Replaces each target that is nothing but a directory by what lies in it, sorted. A directory that cannot be read is
/// handed to `lost`.
pub(super) fn expand(
    targets: Vec<Target>,
    working_directory: &Path,
    mut lost: impl FnMut(&Target, &Path, io::Error),
) -> Vec<Target> {
    let mut expanded = Vec::new();
    for target in targets {
        if !target.is_bare() {
            expanded.push(target);
            continue;
        }
        let path = target.path(working_directory);
        match names_in(&path) {
            Ok(names) => expanded.extend(names.into_iter().map(|name| {
                let components = target.components.iter().cloned().chain([name]).collect();
                Target { components, root: Root::Listed, ..target }
            })),
            Err(error) => lost(&target, &path, error),
        }
    }
    expanded
}

fn names_in(directory: &Path) -> io::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(directory)?;
    let mut names = entries.map(|entry| Ok(entry?.file_name().into_vec())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The tree above and of these targets; none of them may be bare.
pub(super) fn tree(targets: &[Target], working_directory: &Path) -> Node {
    let mut root = Node::default();
    for target in targets {
        let full = target.path(working_directory);
        let named = target.components.iter().position(|component| component != b"..").unwrap_or(0);
        let names = &target.components[named..];
        let depth = full.components().count() - 1 - names.len();
        let start: PathBuf = full.components().take(depth + 1).collect();
        let mut node = &mut root;
        let mut path = start.clone();
        for (level, name) in names.iter().enumerate() {
            path.push(OsStr::from_bytes(name));
            let name = if level == 0 { free_name(node, name, &start) } else { name.clone() };
            node = Arc::make_mut(node.children.entry(name).or_default());
            node.path.clone_from(&path);
            node.start.clone_from(&start);
        }
        node.root = node.root.max(Some(target.root));
    }
    root
}

/// The name, or with `-1`, `-2` and so on if it is taken by a path that starts elsewhere.
fn free_name(root: &Node, name: &[u8], start: &Path) -> Vec<u8> {
    let numbered = (1..).map(|number| [name, format!("-{number}").as_bytes()].concat());
    let mut names = std::iter::once(name.to_vec()).chain(numbered);
    let is_free = |name: &Vec<u8>| root.children.get(name).is_none_or(|node| node.start == start);
    names.find(is_free).expect("numbers never end")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the tree as `name=path` with `!` behind roots and children in parentheses.
    #[track_caller]
    fn check(targets: &[&str], expected: &str) {
        let targets: Vec<_> = targets.iter().map(|text| Target::new(Path::new(text), false)).collect();
        assert_eq!(show(&tree(&targets, Path::new("/home/u"))), expected);
    }

    fn show(node: &Node) -> String {
        let child = |(name, node): (&Vec<u8>, &Arc<Node>)| {
            let mark = if node.root.is_some() { "!" } else { "" };
            format!("{}={}{mark}{}", String::from_utf8_lossy(name), node.path.display(), show(node))
        };
        let children: Vec<_> = node.children.iter().map(child).collect();
        if children.is_empty() { String::new() } else { format!("({})", children.join(" ")) }
    }

    #[test]
    fn an_absolute_path_brings_its_chain() {
        check(&["/a/b/"], "(a=/a(b=/a/b!))");
        check(&["/a/b", "/a/c"], "(a=/a(b=/a/b! c=/a/c!))");
    }

    #[test]
    fn a_relative_path_appears_under_its_own_name() {
        check(&["docs/x"], "(docs=/home/u/docs(x=/home/u/docs/x!))");
        check(&["./docs//"], "(docs=/home/u/docs!)");
        check(&["../v/w"], "(v=/home/v(w=/home/v/w!))");
        check(&["../../../x"], "(x=/x!)");
    }

    #[test]
    fn overlapping_paths_are_one() {
        check(&["/a", "/a/b/c", "/a"], "(a=/a!(b=/a/b(c=/a/b/c!)))");
    }

    #[test]
    fn equal_names_from_elsewhere_are_numbered() {
        check(&["etc", "/etc", "../etc"], "(etc=/home/u/etc! etc-1=/etc! etc-2=/home/etc!)");
    }

    #[test]
    fn a_bare_directory_stands_for_its_entries() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let targets = [".", "a/..", "missing-dir/../.."].map(|text| Target::new(Path::new(text), false));
        let found = expand(targets[..2].to_vec(), folder.path(), |_, _, error| panic!("{error}"));
        let paths: Vec<_> = found.iter().map(|target| target.path(folder.path())).collect();
        let expected: Vec<_> = ["a", "b", "a", "b"].iter().map(|name| folder.path().join(name)).collect();
        assert_eq!(paths, expected);
    }

    #[test]
    fn cleaning_keeps_what_leads_up() {
        let join = |text: &str| String::from_utf8(clean(text.as_bytes()).join(&b'/')).unwrap();
        assert_eq!(["a/./b//c/", "../../a/../b", "/../a", ".", ""].map(join), ["a/b/c", "../../b", "a", "", ""]);
    }
}
