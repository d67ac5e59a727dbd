//! What comes back is what the kernel put in: every kind of entry, holes, many extents, large folders, attributes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use onggi_lab::compare::{Aspects, compare};
use onggi_lab::corpus::{Random, zoo};
use onggi_lab::peer;

use crate::rig::{Division, GPT, LOGICAL, Mounted, Place, copy, divide, has, run};

/// Like a cache of onggi's own, and more.
const LARGE: usize = 70 << 20;

/// The zoo, and what makes file systems use each of their forms.
fn tree(to: &Path) {
    for what in zoo::write(to).unwrap() {
        peer::say(&format!("{what}, of the zoo"));
    }
    let at = to.join("forms");
    fs::create_dir(&at).unwrap();
    // More extents than an inode has room for, and more than one node of a tree.
    let scattered = File::create(at.join("scattered")).unwrap();
    for block in 0..3000_u64 {
        scattered.write_all_at(&block.to_le_bytes().repeat(512), block * 12288).unwrap();
    }
    for count in [5, 40, 300, 4000] {
        let folder = at.join(format!("{count} entries"));
        fs::create_dir(&folder).unwrap();
        for number in 0..count {
            fs::write(folder.join(format!("{number:05}-a-name-that-takes-some-room")), number.to_string()).unwrap();
        }
    }
    for length in [0, 1, 50, 59, 60, 100, 150, 156, 157, 400] {
        fs::write(at.join(format!("{length} bytes")), vec![b'x'; length]).unwrap();
        if length > 0 {
            std::os::unix::fs::symlink("l".repeat(length), at.join(format!("link of {length}"))).unwrap();
        }
    }
    let mut deep = at.join("deep");
    for level in 0..100 {
        deep.push(format!("level {level}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "bottom").unwrap();
}

/// Restores a folder of a disk and compares it with what was put in.
#[track_caller]
fn comes_back(place: &Place, disk: &str, name: &str, expected: &Path) {
    let words = format!("restore latest:{name}/tree --disk {disk} --target {{out}} --privileged --verify");
    place.onggi(&words).expect(0);
    let mut found = compare(expected, &place.path("out"), Aspects { holes: true, ..Aspects::ALL }).unwrap();
    // The target is the operator's; what is in it is restored.
    found.retain(|difference| difference.path != Path::new(""));
    assert!(found.is_empty(), "{found:#?}");
    fs::remove_dir_all(place.path("out")).unwrap();
}

#[track_caller]
fn check(make: &str, megabytes: u64, division: Option<Division>) {
    if !rustix::process::geteuid().is_root() {
        return peer::skip("file systems are mounted by root");
    }
    let place = Place::new();
    let Some(mounted) = Mounted::make(&place, "image", make, megabytes) else { return };
    tree(&place.path("source"));
    mounted.fill(&place.path("source"));
    // What the kernel shows: not every file system takes all that the zoo has.
    mounted.copy_out(&place.path("expected"));
    drop(mounted);
    let (disk, name) = match division {
        Some(division) if divide(&place, "disk", "image", division) => ("disk", division.name),
        Some(_) => return,
        None => ("image", ""),
    };
    place.store(disk);
    comes_back(&place, disk, name, &place.path("expected"));
}

#[test]
fn ext4_in_a_gpt_comes_back() {
    check("mkfs.ext4 -q -b 4096 -L root", 256, Some(GPT));
}

#[test]
fn ext4_in_a_logical_partition_comes_back() {
    check("mkfs.ext4 -q -b 1024 -O ^has_journal,meta_bg,^resize_inode", 256, Some(LOGICAL));
}

#[test]
fn ext4_with_small_contents_in_its_inodes_comes_back() {
    check("mkfs.ext4 -q -O inline_data,bigalloc,^64bit", 256, None);
}

#[test]
fn ext3_comes_back() {
    check("mkfs.ext3 -q -b 1024", 256, None);
}

#[test]
fn ext2_comes_back() {
    check("mkfs.ext2 -q -b 4096", 256, None);
}

#[test]
fn files_of_one_partition_come_back_whatever_the_others_are() {
    let place = Place::new();
    if !has(&["mkfs.ext4"]) {
        return;
    }
    fs::create_dir_all(place.path("source/etc")).unwrap();
    fs::write(place.path("source/etc/motd"), "hello").unwrap();
    File::create(place.path("image")).unwrap().set_len(16 << 20).unwrap();
    let (from, image) = (place.path("source"), place.path("image"));
    run("mkfs.ext4", &["-q".as_ref(), "-d".as_ref(), from.as_os_str(), image.as_os_str()]);
    if !divide(&place, "disk", "image", GPT) {
        return;
    }
    place.store("disk");
    // the first partition is empty, and nothing in it can be meant
    place.onggi("restore latest --disk disk --target {out} --include /part2/etc").expect(0);
    assert_eq!(fs::read(place.path("out/part2/etc/motd")).unwrap(), b"hello");
    assert!(!place.path("out/part1").exists());
}

#[test]
fn xfs_in_a_gpt_comes_back() {
    check("mkfs.xfs -q", 400, Some(GPT));
}

#[test]
fn xfs_with_other_sizes_comes_back() {
    check("mkfs.xfs -q -b size=1024 -n size=8192 -i size=512 -d agcount=3", 400, None);
}

#[test]
fn xfs_of_version_4_comes_back() {
    if !has(&["mkfs.xfs"]) {
        return;
    }
    let place = Place::new();
    let (source, prototype) = (place.path("source"), place.path("prototype"));
    fs::create_dir_all(source.join("tree/many")).unwrap();
    // Kernels do not mount this version any more: the files are named to the program that makes it.
    let mut text = "boot\n0 0\nd--755 0 0\ntree d--755 0 0\nlink l--777 0 0 file\nmany d--755 0 0\n".to_owned();
    std::os::unix::fs::symlink("file", source.join("tree/link")).unwrap();
    for number in 0..500 {
        let (name, path) = (format!("a-name-{number}"), source.join(format!("tree/many/a-name-{number}")));
        fs::write(&path, number.to_string()).unwrap();
        writeln!(text, "{name} ---644 0 0 {}", path.display()).unwrap();
    }
    fs::write(source.join("tree/file"), Random::new(7).bytes(3 << 20)).unwrap();
    writeln!(text, "$\nfile ---600 0 0 {}\n$\n$", source.join("tree/file").display()).unwrap();
    fs::write(&prototype, text).unwrap();
    File::create(place.path("image")).unwrap().set_len(400 << 20).unwrap();
    let mut make = Command::new("mkfs.xfs");
    make.args(["-q", "-m", "crc=0", "-i", "size=256", "-p"]).arg(&prototype).arg(place.path("image"));
    if !make.status().unwrap().success() {
        return peer::skip("mkfs.xfs does not make version 4");
    }
    place.store("image");
    place.onggi("restore latest:/tree --disk image --target {out}").expect(0);
    let found = compare(&source.join("tree"), &place.path("out"), Aspects::CONTENT).unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_disk_in_a_qcow2_file_comes_back() {
    if !rustix::process::geteuid().is_root() || !has(&["qemu-img"]) {
        return;
    }
    let place = Place::new();
    let Some(mounted) = Mounted::make(&place, "image", "mkfs.ext4 -q", 64) else { return };
    fs::create_dir(place.path("source")).unwrap();
    fs::write(place.path("source/file"), "in a qcow2 file").unwrap();
    mounted.fill(&place.path("source"));
    drop(mounted);
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "qcow2", "-c"]).arg(place.path("image")).arg(place.path("disk.qcow2"));
    assert!(convert.status().unwrap().success());
    place.store("disk.qcow2");
    comes_back(&place, "disk.qcow2", "", &place.path("source"));
}

#[test]
fn what_only_the_journal_has_is_seen() {
    if !rustix::process::geteuid().is_root() {
        return peer::skip("file systems are mounted by root");
    }
    let place = Place::new();
    let Some(mounted) = Mounted::make(&place, "image", "mkfs.ext4 -q", 128) else { return };
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    for number in 0..500 {
        fs::write(source.join(format!("file {number}")), number.to_string()).unwrap();
    }
    mounted.fill(&source);
    fs::remove_file(mounted.path().join("tree/file 7")).unwrap();
    fs::remove_file(source.join("file 7")).unwrap();
    // Committed to the journal, and not yet put in its place: a snapshot of a disk in use.
    assert!(Command::new("sync").arg("-f").arg(mounted.path()).status().unwrap().success());
    let (from, to) = (File::open(place.path("image")).unwrap(), File::create(place.path("copy")).unwrap());
    to.set_len(128 << 20).unwrap();
    copy(&from, &to, 0, 128 << 20);
    drop(mounted);
    place.store("copy");
    let listed = place.onggi("ls latest:/tree --disk copy").expect(0);
    assert!(listed.err.contains("read from its journal"), "{}", listed.err);
    assert_eq!(listed.out.lines().count(), 1 + 499, "{}", listed.out);
    place.onggi("restore latest:/tree --disk copy --target {out}").expect(0);
    let found = compare(&source, &place.path("out"), Aspects::CONTENT).unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn single_files_are_listed_and_restored_by_anybody() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir_all(source.join("etc/deep")).unwrap();
    fs::write(source.join("etc/hostname"), "web-1\n").unwrap();
    fs::write(source.join("etc/deep/other"), "other\n").unwrap();
    fs::write(source.join("large"), Random::new(5).bytes(LARGE)).unwrap();
    File::create(place.path("image")).unwrap().set_len(200 << 20).unwrap();
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-L", "root", "-d"]).arg(&source).arg(place.path("image"));
    assert!(make.status().unwrap().success());
    if !divide(&place, "disk.raw", "image", GPT) {
        return;
    }
    place.store("disk.raw");

    let parts = place.onggi("ls latest --disk disk.raw").expect(0).out;
    let words: Vec<Vec<&str>> = parts.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((words[0][..2].to_vec(), words[1].last()), (vec!["/part1", "unknown"], Some(&"root")), "{parts}");
    let json = place.onggi("--json ls latest --disk disk.raw").expect(0).out;
    let part: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&part["path"], &part["file_system"], &part["label"]),
        (&"/part2".into(), &"ext4".into(), &"root".into())
    );

    let listed = place.onggi("ls latest:/part2/etc --disk disk.raw").expect(0).out;
    assert_eq!(listed, "/part2/etc\n/part2/etc/deep\n/part2/etc/hostname\n");
    place.onggi("restore latest:/part2/etc/hostname --disk disk.raw --target {one}").expect(0);
    assert_eq!(fs::read_to_string(place.path("one/hostname")).unwrap(), "web-1\n");
    place.onggi("restore latest:/part2 --disk disk.raw --include **/other --target {some}").expect(0);
    assert_eq!(fs::read_to_string(place.path("some/etc/deep/other")).unwrap(), "other\n");
    assert!(!place.path("some/large").exists());
    place.onggi("restore latest:/part2/large --disk disk.raw --target {large}").expect(0);
    assert!(fs::read(place.path("large/large")).unwrap() == fs::read(source.join("large")).unwrap());
    let again = "restore latest:/part2/large --disk disk.raw --target {large} --existing replace";
    assert!(place.onggi(again).expect(0).err.contains("1 unchanged"));
}

