//! The write-ahead log of a member that was never run: it adds the members, votes, and points at the raft snapshot.
//!
//! Byte for byte what `etcdutl snapshot restore` writes.

use std::io::{self, Write};

use super::identity::{ClusterIdentity, MemberIdentity};
use super::proto::Message;

/// Name of the first file.
pub(super) const FILE: &str = "0000000000000000-0000000000000000.wal";
/// etcd makes a segment this long at once and appends within it.
pub(super) const SEGMENT_BYTES: u64 = 64_000_000;
/// The term in which the restored members begin.
pub(super) const TERM: u64 = 1;

const TYPE_METADATA: u64 = 1;
const TYPE_ENTRY: u64 = 2;
const TYPE_STATE: u64 = 3;
const TYPE_CRC: u64 = 4;
const TYPE_SNAPSHOT: u64 = 5;
/// Of an entry: it changes the members.
const ENTRY_CONF_CHANGE: u64 = 1;
/// Of such a change: a member comes.
const ADD_NODE: u64 = 0;
/// Frames begin at multiples of this.
const ALIGN: usize = 8;

/// The voters as raft knows them.
pub(super) fn conf_state(cluster: &ClusterIdentity) -> Vec<u8> {
    cluster.ids().fold(Message::new(), |message, id| message.number(1, id)).number(5, 0).into_bytes()
}

/// Writes the records of one member; the caller extends the file to [`SEGMENT_BYTES`].
pub(super) fn write(out: &mut impl Write, cluster: &ClusterIdentity, own: &MemberIdentity) -> io::Result<()> {
    let mut log = Log { out, crc: 0 };
    log.record(TYPE_CRC, None)?;
    log.record(TYPE_METADATA, Some(Message::new().number(1, own.id).number(2, cluster.id)))?;
    log.record(TYPE_SNAPSHOT, Some(Message::new().number(1, 0).number(2, 0)))?;
    for (index, member) in (1..).zip(&cluster.members) {
        let change = Message::new().number(1, 0).number(2, ADD_NODE).number(3, member.id).bytes(4, &member.json());
        let entry = Message::new().number(1, ENTRY_CONF_CHANGE).number(2, TERM).number(3, index);
        log.record(TYPE_ENTRY, Some(entry.bytes(4, &change.into_bytes())))?;
    }
    let (commit, vote) = (cluster.members.len() as u64, cluster.members[0].id);
    log.record(TYPE_STATE, Some(Message::new().number(1, TERM).number(2, vote).number(3, commit)))?;
    let snapshot = Message::new().number(1, commit).number(2, TERM).bytes(3, &conf_state(cluster));
    log.record(TYPE_SNAPSHOT, Some(snapshot))
}

struct Log<'a, W> {
    out: &'a mut W,
    /// Over the data of all records so far.
    crc: u32,
}

impl<W: Write> Log<'_, W> {
    fn record(&mut self, kind: u64, data: Option<Message>) -> io::Result<()> {
        let data = data.map(Message::into_bytes);
        if let Some(data) = &data {
            self.crc = crc32c::crc32c_append(self.crc, data);
        }
        let record = Message::new().number(1, kind).number(2, u64::from(self.crc));
        let record = match &data {
            Some(data) => record.bytes(3, data),
            None => record,
        };
        let mut frame = record.into_bytes();
        let (length, padding) = (frame.len() as u64, frame.len().next_multiple_of(ALIGN) - frame.len());
        let mark = if padding == 0 { 0 } else { (0x80 | padding as u64) << 56 };
        frame.resize(frame.len() + padding, 0);
        self.out.write_all(&(length | mark).to_le_bytes())?;
        self.out.write_all(&frame)
    }
}
