//! The place of an item in the tree of its unit: checked bytes, because names of files need not be text.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path below the root of a unit's tree: components joined by `/`, without a leading or trailing one.
///
/// No component is empty, `.`, `..` or contains `/` or NUL, so that a path can never lead out of the tree that it is
/// restored into. The root is the empty path. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Arc<[u8]>);

/// The component that a [`TreePath`] cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{:?} cannot be a component of a path", String::from_utf8_lossy(.0))]
pub struct BadComponent(pub Vec<u8>);

impl TreePath {
    /// The root of the tree.
    pub fn root() -> Self {
        Self(Arc::from([]))
    }

    /// Checks a path whose components are joined by `/`; the empty one is the root.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, BadComponent> {
        let path = path.as_ref();
        if !path.is_empty() {
            path.split(|byte| *byte == b'/').try_for_each(check_component)?;
        }
        Ok(Self(path.into()))
    }

    /// The path of the entry `name` in this directory.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, BadComponent> {
        let name = name.as_ref();
        check_component(name)?;
        if name.contains(&b'/') {
            return Err(BadComponent(name.into()));
        }
        if self.is_root() {
            return Ok(Self(name.into()));
        }
        let mut joined = Vec::with_capacity(self.0.len() + 1 + name.len());
        joined.extend_from_slice(&self.0);
        joined.push(b'/');
        joined.extend_from_slice(name);
        Ok(Self(joined.into()))
    }

    /// The path of what has the path `below` in this directory.
    #[must_use]
    pub fn below(&self, below: &Self) -> Self {
        match (self.is_root(), below.is_root()) {
            (true, _) => below.clone(),
            (_, true) => self.clone(),
            _ => Self([&*self.0, b"/", &*below.0].concat().into()),
        }
    }

    /// The components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components from the root down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// The last component; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The directory that this path lies in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this path is `other` or lies below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        let (path, other) = (&self.0, &other.0);
        other.is_empty() || (path.starts_with(other) && matches!(path.get(other.len()), None | Some(b'/')))
    }
}

fn check_component(name: &[u8]) -> Result<(), BadComponent> {
    if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
        return Err(BadComponent(name.into()));
    }
    Ok(())
}

/// Shows control characters and bytes that are no text escaped, so that a hostile name cannot draw on a terminal.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{061c}' => {
                        write!(f, "{}", character.escape_unicode())?;
                    }
                    _ if character.is_control() => write!(f, "{}", character.escape_default())?,
                    _ => write!(f, "{character}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}

/// Text where the path is text, else a list of bytes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written<'a> {
    Text(std::borrow::Cow<'a, str>),
    Bytes(Vec<u8>),
}

impl Serialize for TreePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Written::Text(text.into()),
            Err(_) => Written::Bytes(self.0.to_vec()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Self::new(text.as_bytes()),
            Written::Bytes(bytes) => Self::new(bytes),
        }
        .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &[u8], expected: Option<&[&[u8]]>) {
        let found = TreePath::new(path);
        assert_eq!(found.as_ref().ok().map(|path| path.components().collect::<Vec<_>>()).as_deref(), expected);
    }

    #[test]
    fn the_empty_path_is_the_root() {
        check(b"", Some(&[]));
        assert_eq!(TreePath::root().parent(), None);
        assert_eq!(TreePath::root().name(), None);
    }

    #[test]
    fn components_are_any_bytes_but_separators() {
        check(b"a/b \xff/c\n", Some(&[b"a", b"b \xff", b"c\n"]));
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for bad in [&b"/a"[..], b"a/", b"a//b", b".", b"a/..", b"../a", b"a\0b", b"/"] {
            check(bad, None);
        }
        let path = TreePath::new("a").unwrap();
        for bad in [&b""[..], b".", b"..", b"x/y", b"x\0"] {
            assert!(path.join(bad).is_err());
        }
    }

    #[test]
    fn join_and_parent_are_inverse() {
        let path = TreePath::root().join("a").unwrap().join(b"\xfe").unwrap();
        assert_eq!(path.as_bytes(), b"a/\xfe");
        assert_eq!(path.parent().unwrap().as_bytes(), b"a");
        assert_eq!(path.parent().unwrap().parent(), Some(TreePath::root()));
    }

    #[test]
    fn a_prefix_ends_at_a_component() {
        let path = TreePath::new("ab/c").unwrap();
        assert!(path.starts_with(&TreePath::root()) && path.starts_with(&TreePath::new("ab").unwrap()));
        assert!(path.starts_with(&path) && !path.starts_with(&TreePath::new("a").unwrap()));
    }

    #[test]
    fn hostile_names_are_shown_escaped() {
        let path = TreePath::new(b"a\x1b[2J\n/\xff\xe2\x80\xaeb\xc3\xa9").unwrap();
        assert_eq!(path.to_string(), "a\\u{1b}[2J\\n/\\xff\\u{202e}b\u{e9}");
    }

    #[test]
    fn every_path_survives_json() {
        for bytes in [&b""[..], b"a/b", b"\xff/x"] {
            let path = TreePath::new(bytes).unwrap();
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<TreePath>(&json).unwrap(), path);
        }
        assert!(serde_json::from_str::<TreePath>("\"a/../b\"").is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_checked_path_leads_nowhere_else(bytes: Vec<u8>) {
            if let Ok(path) = TreePath::new(&bytes) {
                let rebuilt = path.components().try_fold(TreePath::root(), |path, name| path.join(name));
                proptest::prop_assert_eq!(rebuilt.unwrap(), path.clone());
                let bad = |name: &[u8]| matches!(name, b"" | b"." | b"..") || name.contains(&0);
                proptest::prop_assert!(!path.components().any(bad));
                proptest::prop_assert!(!path.to_string().contains(char::is_control));
            }
        }
    }
}
