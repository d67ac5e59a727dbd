//! Buffers of whole packs, used again: whoever reads one pack after another would else have the kernel clear as much
//! memory as it reads.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Shorter ones come from the allocator, which keeps them itself.
const SHORT: usize = 256 << 10;
/// Longer ones are rare and go back to the system.
const LONG: usize = 32 << 20;
/// How many are kept while nobody reads into them: as many packs as two computing threads have in turn.
const KEPT: usize = 3;

/// Buffers that are free.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer with room for `length` bytes; `None` if there is no memory.
    pub fn take(&self, length: usize) -> Option<Vec<u8>> {
        let mut buffer = if length < SHORT { Vec::new() } else { self.fitting(length).unwrap_or_default() };
        buffer.try_reserve_exact(length).ok()?;
        Some(buffer)
    }

    /// The shortest free one that is long enough.
    fn fitting(&self, length: usize) -> Option<Vec<u8>> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = free.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= length);
        let (place, _) = fits.min_by_key(|(_, buffer)| buffer.capacity())?;
        Some(free.swap_remove(place))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// What was read, in a buffer that comes back when nobody looks at it any more.
pub(super) fn lend(content: Vec<u8>, home: &Arc<Buffers>) -> Bytes {
    if !(SHORT..=LONG).contains(&content.capacity()) {
        return content.into();
    }
    Bytes::from_owner(Lent { content, home: Arc::clone(home) })
}

struct Lent {
    content: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.content));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads so many bytes of one value.
    fn read(home: &Arc<Buffers>, length: usize, value: u8) -> Bytes {
        let mut buffer = home.take(length).unwrap();
        assert!(buffer.is_empty());
        buffer.resize(length, value);
        lend(buffer, home)
    }

    #[test]
    fn a_buffer_comes_back_when_the_last_who_reads_it_is_done() {
        let home = Arc::default();
        let first = read(&home, SHORT, 1);
        let (address, part) = (first.as_ptr(), first.slice(..10));
        drop(first);
        let second = read(&home, SHORT, 2);
        assert_ne!(second.as_ptr(), address);
        assert_eq!(part, [1; 10][..]);
        drop(part);
        assert_eq!(read(&home, SHORT, 3).as_ptr(), address);
    }

    #[test]
    fn few_are_kept_and_the_shortest_that_fits_is_taken() {
        let home = Arc::default();
        let lengths = [4 * SHORT, 2 * SHORT, 3 * SHORT, SHORT, SHORT - 1, LONG + 1];
        drop(lengths.map(|length| read(&home, length, 0)));
        let free = || home.0.lock().unwrap().iter().map(Vec::capacity).collect::<Vec<_>>();
        assert_eq!(free(), [4 * SHORT, 2 * SHORT, 3 * SHORT]);
        let _held = read(&home, 2 * SHORT + 1, 0);
        assert_eq!(free(), [4 * SHORT, 2 * SHORT]);
    }
}
