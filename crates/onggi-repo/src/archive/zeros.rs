//! Chunks of nothing but zeros, into which holes are cut: their ids are known, so that a hole of any length costs no
//! hashing when it is stored and no reading when it is restored.

use std::sync::LazyLock;

use crate::format::BlobId;

/// The shortest of them has 2 to this power bytes: the smallest piece of a disk.
const SHORTEST: u32 = 16;

/// The ids of 64 KiB of zeros, of 128 KiB, and so on to 8 MiB, the longest chunk. In the middle is what a hole of any
/// repository with restic's chunk sizes is cut into, 512 KiB.
static IDS: LazyLock<[BlobId; 8]> = LazyLock::new(|| {
    [
        "de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31",
        "fa43239bcee7b97ca62f007cc68487560a39e19f74f3dde7486db3f98df8e471",
        "8a39d2abd3999ab73c34db2476849cddf303ce389b35826850f9a700589b4a90",
        "07854d2fef297a06ba81685e660c332de36d5d18d546927d30daad6d7fda1541",
        "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58",
        "5647f05ec18958947d32874eeb788fa396a05d0bab7c1b71f112ceb7e9b31eee",
        "bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8",
        "2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74",
    ]
    .map(|id| id.parse().expect("it is an id"))
});

/// The id of a chunk of so many zeros, if it is one of those that holes are cut into.
pub fn id_of_zeros(length: u64) -> Option<BlobId> {
    let place = length.is_power_of_two().then(|| length.trailing_zeros().checked_sub(SHORTEST))??;
    IDS.get(place as usize).copied()
}

/// How many zeros a chunk with this id has, if it is one of those that holes are cut into.
pub fn length_of_zeros(id: &BlobId) -> Option<u64> {
    let place = IDS.iter().position(|zeros| zeros == id)?;
    Some(1 << (place as u32 + SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_those_of_zeros() {
        for power in 0..32 {
            let length = 1_u64 << power;
            let expected = (16..24).contains(&power).then(|| BlobId::of(&vec![0; length as usize]));
            assert_eq!(id_of_zeros(length), expected, "{length}");
            assert_eq!(expected.and_then(|id| length_of_zeros(&id)), expected.map(|_| length));
        }
        assert_eq!((id_of_zeros(0), id_of_zeros(3 << 16)), (None, None));
        assert_eq!(length_of_zeros(&BlobId::of(b"")), None);
    }
}
