//! What is not read is named, with what was seen, and nothing is written.

use crate::rig::Place;

#[track_caller]
fn check(bytes: &[(usize, &[u8])], expected: &str) {
    let place = Place::new();
    let mut image = vec![0; 1 << 20];
    for (at, bytes) in bytes {
        image[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    std::fs::write(place.path("image"), image).unwrap();
    place.store("image");
    for words in ["ls latest --disk image", "restore latest --disk image --target {out}"] {
        let ended = place.onggi(words).expect(1);
        assert!(ended.err.contains(expected) && ended.err.contains("hint:"), "{}", ended.err);
    }
    assert!(!place.path("out").exists());
}

#[test]
fn an_encrypted_disk_is_named() {
    check(&[(0, b"LUKS\xba\xbe")], "encrypted (LUKS)");
}

#[test]
fn a_volume_group_is_named() {
    check(&[(512, b"LABELONE"), (536, b"LVM2 001")], "(LVM), which is not read");
}

#[test]
fn another_file_system_is_named() {
    check(&[(3, b"NTFS    ")], "ntfs is not read, only ext2, ext3, ext4 and xfs");
}

#[test]
fn another_format_is_named() {
    check(&[(0, b"KDMV")], "images of the format vmdk are not read");
}

#[test]
fn a_file_that_is_no_disk_is_told() {
    check(&[(100, b"some text")], "no file system is known by what it begins with");
}

#[test]
fn a_qcow2_file_that_names_another_file_is_refused() {
    let header = [b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\x01\0\0\0\0\x0b".as_slice(), &[0; 100]].concat();
    check(&[(0, &header), (256, b"/etc/shadow")], "the image is not decoded");
}
