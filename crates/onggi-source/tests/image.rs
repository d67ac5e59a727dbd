//! Disk images against QEMU's own programs: what is read equals what `qemu-img convert` makes of it, what is written
//! passes `qemu-img check`, and what a stranger made to do damage is refused.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use onggi_source::openstack::image::{
    ExtentKind, Inspection, Inspector, Piece, Qcow2, Qcow2Plan, State, Table, inspect,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// A folder for images; `None`, loudly, where a program is missing.
fn bench(programs: &[&str]) -> Option<TempDir> {
    for program in programs {
        if Command::new(program).arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
            eprintln!("SKIPPED: {program} is not installed");
            return None;
        }
    }
    Some(tempfile::tempdir().unwrap())
}

#[track_caller]
fn run(folder: &TempDir, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).current_dir(folder).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    out.into_owned()
}

fn open(folder: &TempDir, name: &str) -> Qcow2<File> {
    let file = File::open(folder.path().join(name)).unwrap();
    let length = file.metadata().unwrap().len();
    Qcow2::open(file, length).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The image's disk equals what QEMU makes of it, read in steps that end nowhere in particular; its data are where QEMU
/// says.
#[track_caller]
fn check(folder: &TempDir, name: &str) {
    run(folder, "qemu-img", &["convert", "-f", "qcow2", "-O", "raw", name, "as-raw"]);
    let expected = fs::read(folder.path().join("as-raw")).unwrap();
    let image = open(folder, name);
    assert_eq!(image.virtual_size(), expected.len() as u64, "{name}");
    let mut at = 0;
    for step in [1, 511, 4096, 70_000, 300_001].into_iter().cycle() {
        let mut buffer = vec![0xa5; step.min(expected.len() - at)];
        image.read_exact_at(at as u64, &mut buffer).unwrap();
        assert!(buffer == expected[at..at + buffer.len()], "{name}: differs behind {at}");
        at += buffer.len();
        if at == expected.len() {
            break;
        }
    }
    let data = image.data(usize::MAX).unwrap();
    let (least, most) = (mapped(folder, name, Mapped::Data), mapped(folder, name, Mapped::Allocated));
    assert!(least.iter().all(|range| holds(&data, range)), "{name}: {data:?} lacks some of {least:?}");
    assert!(data.iter().all(|range| holds(&most, range)), "{name}: {data:?} has more than {most:?}");
    let few = image.data(3).unwrap();
    assert!(few.len() <= 3 && image.data(usize::MAX).unwrap().iter().all(|range| holds(&few, range)));
    for extent in image.extents().map(Result::unwrap).filter(|extent| extent.kind != ExtentKind::Data) {
        assert!(expected[extent.range.start as usize..extent.range.end as usize].iter().all(|byte| *byte == 0));
    }
}

fn holds(ranges: &[Range<u64>], wanted: &Range<u64>) -> bool {
    ranges.iter().any(|range| range.start <= wanted.start && wanted.end <= range.end)
}

#[derive(PartialEq)]
enum Mapped {
    /// What must be read: QEMU also sees what is a hole in the file.
    Data,
    /// All that has a place in the file.
    Allocated,
}

/// Where QEMU says that data are.
fn mapped(folder: &TempDir, name: &str, what: Mapped) -> Vec<Range<u64>> {
    let map = run(folder, "qemu-img", &["map", "--output=json", "-f", "qcow2", name]);
    let map: Vec<serde_json::Value> = serde_json::from_str(&map).unwrap();
    let mut data: Vec<Range<u64>> = Vec::new();
    let is_data = |piece: &&serde_json::Value| piece["data"] == true && piece["zero"] == false;
    let has_place = |piece: &&serde_json::Value| what == Mapped::Allocated && piece["offset"].is_u64();
    for piece in map.iter().filter(|piece| is_data(piece) || has_place(piece)) {
        let start = piece["start"].as_u64().unwrap();
        let end = start + piece["length"].as_u64().unwrap();
        match data.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => data.push(start..end),
        }
    }
    data
}

