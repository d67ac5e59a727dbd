//! One directory as a blob: its nodes in ascending order of their raw names, printed byte for byte as restic does.

use super::{
    fault::{FormatError, Result},
    json::write_list,
    node::Node,
};
use serde::Deserialize;

const WHAT: &str = "tree";
/// More entries than any directory has; a tree with more is damage.
pub const NODES_MAX: usize = 5_000_000;

/// The nodes of a directory. Read ones may violate the order: ask [`Tree::order_fault`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// A tree of these nodes, which are put in order; two with one name are refused.
    pub fn new(mut nodes: Vec<Node>) -> Result<Self> {
        if !nodes.is_sorted_by(|a, b| a.name < b.name) {
            nodes.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let tree = Self { nodes };
        match tree.order_fault() {
            None => Ok(tree),
            Some(name) => Err(FormatError::invalid(WHAT, format!("two nodes are named {}", name.escape_ascii()))),
        }
    }

    /// Reads a tree blob's plaintext.
    pub fn parse(json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Raw {
            nodes: Option<Vec<Node>>,
        }
        let raw: Raw = serde_json::from_slice(json).map_err(|fault| FormatError::json(WHAT, &fault))?;
        let nodes = raw.nodes.unwrap_or_default();
        if nodes.len() > NODES_MAX {
            return Err(FormatError::invalid(WHAT, "more entries than a directory may have"));
        }
        Ok(Self { nodes })
    }

    /// The blob's plaintext.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 400 * self.nodes.len());
        out.extend_from_slice(b"{\"nodes\":");
        write_list(&mut out, &self.nodes, |out, node| node.print(out));
        out.extend_from_slice(b"}\n");
        out
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes, taken out.
    pub fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// The node of this name.
    pub fn find(&self, name: &[u8]) -> Option<&Node> {
        match self.nodes.binary_search_by(|node| node.name.as_slice().cmp(name)) {
            Ok(at) => Some(&self.nodes[at]),
            Err(_) => self.order_fault().and_then(|_| self.nodes.iter().find(|node| node.name == name)),
        }
    }

    /// The first name that is not above the one before it.
    pub fn order_fault(&self) -> Option<&[u8]> {
        self.nodes.windows(2).find(|pair| pair[0].name >= pair[1].name).map(|pair| pair[1].name.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BlobId, NodeKind, Time, node::Xattr};
    use proptest::prelude::*;

    fn time() -> Time {
        "2026-11-20T11:26:36.5Z".parse().unwrap()
    }

    #[track_caller]
    fn check(node: Node, expected: &str) {
        let tree = Tree::new(vec![node]).unwrap();
        let text = String::from_utf8(tree.print()).unwrap();
        assert_eq!(text, format!("{{\"nodes\":[{expected}]}}\n"));
        assert_eq!(Tree::parse(text.as_bytes()).unwrap(), tree);
    }

    const TIMES: &str =
        r#""mtime":"2026-11-20T11:26:36.5Z","atime":"2026-11-20T11:26:36.5Z","ctime":"2026-11-20T11:26:36.5Z""#;

    #[test]
    fn an_empty_directory_has_the_known_id() {
        let id = BlobId::of(&Tree::default().print());
        assert_eq!(id.to_string(), "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8");
    }

    #[test]
    fn a_file_is_printed_as_restic_does() {
        let mut node = Node::new("a<b>", NodeKind::File, 0o644, time());
        (node.uid, node.gid, node.user, node.group) = (1000, 100, "me".into(), "users".into());
        (node.inode, node.device_id, node.size, node.links) = (7, 2049, 5, 1);
        node.xattrs = vec![Xattr { name: "user.x".into(), value: b"v".to_vec() }];
        node.content = Some(vec![BlobId([0xab; 32])]);
        let id = "ab".repeat(32);
        check(
            node,
            &format!(
                r#"{{"name":"a\u003cb\u003e","type":"file","mode":420,{TIMES},"uid":1000,"gid":100,"user":"me","group":"users","inode":7,"device_id":2049,"size":5,"links":1,"extended_attributes":[{{"name":"user.x","value":"dg=="}}],"content":["{id}"]}}"#
            ),
        );
    }

    #[test]
    fn content_is_a_list_for_files_and_null_for_others() {
        let file = Node::new("empty", NodeKind::File, 0, time());
        check(file, &format!(r#"{{"name":"empty","type":"file",{TIMES},"uid":0,"gid":0,"content":[]}}"#));
        let fifo = Node::new("tab\t", NodeKind::Fifo, 0o600, time());
        check(
            fifo,
            &format!(r#"{{"name":"tab\\t","type":"fifo","mode":33554816,{TIMES},"uid":0,"gid":0,"content":null}}"#),
        );
        let mut dir = Node::new("d", NodeKind::Dir, 0o755, time());
        dir.subtree = Some(BlobId([1; 32]));
        let id = "01".repeat(32);
        check(
            dir,
            &format!(
                r#"{{"name":"d","type":"dir","mode":2147484141,{TIMES},"uid":0,"gid":0,"content":null,"subtree":"{id}"}}"#
            ),
        );
    }

    #[test]
    fn a_link_target_keeps_its_raw_bytes() {
        let mut node = Node::new("l", NodeKind::Symlink, 0o777, time());
        node.link_target = b"bad\xff".to_vec();
        check(
            node,
            &format!(
                r#"{{"name":"l","type":"symlink","mode":134218239,{TIMES},"uid":0,"gid":0,"linktarget":"bad\ufffd","linktarget_raw":"YmFk/w==","content":null}}"#
            ),
        );
    }

    #[test]
    fn what_is_not_known_is_kept() {
        let text = format!(
            "{{\"nodes\":[{{\"name\":\"w\",\"type\":\"irregular\",{TIMES},\"uid\":0,\"gid\":0,\"generic_attributes\":{{\"windows.file_attributes\":\"IA==\"}},\"device\":3,\"content\":null,\"error\":\"old\",\"new\":[1]}}]}}\n"
        );
        let tree = Tree::parse(text.as_bytes()).unwrap();
        assert_eq!(tree.nodes()[0].kind, NodeKind::Other("irregular".into()));
        assert_eq!(String::from_utf8(tree.print()).unwrap(), text);
    }

    #[test]
    fn names_are_ordered_by_raw_bytes_and_unique() {
        let node = |name: &str| Node::new(name, NodeKind::File, 0, time());
        let tree = Tree::new(vec![node("b"), node("a\n"), node("a0"), node("Z")]).unwrap();
        let names: Vec<_> = tree.nodes().iter().map(|node| node.name.as_slice()).collect();
        assert_eq!(names, [&b"Z"[..], b"a\n", b"a0", b"b"]);
        assert!(Tree::new(vec![node("a"), node("b"), node("a")]).is_err());
        assert!(tree.find(b"a0").is_some() && tree.find(b"c").is_none());
    }

    #[test]
    fn a_violated_order_is_seen_and_still_searched() {
        let node = |name: &str| format!("{{\"name\":\"{name}\",\"type\":\"file\",\"content\":[]}}");
        let text = format!("{{\"nodes\":[{},{},{}]}}", node("c"), node("a"), node("b"));
        let tree = Tree::parse(text.as_bytes()).unwrap();
        assert_eq!(tree.order_fault(), Some(&b"a"[..]));
        assert!([b"a", b"b", b"c"].iter().all(|name| tree.find(*name).is_some()));
        assert!(tree.find(b"d").is_none());
    }

    #[test]
    fn a_node_without_a_name_is_damage() {
        for text in ["", "{}x", "[]", "{\"nodes\":[{}]}", "{\"nodes\":[{\"name\":\"\\\\q\"}]}", "{\"nodes\":{}}"] {
            assert!(Tree::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    fn nodes() -> impl Strategy<Value = Vec<Node>> {
        let node = (any::<Vec<u8>>(), any::<Vec<u8>>(), 0..8_usize, any::<u32>(), any::<u64>(), any::<String>());
        let node = node.prop_map(|(name, target, kind, number, size, user)| {
            let kinds = ["file", "dir", "symlink", "dev", "chardev", "fifo", "socket", "else"];
            let text = format!("{{\"name\":\"\",\"type\":\"{}\"}}", kinds[kind]);
            let mut node: Node = serde_json::from_str(&text).unwrap();
            (node.name, node.link_target, node.mode, node.size, node.user) = (name, target, number, size, user);
            node
        });
        proptest::collection::vec(node, 0..6)
    }

    proptest! {
        #[test]
        fn parsing_undoes_printing(nodes in nodes()) {
            if let Ok(tree) = Tree::new(nodes) {
                let text = tree.print();
                let read = Tree::parse(&text).unwrap();
                prop_assert_eq!(&read, &tree);
                prop_assert_eq!(read.print(), text);
            }
        }

        #[test]
        fn a_changed_byte_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut node = Node::new("n\"\n", NodeKind::Symlink, 0o777, time());
            node.link_target = b"bad\xff".to_vec();
            let mut bytes = Tree::new(vec![node]).unwrap().print();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Tree::parse(&bytes);
            let _ = Tree::parse(&bytes[..at]);
        }
    }
}
