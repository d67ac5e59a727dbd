//! The repository's configuration: version, id, chunker parameters. Keys of other programs survive a rewrite.

use super::{
    fault::{FormatError, Reason, Result},
    id::RepositoryId,
    json::{Object, Unknown},
    polynomial::Polynomial,
};
use serde::Deserialize;
use serde_json::Value;

const WHAT: &str = "config";

/// The content of `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// 2; 1 is read and can be upgraded.
    pub version: u32,
    /// The repository's name for caches and receipts.
    pub id: RepositoryId,
    /// What content is cut with.
    pub polynomial: Polynomial,
    /// Keys of other programs: rustic's `chunk_size`, `append_only`...
    pub unknown: Unknown,
}

/// How a configuration asks content to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking {
    /// By content.
    Rabin(ChunkSizes),
    /// Every so many bytes.
    Fixed(u32),
}

/// Bounds of chunks cut by content, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    /// No chunk is shorter, except the last of a file.
    pub min: u32,
    /// A power of two: one position in this many ends a chunk.
    pub mean: u32,
    /// No chunk is longer.
    pub max: u32,
}

impl ChunkSizes {
    /// restic's, which every repository without other keys uses.
    pub const DEFAULT: Self = Self { min: 512 << 10, mean: 1 << 20, max: 8 << 20 };

    /// Bounds around a mean size in bytes, in the proportions of the default; the mean is rounded down to a power of two
    /// from 1 KiB to 32 MiB.
    pub fn around(mean: u32) -> Self {
        let mean = 1 << mean.clamp(1 << 10, 32 << 20).ilog2();
        Self { min: mean / 2, mean, max: mean * 8 }
    }

    /// Bounds that cut safely: a full window before the first cut, and an end after it.
    fn are_sound(self) -> bool {
        self.mean.is_power_of_two() && self.min >= 64 && self.min <= self.max && self.max <= 512 << 20
    }
}

#[derive(Deserialize)]
struct Raw {
    version: u32,
    id: RepositoryId,
    chunker_polynomial: String,
    #[serde(flatten)]
    unknown: Unknown,
}

impl Config {
    /// A new repository's configuration.
    pub fn new(id: RepositoryId, polynomial: Polynomial) -> Self {
        Self { version: 2, id, polynomial, unknown: Unknown::new() }
    }

    /// Reads the opened file.
    pub fn parse(json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } = serde_json::from_slice(json).map_err(|fault| FormatError::json(WHAT, &fault))?;
        if version > 2 {
            return Err(FormatError {
                what: WHAT,
                reason: Reason::Newer(format!("repository version {version}").into()),
            });
        }
        let raw: Raw = serde_json::from_slice(json).map_err(|fault| FormatError::json(WHAT, &fault))?;
        if raw.version == 0 {
            return Err(FormatError::invalid(WHAT, "repository version 0"));
        }
        let polynomial =
            raw.chunker_polynomial.parse().map_err(|fault| FormatError::invalid(WHAT, format!("{fault}")))?;
        let config = Self { version: raw.version, id: raw.id, polynomial, unknown: raw.unknown };
        config.chunking()?;
        Ok(config)
    }

    /// The file's plaintext, to be sealed without compression.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.number("version", self.version.into());
        object.plain("id", self.id);
        object.plain("chunker_polynomial", self.polynomial);
        object.unknown(&self.unknown);
        object.close();
        out
    }

    /// How content is cut: rustic's keys where present, else restic's way.
    pub fn chunking(&self) -> Result<Chunking> {
        let default = ChunkSizes::DEFAULT;
        let size = |key: &str, default: u32| match self.unknown.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(|size| u32::try_from(size).ok())
                .filter(|&size| size > 0)
                .ok_or_else(|| FormatError::invalid(WHAT, format!("{key} is not a chunk size"))),
        };
        let mean = size("chunk_size", default.mean)?;
        match self.unknown.get("chunker").and_then(Value::as_str) {
            None | Some("rabin") => {
                let sizes = ChunkSizes {
                    min: size("chunk_min_size", default.min)?,
                    mean,
                    max: size("chunk_max_size", default.max)?,
                };
                if sizes.are_sound() {
                    Ok(Chunking::Rabin(sizes))
                } else {
                    Err(FormatError::invalid(WHAT, "chunk sizes contradict each other"))
                }
            }
            Some("fixed_size") => Ok(Chunking::Fixed(mean)),
            Some(other) => Err(FormatError {
                what: WHAT,
                reason: Reason::Newer(format!("chunker {:?}", other.chars().take(20).collect::<String>()).into()),
            }),
        }
    }

    /// Whether another program declared that nothing may be removed.
    pub fn is_append_only(&self) -> bool {
        self.unknown.get("append_only").and_then(Value::as_bool).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(extra: &str) -> String {
        format!(r#"{{"version":2,"id":"{}","chunker_polynomial":"3cbfb22b6022a9"{extra}}}"#, "ab".repeat(32))
    }

    #[test]
    fn a_config_is_written_as_it_was_read() {
        for extra in ["", r#","append_only":true,"compression":7"#] {
            let config = Config::parse(json(extra).as_bytes()).unwrap();
            assert_eq!(String::from_utf8(config.print()).unwrap(), json(extra));
            assert_eq!(config.is_append_only(), !extra.is_empty());
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let newer = json("").replace("\"version\":2", "\"version\":3");
        assert!(Config::parse(newer.as_bytes()).unwrap_err().is_newer());
        for damaged in ["", "{}", &json("").replace("6022a9", "6022a8"), &json("").replace(":2", ":0")] {
            assert!(!Config::parse(damaged.as_bytes()).unwrap_err().is_newer());
        }
    }

    #[test]
    fn chunk_sizes_of_rustic_are_honoured() {
        let chunking = |extra: &str| Config::parse(json(extra).as_bytes()).and_then(|config| config.chunking());
        assert_eq!(chunking(""), Ok(Chunking::Rabin(ChunkSizes::DEFAULT)));
        assert_eq!(
            chunking(r#","chunk_size":65536,"chunk_min_size":4096,"chunk_max_size":100000"#),
            Ok(Chunking::Rabin(ChunkSizes { min: 4096, mean: 65536, max: 100_000 }))
        );
        assert_eq!(chunking(r#","chunker":"fixed_size","chunk_size":4096"#), Ok(Chunking::Fixed(4096)));
        assert!(chunking(r#","chunker":"magic""#).unwrap_err().is_newer());
        assert!(chunking(r#","chunk_size":0"#).is_err());
        assert!(chunking(r#","chunk_size":70000"#).is_err());
        assert!(chunking(r#","chunk_min_size":9000000"#).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(at in 0..120_usize, byte in any::<u8>()) {
            let mut bytes = json(r#","chunk_size":5"#).into_bytes();
            bytes[at] = byte;
            let _ = Config::parse(&bytes);
        }
    }
}
