//! Extended attributes: those in an inode, and those in leaves. What does not hold is left out.

use super::super::{ATTRIBUTES_MAX, Result, acl};
use super::Xfs;
use super::inode::{Form, Inode};
use super::map::{self, Fork};
use crate::item::Xattr;
use crate::openstack::image::{be_u16, be_u32};

const LEAF_MAGICS: [(u16, usize, usize); 2] = [(0xfbee, 12, 32), (0x3bee, 56, 80)];
const FLAG_LOCAL: u8 = 1;
const FLAG_ROOT: u8 = 2;
const FLAG_SECURE: u8 = 4;
/// Names of directories that the inode lies in, which are no attributes; and what was not finished.
const FLAGS_OTHER: u8 = 0x88;
/// The most blocks that are looked at for leaves.
const BLOCKS_MAX: u64 = 4096;

/// The attributes of an inode, sorted by name.
pub(super) fn read(xfs: &Xfs, inode: &Inode) -> Result<Vec<Xattr>> {
    let mut found = Found::default();
    if inode.attributes().is_empty() {
        return Ok(Vec::new());
    }
    match inode.attribute_form() {
        Ok(Form::Local) => short(inode.attributes(), &mut found),
        Ok(Form::Extents | Form::Tree) => leaves(xfs, inode, &mut found)?,
        _ => {}
    }
    found.xattrs.sort_by(|one, other| one.name.cmp(&other.name));
    found.xattrs.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(found.xattrs)
}

#[derive(Default)]
struct Found {
    xattrs: Vec<Xattr>,
    bytes: usize,
}

impl Found {
    fn add(&mut self, flags: u8, name: &[u8], value: &[u8]) {
        self.bytes += name.len() + value.len();
        if self.bytes > ATTRIBUTES_MAX || flags & FLAGS_OTHER != 0 {
            return;
        }
        let space: &[u8] = match name {
            b"SGI_ACL_FILE" if flags & FLAG_ROOT != 0 => return self.xattrs.extend(acl::of_xfs(acl::ACCESS, value)),
            b"SGI_ACL_DEFAULT" if flags & FLAG_ROOT != 0 => {
                return self.xattrs.extend(acl::of_xfs(acl::DEFAULT, value));
            }
            _ if flags & FLAG_ROOT != 0 => b"trusted.",
            _ if flags & FLAG_SECURE != 0 => b"security.",
            _ => b"user.",
        };
        self.xattrs.push(Xattr { name: [space, name].concat(), value: value.to_vec() });
    }
}

fn short(bytes: &[u8], found: &mut Found) {
    let count = bytes.get(2).copied().unwrap_or(0);
    let mut rest = bytes.get(4..).unwrap_or_default();
    for _ in 0..count {
        let [name, value, flags, ..] = *rest else { return };
        let (name, value) = (usize::from(name), usize::from(value));
        let Some(entry) = rest.get(3..3 + name + value) else { return };
        found.add(flags, &entry[..name], &entry[name..]);
        rest = &rest[3 + name + value..];
    }
}

fn leaves(xfs: &Xfs, inode: &Inode, found: &mut Found) -> Result<()> {
    let mut left = BLOCKS_MAX;
    map::each(xfs, inode, Fork::Attributes, &mut |stretch| {
        let blocks = stretch.blocks.min(left);
        left -= blocks;
        for index in 0..blocks {
            let block = xfs.block(stretch.at + index)?;
            if let Some((_, count, head)) = LEAF_MAGICS.iter().find(|(magic, ..)| *magic == be_u16(&block, 8)) {
                let count = usize::from(be_u16(&block, *count));
                leaf(xfs, inode, &block, (count, *head), found)?;
            }
        }
        Ok(())
    })
}

fn leaf(xfs: &Xfs, inode: &Inode, block: &[u8], (count, head): (usize, usize), found: &mut Found) -> Result<()> {
    for entry in block.get(head..).unwrap_or_default().chunks_exact(8).take(count) {
        let flags = entry[6];
        let Some(at) = block.get(usize::from(be_u16(entry, 4))..) else { continue };
        if flags & FLAG_LOCAL != 0 {
            let (value, name) = (usize::from(be_u16(at, 0)), usize::from(at.get(2).copied().unwrap_or(0)));
            if let Some(bytes) = at.get(3..3 + name + value) {
                found.add(flags, &bytes[..name], &bytes[name..]);
            }
            continue;
        }
        let (from, length) = (u64::from(be_u32(at, 0)), be_u32(at, 4) as usize);
        let name = at.get(9..9 + usize::from(at.get(8).copied().unwrap_or(0)));
        // A value is at most 64 KiB.
        if let Some(name) = name.filter(|_| length <= 1 << 16 && found.bytes + length <= ATTRIBUTES_MAX) {
            let value = xfs.remote(inode, Fork::Attributes, from, length)?;
            found.add(flags, name, &value);
        }
    }
    Ok(())
}
