//! The table against a plain list, and its size.

use super::*;
use proptest::prelude::*;

fn entry(kind: BlobKind, id: [u8; 32], offset: u32) -> PackEntry {
    PackEntry { kind, id: BlobId(id), offset, length: 100, uncompressed_length: (offset % 2 == 1).then_some(300) }
}

/// Few ids, all in the same bucket of the same shard, so that neighbours and copies are common.
fn id(low: u8) -> [u8; 32] {
    let mut id = [7; 32];
    id[31] = low;
    id
}

fn pack(number: u8) -> PackId {
    PackId([number; 32])
}

#[test]
fn a_record_takes_48_bytes_and_the_table_at_most_64_for_each() {
    let index = Index::default();
    let entries: Vec<PackEntry> =
        (0..100_000_u32).map(|number| entry(BlobKind::Data, BlobId::of(&number.to_le_bytes()).0, number)).collect();
    for (number, entries) in entries.chunks(100).enumerate() {
        index.load(PackId::of(&number.to_le_bytes()), PackState::Live, None, entries);
    }
    index.settle();
    assert_eq!(size_of::<Record>(), 48);
    assert_eq!(index.len(), 100_000);
    assert!(index.memory() <= 64 * 100_000, "{}", index.memory());
    assert!(entries.iter().all(|entry| index.live(BlobKind::Data, &entry.id).is_some()));
}

#[test]
fn marked_and_unlisted_packs_are_read_and_not_built_upon() {
    let index = Index::default();
    index.load(pack(1), PackState::Tombstoned(None), None, &[entry(BlobKind::Data, id(1), 0)]);
    index.load(pack(2), PackState::Unlisted, None, &[entry(BlobKind::Data, id(1), 0)]);
    index.settle();
    assert_eq!(index.live(BlobKind::Data, &BlobId(id(1))), None);
    assert_eq!(index.all(BlobKind::Data, &BlobId(id(1))).len(), 2);
    index.add(pack(3), PackState::Live, &[entry(BlobKind::Data, id(1), 0)]);
    assert_eq!(index.live(BlobKind::Data, &BlobId(id(1))).unwrap().pack, pack(3));
    assert_eq!(index.all(BlobKind::Data, &BlobId(id(1)))[0].pack, pack(3), "those that stay come first");
}

#[test]
fn a_pack_that_one_file_announces_and_another_marks_is_marked() {
    for states in [[PackState::Live, PackState::Tombstoned(None)], [PackState::Tombstoned(None), PackState::Live]] {
        let index = Index::default();
        for state in states {
            index.load(pack(1), state, None, &[entry(BlobKind::Data, id(1), 0)]);
        }
        index.settle();
        assert_eq!(index.live(BlobKind::Data, &BlobId(id(1))), None);
    }
}

proptest! {
    #[test]
    fn the_table_finds_what_a_list_finds(
        packs in proptest::collection::vec(proptest::collection::vec((any::<bool>(), 0..20_u8), 1..6), 0..40), loaded in 0..40_usize,
    ) {
        let index = Index::default();
        let mut list = Vec::new();
        for (number, blobs) in packs.iter().enumerate() {
            let kind = |is_tree| if is_tree { BlobKind::Tree } else { BlobKind::Data };
            let entries: Vec<PackEntry> =
                blobs.iter().zip(0..).map(|((is_tree, low), offset)| entry(kind(*is_tree), id(*low), offset)).collect();
            if number < loaded {
                index.load(pack(number as u8), PackState::Live, None, &entries);
                index.settle();
            } else {
                index.add(pack(number as u8), PackState::Live, &entries);
            }
            list.extend(entries.into_iter().map(|entry| (number as u8, entry)));
        }
        for (kind, low) in [BlobKind::Data, BlobKind::Tree].into_iter().flat_map(|kind| (0..20).map(move |low| (kind, low))) {
            let fits = |(_, entry): &&(u8, PackEntry)| entry.kind == kind && entry.id == BlobId(id(low));
            let mut expected: Vec<_> = list.iter().filter(fits).map(|(number, entry)| (pack(*number), entry.offset)).collect();
            let mut found: Vec<_> =
                index.all(kind, &BlobId(id(low))).iter().map(|location| (location.pack, location.offset)).collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(index.len(), list.len());
    }
}
