//! The envelope of snapshots, indexes and locks inside the seal: a version byte and one zstd frame, or bare JSON.

use super::{
    compression,
    fault::{FormatError, Result},
};
use std::borrow::Cow;

const WHAT: &str = "unpacked file";
/// Says that one zstd frame follows.
const ZSTD: u8 = 2;
/// Most bytes that a file of `length` bytes may unfold to.
const fn length_max(length: usize) -> usize {
    (64 << 20) + 8 * length
}

/// The plaintext to seal for this JSON.
pub fn encode(json: &[u8]) -> Vec<u8> {
    let mut plaintext = vec![ZSTD];
    compression::compress(3, json, &mut plaintext);
    plaintext
}

/// The JSON in an opened file. An empty file gives empty JSON.
pub fn decode(plaintext: &[u8]) -> Result<Cow<'_, [u8]>> {
    match plaintext {
        [] | [b'{' | b'[', ..] => Ok(Cow::Borrowed(plaintext)),
        [ZSTD, frame @ ..] => {
            let mut json = Vec::new();
            compression::decompress(WHAT, frame, length_max(frame.len()), &mut json)?;
            Ok(Cow::Owned(json))
        }
        _ => Err(FormatError::invalid(WHAT, "unknown encoding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bare_json_is_taken_as_it_is() {
        for json in ["", "{}", "[1]"] {
            assert_eq!(decode(json.as_bytes()).unwrap(), json.as_bytes());
        }
        assert!(decode(b"\x01").is_err());
        assert!(decode(b"\x02").is_err());
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(json in any::<Vec<u8>>()) {
            let plaintext = encode(&json);
            prop_assert_eq!(&*decode(&plaintext).unwrap(), &json[..]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = decode(&bytes);
        }
    }
}
