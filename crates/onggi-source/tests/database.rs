//! Kind `database` over scripted tools: the suite that every source passes, and what the tools are told and say.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::ffi::OsString;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use onggi_source::bench::Bench;
use onggi_source::carrier::{Program, ScriptedLauncher};
use onggi_source::conformance::{self, Bed};
use onggi_source::database::{Database, DatabaseConfig};
use onggi_source::faults::Faults;
use onggi_source::{Chunking, Destination, RestoreRequest, Secrecy, Source, SourceError, Step};

use support::{Folder, record};

const MYSQL_DUMP: &str =
    "-- MariaDB dump\nCREATE TABLE `a` (\n);\nINSERT INTO `a` VALUES (1),(2);\n-- Dump completed\n";

fn says(text: impl Into<Bytes>) -> Program {
    Program { output: vec![text.into()], ..Program::default() }
}

/// The last arguments of a line, behind what makes it another user's.
fn text(line: &[OsString]) -> String {
    line.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn psql(line: &str) -> Program {
    let counts = "public.a\u{0}2\u{0}";
    match line {
        _ if line.contains("SHOW server_version") => says("15.18\0"),
        _ if line.contains("pg_database") => says("shop\0"),
        _ if line.contains("SELECT count(*)") => says("0\0"),
        _ if line.contains("-c ") => Program::default(),
        _ if line.contains("restored") => says(counts),
        _ => Program { output: vec!["00000003-1\0".into(), counts.into()], ..Program::default() },
    }
}

fn mariadb(line: &str) -> Program {
    match line {
        _ if line.contains("VERSION()") => says("10.11.19-MariaDB\n"),
        _ if line.contains("default_character_set_name") => says("utf8mb4\tutf8mb4_general_ci\n"),
        _ if line.contains("schemata") => says("shop\n"),
        _ if line.contains("FROM information_schema.tables") => says("a\tInnoDB\n"),
        _ if line.contains("count(*)") => says("2\n"),
        _ => Program::default(),
    }
}

/// What any tool does; the test says what the one that dumps does.
fn tool(line: &str, dump: &Program) -> Program {
    let is = |name: &str| line.contains(&format!("/tools/{name} "));
    match line {
        _ if line.ends_with("--version") => says("pg_dump (PostgreSQL) 15.18\n"),
        _ if is("psql") => psql(line),
        _ if is("mariadb") => mariadb(line),
        _ if is("pg_dumpall") || line.contains("--system=users") => says("CREATE ROLE a;\n-- Dump completed\n"),
        _ if is("pg_dump") || is("mariadb-dump") => dump.clone(),
        _ if line.contains("--list") => says("3456; 0 16389 TABLE DATA public a postgres\n"),
        _ => Program::default(),
    }
}

struct DatabaseBed {
    folder: Folder,
    launcher: ScriptedLauncher,
    config: DatabaseConfig,
    lines: Arc<Mutex<Vec<String>>>,
}

impl DatabaseBed {
    fn new(preset: &str) -> Self {
        let dump = if preset == "postgres-logical" { "PGDMP rows" } else { MYSQL_DUMP };
        Self::with(preset, says(dump))
    }

    fn with(preset: &str, dump: Program) -> Self {
        let json = serde_json::json!({ "preset": preset, "connect": { "host": "db1" }, "programs": "/tools" });
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut launcher = ScriptedLauncher::default();
        let names = ["psql", "pg_dump", "pg_dumpall", "pg_restore", "initdb", "postgres", "mariadb", "mariadb-dump"];
        let names = names.iter().chain(&["mariadb-install-db", "mariadbd"]).map(|name| format!("/tools/{name}"));
        for name in names.chain(["setpriv", "mkdir", "rm", "dd"].map(str::to_owned)) {
            let (lines, dump) = (lines.clone(), dump.clone());
            launcher = launcher.with_chosen(&name, move |line| {
                let line = text(line);
                lines.lock().unwrap().push(line.clone());
                tool(&line, &dump)
            });
        }
        Self { folder: Folder::new(), launcher, config: serde_json::from_value(json).unwrap(), lines }
    }

    fn database(&self) -> Database {
        Database::new(self.config.clone(), self.folder.surroundings_with(Arc::new(self.launcher.clone())))
    }
}

impl Bed for DatabaseBed {
    fn source(&self) -> Box<dyn Source> {
        Box::new(self.database())
    }
    fn faults(&self) -> Faults {
        self.launcher.faults().clone()
    }
    fn describe(&self) -> String {
        let files = std::fs::read_dir(self.folder.state().join("marks")).into_iter().flatten().flatten();
        let mut names: Vec<_> = files.map(|entry| entry.file_name()).collect();
        names.sort();
        format!("{names:?}")
    }
    fn leave_foreign(&self) -> bool {
        std::fs::create_dir_all(self.folder.state().join("marks")).unwrap();
        std::fs::write(self.folder.state().join("marks/0123.secret"), "not ours").unwrap();
        true
    }
    fn foreign_is_there(&self) -> bool {
        self.folder.state().join("marks/0123.secret").exists()
    }
    fn flows(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn postgres_conforms() {
    conformance::check(|| DatabaseBed::new("postgres-logical")).await;
}

#[tokio::test]
async fn mysql_conforms() {
    conformance::check(|| DatabaseBed::new("mysql-logical")).await;
}

#[tokio::test]
async fn a_dump_is_one_file_beside_the_roles_and_knows_its_rows() {
    for (preset, name) in [("postgres-logical", "shop.dump"), ("mysql-logical", "shop.sql")] {
        let bed = DatabaseBed::new(preset);
        let tree = record(&Bench::new("r1"), &bed.database()).await.unwrap();
        let dump = tree.at(&format!("database/db1/{name}"));
        assert_eq!((dump.item.chunking, dump.item.metadata.mode), (Chunking::Content(128 << 10), 0o600));
        assert_eq!(tree.at("database/db1/globals.sql").item.secrecy, Secrecy::Secret);
        let notes = &tree.facts[0].notes;
        let rows = if preset == "mysql-logical" { &notes["rows"]["a"] } else { &notes["rows"]["public.a"] };
        assert_eq!((rows.as_u64(), notes["length"].as_u64()), (Some(2), Some(dump.content.len() as u64)));
    }
}

#[tokio::test]
async fn a_dump_of_postgres_shows_the_moment_in_which_its_rows_are_counted() {
    let bed = DatabaseBed::new("postgres-logical");
    record(&Bench::new("r1"), &bed.database()).await.unwrap();
    let lines = bed.lines.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("pg_dump -Fc -Z0") && line.contains("--snapshot=00000003-1")));
}

#[track_caller]
fn check_refused(result: Result<impl Sized, SourceError>, expected: &str) {
    let error = result.err().expect("a refusal");
    assert!(format!("{error:?}").contains(expected), "{error:?}");
}

#[tokio::test]
async fn a_dump_without_its_end_is_not_stored() {
    for (preset, dump, expected) in [
        ("mysql-logical", Program { output: vec!["-- MariaDB dump".into()], ..Program::default() }, "Dump completed"),
        ("mysql-logical", Program::default(), "no output"),
        ("postgres-logical", says("-- plain"), "no custom dump"),
        ("postgres-logical", Program { status: 1, ..says("PGDMP") }, "exited with status 1"),
    ] {
        let bed = DatabaseBed::with(preset, dump);
        check_refused(record(&Bench::new("r1"), &bed.database()).await, expected);
    }
}

#[tokio::test]
async fn each_failure_of_a_tool_is_a_decision() {
    for (words, expected) in [
        ("FATAL:  password authentication failed for user", "Denied"),
        ("ERROR:  canceling statement due to lock timeout", "Busy"),
        ("aborting because of server version mismatch", "Refused"),
        ("could not write: No space left on device", "Full"),
        ("Error 1412: Table definition has changed, please retry transaction", "Incomplete"),
    ] {
        let dump = Program { status: 1, words: words.to_owned(), ..says("PGDMP") };
        let bed = DatabaseBed::with("postgres-logical", dump);
        check_refused(record(&Bench::new("r1"), &bed.database()).await, expected);
    }
}

#[tokio::test]
async fn a_database_that_is_not_empty_is_replaced_only_when_told() {
    let bed = DatabaseBed::new("mysql-logical");
    let (bench, source) = (Bench::new("r1"), bed.database());
    let stored = record(&bench, &source).await.unwrap();
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    let mut request = RestoreRequest { unit, to: Destination::Origin, options: serde_json::Value::Null };
    let mut restore = source.restore(&bench.cx, &request, &stored).await.unwrap();
    assert!(restore.plan().steps.iter().any(|step| matches!(step, Step::Cannot(text) if text.contains("not empty"))));
    check_refused(restore.apply(&bench.cx).await, "Refused");
    drop(restore);
    request.options = serde_json::json!({ "clean": true });
    let mut restore = source.restore(&bench.cx, &request, &stored).await.unwrap();
    assert!(restore.plan().steps.iter().any(|step| matches!(step, Step::Replace(_))));
    restore.apply(&bench.cx).await.unwrap();
    restore.prove(&bench.cx).await.unwrap();
    let lines = bed.lines.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("DROP DATABASE `shop`")));
}
