//! Access lists: the short forms on disks, as the attribute that Linux shows and takes.

use crate::item::Xattr;
use crate::openstack::image::{be_u16, be_u32, le_u16, le_u32};

/// Of the attribute's form.
const VERSION: u32 = 2;
/// What an entry without a user or group has in their place.
const NOBODY: u32 = u32::MAX;
/// The most entries of a list.
const ENTRIES_MAX: usize = 1024;
/// Entries that name a user or a group.
const NAMED: [u16; 2] = [2, 8];

/// Names of the two lists.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// An entry: tag, permissions, user or group.
type Entry = (u16, u16, u32);

fn xattr(name: &[u8], entries: &[Entry]) -> Xattr {
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Xattr { name: name.to_vec(), value }
}

/// As ext4 has it: entries without a user or group are short.
pub(super) fn of_ext(name: &[u8], bytes: &[u8]) -> Option<Xattr> {
    let mut rest = (le_u32(bytes, 0) == 1).then(|| bytes.get(4..))??;
    let mut entries = Vec::new();
    while rest.len() >= 4 && entries.len() < ENTRIES_MAX {
        let tag = le_u16(rest, 0);
        let is_named = NAMED.contains(&tag);
        entries.push((tag, le_u16(rest, 2), if is_named { le_u32(rest, 4) } else { NOBODY }));
        rest = rest.get(if is_named { 8 } else { 4 }..)?;
    }
    rest.is_empty().then(|| xattr(name, &entries))
}

/// As XFS has it.
pub(super) fn of_xfs(name: &[u8], bytes: &[u8]) -> Option<Xattr> {
    let count = be_u32(bytes, 0) as usize;
    let entries = bytes.get(4..)?.chunks_exact(12);
    if count > ENTRIES_MAX || entries.len() < count {
        return None;
    }
    let entry = |bytes: &[u8]| {
        let tag = be_u32(bytes, 0) as u16;
        (tag, be_u16(bytes, 8), if NAMED.contains(&tag) { be_u32(bytes, 4) } else { NOBODY })
    };
    Some(xattr(name, &entries.take(count).map(entry).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_become_the_same_attribute() {
        let ext = [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0, 0x20, 0, 4, 0];
        let xfs = [[1, 0, 6], [2, 1000, 4], [0x20, 0, 4]];
        let xfs = xfs.iter().flat_map(|[tag, id, permissions]: &[u32; 3]| {
            [tag.to_be_bytes(), id.to_be_bytes(), (permissions << 16).to_be_bytes()].concat()
        });
        let xfs: Vec<u8> = 3_u32.to_be_bytes().into_iter().chain(xfs).collect();
        let found = of_ext(ACCESS, &ext);
        assert_eq!(found, of_xfs(ACCESS, &xfs));
        assert_eq!(found.map(|found| found.value.len()), Some(4 + 3 * 8));
        assert_eq!((of_ext(ACCESS, &ext[..9]), of_xfs(ACCESS, &xfs[..30])), (None, None));
    }
}
