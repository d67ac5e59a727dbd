//! Lock files: who works on the repository, and whether alone.

use super::{
    fault::{FormatError, Result},
    json::Object,
    time::Time,
};
use serde::Deserialize;

const WHAT: &str = "lock";

/// The content of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LockFile {
    /// When it was written.
    pub time: Time,
    /// Whether the holder must be alone.
    pub exclusive: bool,
    /// Where the holder runs.
    #[serde(default)]
    pub hostname: String,
    /// As whom it runs.
    #[serde(default)]
    pub username: String,
    /// Its process.
    #[serde(default)]
    pub pid: u32,
    /// Numeric user.
    #[serde(default)]
    pub uid: u32,
    /// Numeric group.
    #[serde(default)]
    pub gid: u32,
}

impl LockFile {
    /// Reads the JSON of a lock.
    pub fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|fault| FormatError::json(WHAT, &fault))
    }

    /// Its JSON, without a final newline.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.plain("time", self.time);
        object.key("exclusive").extend_from_slice(if self.exclusive { b"true" } else { b"false" });
        object.string("hostname", &self.hostname);
        object.string("username", &self.username);
        object.number("pid", self.pid.into());
        object.number_if_any("uid", self.uid.into());
        object.number_if_any("gid", self.gid.into());
        object.close();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = r#"{"time":"2026-11-20T11:26:36.4Z","exclusive":false,"hostname":"h","username":"u","pid":13607,"uid":1000,"gid":1000}"#;

    #[test]
    fn a_lock_is_written_as_it_was_read() {
        let lock = LockFile::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(lock.print()).unwrap(), SAMPLE);
    }

    #[test]
    fn root_has_no_numbers() {
        let lock = LockFile { uid: 0, gid: 0, ..LockFile::parse(SAMPLE.as_bytes()).unwrap() };
        assert!(lock.print().ends_with(b"\"pid\":13607}"));
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_panics(at in 0..SAMPLE.len(), byte in any::<u8>()) {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = LockFile::parse(&bytes);
        }
    }
}
