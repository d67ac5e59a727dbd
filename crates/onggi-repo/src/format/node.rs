//! One entry of a directory, as a tree blob holds it.

use super::{
    fault::FormatError,
    id::BlobId,
    json::{Object, Unknown, write_list, write_plain, write_string},
    quote::{quote, unquote},
    time::Time,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::{borrow::Cow, fmt};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A block device.
    Dev,
    /// A character device.
    CharDev,
    /// A named pipe.
    Fifo,
    /// A socket; restic skips them.
    Socket,
    /// A kind of another program: kept, never restored.
    Other(String),
}

impl NodeKind {
    /// The word of the format.
    pub fn word(&self) -> &str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Dev => "dev",
            Self::CharDev => "chardev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Other(word) => word,
        }
    }

    fn of_word(word: String) -> Self {
        match word.as_str() {
            "file" => Self::File,
            "dir" => Self::Dir,
            "symlink" => Self::Symlink,
            "dev" => Self::Dev,
            "chardev" => Self::CharDev,
            "fifo" => Self::Fifo,
            "socket" => Self::Socket,
            _ => Self::Other(word),
        }
    }

    /// Go's type bits.
    fn mode_bits(&self) -> u32 {
        match self {
            Self::File => 0,
            Self::Dir => 1 << 31,
            Self::Symlink => 1 << 27,
            Self::Dev => 1 << 26,
            Self::CharDev => 1 << 26 | 1 << 21,
            Self::Fifo => 1 << 25,
            Self::Socket => 1 << 24,
            Self::Other(_) => 1 << 19,
        }
    }
}

/// Go's bits for setuid, setgid and sticky beside the Unix ones.
const SPECIAL: [(u32, u32); 3] = [(1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000)];

/// Go's mode for a kind and the 12 permission bits of Unix.
pub fn mode_of(kind: &NodeKind, permissions: u32) -> u32 {
    let special = SPECIAL.iter().filter(|(_, unix)| permissions & unix != 0).map(|(go, _)| go).sum::<u32>();
    kind.mode_bits() | special | permissions & 0o777
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Its name, such as `user.comment`.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// What few nodes have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeExtra {
    /// Attributes of Windows, kept as they are.
    pub generic_attributes: Option<Value>,
    /// An error recorded by old versions of restic.
    pub error: String,
    /// Keys of other programs.
    pub unknown: Unknown,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The raw bytes of its name.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: NodeKind,
    /// Go's mode bits; see [`mode_of`] and [`Node::permissions`].
    pub mode: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Last access; the mtime unless asked for.
    pub atime: Time,
    /// Last change of the metadata.
    pub ctime: Time,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Owner's name, may be empty.
    pub user: String,
    /// Group's name, may be empty.
    pub group: String,
    /// Inode number, 0 if unknown.
    pub inode: u64,
    /// Device the inode is on, 0 if unknown.
    pub device_id: u64,
    /// Length of a file in bytes.
    pub size: u64,
    /// Count of hard links, 0 if unknown.
    pub links: u64,
    /// Raw bytes a symlink points to.
    pub link_target: Vec<u8>,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Number of a device node.
    pub device: u64,
    /// A file's chunks in order; `None` for everything else.
    pub content: Option<Vec<BlobId>>,
    /// A directory's tree.
    pub subtree: Option<BlobId>,
    /// What few nodes have.
    pub extra: Option<Box<NodeExtra>>,
}

impl Node {
    /// A node with nothing but a name, a kind and its times.
    pub fn new(name: impl Into<Vec<u8>>, kind: NodeKind, permissions: u32, time: Time) -> Self {
        Self {
            name: name.into(),
            mode: mode_of(&kind, permissions),
            content: (kind == NodeKind::File).then(Vec::new),
            kind,
            mtime: time,
            atime: time,
            ctime: time,
            uid: 0,
            gid: 0,
            user: String::new(),
            group: String::new(),
            inode: 0,
            device_id: 0,
            size: 0,
            links: 0,
            link_target: Vec::new(),
            xattrs: Vec::new(),
            device: 0,
            subtree: None,
            extra: None,
        }
    }

    /// The 12 permission bits of Unix.
    pub fn permissions(&self) -> u32 {
        let special = SPECIAL.iter().filter(|(go, _)| self.mode & go != 0).map(|(_, unix)| unix).sum::<u32>();
        special | self.mode & 0o777
    }

    /// The chunks of a file; nothing for others.
    pub fn chunks(&self) -> &[BlobId] {
        self.content.as_deref().unwrap_or_default()
    }

    /// Whether it can be a component of a path: not empty, `.` or `..`, no `/` or NUL, at most 255 bytes.
    pub fn has_safe_name(&self) -> bool {
        is_safe_name(&self.name)
    }

    /// Appends its JSON.
    pub(crate) fn print(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.string("name", quote(&self.name).as_bytes());
        object.string("type", self.kind.word());
        object.number_if_any("mode", self.mode.into());
        object.plain("mtime", self.mtime);
        object.plain("atime", self.atime);
        object.plain("ctime", self.ctime);
        object.number("uid", self.uid.into());
        object.number("gid", self.gid.into());
        object.string_if_any("user", &self.user);
        object.string_if_any("group", &self.group);
        object.number_if_any("inode", self.inode);
        object.number_if_any("device_id", self.device_id);
        object.number_if_any("size", self.size);
        object.number_if_any("links", self.links);
        self.print_link_target(&mut object);
        if !self.xattrs.is_empty() {
            object.list("extended_attributes", &self.xattrs, print_xattr);
        }
        let extra = self.extra.as_deref();
        if let Some(attributes) = extra.and_then(|extra| extra.generic_attributes.as_ref()) {
            super::json::write_value(object.key("generic_attributes"), attributes);
        }
        object.number_if_any("device", self.device);
        match &self.content {
            Some(content) => write_list(object.key("content"), content, |out, id| write_plain(out, id)),
            None => object.key("content").extend_from_slice(b"null"),
        }
        if let Some(subtree) = self.subtree {
            object.plain("subtree", subtree);
        }
        if let Some(extra) = extra {
            object.string_if_any("error", &extra.error);
            object.unknown(&extra.unknown);
        }
        object.close();
    }

