//! The memory of a process as a sum of named parts. Every queue, window and cache belongs to one of them; nothing else
//! grows with the size of what is backed up.

use onggi_repo::WriteBudget;
use std::{fmt, sync::Arc};
use tokio::sync::Semaphore;

const MIB: u64 = 1 << 20;

/// The parts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Archives: windows, packs in flight, trees of open directories.
    pub write: WriteBudget,
    /// What sources may hold: `Context::memory`.
    pub sources: u64,
    /// Fixed: the program, its threads, buffers of connections.
    pub base: u64,
    /// The index, per blob.
    pub index_bytes_per_blob: u64,
}

impl Memory {
    /// What a backup of any size needs beside its index.
    pub const STANDARD: Self =
        Self { write: WriteBudget::STANDARD, sources: 64 * MIB, base: 48 * MIB, index_bytes_per_blob: 64 };

    /// The ceiling with an index of so many blobs and so many archives at once.
    pub fn ceiling(&self, blobs: u64, archives: u64) -> u64 {
        let beside = WriteBudget::BESIDE * archives.saturating_sub(1);
        self.write.total() + beside + self.sources + self.base + self.index_bytes_per_blob * blobs
    }

    /// The sources' share, one permit per byte.
    pub fn for_sources(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(usize::try_from(self.sources).unwrap_or(Semaphore::MAX_PERMITS)))
    }
}

impl fmt::Display for Memory {
    /// `write 192 + sources 64 + base 48 = 304 MiB, and 64 bytes per blob of the index`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (write, sources, base) = (self.write.total() / MIB, self.sources / MIB, self.base / MIB);
        write!(f, "write {write} + sources {sources} + base {base} = {} MiB, ", write + sources + base)?;
        write!(f, "and {} bytes per blob of the index", self.index_bytes_per_blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_is_the_sum_that_is_printed() {
        let memory = Memory::STANDARD;
        let (write, total) = (memory.write.total() / MIB, memory.write.total() / MIB + 112);
        let expected =
            format!("write {write} + sources 64 + base 48 = {total} MiB, and 64 bytes per blob of the index");
        assert_eq!(memory.to_string(), expected);
        assert_eq!(memory.ceiling(0, 1), total * MIB);
        assert_eq!(memory.ceiling(1 << 20, 2), (total + 12 + 64) * MIB);
        assert_eq!(memory.for_sources().available_permits() as u64, 64 * MIB);
    }
}
