//! What a tool's words on standard error mean for the engine.

use crate::source::SourceError;

/// Words of the tools, in small letters, and what to do about them; the first that is found counts.
const WORDS: &[(&str, Meaning)] = &[
    ("server version mismatch", Meaning::Refused),
    ("canceling statement due to lock timeout", Meaning::Busy),
    ("lock wait timeout exceeded", Meaning::Busy),
    ("database is locked", Meaning::Busy),
    ("too many connections", Meaning::Busy),
    ("too many clients", Meaning::Busy),
    ("remaining connection slots are reserved", Meaning::Busy),
    ("no space left on device", Meaning::Full),
    ("database or disk is full", Meaning::Full),
    ("unknown database", Meaning::Gone),
    ("password authentication failed", Meaning::Denied),
    ("peer authentication failed", Meaning::Denied),
    ("ident authentication failed", Meaning::Denied),
    ("no password supplied", Meaning::Denied),
    ("no pg_hba.conf entry", Meaning::Denied),
    ("permission denied", Meaning::Denied),
    ("must be superuser", Meaning::Denied),
    ("access denied", Meaning::Denied),
    ("command denied", Meaning::Denied),
    ("the database system is", Meaning::Unreachable),
    ("connection refused", Meaning::Unreachable),
    ("could not translate host name", Meaning::Unreachable),
    ("can't connect to", Meaning::Unreachable),
    ("unknown server host", Meaning::Unreachable),
    ("unknown mysql server host", Meaning::Unreachable),
    ("no such file or directory | is the server running", Meaning::Unreachable),
    ("is the server running", Meaning::Unreachable),
    ("timeout expired", Meaning::Unreachable),
    ("file is not a database", Meaning::Damaged),
    ("disk image is malformed", Meaning::Damaged),
];

/// A decision of the engine.
#[derive(Clone, Copy)]
enum Meaning {
    Busy,
    Damaged,
    Denied,
    Full,
    Gone,
    Refused,
    Unreachable,
}

/// The same failure with its meaning. What says nothing known stays `Incomplete`, which is captured anew: so is a
/// table that was altered under a dump of MySQL.
pub(super) fn understood(error: SourceError) -> SourceError {
    let SourceError::Incomplete(text) = error else { return error };
    let small = text.to_lowercase();
    let is_gone = small.contains("fatal:") && small.contains("database \\\"") && small.contains("does not exist");
    let meaning = WORDS.iter().find(|(words, _)| small.contains(words)).map(|(_, meaning)| *meaning);
    match meaning.or(is_gone.then_some(Meaning::Gone)) {
        None => SourceError::Incomplete(text),
        Some(Meaning::Busy) => SourceError::Busy(text),
        Some(Meaning::Damaged) => SourceError::Damaged(text),
        Some(Meaning::Denied) => SourceError::Denied(text),
        Some(Meaning::Full) => SourceError::Full(text),
        Some(Meaning::Gone) => SourceError::Gone,
        Some(Meaning::Refused) => SourceError::Refused(text),
        Some(Meaning::Unreachable) => SourceError::Unreachable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &str, expected: &str) {
        let meant = understood(SourceError::Incomplete(format!("`tool` exited with status 1: {words}")));
        let name = format!("{meant:?}");
        assert_eq!(name.split('(').next(), Some(expected), "{words}");
    }

    #[test]
    fn the_words_of_the_tools_are_understood() {
        check("FATAL:  password authentication failed for user \\\"onggi\\\"", "Denied");
        check("ERROR 1045 (28000): Access denied for user 'onggi'@'localhost' (using password: YES)", "Denied");
        check("pg_dump: error: aborting because of server version mismatch", "Refused");
        check("pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout", "Busy");
        check("mariadb-dump: Error 1205: Lock wait timeout exceeded; try restarting transaction", "Busy");
        check("FATAL:  database \\\"shop\\\" does not exist", "Gone");
        check("ERROR 1049 (42000): Unknown database 'shop'", "Gone");
        check("connection to server on socket failed: Connection refused", "Unreachable");
        check("FATAL:  the database system is starting up", "Unreachable");
        check("write: No space left on device", "Full");
        check("mariadb-dump: Error 1412: Table definition has changed, please retry transaction", "Incomplete");
        check("relation \\\"a\\\" does not exist", "Incomplete");
    }
}