#[test]
fn a_table_that_is_gone_is_read_from_its_copy_and_a_cut_disk_as_far_as_it_goes() {
    if !has(&["mkfs.ext4"]) {
        return;
    }
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir_all(source.join("etc")).unwrap();
    fs::write(source.join("etc/hostname"), "web-1\n").unwrap();
    fs::write(source.join("large"), Random::new(6).bytes(20 << 20)).unwrap();
    File::create(place.path("image")).unwrap().set_len(64 << 20).unwrap();
    let mut make = Command::new("mkfs.ext4");
    assert!(make.args(["-q", "-d"]).arg(&source).arg(place.path("image")).status().unwrap().success());
    if !divide(&place, "disk", "image", GPT) {
        return;
    }
    let disk = File::options().write(true).open(place.path("disk")).unwrap();
    disk.write_all_at(&vec![0; 34 * 512], 0).unwrap();
    place.store("disk");
    place.onggi("restore latest:/part2/etc --disk disk --target {out}").expect(0);
    assert_eq!(fs::read_to_string(place.path("out/hostname")).unwrap(), "web-1\n");

    // The file system alone, and not all of it.
    fs::copy(place.path("image"), place.path("half")).unwrap();
    File::options().write(true).open(place.path("half")).unwrap().set_len(12 << 20).unwrap();
    place.store("half");
    let ended = place.onggi("restore latest --disk half --target {part}").expect(3);
    assert!(ended.err.contains("(damaged)") && ended.err.contains("bytes are lost on the disk"), "{}", ended.err);
    assert_eq!(fs::read_to_string(place.path("part/etc/hostname")).unwrap(), "web-1\n");
    assert!(!place.path("part/large").exists());
}