/// A raw disk with text, noise and zeros, whose length is no multiple of a cluster.
fn raw(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("raw");
    let file = File::create(&path).unwrap();
    file.set_len((5 << 20) + 1536).unwrap();
    let mut word = 1_u64;
    let noise: Vec<u8> = (0..300_000)
        .map(|_| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (word >> 56) as u8
        })
        .collect();
    file.write_all_at(&noise, 100_000).unwrap();
    file.write_all_at(&b"a line like any other\n".repeat(40_000), 1 << 20).unwrap();
    file.write_all_at(b"the end", (5 << 20) + 1500).unwrap();
    path
}

#[test]
fn images_of_every_option_read_as_qemu_reads_them() {
    let Some(folder) = bench(&["qemu-img", "qemu-io"]) else { return };
    raw(&folder);
    let options = [
        "compat=0.10",
        "compat=1.1,cluster_size=512",
        "cluster_size=4k,refcount_bits=1",
        "cluster_size=64k,refcount_bits=64",
        "cluster_size=2M",
        "lazy_refcounts=on",
        "preallocation=metadata",
        "preallocation=falloc",
        "preallocation=full,cluster_size=1M",
        "extended_l2=on,cluster_size=64k",
        "extended_l2=on,cluster_size=16k,preallocation=metadata",
        "compression_type=zstd",
        "compression_type=zstd,cluster_size=2M",
        "compression_type=zstd,cluster_size=4k",
    ];
    for options in options {
        run(&folder, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "-o", options, "raw", "plain"]);
        check(&folder, "plain");
        if !options.contains("preallocation") {
            run(&folder, "qemu-img", &["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "raw", "packed"]);
            check(&folder, "packed");
        }
        run(&folder, "qemu-img", &["create", "-f", "qcow2", "-o", options, "empty", "3M"]);
        check(&folder, "empty");
    }
}

#[test]
fn snapshots_inside_an_image_do_not_change_what_its_disk_is() {
    let Some(folder) = bench(&["qemu-img", "qemu-io"]) else { return };
    raw(&folder);
    for (image, options) in [("a", "compat=0.10"), ("b", "extended_l2=on")] {
        run(&folder, "qemu-img", &["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "raw", image]);
        for (snapshot, byte) in [("one", "1"), ("two", "2")] {
            run(&folder, "qemu-img", &["snapshot", "-c", snapshot, image]);
            run(&folder, "qemu-io", &["-f", "qcow2", "-c", &format!("write -P {byte} 500k 700k"), image]);
        }
        check(&folder, image);
        assert_eq!(open(&folder, image).header().snapshots, 2);
    }
}

/// What is done to an image: in units of 512 bytes.
#[derive(Debug, Clone)]
struct Change {
    kind: usize,
    start: u64,
    length: u64,
    byte: u8,
}

const CHANGES: [&str; 5] = ["write", "write -z", "write -z -u", "discard", "write -c"];
const DISK_SECTORS: u64 = 4096;

impl Change {
    /// The sectors that it changes; packed clusters are written whole.
    fn range(&self, cluster_sectors: u64) -> Range<u64> {
        if CHANGES[self.kind] == "write -c" {
            let start = self.start / cluster_sectors * cluster_sectors;
            return start..start + cluster_sectors;
        }
        self.start..(self.start + self.length).min(DISK_SECTORS)
    }

    fn words(&self, range: &Range<u64>) -> String {
        let kind = CHANGES[self.kind];
        let pattern =
            if kind.contains("-z") || kind == "discard" { String::new() } else { format!("-P {}", self.byte) };
        format!("{kind} {pattern} {} {}", range.start * 512, (range.end - range.start) * 512)
    }
}

/// What a cluster of the image is before the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    New,
    Packed,
    Written,
}

/// What QEMU is told. It packs no cluster that was written before, and none any more once a packed one was given up: QEMU 10.0
/// would go on packing behind that one, where by then a table lies, and mark the image as corrupt.
fn words(changes: &[Change], cluster_sectors: u64, is_allocated: bool) -> Vec<String> {
    let before = if is_allocated { Cluster::Written } else { Cluster::New };
    let mut clusters = vec![before; (DISK_SECTORS / cluster_sectors) as usize];
    let mut may_pack = true;
    let mut words = Vec::new();
    for change in changes {
        let range = change.range(cluster_sectors);
        let (start, end) = (range.start / cluster_sectors, range.end.div_ceil(cluster_sectors));
        let touched = &mut clusters[start as usize..end as usize];
        let packs = CHANGES[change.kind] == "write -c";
        if packs && !(may_pack && touched.iter().all(|cluster| *cluster == Cluster::New)) {
            continue;
        }
        may_pack &= !touched.contains(&Cluster::Packed);
        touched.fill(if packs { Cluster::Packed } else { Cluster::Written });
        words.push(change.words(&range));
    }
    words
}

fn change() -> impl Strategy<Value = Change> {
    let length = prop_oneof![1..4_u64, 1..300_u64];
    (0..CHANGES.len(), 0..DISK_SECTORS, length, 1..=255_u8).prop_map(|(kind, start, length, byte)| Change {
        kind,
        start,
        length,
        byte,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_done_to_an_image_reads_as_qemu_reads_it(
        changes in prop::collection::vec(change(), 1..40),
        options in 0..6_usize,
    ) {
        let Some(folder) = bench(&["qemu-img", "qemu-io"]) else { return Ok(()) };
        let (options, cluster_sectors) = [
            ("cluster_size=512", 1),
            ("cluster_size=4k", 8),
            ("cluster_size=64k", 128),
            ("cluster_size=64k,compression_type=zstd", 128),
            ("cluster_size=16k,extended_l2=on", 32),
            ("cluster_size=64k,extended_l2=on,preallocation=metadata", 128),
        ][options];
        run(&folder, "qemu-img", &["create", "-f", "qcow2", "-o", options, "image", "2M"]);
        let words = words(&changes, cluster_sectors, options.contains("preallocation"));
        let mut arguments = vec!["-f", "qcow2", "-d", "unmap", "-t", "unsafe"];
        arguments.extend(words.iter().flat_map(|words| ["-c", words]));
        arguments.push("image");
        prop_assume!(!words.is_empty());
        run(&folder, "qemu-io", &arguments);
        check(&folder, "image");
    }
}

/// Writes the disk of an image anew, as a restore sends it.
fn rewrite(folder: &TempDir, from: &str, to: &str) {
    let image = open(folder, from);
    let plan = Qcow2Plan::new(image.virtual_size(), image.data(usize::MAX).unwrap()).unwrap();
    let mut bytes = Vec::new();
    for piece in plan.pieces() {
        match piece {
            Piece::Bytes(piece) => bytes.extend(piece),
            Piece::Zeros(count) => bytes.resize(bytes.len() + count as usize, 0),
            Piece::Disk(range) => {
                let start = bytes.len();
                bytes.resize(start + (range.end - range.start) as usize, 0);
                image.read_exact_at(range.start, &mut bytes[start..]).unwrap();
            }
        }
    }
    assert_eq!(bytes.len() as u64, plan.length());
    fs::write(folder.path().join(to), bytes).unwrap();
}

#[test]
fn what_is_written_is_in_order_and_equal_by_the_word_of_qemu() {
    let Some(folder) = bench(&["qemu-img", "qemu-io"]) else { return };
    raw(&folder);
    run(&folder, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", "raw", "small"]);
    run(&folder, "qemu-img", &["create", "-f", "qcow2", "empty", "0"]);
    run(&folder, "qemu-img", &["create", "-f", "qcow2", "wide", "9T"]);
    run(&folder, "qemu-io", &["-f", "qcow2", "-c", "write -P 1 1000 5k", "-c", "write -P 2 8T 1M", "wide"]);
    for image in ["small", "empty", "wide"] {
        rewrite(&folder, image, "anew");
        let said = run(&folder, "qemu-img", &["check", "-f", "qcow2", "anew"]);
        assert!(said.contains("No errors were found on the image."), "{said}");
        run(&folder, "qemu-img", &["compare", "-f", "qcow2", "-F", "qcow2", image, "anew"]);
    }
}

/// A change to an image of 64 KiB clusters whose tables lie where QEMU puts them: an 8-byte number at an offset.
#[track_caller]
fn hostile(changes: &[(u64, u64)], expected: &str) {
    let Some(folder) = bench(&["qemu-img", "qemu-io"]) else { return };
    run(&folder, "qemu-img", &["create", "-f", "qcow2", "image", "2G"]);
    run(&folder, "qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 128k", "-c", "write -P 1 1G 64k", "image"]);
    let path = folder.path().join("image");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    for (at, number) in changes {
        file.write_all_at(&number.to_be_bytes(), *at).unwrap();
    }
    let found = Qcow2::open(file, length).map_or_else(|error| error.to_string(), |_| "opened".to_owned());
    assert!(found.contains(expected), "{found}");
}

/// Where QEMU puts the first table and, for the first write, the second one.
const L1: u64 = 0x3_0000;
const L2: u64 = 0x4_0000;
const COPIED: u64 = 1 << 63;

#[test]
fn tables_that_lead_astray_are_refused() {
    hostile(&[], "opened");
    hostile(&[(L1 + 8, COPIED | L2)], "taken twice"); // a second table has two places
    hostile(&[(L1, COPIED | L1)], "taken twice"); // the first table as a second one
    hostile(&[(L1, COPIED | 0x1_0000)], "taken twice"); // the refcounts as a second table
    hostile(&[(L2, COPIED | L2)], "taken twice"); // a table as its own data
    hostile(&[(L2, COPIED | L1)], "taken twice");
    hostile(&[(L2 + 8, COPIED | 0x5_0000)], "taken twice"); // two clusters in one place
    hostile(&[(L2 + 8, 1 << 62 | 0x5_0100)], "taken twice"); // packed into another cluster
    hostile(&[(L1, COPIED | 0x100_0000_0000)], "beyond its end");
    hostile(&[(L2, COPIED | 0x100_0000_0000)], "beyond its end");
    hostile(&[(L2, 1 << 62 | 0x100_0000_0000)], "beyond its end");
    hostile(&[(L1, COPIED | (L2 + 0x200))], "not aligned");
    hostile(&[(L2, COPIED | 0x5_0200)], "not aligned");
    hostile(&[(L1, COPIED | L2 | 1)], "unknown bits");
    hostile(&[(L2, COPIED | 0x5_0000 | 2)], "unknown bits");
    hostile(&[(40, 0x100_0000_0000)], "beyond its end"); // the first table
    hostile(&[(40, L1 + 8)], "not aligned");
    hostile(&[(40, 0)], "taken twice"); // the header as the first table
    hostile(&[(24, 1 << 62)], "over 33554432 bytes"); // an endless disk
    hostile(&[(48, 0x100_0000_0000)], "beyond its end"); // refcounts
}

#[test]
fn an_image_that_needs_another_file_or_a_key_is_refused() {
    let Some(folder) = bench(&["qemu-img"]) else { return };
    fs::write(folder.path().join("secret"), [7; 4096]).unwrap();
    run(&folder, "qemu-img", &["create", "-f", "qcow2", "-F", "raw", "-b", "secret", "over", "64k"]);
    run(&folder, "qemu-img", &["create", "-f", "qcow2", "-o", "data_file=secret,data_file_raw=on", "beside", "64k"]);
    let key = "secret,id=key,data=0123456789";
    let locked = |options: &str, name: &str| {
        let arguments = ["create", "-f", "qcow2", "--object", key, "-o", options, name, "64k"];
        Command::new("qemu-img").current_dir(folder.path()).args(arguments).output().unwrap().status.success()
    };
    assert!(locked("encrypt.format=aes,encrypt.key-secret=key", "old-lock"));
    // QEMU first measures how fast the machine is, and gives up where the clock of processor time stands still meanwhile.
    let luks = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=100";
    assert!((0..30).any(|_| locked(luks, "locked")));
    for (name, expected) in [
        ("over", "names a backing file, \"secret\""),
        ("beside", "its data lie in another file"),
        ("old-lock", "it is encrypted"),
        ("locked", "it is encrypted"),
    ] {
        let file = File::open(folder.path().join(name)).unwrap();
        let length = file.metadata().unwrap().len();
        let error = Qcow2::open(file, length).err().unwrap();
        assert!(error.is_refusal() && error.to_string().contains(expected), "{error}");
    }
}

/// What is on a disk, found in the stream and by reading alike.
fn looked_at(folder: &TempDir, name: &str) -> Inspection {
    let bytes = fs::read(folder.path().join(name)).unwrap();
    let mut inspector = Inspector::new(bytes.len() as u64);
    for (index, piece) in bytes.chunks(50_000).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0)) {
        inspector.feed(index as u64 * 50_000, piece);
    }
    let read = |offset: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
        Ok::<(), ()>(())
    };
    let found = inspector.finish();
    assert_eq!(Ok(&found), inspect(bytes.len() as u64, read).as_ref());
    found
}

/// A line for each file system: its partition, kind and state.
fn told(found: &Inspection) -> Vec<String> {
    let line = |file_system: &onggi_source::openstack::image::FileSystem| {
        format!("{:?} {} {:?}", file_system.partition, file_system.kind, file_system.state)
    };
    found.file_systems.iter().map(line).collect()
}

#[test]
fn a_file_system_tells_whether_its_journal_must_be_replayed() {
    let Some(folder) = bench(&["mkfs.ext4", "debugfs", "mkfs.xfs"]) else { return };
    let disk = |name: &str, bytes: u64| File::create(folder.path().join(name)).unwrap().set_len(bytes).unwrap();
    for kind in ["ext2", "ext3", "ext4"] {
        disk(kind, 8 << 20);
        run(&folder, &format!("mkfs.{kind}"), &["-q", kind]);
        assert_eq!(told(&looked_at(&folder, kind)), [format!("None {kind} Clean")]);
    }
    run(&folder, "debugfs", &["-w", "-R", "feature needs_recovery", "ext4"]);
    assert_eq!(told(&looked_at(&folder, "ext4")), ["None ext4 JournalPending"]);
    assert_eq!(looked_at(&folder, "ext4").state(), Some(State::JournalPending));
    disk("xfs", 320 << 20);
    run(&folder, "mkfs.xfs", &["-q", "xfs"]);
    assert_eq!(told(&looked_at(&folder, "xfs")), ["None xfs Unknown"]);
}

#[test]
fn file_systems_are_found_in_partitions_of_both_tables() {
    let Some(folder) = bench(&["sfdisk", "mkfs.ext4"]) else { return };
    let layouts = [
        (
            Table::Mbr,
            "label: dos\nstart=63,size=8192\nstart=16384,size=60000,type=5\nstart=16447,size=8192\nstart=32768,size=8192\n",
            [1, 5, 6],
        ),
        (
            Table::Gpt,
            "label: gpt\nfirst-lba: 34\nstart=34,size=8192\nstart=16447,size=8192\nstart=32768,size=8192\n",
            [1, 2, 3],
        ),
    ];
    for (table, script, numbers) in layouts {
        File::create(folder.path().join("disk")).unwrap().set_len(64 << 20).unwrap();
        fs::write(folder.path().join("script"), script).unwrap();
        run(&folder, "sh", &["-c", "sfdisk --quiet disk <script"]);
        for start in [if table == Table::Mbr { 63 } else { 34 }, 16447, 32768] {
            let place = format!("offset={}", start * 512);
            run(&folder, "mkfs.ext4", &["-q", "-F", "-E", &place, "disk", "4096k"]);
        }
        let found = looked_at(&folder, "disk");
        let expected = numbers.map(|number| format!("Some({number}) ext4 Clean"));
        assert_eq!((found.table, told(&found)), (table, expected.to_vec()));
    }
}
