//! What is held while an image is read: about the same for any length, and for files that claim what is not so. A
//! process of its own, whose most memory the kernel tells.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use onggi_source::openstack::image::{ExtentKind, Piece, Qcow2, Qcow2Plan};

const DISK_BYTES: u64 = 20 << 30;
const MEMORY_KIB_MAX: u64 = 64 << 10;
const STEP_BYTES: u64 = 1 << 20;

/// An image of a disk with data in every second cluster; their places in the file are left empty.
fn write(file: &File) -> u64 {
    let data = (0..DISK_BYTES).step_by(128 << 10).map(|start| start..start + (64 << 10));
    let plan = Qcow2Plan::new(DISK_BYTES, data).unwrap();
    let mut at = 0;
    for piece in plan.pieces() {
        at += match piece {
            Piece::Bytes(bytes) => {
                file.write_all_at(&bytes, at).unwrap();
                bytes.len() as u64
            }
            Piece::Zeros(count) => count,
            Piece::Disk(range) => range.end - range.start,
        };
    }
    file.set_len(at).unwrap();
    assert_eq!(at, plan.length());
    at
}

/// The most memory that this process held until now.
fn most_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_long_disk_and_one_that_claims_to_be_endless_take_little_memory() {
    let file = tempfile::tempfile().unwrap();
    let length = write(&file);
    let image = Qcow2::open(&file, length).unwrap();
    let data = image.extents().map(Result::unwrap).filter(|extent| extent.kind == ExtentKind::Data);
    assert_eq!(data.count() as u64, DISK_BYTES / (128 << 10));
    assert!(image.data(1000).unwrap().len() <= 1000);
    let mut buffer = vec![0; STEP_BYTES as usize];
    for at in (0..DISK_BYTES).step_by(64 << 20) {
        image.read_exact_at(at, &mut buffer).unwrap();
    }
    drop(image);
    // The longest first table, all of whose entries lead nowhere or to the same place, and one that is too long.
    file.set_len(128 << 20).unwrap();
    for (size, entries) in [(1_u64 << 51, 4_u32 << 20), (1 << 60, u32::MAX)] {
        file.write_all_at(&size.to_be_bytes(), 24).unwrap();
        file.write_all_at(&entries.to_be_bytes(), 36).unwrap();
        file.write_all_at(&(64_u64 << 20).to_be_bytes(), 40).unwrap();
        for (at, entry) in [(64_u64 << 20, 0x200_0000_u64), ((64 << 20) + 8, 0x200_0000)] {
            file.write_all_at(&entry.to_be_bytes(), at).unwrap();
        }
        assert!(Qcow2::open(&file, 128 << 20).is_err());
    }
    let most = most_kib();
    eprintln!("MEASURED: {} GiB of disk read, {} MiB held at most", DISK_BYTES >> 30, most >> 10);
    assert!(most < MEMORY_KIB_MAX, "{most} KiB");
}
