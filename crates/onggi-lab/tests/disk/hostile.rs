//! Damaged images, by a fixed seed: no reader panics, none goes on for ever; what is not read is an error.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use onggi_lab::corpus::Random;
use onggi_lab::fuzz::walk_disk;

use crate::rig::{Mounted, Place, has};

const BLOCK: u64 = 512;

/// The sectors of an image that are not zero, as the fuzz target takes them.
fn sectors(place: &Place, image: &str) -> Vec<u8> {
    let file = File::open(place.path(image)).unwrap();
    let (mut bytes, mut sector) = (Vec::new(), vec![0; BLOCK as usize]);
    for index in 0..file.metadata().unwrap().len() / BLOCK {
        file.read_exact_at(&mut sector, index * BLOCK).unwrap();
        if sector.iter().any(|byte| *byte != 0) {
            bytes.extend_from_slice(&(index as u32).to_le_bytes());
            bytes.extend_from_slice(&sector);
        }
    }
    bytes
}

/// What is written into a place: what numbers and flags are wrong by.
fn change(random: &mut Random, bytes: &mut [u8], at: usize) {
    match random.below(5) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.word() as u8,
        2 => bytes[at..(at + 4)].fill(0xff),
        3 => bytes[at..(at + 4)].fill(0),
        _ => {
            let from = random.below(bytes.len() as u64 - 8) as usize;
            bytes.copy_within(from..from + 4, at);
        }
    }
}

#[track_caller]
fn check(place: &Place, image: &str, count: usize) {
    let whole = sectors(place, image);
    let entries = walk_disk(&whole);
    assert!(entries > 100, "{entries} entries of a whole image");
    let mut random = Random::new(21);
    let mut fewer = 0;
    for round in 0..count {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(20) {
            // Half of the changes lie at the start, where the sizes are.
            let range = if random.below(2) == 0 { bytes.len() as u64 - 8 } else { 16 << 10 };
            let at = random.below(range.min(bytes.len() as u64 - 8)) as usize;
            change(&mut random, &mut bytes, at);
        }
        if round % 10 == 0 {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        fewer += usize::from(walk_disk(&bytes) < entries);
    }
    assert!(fewer > 0, "no change was ever noticed");
}

/// A folder that uses each form of a file system, without large contents.
fn tree(place: &Place) {
    let source = place.path("source");
    fs::create_dir_all(source.join("many")).unwrap();
    for number in 0..200 {
        fs::write(source.join(format!("many/a-name-that-takes-some-room-{number}")), number.to_string()).unwrap();
    }
    std::os::unix::fs::symlink("x".repeat(300), source.join("link")).unwrap();
    fs::write(source.join("file"), vec![7; 9000]).unwrap();
    let scattered = File::create(source.join("scattered")).unwrap();
    for block in 0..40_u64 {
        scattered.write_all_at(&[1; 100], block * 16384).unwrap();
    }
    let _ = xattr::set(source.join("file"), "user.long", &[9; 900]);
}

#[test]
fn a_damaged_ext4_ends_in_errors() {
    for options in ["-O extents,inline_data,^metadata_csum", "-O ^extents,^64bit,^has_journal,^metadata_csum"] {
        if !has(&["mkfs.ext4"]) {
            return;
        }
        let place = Place::new();
        tree(&place);
        File::create(place.path("image")).unwrap().set_len(8 << 20).unwrap();
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-b", "1024"]).args(options.split(' '));
        assert!(make.arg("-d").arg(place.path("source")).arg(place.path("image")).status().unwrap().success());
        check(&place, "image", 400);
    }
}

#[test]
fn a_damaged_xfs_ends_in_errors() {
    if !rustix::process::geteuid().is_root() {
        return onggi_lab::peer::skip("file systems are mounted by root");
    }
    let place = Place::new();
    tree(&place);
    let Some(mounted) = Mounted::make(&place, "image", "mkfs.xfs -q -b size=1024", 320) else { return };
    mounted.fill(&place.path("source"));
    drop(mounted);
    check(&place, "image", 400);
}
