//! The tool of SQLite: arguments and queries. Pure.

use std::ffi::OsString;
use std::path::Path;

use super::request::{Reach, words};

/// The tables that users made.
pub(super) const TABLES: &str =
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
/// Reads every page and index.
pub(super) const CHECK: &str = "PRAGMA integrity_check";
/// What separates fields and rows.
const SEPARATORS: [char; 2] = ['\u{1f}', '\u{1e}'];

/// The program that takes queries.
pub(super) fn queries(reach: &Reach, file: &Path, query: &str) -> Vec<OsString> {
    let mut line = vec![reach.program("sqlite3")];
    line.extend(words(["-batch", "-bail", "-ascii", "-noheader"]));
    line.push(file.into());
    line.push(query.into());
    line
}

/// Writes a copy as of one moment: a file that is written to must not be read byte by byte.
pub(super) fn copy(reach: &Reach, file: &Path, to: &Path, lock_wait_ms: u128) -> Vec<OsString> {
    let mut line = vec![reach.program("sqlite3")];
    line.extend(words(["-batch", "-bail", "-cmd", &format!(".timeout {lock_wait_ms}")]));
    line.push(file.into());
    line.push(format!("VACUUM INTO '{}'", to.display().to_string().replace('\'', "''")).into());
    line
}

/// The fields of an answer.
pub(super) fn fields(answer: &str) -> Vec<String> {
    answer.split_terminator(SEPARATORS).map(ToOwned::to_owned).collect()
}
