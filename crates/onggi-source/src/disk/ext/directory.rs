//! Entries of directories. Those of a hashed one lie in the same blocks; what belongs to the tree above them looks like
//! entries that are not in use. Pure.

use super::super::{Entries, Result, damaged};
use crate::openstack::image::{le_u16, le_u32};

const HEAD_BYTES: usize = 8;
/// In blocks of this length and more the longest entry is written as 0 or as all ones.
const LARGE: u64 = 1 << 16;

/// Reads the entries of a block of this length, or, with 0, of what of a directory is in its inode.
pub(super) fn read(block: &[u8], block_bytes: u64, entries: &mut Entries) -> Result<()> {
    let mut rest = block;
    while rest.len() >= HEAD_BYTES {
        let length = match le_u16(rest, 4) {
            0 | u16::MAX if block_bytes >= LARGE => block.len(),
            length if block_bytes >= LARGE => usize::from(length & !3) | usize::from(length & 3) << 16,
            length => usize::from(length),
        };
        let name = rest.get(HEAD_BYTES..HEAD_BYTES + usize::from(rest[6]));
        let (Some(name), Some(after)) = (name, rest.get(length..).filter(|_| length >= HEAD_BYTES)) else {
            // What is in an inode ends without an entry over the rest.
            return if block_bytes == 0 && length == 0 { Ok(()) } else { Err(damaged("the entries of a directory")) };
        };
        let inode = le_u32(rest, 0);
        if inode != 0 {
            if name.len() + HEAD_BYTES > length {
                return Err(damaged("the entries of a directory"));
            }
            entries.push(name, u64::from(inode))?;
        }
        rest = after;
    }
    Ok(())
}
