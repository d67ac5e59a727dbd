//! One message per frame: a length of four bytes, a kind, flags, and the body, compressed if that makes it shorter.

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

/// Puts a frame into bytes. `compress`: try.
#[must_use]
pub fn encode(kind: u8, body: &[u8], compress: bool) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend_from_slice(&[kind, 0]);
    let packed = (compress && body.len() >= COMPRESS_FROM).then(|| lz4_flex::block::compress(body));
    match packed.filter(|packed| packed.len() + 4 < body.len()) {
        Some(packed) => {
            frame[5] |= COMPRESSED;
            frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
            frame.extend_from_slice(&packed);
        }
        None => frame.extend_from_slice(body),
    }
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
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
