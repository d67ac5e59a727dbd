//! Names of the files in a repository. A handle that exists is well-formed: no text from outside becomes a path.

use std::{fmt, str::FromStr};

/// The SHA-256 that names most files of a repository.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub [u8; 32]);

/// What kind of file it is; each has a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileType {
    /// `config`, the only file of its type.
    Config,
    /// `keys/`.
    Key,
    /// `snapshots/`.
    Snapshot,
    /// `index/`.
    Index,
    /// `locks/`.
    Lock,
    /// `data/xx/`.
    Pack,
    /// `onggi/<folder>/`: what restic does not know and ignores.
    Own(OwnFolder),
}

/// The folders below `onggi/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnFolder {
    /// Keys wrapped for a recovery key.
    Keys,
    /// Second copies of `config` and key files.
    Control,
    /// Reed-Solomon parity of control files and tree packs.
    Parity,
    /// Damaged files that a repair moved away.
    Quarantine,
    /// Heartbeats of live writers.
    Runs,
    /// Receipts of verified packs.
    Verify,
    /// Heads of the catalog chain.
    Chain,
}

/// A name below `onggi/<folder>/`: 1 to 128 of `a-z`, `0-9`, `.`, `_`, `-`, not starting with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnName(String);

/// One file in a storage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handle {
    /// The repository's configuration.
    Config,
    /// A file named by a hash. Its type is never `Config` or `Own`.
    File(FileType, FileId),
    /// A file below `onggi/`.
    Own(OwnFolder, OwnName),
}

/// A text is not a file id or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a file name: {0:?}")]
pub struct BadName(pub String);

impl FileType {
    /// Every type, `Own` folders included.
    pub const ALL: [Self; 13] = [
        Self::Config,
        Self::Key,
        Self::Snapshot,
        Self::Index,
        Self::Lock,
        Self::Pack,
        Self::Own(OwnFolder::Keys),
        Self::Own(OwnFolder::Control),
        Self::Own(OwnFolder::Parity),
        Self::Own(OwnFolder::Quarantine),
        Self::Own(OwnFolder::Runs),
        Self::Own(OwnFolder::Verify),
        Self::Own(OwnFolder::Chain),
    ];

    /// The folder below the repository's root, without slashes at its ends; of `Config` it is empty.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Config => "",
            Self::Key => "keys",
            Self::Snapshot => "snapshots",
            Self::Index => "index",
            Self::Lock => "locks",
            Self::Pack => "data",
            Self::Own(OwnFolder::Keys) => "onggi/keys",
            Self::Own(OwnFolder::Control) => "onggi/control",
            Self::Own(OwnFolder::Parity) => "onggi/parity",
            Self::Own(OwnFolder::Quarantine) => "onggi/quarantine",
            Self::Own(OwnFolder::Runs) => "onggi/runs",
            Self::Own(OwnFolder::Verify) => "onggi/verify",
            Self::Own(OwnFolder::Chain) => "onggi/chain",
        }
    }
}

impl Handle {
    /// A file named by a hash.
    ///
    /// # Panics
    /// If the type is `Config` or `Own`, whose files are not named by hashes.
    pub fn new(file_type: FileType, id: FileId) -> Self {
        assert!(!matches!(file_type, FileType::Config | FileType::Own(_)), "{file_type:?} is not named by a hash");
        Self::File(file_type, id)
    }

    /// Its type.
    pub fn file_type(&self) -> FileType {
        match self {
            Self::Config => FileType::Config,
            Self::File(file_type, _) => *file_type,
            Self::Own(folder, _) => FileType::Own(*folder),
        }
    }

    /// Its id, where it is named by one.
    pub fn id(&self) -> Option<FileId> {
        match self {
            Self::File(_, id) => Some(*id),
            _ => None,
        }
    }

    /// The path below the repository's root, `/`-separated; packs lie in `data/xx/`.
    pub fn path(&self) -> String {
        match self {
            Self::Config => "config".into(),
            Self::File(FileType::Pack, id) => {
                let name = id.to_string();
                format!("data/{}/{name}", &name[..2])
            }
            Self::File(file_type, id) => format!("{}/{id}", file_type.folder()),
            Self::Own(folder, name) => format!("{}/{name}", FileType::Own(*folder).folder()),
        }
    }

    /// The handle for a file's last name component in the folder of `file_type`; `None` for foreign names.
    pub fn from_name(file_type: FileType, name: &str) -> Option<Self> {
        match file_type {
            FileType::Config => (name == "config").then_some(Self::Config),
            FileType::Own(folder) => OwnName::new(name).ok().map(|name| Self::Own(folder, name)),
            _ => name.parse().ok().map(|id| Self::File(file_type, id)),
        }
    }
}

impl OwnName {
    /// Checks a name.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_fine) {
            Ok(Self(name))
        } else {
            Err(BadName(name))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&text).expect("hex digits are ASCII"))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.8}")
    }
}

/// What a byte that is no lower-case hex digit stands for.
const NO_DIGIT: u8 = 16;
/// What bytes stand for as hex digits. Ids are read by the million, so that no byte is decided upon by itself.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < NO_DIGIT {
        values[if value < 10 { b'0' + value } else { b'a' + value - 10 } as usize] = value;
        value += 1;
    }
    values
};

impl FromStr for FileId {
    type Err = BadName;

    /// Reads exactly 64 lower-case hex digits.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (mut id, mut all) = ([0; 32], 0);
        for (out, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
            all |= high | low;
            *out = high << 4 | low;
        }
        if text.len() == 64 && all < NO_DIGIT { Ok(Self(id)) } else { Err(BadName(text.into())) }
    }
}

impl fmt::Display for Handle {
    /// `pack 3f2a…`, as messages name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::File(file_type, id) => {
                let word = match file_type {
                    FileType::Key => "key",
                    FileType::Snapshot => "snapshot",
                    FileType::Index => "index",
                    FileType::Lock => "lock",
                    _ => "pack",
                };
                write!(f, "{word} {id:.8}")
            }
            Self::Own(..) => f.write_str(&self.path()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_hex_of_64_digits() {
        let text = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        assert_eq!(text.parse::<FileId>().unwrap().to_string(), text);
        for bad in ["", "00", &text.to_uppercase(), &format!("{text}0"), &text.replace('a', "g")] {
            assert!(bad.parse::<FileId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn own_names_cannot_leave_their_folder() {
        for bad in ["", ".", "..", ".x", "a/b", "A", "a\0", &"a".repeat(129)] {
            assert!(OwnName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_names_the_handle_it_came_from() {
        let id = FileId([0xab; 32]);
        let handle = Handle::new(FileType::Pack, id);
        assert_eq!(handle.path(), format!("data/ab/{id}"));
        assert_eq!(Handle::from_name(FileType::Pack, &id.to_string()), Some(handle));
    }
}
