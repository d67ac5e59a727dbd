//! The tools of PostgreSQL: arguments, queries, and which of several installed versions fits a server. Pure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::request::{Reach, words};

/// Database that is logged in to before others are known.
pub(super) const FIRST_DATABASE: &str = "postgres";
/// Databases that can be dumped.
pub(super) const DATABASES: &str =
    "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname";
/// The version, as in `15.18 (Debian 15.18-0+deb12u1)`.
pub(super) const VERSION: &str = "SHOW server_version";
/// Begins the moment that a dump and the count of its rows share.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot();\n";
/// Counts the rows of every table that a dump has: those of extensions belong to the extensions.
pub(super) const COUNT: &str = r"SELECT format('SELECT %L, count(*) FROM ONLY %I.%I', n.nspname || '.' || c.relname, n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname \gexec
";
/// How many tables there are.
pub(super) const TABLES: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
     AND d.deptype = 'e')";

/// Variables that say where the server is, in a language that the failures are known in.
pub(super) fn environment(reach: &Reach) -> BTreeMap<String, String> {
    let port = reach.port.map(|port| port.to_string());
    let secret = reach.secret.as_ref().map(|path| path.display().to_string());
    let pairs = [
        ("PGHOST", reach.host.clone()),
        ("PGPORT", port),
        ("PGUSER", reach.user.clone()),
        ("PGPASSFILE", secret),
        ("PGAPPNAME", Some("onggi".to_owned())),
        ("PGCONNECT_TIMEOUT", Some("10".to_owned())),
        ("LC_ALL", Some("C.UTF-8".to_owned())),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The text of the file with the password: for any server, since it is given to one process only.
pub(super) fn secret_text(password: &str) -> String {
    format!("*:*:*:*:{}\n", password.replace('\\', "\\\\").replace(':', "\\:"))
}

/// A database's name so that no tool takes it for a list of parameters.
pub(super) fn connection(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name inside of a query.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The program that takes queries, from its input unless `query` is given; fields and rows end with a zero byte.
pub(super) fn queries(reach: &Reach, database: &str, query: Option<&str>) -> Vec<OsString> {
    let mut line = vec![reach.program("psql")];
    line.extend(words(["-X", "-A", "-t", "-q", "-w", "-z", "-0", "-v", "ON_ERROR_STOP=1", "-d"]));
    line.push(connection(database).into());
    if let Some(query) = query {
        line.extend(words(["-c", query]));
    }
    line
}

/// Dumps a database, in the moment of another session if one is named. Uncompressed: the repository compresses better
/// and recognizes what has not changed.
pub(super) fn dump(
    reach: &Reach,
    database: &str,
    moment: Option<&str>,
    lock_wait: Duration,
    arguments: &[String],
) -> Vec<OsString> {
    let mut line = vec![reach.program("pg_dump")];
    line.extend(words(["-Fc", "-Z0", "--no-password"]));
    line.push(format!("--lock-wait-timeout={}", lock_wait.as_millis()).into());
    line.extend(moment.map(|moment| format!("--snapshot={moment}").into()));
    line.extend(arguments.iter().map(OsString::from));
    line.extend(words(["-d", &connection(database)]));
    line
}

/// Dumps what databases share.
pub(super) fn globals(reach: &Reach, database: &str, with_passwords: bool) -> Vec<OsString> {
    let mut line = vec![reach.program("pg_dumpall")];
    line.extend(words(["--globals-only", "--no-password"]));
    if !with_passwords {
        line.push("--no-role-passwords".into());
    }
    line.extend(words(["-l", database]));
    line
}

/// Copies the whole cluster as one archive, with the journal that it needs.
pub(super) fn copy(reach: &Reach, arguments: &[String]) -> Vec<OsString> {
    let mut line = vec![reach.program("pg_basebackup")];
    line.extend(words(["-D", "-", "-Ft", "-X", "fetch", "-c", "fast", "--no-password"]));
    line.extend(arguments.iter().map(OsString::from));
    line
}

/// Loads a dump. `clean`: what it has is removed first.
pub(super) fn load(reach: &Reach, database: &str, file: &Path, jobs: u32, clean: bool, owners: bool) -> Vec<OsString> {
    let mut line = vec![reach.program("pg_restore")];
    line.extend(words(["--exit-on-error", "--no-password"]));
    line.push(format!("--jobs={jobs}").into());
    if clean {
        line.extend(words(["--clean", "--if-exists"]));
    }
    if !owners {
        line.extend(words(["--no-owner", "--no-privileges"]));
    }
    line.extend(words(["-d", &connection(database)]));
    line.push(file.into());
    line
}

/// Lists what a dump has.
pub(super) fn list(reach: &Reach, file: &Path) -> Vec<OsString> {
    vec![reach.program("pg_restore"), "--list".into(), file.into()]
}

/// How many tables with rows a listing names.
pub(super) fn listed_tables(listing: &str) -> usize {
    let lines = listing.lines().filter(|line| !line.starts_with(';'));
    lines.filter(|line| line.split(' ').skip(3).take(2).eq(["TABLE", "DATA"])).count()
}

/// The number before the first dot.
pub(super) fn major(version: &str) -> Option<u32> {
    let digits: String = version.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Folders of installed tools: Debian's and those of PostgreSQL's own packages.
pub(super) fn installed() -> Vec<(u32, PathBuf)> {
    let below = |folder: &str| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let debian = below("/usr/lib/postgresql");
    let others = below("/usr").filter(|path| path.to_string_lossy().contains("/pgsql-"));
    let versioned = debian.chain(others).filter_map(|path| {
        let name = path.file_name()?.to_str()?.trim_start_matches("pgsql-").to_owned();
        Some((major(&name)?, path.join("bin")))
    });
    let mut found: Vec<_> = versioned.filter(|(_, path)| path.join("pg_dump").exists()).collect();
    found.sort();
    found
}

/// The newest tools that are not older than the server and at most one version newer; else the newest.
pub(super) fn fitting(server: u32, installed: &[(u32, PathBuf)]) -> Option<&PathBuf> {
    let fits = installed.iter().rev().find(|(version, _)| (server..=server + 1).contains(version));
    fits.or(installed.last()).map(|(_, folder)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_the_newest_that_fit_the_server() {
        let installed: Vec<_> = [13, 15, 16, 17].map(|version| (version, PathBuf::from(version.to_string()))).into();
        for (server, expected) in [(13, "13"), (14, "15"), (15, "16"), (17, "17"), (18, "17")] {
            assert_eq!(fitting(server, &installed), Some(&PathBuf::from(expected)), "{server}");
        }
        assert_eq!(fitting(15, &[]), None);
    }

    #[test]
    fn a_name_is_never_read_as_parameters() {
        assert_eq!(connection(r"a'b\c host=x"), r"dbname='a\'b\\c host=x'");
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(secret_text(r"a:b\c"), "*:*:*:*:a\\:b\\\\c\n");
    }

    #[test]
    fn no_password_is_an_argument() {
        let reach = Reach { secret: Some("/state/x.secret".into()), ..Reach::default() };
        let line = dump(&reach, "shop", Some("3-1"), Duration::from_secs(2), &["--no-blobs".to_owned()]);
        let expected =
            "pg_dump -Fc -Z0 --no-password --lock-wait-timeout=2000 --snapshot=3-1 --no-blobs -d dbname='shop'";
        assert_eq!(line.join(" ".as_ref()), expected);
        assert_eq!(environment(&reach)["PGPASSFILE"], "/state/x.secret");
    }

    #[test]
    fn only_tables_with_rows_are_counted_in_a_listing() {
        let listing =
            "; Archive\n215; 1259 16389 TABLE public a postgres\n3456; 0 16389 TABLE DATA public a postgres\n";
        assert_eq!((listed_tables(listing), major("15.18 (Debian)"), major("x")), (1, Some(15), None));
    }
}
