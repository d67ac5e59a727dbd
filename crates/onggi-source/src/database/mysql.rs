//! The tools of MariaDB and MySQL: arguments, queries, and what the one does not know of the other. Pure.

use std::ffi::OsString;
use std::path::Path;

use super::request::{Reach, words};

/// The version, as in `10.11.19-MariaDB-0+deb12u1`.
pub(super) const VERSION: &str = "SELECT VERSION()";
/// Databases that hold data of users.
pub(super) const DATABASES: &str = "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN \
     ('information_schema', 'performance_schema', 'mysql', 'sys') ORDER BY schema_name";

/// Whose tools these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    MariaDb,
    Oracle,
}

impl Maker {
    /// The program for queries.
    pub(super) fn client(self) -> &'static str {
        if self == Self::MariaDb { "mariadb" } else { "mysql" }
    }

    /// The program that dumps.
    pub(super) fn dumper(self) -> &'static str {
        if self == Self::MariaDb { "mariadb-dump" } else { "mysqldump" }
    }
}

/// The text of the file with the password.
pub(super) fn secret_text(password: &str) -> String {
    format!("[client]\npassword=\"{}\"\n", password.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A program and where the server is.
fn start(reach: &Reach, program: &str) -> Vec<OsString> {
    let mut line = vec![reach.program(program)];
    if let Some(secret) = &reach.secret {
        let mut word = OsString::from("--defaults-extra-file="); // must come first
        word.push(secret);
        line.push(word);
    }
    match &reach.host {
        Some(socket) if socket.starts_with('/') => line.push(format!("--socket={socket}").into()),
        Some(host) => line.push(format!("--host={host}").into()),
        None => {}
    }
    line.extend(reach.port.map(|port| format!("--port={port}").into()));
    line.extend(reach.user.as_ref().map(|user| format!("--user={user}").into()));
    line
}

/// The program that takes queries, from its input unless `query` is given.
pub(super) fn queries(reach: &Reach, maker: Maker, database: Option<&str>, query: Option<&str>) -> Vec<OsString> {
    let mut line = start(reach, maker.client());
    line.extend(words(["--batch", "--skip-column-names", "--connect-timeout=10", "--default-character-set=utf8mb4"]));
    line.push("--init-command=SET SESSION foreign_key_checks=0".into());
    if let Some(query) = query {
        line.push(format!("--execute={query}").into());
    }
    line.extend(database.map(|database| format!("--database={database}").into()));
    line
}

/// Dumps a database. Without the statements that make it, so that it can be loaded under another name.
pub(super) fn dump(reach: &Reach, maker: Maker, database: &str, arguments: &[String]) -> Vec<OsString> {
    let mut line = start(reach, maker.dumper());
    let flags = ["--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob", "--tz-utc"];
    line.extend(words(flags));
    line.extend(words(["--order-by-primary", "--skip-dump-date", "--default-character-set=utf8mb4"]));
    if maker == Maker::Oracle {
        line.extend(words(["--column-statistics=0", "--set-gtid-purged=OFF"])); // servers of MariaDB know neither
    }
    line.extend(arguments.iter().map(OsString::from));
    line.extend(words(["--", database]));
    line
}

/// Dumps users and grants; only MariaDB's tools can.
pub(super) fn globals(reach: &Reach) -> Vec<OsString> {
    let mut line = start(reach, Maker::MariaDb.dumper());
    line.extend(words(["--system=users", "--insert-ignore", "--skip-dump-date"]));
    line
}

/// Copies the whole server as one stream. It needs the server's own files, and a folder to work in.
pub(super) fn copy(reach: &Reach, folder: &Path, arguments: &[String]) -> Vec<OsString> {
    let mut line = start(reach, "mariadb-backup");
    line.extend(words(["--backup", "--stream=mbstream"]));
    let mut target = OsString::from("--target-dir=");
    target.push(folder);
    line.push(target);
    line.extend(arguments.iter().map(OsString::from));
    line
}

/// The columns of an answer, row by row, each as it was before it was written in one line.
pub(super) fn fields(answer: &str) -> Vec<String> {
    answer.lines().flat_map(|line| line.split('\t')).map(plain).collect()
}

fn plain(field: &str) -> String {
    let (mut text, mut letters) = (String::with_capacity(field.len()), field.chars());
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('0') => text.push('\0'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            (other, false) => text.push(other),
        }
    }
    text
}

/// A name inside of a query.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text inside of a query.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The tables of a database, each with its engine.
pub(super) fn tables(database: &str) -> String {
    format!(
        "SELECT table_name, COALESCE(engine, '') FROM information_schema.tables WHERE table_schema = {} \
         AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY table_name",
        literal(database)
    )
}

/// Character set and collation of a database.
pub(super) fn character_set(database: &str) -> String {
    let columns = "default_character_set_name, default_collation_name";
    format!("SELECT {columns} FROM information_schema.schemata WHERE schema_name = {}", literal(database))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_an_argument() {
        let reach = Reach {
            host: Some("/run/mysqld.sock".to_owned()),
            user: Some("onggi".to_owned()),
            secret: Some("/state/x.secret".into()),
            ..Reach::default()
        };
        let line = queries(&reach, Maker::MariaDb, Some("shop"), Some("SELECT 1"));
        let text = line.join(" ".as_ref()).into_string().unwrap();
        let start = "mariadb --defaults-extra-file=/state/x.secret --socket=/run/mysqld.sock --user=onggi --batch";
        assert!(text.starts_with(start) && text.ends_with("--execute=SELECT 1 --database=shop"), "{text}");
        assert_eq!(secret_text("a\"b\\"), "[client]\npassword=\"a\\\"b\\\\\"\n");
    }

    #[test]
    fn each_makers_tools_are_called_with_what_they_know() {
        let of = |maker| dump(&Reach::default(), maker, "s", &[]).join(" ".as_ref());
        let (mariadb, oracle) = (of(Maker::MariaDb), of(Maker::Oracle));
        let text = |line: &OsString, word: &str| line.to_str().unwrap().contains(word);
        assert!(text(&mariadb, "mariadb-dump") && !text(&mariadb, "--set-gtid-purged"));
        assert!(text(&oracle, "mysqldump") && text(&oracle, "--set-gtid-purged=OFF"));
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        assert_eq!(fields("a\\tb\t1\nc\\\\n\t2\n"), ["a\tb", "1", "c\\n", "2"]);
        assert_eq!((identifier("a`b"), literal("it's")), ("`a``b`".to_owned(), "'it''s'".to_owned()));
    }
}
