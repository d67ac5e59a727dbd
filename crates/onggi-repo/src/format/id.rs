//! Names made of SHA-256: of plaintext for blobs, of stored bytes for files. The types keep the two apart.

use crate::kernel::hash;
use onggi_storage::{FileId, FileType, Handle};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

/// A text is not 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: {0:?}")]
pub struct BadId(pub String);

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// A chunk of file content.
    Data,
    /// One directory as JSON.
    Tree,
}

impl BlobKind {
    /// The word of the index format.
    pub fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }
}

impl fmt::Display for BlobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A newtype over 32 bytes: 64 lower-case hex digits as text, the first 8 bytes as hash (they are random already).
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The id of these bytes.
            pub fn of(bytes: &[u8]) -> Self {
                Self(hash::sha256(bytes))
            }

            /// The first eight digits, for people.
            pub fn short(&self) -> String {
                format!("{self:.8}")
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                let [a, b, c, d, e, f, g, h, ..] = self.0;
                state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                FileId(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self:.8}")
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                text.parse::<FileId>().map(|id| Self(id.0)).map_err(|_| BadId(text.into()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(HexVisitor).map(Self)
            }
        }
    };
}

/// An id that names a file of one type.
macro_rules! file_id {
    ($(#[$doc:meta])* $name:ident, $file_type:ident) => {
        id!($(#[$doc])* $name);

        impl $name {
            /// The file of this name.
            pub fn handle(self) -> Handle {
                Handle::new(FileType::$file_type, FileId(self.0))
            }
        }

        impl From<FileId> for $name {
            fn from(id: FileId) -> Self {
                Self(id.0)
            }
        }

        impl From<$name> for FileId {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }
    };
}

id!(
    /// Names a blob: SHA-256 of its plaintext before compression.
    BlobId
);
id!(
    /// Names a repository: random, written into its config.
    RepositoryId
);
file_id!(
    /// Names a pack file.
    PackId,
    Pack
);
file_id!(
    /// Names a snapshot file.
    SnapshotId,
    Snapshot
);
file_id!(
    /// Names an index file.
    IndexId,
    Index
);
file_id!(
    /// Names a key file: SHA-256 of its JSON.
    KeyId,
    Key
);
file_id!(
    /// Names a lock file.
    LockId,
    Lock
);

struct HexVisitor;

impl de::Visitor<'_> for HexVisitor {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 lower-case hex digits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<[u8; 32], E> {
        text.parse::<FileId>().map(|id| id.0).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_named_by_the_hash_of_its_plaintext() {
        let id = BlobId::of(b"hello");
        assert_eq!(id.to_string(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(id.to_string().parse::<BlobId>().unwrap(), id);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }

    #[test]
    fn half_a_megabyte_of_zeros_has_the_known_id() {
        let id = BlobId::of(&vec![0; 524_288]);
        assert_eq!(id.to_string(), "07854d2fef297a06ba81685e660c332de36d5d18d546927d30daad6d7fda1541");
    }

    #[test]
    fn upper_case_is_not_an_id() {
        let text = format!("\"{}\"", "A".repeat(64));
        assert!(serde_json::from_str::<PackId>(&text).is_err());
    }
}
