//! Extended attributes: those in an inode, and those in the block that it names.

use super::super::{ATTRIBUTES_MAX, Result, acl};
use super::Ext;
use super::inode::Inode;
use crate::item::Xattr;
use crate::openstack::image::{le_u16, le_u32};

const MAGIC: u32 = 0xea02_0000;
const ENTRY_BYTES: usize = 16;
const BLOCK_HEAD_BYTES: usize = 32;
/// The number of the space `system.`, in which the rest of a small content is named `data`.
const SYSTEM: u8 = 7;
const INLINE: &[u8] = b"data";

/// An attribute as it lies on the disk.
struct Raw<'a> {
    space: u8,
    name: &'a [u8],
    value: &'a [u8],
}

/// The attributes of an inode, sorted by name. What does not hold is left out.
pub(super) fn read(ext: &Ext, inode: &Inode) -> Result<Vec<Xattr>> {
    let mut found = Vec::new();
    each(in_inode(inode), 0, &mut |raw| found.extend(named(&raw)));
    if inode.attribute_block() != 0 {
        let block = ext.whole_block(inode.attribute_block())?;
        if le_u32(&block, 0) == MAGIC {
            each(&block, BLOCK_HEAD_BYTES, &mut |raw| found.extend(named(&raw)));
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(found)
}

/// What of a small content does not fit into the inode's body.
pub(super) fn inline_rest(inode: &Inode) -> Vec<u8> {
    let mut rest = Vec::new();
    each(in_inode(inode), 0, &mut |raw| {
        if raw.space == SYSTEM && raw.name == INLINE {
            rest = raw.value.to_vec();
        }
    });
    rest
}

/// The entries behind an inode's fields; values are counted from the first.
fn in_inode(inode: &Inode) -> &[u8] {
    let extra = inode.extra();
    if le_u32(extra, 0) == MAGIC { &extra[4..] } else { &[] }
}

fn each<'a>(area: &'a [u8], first: usize, take: &mut dyn FnMut(Raw<'a>)) {
    let (mut at, mut bytes) = (first, 0);
    while let Some(head) = area.get(at..at + ENTRY_BYTES).filter(|head| head[..4] != [0; 4]) {
        let name_at = at + ENTRY_BYTES;
        let Some(name) = area.get(name_at..name_at + usize::from(head[0])) else { return };
        let (from, length) = (usize::from(le_u16(head, 2)), le_u32(head, 8) as usize);
        let value = area.get(from..).and_then(|rest| rest.get(..length)).filter(|_| le_u32(head, 4) == 0);
        bytes += name.len() + length;
        if bytes > ATTRIBUTES_MAX {
            return;
        }
        if let Some(value) = value {
            take(Raw { space: head[1], name, value });
        }
        at = name_at + name.len().next_multiple_of(4);
    }
}

fn named(raw: &Raw<'_>) -> Option<Xattr> {
    let space: &[u8] = match raw.space {
        1 => b"user.",
        2 => return acl::of_ext(acl::ACCESS, raw.value),
        3 => return acl::of_ext(acl::DEFAULT, raw.value),
        4 => b"trusted.",
        6 => b"security.",
        _ => return None,
    };
    Some(Xattr { name: [space, raw.name].concat(), value: raw.value.to_vec() })
}
