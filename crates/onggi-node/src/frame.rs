//! One message per frame: a length of four bytes, a kind, flags, and the body, compressed if that makes it shorter.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::wire::Malformed;

/// The longest body, in bytes, also once it is decompressed.
pub const BODY_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// Kind and flags.
const HEAD_BYTES: usize = 2;
/// The body is an LZ4 block behind its length.
const COMPRESSED: u8 = 1;
/// Who does not know the kind may pass over the frame.
pub const IGNORABLE: u8 = 1 << 7;
/// Shorter bodies are not tried.
const COMPRESS_FROM: usize = 64;

/// A message that is not understood yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which message it is.
    pub kind: u8,
    /// The message.
    pub body: Vec<u8>,
    /// Whether it may be passed over by who does not know its kind.
    pub ignorable: bool,
}

/// Puts messages into frames, one behind the other. What that takes besides is kept for the next.
#[derive(Default)]
pub struct Encoder {
    body: Vec<u8>,
    table: Option<CompressTable>,
}

impl Encoder {
    /// Appends a frame whose body and kind come from `put`. `compress`: try; says whether it became shorter.
    pub(crate) fn append(
        &mut self,
        frames: &mut Vec<u8>,
        compress: bool,
        put: impl FnOnce(&mut Vec<u8>) -> u8,
    ) -> bool {
        let start = frames.len();
        frames.extend_from_slice(&[0; 4 + HEAD_BYTES]);
        let (kind, is_compressed) = if compress {
            self.body.clear();
            let kind = put(&mut self.body);
            (kind, self.compress(frames))
        } else {
            (put(frames), false)
        };
        let length = (frames.len() - start - 4) as u32;
        frames[start..start + 4].copy_from_slice(&length.to_le_bytes());
        frames[start + 4] = kind;
        frames[start + 5] = if is_compressed { COMPRESSED } else { 0 };
        is_compressed
    }

    /// Appends the body, compressed if that makes it shorter.
    fn compress(&mut self, frames: &mut Vec<u8>) -> bool {
        let (body, start) = (&self.body, frames.len());
        if body.len() >= COMPRESS_FROM {
            let table = self.table.get_or_insert_default();
            frames.extend_from_slice(&(body.len() as u32).to_le_bytes());
            frames.resize(start + 4 + get_maximum_output_size(body.len()), 0);
            // there is room for the longest, so it does not fail
            let packed = compress_into_with_table(body, &mut frames[start + 4..], table).unwrap_or(body.len());
            if packed + 4 < body.len() {
                frames.truncate(start + 4 + packed);
                return true;
            }
            frames.truncate(start);
        }
        frames.extend_from_slice(body);
        false
    }
}

/// Puts a single message into a frame. `compress`: try.
#[must_use]
pub fn encode(kind: u8, body: &[u8], compress: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    Encoder::default().append(&mut frame, compress, |into| {
        into.extend_from_slice(body);
        kind
    });
    frame
}

/// Finds frames in bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// So many of them were used up.
    used: usize,
}

impl Decoder {
    /// Takes further bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let waiting = &self.bytes[self.used..];
        let Some((length, after)) = waiting.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length < HEAD_BYTES {
            return Err(Malformed("a frame has no kind"));
        }
        if length > BODY_BYTES_MAX + HEAD_BYTES {
            return Err(Malformed("a frame is too long"));
        }
        let Some(frame) = after.get(..length) else { return Ok(None) };
        let (kind, flags, body) = (frame[0], frame[1], &frame[HEAD_BYTES..]);
        let body = if flags & COMPRESSED == 0 { body.to_vec() } else { decompress(body)? };
        if flags & !(COMPRESSED | IGNORABLE) != 0 {
            return Err(Malformed("a frame has unknown flags"));
        }
        self.used += 4 + length;
        Ok(Some(Frame { kind, body, ignorable: flags & IGNORABLE != 0 }))
    }
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (length, packed) = body.split_first_chunk::<4>().ok_or(Malformed("a compressed frame is cut"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > BODY_BYTES_MAX {
        return Err(Malformed("a compressed frame is too long"));
    }
    let body = lz4_flex::block::decompress(packed, length).map_err(|_| Malformed("a frame does not decompress"))?;
    if body.len() == length { Ok(body) } else { Err(Malformed("a compressed frame is shorter than it says")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_that_claims_too_much_is_refused_before_it_came() {
        for (length, expected) in [(1, "no kind"), (u32::MAX, "too long")] {
            let mut decoder = Decoder::default();
            decoder.push(&length.to_le_bytes());
            let error = decoder.next_frame().unwrap_err();
            assert!(error.0.contains(expected), "{error}");
        }
        let mut decoder = Decoder::default();
        decoder.push(&[6, 0, 0, 0, 9, COMPRESSED, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next_frame(), Err(Malformed("a compressed frame is too long")));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(0_u8..4, 0..600), 0..6),
            compress: bool,
            step in 1_usize..200,
        ) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|body| encode(7, body, compress)).collect();
            let (mut decoder, mut found) = (Decoder::default(), Vec::new());
            for piece in bytes.chunks(step) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame.body);
                }
            }
            prop_assert_eq!(found, bodies);
        }
    }
}
