//! What is held while a database is examined: about the same for any length, and for files that claim what is not so. A
//! process of its own, whose most memory the kernel tells.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::FileExt as _;

use futures::executor::block_on;
use onggi_source::SourceError;
use onggi_source::etcd::bolt::{Bolt, BoltError, BoltWriter, FileBytes};
use onggi_source::etcd::content::Content;
use onggi_source::etcd::hashkv::HashKv;
use onggi_source::etcd::survey::Survey;

const RECORDS: u64 = 160_000;
const VALUE: [u8; 1000] = [b'v'; 1000];
const MEMORY_KIB_MAX: u64 = 64 << 10;

struct Local(File);

impl FileBytes for Local {
    async fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.0.read_exact_at(buffer, offset).map_err(|error| SourceError::Incomplete(error.to_string()))
    }
}

fn varint(record: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        record.push(number as u8 | 0x80);
        number >>= 7;
    }
    record.push(number as u8);
}

/// A key that was made at this revision and never changed.
fn record(main: u64) -> Vec<u8> {
    let (key, mut record) = (format!("/registry/{main}"), Vec::new());
    for (tag, bytes) in [(10, key.as_bytes()), (42, &VALUE)] {
        if tag == 42 {
            for (tag, number) in [(16, main), (24, main), (32, 1)] {
                record.push(tag);
                varint(&mut record, number);
            }
        }
        record.push(tag);
        varint(&mut record, bytes.len() as u64);
        record.extend_from_slice(bytes);
    }
    record
}

/// A database of more bytes than may be held; its length.
fn write(file: File) -> u64 {
    let mut writer = BoltWriter::new(BufWriter::new(file), 4096).unwrap();
    writer.bucket(b"key", 0).unwrap();
    for main in 2..RECORDS {
        writer.put(&[&main.to_be_bytes()[..], b"_", &[0; 8]].concat(), &record(main)).unwrap();
    }
    writer.bucket(b"meta", 0).unwrap();
    writer.put(b"consistent_index", &RECORDS.to_be_bytes()).unwrap();
    writer.finish().unwrap().1
}

fn examine(file: &Local, length: u64) -> Result<u64, BoltError> {
    block_on(async {
        let bolt = Bolt::open(file, length).await?;
        let survey = Survey::take(&bolt).await?;
        Content::check(&bolt, &survey).await?;
        Ok(HashKv::compute(&bolt, &[survey.compact_revision]).await?.unwrap().live())
    })
}

/// The most memory that this process held until now.
fn most_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_long_file_and_one_that_claims_to_be_endless_take_little_memory() {
    let local = Local(tempfile::tempfile().unwrap());
    let length = write(local.0.try_clone().unwrap());
    assert!(length >> 10 > 2 * MEMORY_KIB_MAX, "{length}");
    assert_eq!(examine(&local, length).unwrap(), RECORDS - 2);
    let pages = length / 4096;
    for page in [3, pages / 2, pages - 2, pages - 1] {
        // The count of its elements, and of the pages that belong to it.
        for (at, claim) in [(10, &[0xff; 2][..]), (12, &[0xff; 4]), (12, &[0xff, 0xff, 0, 0])] {
            let (at, mut whole) = (page * 4096 + at, vec![0; claim.len()]);
            local.0.read_exact_at(&mut whole, at).unwrap();
            local.0.write_all_at(claim, at).unwrap();
            assert!(examine(&local, length).is_err(), "page {page}");
            local.0.write_all_at(&whole, at).unwrap();
        }
    }
    let most = most_kib();
    eprintln!("MEASURED: {} MiB examined, {} MiB held at most", length >> 20, most >> 10);
    assert!(most < MEMORY_KIB_MAX, "{most} KiB");
}
