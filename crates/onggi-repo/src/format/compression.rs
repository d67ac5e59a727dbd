//! zstd in single frames of known size. Output never exceeds what the caller allows, whatever a frame claims.

use super::fault::{FormatError, Result};
use std::{cell::RefCell, io::Cursor};
use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe,
};

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Data is stored as it is; trees are compressed nevertheless, since restic rewrites others.
    Off,
    /// A zstd level, from -7 (fast) to 19 (small); beyond, the window would exceed 8 MiB.
    Level(i32),
}

impl Compression {
    /// The level used when nothing else is asked for.
    pub const DEFAULT: Self = Self::Level(3);

    /// The zstd level in its bounds.
    pub(super) fn level(self) -> Option<i32> {
        match self {
            Self::Off => None,
            Self::Level(level) => Some(level.clamp(-7, 19)),
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::DEFAULT
    }
}

thread_local! {
    /// Contexts are large and slow to make: one of each per thread, the compressor with the level it was set to.
    static COMPRESSOR: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends one frame with the content size in its header.
pub(super) fn compress(level: i32, plaintext: &[u8], out: &mut Vec<u8>) {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some((set, compressor)) if *set == level => compressor,
            _ => &mut slot.insert((level, Compressor::new(level).expect("the level is in its bounds"))).1,
        };
        out.reserve(zstd_safe::compress_bound(plaintext.len()));
        // Behind what is there, into room that need not be cleared first.
        let mut room = Cursor::new(&mut *out);
        room.set_position(room.get_ref().len() as u64);
        compressor.compress_to_buffer(plaintext, &mut room).expect("the bound is large enough");
    });
}

/// What a frame says of its own content, before anything is allocated for it.
pub(super) fn claimed_length(what: &'static str, frame: &[u8]) -> Result<Option<u64>> {
    zstd_safe::get_frame_content_size(frame).map_err(|_| FormatError::invalid(what, "not a zstd frame"))
}

/// Replaces `out` with the content of exactly one frame of at most `length_max` bytes.
pub(super) fn decompress(what: &'static str, frame: &[u8], length_max: usize, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    let frame_length = zstd_safe::find_frame_compressed_size(frame);
    if frame_length != Ok(frame.len()) {
        return Err(FormatError::invalid(what, "not a single zstd frame"));
    }
    let length = match claimed_length(what, frame)? {
        Some(claimed) if claimed > length_max as u64 => return Err(too_long(what, length_max)),
        Some(claimed) => claimed as usize,
        None => bound(what, frame, length_max)?,
    };
    out.try_reserve_exact(length).map_err(|_| FormatError::invalid(what, "no memory for the content it claims"))?;
    let written = DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = slot.get_or_insert_with(|| Decompressor::new().expect("memory for a small context"));
        decompressor.decompress_to_buffer(frame, out)
    });
    // A buffer that is used again may have more room than was asked for.
    if written.is_ok_and(|written| written <= length) {
        Ok(())
    } else {
        out.clear();
        Err(FormatError::invalid(what, "the zstd frame is damaged or longer than allowed"))
    }
}

/// An upper bound for a frame without a content size: its blocks hold at most 128 KiB each.
fn bound(what: &'static str, frame: &[u8], length_max: usize) -> Result<usize> {
    /// A block takes at least four bytes: its header and one byte.
    const BLOCK: usize = 128 << 10;
    let blocks = frame.len().div_ceil(4);
    match blocks.checked_mul(BLOCK) {
        Some(bound) => Ok(bound.min(length_max)),
        None => Err(too_long(what, length_max)),
    }
}

fn too_long(what: &'static str, length_max: usize) -> FormatError {
    FormatError::invalid(what, format!("the content is longer than {length_max} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bomb_is_refused_before_memory_is_taken_for_it() {
        let mut frame = Vec::new();
        compress(3, &vec![0; 1 << 20], &mut frame);
        assert!(frame.len() < 1000);
        let mut out = Vec::new();
        assert!(decompress("test", &frame, (1 << 20) - 1, &mut out).is_err());
        assert_eq!(out.capacity(), 0);
        decompress("test", &frame, 1 << 20, &mut out).unwrap();
        assert_eq!(out, vec![0; 1 << 20]);
    }

    #[test]
    fn a_frame_without_content_size_is_bounded_too() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        std::io::Write::write_all(&mut encoder, &[7; 5000]).unwrap();
        let frame = encoder.finish().unwrap();
        let mut out = Vec::new();
        decompress("test", &frame, 5000, &mut out).unwrap();
        assert_eq!(out, [7; 5000]);
        assert!(decompress("test", &frame, 4999, &mut out).is_err());
    }

    #[test]
    fn two_frames_are_not_one() {
        let mut frames = Vec::new();
        compress(3, b"one", &mut frames);
        compress(3, b"two", &mut frames);
        assert!(decompress("test", &frames, 100, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn decompressing_undoes_compressing(plaintext in proptest::collection::vec(0..4_u8, 0..3000), level in -7..6) {
            let (mut frame, mut out) = (b"x".to_vec(), Vec::new());
            compress(level, &plaintext, &mut frame);
            decompress("test", &frame[1..], 3000, &mut out).unwrap();
            prop_assert_eq!(out, plaintext);
        }

        #[test]
        fn arbitrary_frames_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
            frame.extend_from_slice(&bytes);
            let _ = decompress("test", &frame, 1 << 16, &mut Vec::new());
        }
    }
}
