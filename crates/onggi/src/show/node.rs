//! Files and folders of a snapshot.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::tz::TimeZone;
use onggi_repo::format::{Node, NodeKind, Time};
use serde_json::{Map, Value, json};

use crate::escape::escape;

/// The line of `ls --long`: mode, owner, size, time, path and where a link points to.
pub fn long(path: &[u8], node: &Node) -> String {
    let mut line = format!(
        "{} {:>8} {:>8} {:>12} {} {}",
        mode(node),
        name_or_id(&node.user, node.uid),
        name_or_id(&node.group, node.gid),
        node.size,
        moment(node.mtime),
        escape(path)
    );
    if node.kind == NodeKind::Symlink {
        line.push_str(" -> ");
        line.push_str(&escape(&node.link_target));
    }
    line
}

/// A time on the clock of this machine, to the second.
pub fn moment(time: Time) -> String {
    time.instant.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn name_or_id(name: &str, id: u32) -> String {
    if name.is_empty() { id.to_string() } else { escape(name.as_bytes()).into_owned() }
}

/// Kind and permissions as `ls` shows them.
pub fn mode(node: &Node) -> String {
    let kind = match node.kind {
        NodeKind::File => '-',
        NodeKind::Dir => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::Dev => 'b',
        NodeKind::CharDev => 'c',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
        NodeKind::Other(_) => '?',
    };
    let bits = node.permissions();
    let mut text = String::with_capacity(10);
    text.push(kind);
    for (shift, special, with, without) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let class = bits >> shift;
        text.push(if class & 4 != 0 { 'r' } else { '-' });
        text.push(if class & 2 != 0 { 'w' } else { '-' });
        text.push(match (class & 1 != 0, bits & special != 0) {
            (true, true) => with,
            (false, true) => without,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// The mode as Go prints it, which restic's JSON has.
fn go_mode(mode: u32) -> String {
    let pick = |letters: &str, highest: u32| -> String {
        (0..).zip(letters.chars()).filter(|(at, _)| mode >> (highest - at) & 1 != 0).map(|(_, letter)| letter).collect()
    };
    let kind = pick("dalTLDpSugct?", 31);
    let permissions =
        (0..9u32).zip("rwxrwxrwx".chars()).map(|(at, letter)| if mode >> (8 - at) & 1 != 0 { letter } else { '-' });
    let mut text = if kind.is_empty() { "-".to_owned() } else { kind };
    text.extend(permissions);
    text
}

/// A node as `restic ls --json` prints it. Where name or path is not UTF-8, its bytes are added in base64.
pub fn document(path: &[u8], node: &Node) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("name".into(), lossy(&node.name));
    members.insert("type".into(), node.kind.word().into());
    members.insert("path".into(), lossy(path));
    if std::str::from_utf8(path).is_err() {
        members.insert("path_base64".into(), BASE64.encode(path).into());
    }
    members.insert("uid".into(), node.uid.into());
    members.insert("gid".into(), node.gid.into());
    if node.kind == NodeKind::File {
        members.insert("size".into(), node.size.into());
    }
    members.insert("mode".into(), node.mode.into());
    members.insert("permissions".into(), go_mode(node.mode).into());
    for (key, time) in [("mtime", node.mtime), ("atime", node.atime), ("ctime", node.ctime)] {
        members.insert(key.into(), time.to_string().into());
    }
    if node.inode != 0 {
        members.insert("inode".into(), node.inode.into());
    }
    members
}

/// What only `restic find --json` adds.
pub fn match_document(path: &[u8], node: &Node) -> Value {
    let mut members = document(path, node);
    for (key, text) in [("user", &node.user), ("group", &node.group)] {
        if !text.is_empty() {
            members.insert(key.into(), text.as_str().into());
        }
    }
    for (key, number) in [("device_id", node.device_id), ("links", node.links)] {
        if number != 0 {
            members.insert(key.into(), number.into());
        }
    }
    if node.kind == NodeKind::Symlink {
        members.insert("linktarget".into(), lossy(&node.link_target));
    }
    Value::Object(members)
}

/// Bytes as JSON text; what is not UTF-8 becomes U+FFFD, as in restic.
fn lossy(bytes: &[u8]) -> Value {
    json!(String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: NodeKind, permissions: u32) -> Node {
        Node::new("x", kind, permissions, "2026-11-03T22:08:41Z".parse().unwrap())
    }

    #[track_caller]
    fn check(kind: NodeKind, permissions: u32, unix: &str, go: &str) {
        let node = node(kind, permissions);
        assert_eq!((mode(&node).as_str(), go_mode(node.mode).as_str()), (unix, go));
    }

    #[test]
    fn modes_are_shown_as_people_and_restic_know_them() {
        check(NodeKind::File, 0o644, "-rw-r--r--", "-rw-r--r--");
        check(NodeKind::File, 0o4755, "-rwsr-xr-x", "urwxr-xr-x");
        check(NodeKind::Dir, 0o1777, "drwxrwxrwt", "dtrwxrwxrwx");
        check(NodeKind::Dir, 0o2640, "drw-r-S---", "dgrw-r-----");
        check(NodeKind::Symlink, 0o777, "lrwxrwxrwx", "Lrwxrwxrwx");
        check(NodeKind::CharDev, 0o600, "crw-------", "Dcrw-------");
    }

    #[test]
    fn a_name_that_is_not_utf8_keeps_its_bytes() {
        let document = document(b"/a/\xff", &node(NodeKind::File, 0o644));
        assert_eq!(document["path"], "/a/\u{fffd}");
        assert_eq!(document["path_base64"], "L2Ev/w==");
    }

    #[test]
    fn a_link_shows_where_it_points_without_harm() {
        let mut link = node(NodeKind::Symlink, 0o777);
        link.link_target = b"\x1b[2J".to_vec();
        assert!(long(b"/l", &link).ends_with(r"/l -> $'\x1b[2J'"));
    }
}
