//! Folders to back up, made from a seed: the same bytes on every machine.
//!
//! [`mixed`] is the set that benchmarks read, [`zoo`] holds every kind of entry and metadata a file system knows.

pub mod golden;
pub mod mixed;
pub mod name;
pub mod zoo;

use std::fmt::Write as _;

/// SplitMix64: small, fast and good enough for bytes that must not compress.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The seed of the chunker's published test vectors.
    pub const VECTOR: u64 = 0x9E37_79B9_7F4A_7C15;

    /// A stream that depends on the seed alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below the bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    /// Fills the buffer; whole words are little-endian.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&self.word().to_le_bytes()[..piece.len()]);
        }
    }

    /// That many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }
}

/// Lines as a server logs them; zstd at level 3 brings them to about a third.
#[derive(Clone, Debug)]
pub struct Lines {
    random: Random,
    second: u64,
    line: Vec<u8>,
}

const SERVICES: [&str; 8] =
    ["nova-compute", "neutron-agent", "etcd", "kubelet", "sshd", "haproxy", "rabbitmq", "mariadbd"];
const WORDS: [&str; 32] = [
    "request",
    "finished",
    "volume",
    "attached",
    "instance",
    "status",
    "accepted",
    "connection",
    "closed",
    "timeout",
    "retry",
    "member",
    "leader",
    "elected",
    "snapshot",
    "compaction",
    "revision",
    "lease",
    "expired",
    "session",
    "opened",
    "for",
    "user",
    "from",
    "port",
    "queue",
    "message",
    "delivered",
    "replica",
    "joined",
    "channel",
    "ready",
];

impl Lines {
    /// A log that depends on the seed alone.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), second: 0, line: Vec::new() }
    }

    /// Fills the buffer; a line may go on in the next one.
    pub fn fill(&mut self, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            if self.line.is_empty() {
                self.next_line();
            }
            let length = self.line.len().min(buffer.len());
            let (head, rest) = buffer.split_at_mut(length);
            head.copy_from_slice(&self.line[..length]);
            self.line.drain(..length);
            buffer = rest;
        }
    }

    fn next_line(&mut self) {
        self.second += self.random.below(3);
        let (hour, minute, second) = (self.second / 3600 % 24, self.second / 60 % 60, self.second % 60);
        let service = SERVICES[self.random.below(8) as usize];
        let (host, process) = (self.random.below(40), self.random.below(30_000));
        let mut text = format!("2026-11-20T{hour:02}:{minute:02}:{second:02}.{:03}Z ", self.random.below(1000));
        let _ = write!(text, "node{host:02} {service}[{process}]:");
        for _ in 0..6 + self.random.below(8) {
            text.push(' ');
            text.push_str(WORDS[self.random.below(32) as usize]);
        }
        let _ = writeln!(text, " id={:016x}", self.random.word());
        self.line.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_published_vectors() {
        assert_eq!(Random::new(Random::VECTOR).bytes(8), [0xf4, 0x65, 0xb9, 0xa1, 0x6a, 0x9e, 0x78, 0x6e]);
    }

    #[test]
    fn lines_do_not_depend_on_how_they_are_read() {
        let (mut whole, mut pieces) = (vec![0; 5000], vec![0; 5000]);
        Lines::new(1).fill(&mut whole);
        let mut lines = Lines::new(1);
        pieces.chunks_mut(7).for_each(|piece| lines.fill(piece));
        assert_eq!(whole, pieces);
    }
}
