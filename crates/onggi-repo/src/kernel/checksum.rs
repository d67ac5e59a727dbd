//! CRC-32C: a tenth of the time of a hash, for what only chance can change. Never for what somebody could choose.

/// A checksum over pieces. Any change of up to 32 bits next to each other changes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum(u32);

impl Checksum {
    /// Of bytes that lie in several places.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut sum = Self::default();
        parts.into_iter().for_each(|part| sum.update(part));
        sum
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_rfc_3720() {
        assert_eq!(Checksum::of([&[0; 32][..]]), Checksum(0x8a91_36aa));
        assert_eq!(Checksum::of([&[0xff; 20][..], &[0xff; 12]]), Checksum(0x62a8_ab43));
    }
}