    fn print_link_target(&self, object: &mut Object<'_>) {
        if !self.link_target.is_empty() {
            object.string("linktarget", &self.link_target);
            if std::str::from_utf8(&self.link_target).is_err() {
                object.string("linktarget_raw", BASE64.encode(&self.link_target));
            }
        }
    }
}

/// Whether bytes can be a component of a path: not empty, `.` or `..`, no `/` or NUL, at most 255 bytes.
pub fn is_safe_name(name: &[u8]) -> bool {
    (1..=255).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.iter().any(|&byte| byte == b'/' || byte == 0)
}

fn print_xattr(out: &mut Vec<u8>, xattr: &Xattr) {
    let mut object = Object::open(out);
    object.string("name", &xattr.name);
    write_string(object.key("value"), BASE64.encode(&xattr.value).as_bytes());
    object.close();
}

impl<'de> Deserialize<'de> for Xattr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            name: String,
            #[serde(default)]
            value: Option<Base64>,
        }
        let raw = Raw::deserialize(deserializer)?;
        Ok(Self { name: raw.name, value: raw.value.map(|value| value.0).unwrap_or_default() })
    }
}

struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> de::Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let never = Time::utc(jiff::Timestamp::UNIX_EPOCH);
        let mut node = Node::new(Vec::new(), NodeKind::Other(String::new()), 0, never);
        let mut extra = NodeExtra::default();
        (node.mode, node.content) = (0, None);
        let (mut raw_target, mut has_name) = (None, false);
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "name" => {
                    let quoted: String = map.next_value()?;
                    node.name =
                        unquote(&quoted).map_err(|fault: FormatError| de::Error::custom(fault.reason))?.into_owned();
                    has_name = true;
                }
                "linktarget" => node.link_target = map.next_value::<String>()?.into_bytes(),
                "linktarget_raw" => raw_target = map.next_value::<Option<Base64>>()?,
                "generic_attributes" => extra.generic_attributes = map.next_value()?,
                "error" => extra.error = map.next_value()?,
                _ => {
                    if !take_field(&mut node, &key, &mut map)? {
                        extra.unknown.insert(key.into_owned(), map.next_value()?);
                    }
                }
            }
        }
        if !has_name {
            return Err(de::Error::missing_field("name"));
        }
        if let Some(target) = raw_target {
            node.link_target = target.0;
        }
        node.extra = (extra != NodeExtra::default()).then(|| Box::new(extra));
        Ok(node)
    }
}

/// The name of a field, copied only where it has escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> de::Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(text.to_owned())))
    }
}

/// Reads a field that goes into the node as it is; `false`: it is none of them.
fn take_field<'de, A: de::MapAccess<'de>>(node: &mut Node, key: &str, map: &mut A) -> Result<bool, A::Error> {
    match key {
        "type" => node.kind = NodeKind::of_word(map.next_value()?),
        "mode" => node.mode = map.next_value()?,
        "mtime" => node.mtime = map.next_value()?,
        "atime" => node.atime = map.next_value()?,
        "ctime" => node.ctime = map.next_value()?,
        "uid" => node.uid = map.next_value()?,
        "gid" => node.gid = map.next_value()?,
        "user" => node.user = map.next_value()?,
        "group" => node.group = map.next_value()?,
        "inode" => node.inode = map.next_value()?,
        "device_id" => node.device_id = map.next_value()?,
        "size" => node.size = map.next_value()?,
        "links" => node.links = map.next_value()?,
        "extended_attributes" => node.xattrs = map.next_value::<Option<_>>()?.unwrap_or_default(),
        "device" => node.device = map.next_value()?,
        "content" => node.content = map.next_value()?,
        "subtree" => node.subtree = map.next_value()?,
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_that_restic_writes() {
        for (kind, permissions, mode) in [
            (NodeKind::File, 0o644, 420),
            (NodeKind::Dir, 0o755, 2_147_484_141),
            (NodeKind::Dir, 0o1777, 2_148_532_735),
            (NodeKind::File, 0o4755, 8_389_101),
            (NodeKind::Symlink, 0o777, 134_218_239),
            (NodeKind::Fifo, 0o644, 33_554_852),
            (NodeKind::Dev, 0o644, 67_109_284),
            (NodeKind::CharDev, 0o644, 69_206_436),
        ] {
            assert_eq!(mode_of(&kind, permissions), mode, "{kind:?}");
            let node = Node::new("x", kind, permissions, "2026-01-01T00:00:00Z".parse().unwrap());
            assert_eq!(node.permissions(), permissions);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_not_safe() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; 256]] {
            assert!(!is_safe_name(bad));
        }
        for good in [&b"..."[..], b"\xff\n", &[b'a'; 255]] {
            assert!(is_safe_name(good));
        }
    }
}
