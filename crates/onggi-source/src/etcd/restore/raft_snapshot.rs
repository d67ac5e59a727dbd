//! The raft snapshot of a restored member. It stands for the log entries that add the members, so that a member added
//! later is sent the database instead of a log that lacks it.
//!
//! Its content is the legacy store, from which etcd up to 3.5 reads the members. Byte for byte what
//! `etcdutl snapshot restore` writes.

use serde::Serialize;
use serde_json::{Value, json};

use super::identity::ClusterIdentity;
use super::proto::Message;
use super::wal::{TERM, conf_state};

/// Slots of the legacy store's history, all of them written.
const HISTORY_SLOTS: usize = 1000;
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Name of the file: term and index.
pub(super) fn file_name(cluster: &ClusterIdentity) -> String {
    format!("{TERM:016x}-{:016x}.snap", cluster.members.len())
}

/// The file's content.
pub(super) fn encode(cluster: &ClusterIdentity) -> Vec<u8> {
    let index = cluster.members.len() as u64;
    let metadata = Message::new().bytes(1, &conf_state(cluster)).number(2, index).number(3, TERM).into_bytes();
    let snapshot = Message::new().bytes(1, &legacy_store(cluster)).bytes(2, &metadata).into_bytes();
    Message::new().number(1, u64::from(crc32c::crc32c(&snapshot))).bytes(2, &snapshot).into_bytes()
}

/// A node of the legacy store, in the order of its fields.
fn node(path: &str, index: u64, value: &str, children: &Value) -> Value {
    json!({
        "Path": path,
        "CreatedIndex": index,
        "ModifiedIndex": index,
        "ExpireTime": NEVER,
        "Value": value,
        "Children": children,
    })
}

#[derive(Serialize)]
struct Attributes<'a> {
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
}

fn legacy_store(cluster: &ClusterIdentity) -> Vec<u8> {
    let count = cluster.members.len() as u64;
    let (mut members, mut events) = (Vec::new(), Vec::new());
    for (index, member) in (1..).zip(&cluster.members) {
        let attributes = serde_json::to_string(&Attributes { peer_urls: &member.peer_urls }).expect("plain data");
        let path = format!("/0/members/{}", member.key());
        let leaf = format!("{path}/raftAttributes");
        events.push(json!({
            "action": "create",
            "node": {"key": leaf, "value": attributes, "modifiedIndex": index, "createdIndex": index},
        }));
        let children = json!({"raftAttributes": node(&leaf, index, &attributes, &Value::Null)});
        members.push((member.key(), node(&path, index, "", &children)));
    }
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    events.resize(events.len().max(HISTORY_SLOTS), Value::Null);
    let members = node("/0/members", 1, "", &Value::Object(members.into_iter().collect()));
    let top = json!({
        "0": node("/0", 0, "", &json!({"members": members})),
        "1": node("/1", 0, "", &json!({})),
    });
    let queue = json!({"Events": events, "Size": count, "Front": 0, "Back": count, "Capacity": HISTORY_SLOTS});
    let store = json!({
        "Root": node("/", 0, "", &top),
        "WatcherHub": {"EventHistory": {"Queue": queue, "StartIndex": 1, "LastIndex": count}},
        "CurrentIndex": count,
        "Stats": statistics(count),
        "CurrentVersion": 2,
    });
    serde_json::to_vec(&store).expect("plain data")
}

fn statistics(created: u64) -> Value {
    json!({
        "getsSuccess": 0, "getsFail": 0, "setsSuccess": 0, "setsFail": 0, "deleteSuccess": 0, "deleteFail": 0,
        "updateSuccess": 0, "updateFail": 0, "createSuccess": created, "createFail": 0,
        "compareAndSwapSuccess": 0, "compareAndSwapFail": 0, "compareAndDeleteSuccess": 0,
        "compareAndDeleteFail": 0, "expireCount": 0, "watchers": 0,
    })
}
