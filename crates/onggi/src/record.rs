//! What this machine remembers of its own runs: files of JSON lines in its state folder, only ever appended to.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::failure::Failure;
use crate::session::Session;

/// Rehearsals of restores, one line each.
pub const DRILLS: &str = "drills.jsonl";
/// Verifications of repositories, one line each.
pub const VERIFICATIONS: &str = "verifications.jsonl";

fn path(session: &Session, file: &str) -> PathBuf {
    session.machine.state_folder().join(file)
}

/// Notes one run.
pub fn append(session: &Session, file: &str, record: &Value) -> Result<(), Failure> {
    let path = path(session, file);
    let append = || {
        fs::create_dir_all(session.machine.state_folder())?;
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        file.write_all(format!("{record}\n").as_bytes())
    };
    append().map_err(|error| Failure::local(format!("note the run in {}", path.display()), &error))
}

/// All that was noted, oldest first; a line that is none is passed over.
pub fn read(session: &Session, file: &str) -> Result<Vec<Value>, Failure> {
    let path = path(session, file);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::local(format!("read {}", path.display()), &error)),
    };
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
