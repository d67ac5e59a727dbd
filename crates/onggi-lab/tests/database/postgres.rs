//! PostgreSQL.

use std::fs;
use std::process::{Command, Stdio};

use onggi_lab::service::Database;

use crate::rig::{Rig, output};

const ROWS: &str = "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, filler text NOT NULL);
    INSERT INTO account SELECT i, 0, md5(i::text) || md5((i * 7)::text) FROM generate_series(1, 200000) i;
    CREATE TABLE \"odd name\" (t timestamptz, b bytea); INSERT INTO \"odd name\" VALUES (now(), '\\xdeadbeef');
    CREATE VIEW rich AS SELECT * FROM account WHERE balance > 0";
pub const CHECKSUM: &str =
    "SELECT count(*), md5(string_agg(id || ':' || balance || ':' || filler, ',' ORDER BY id)) FROM account";

pub fn sql(server: &Database, database: &str, query: &str) -> String {
    let mut psql = Command::new("psql");
    psql.env("PGPASSWORD", server.password()).args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
    psql.args(["-h", "127.0.0.1", "-p", &server.port(), "-U", &server.user(), "-d", database, "-c", query]);
    output(&mut psql)
}

pub fn tools() -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().path().join("bin"));
    versions.filter(|path| path.join("pg_dump").exists()).max().unwrap().display().to_string()
}

pub fn shop() -> Option<Database> {
    let server = Database::start("postgres")?;
    sql(&server, "postgres", "CREATE DATABASE shop");
    sql(&server, "shop", ROWS);
    Some(server)
}

/// The chunk with the time of the dump is stored anew, and its length is another one in each repository: beside 200 000
/// rows alone it is sometimes more than two percent.
const BALLAST: &str = "CREATE TABLE ballast AS SELECT i AS id, 0 AS balance,
    md5((i * 3)::text) || md5((i * 11)::text) AS filler FROM generate_series(1, 600000) i";
const SHOP: &str = "include: { databases: [shop] }";

#[test]
fn a_database_comes_back_with_equal_rows_and_little_is_stored_twice() {
    let Some(server) = shop() else { return };
    sql(&server, "shop", BALLAST);
    let rig = Rig::over(&server, "postgres-logical", SHOP);
    assert!(rig.run(&["source", "preflight", "billing"]).contains("ok billing-"));
    assert!(rig.run(&["source", "discover", "billing"]).contains("db1/shop"));
    let first = rig.back_up();
    let unchanged = rig.back_up();
    assert!(unchanged * 50 < first, "an unchanged dump adds {unchanged} bytes of {first}");
    sql(&server, "shop", "UPDATE account SET balance = 1 WHERE id BETWEEN 100000 AND 108000");
    let changed = rig.back_up();
    assert!(changed * 10 < first, "one percent adds {changed} bytes of {first}");
    eprintln!("first {first}, unchanged {unchanged}, one percent {changed}");
    rig.run(&["restore", "latest", "--target", "out"]);
    let dump = rig.path("out/database/db1/shop.dump");
    assert!(fs::read_to_string(rig.path("out/database/db1/globals.sql")).unwrap().contains("CREATE ROLE admin"));
    sql(&server, "postgres", "CREATE DATABASE back");
    let mut load = Command::new(format!("{}/pg_restore", tools()));
    load.env("PGPASSWORD", server.password()).args(["-h", "127.0.0.1", "-p", &server.port(), "-U", &server.user()]);
    output(load.args(["-d", "back", "--exit-on-error"]).arg(dump));
    assert_eq!(sql(&server, "back", CHECKSUM), sql(&server, "shop", CHECKSUM));
    let manifest = fs::read_to_string(rig.path("out/database/db1/.onggi/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let notes = &manifest["facts"]["notes"];
    assert_eq!((&notes["rows"]["public.account"], &notes["rows"]["public.odd name"]), (&200_000.into(), &1.into()));
    assert!(rig.private_files().is_empty(), "{:?}", rig.private_files());
}

#[test]
fn a_database_is_put_back_into_its_server_and_replaced_only_if_told() {
    let Some(server) = shop() else { return };
    let rig = Rig::over(&server, "postgres-logical", SHOP);
    rig.back_up();
    let stored = sql(&server, "shop", CHECKSUM);
    sql(&server, "shop", "UPDATE account SET balance = 7");
    let back = |more: &[&'static str]| [&["--yes", "restore", "latest", "--to", "source"], more].concat();
    rig.check_fails(&back(&[]), "not empty");
    assert_ne!(sql(&server, "shop", CHECKSUM), stored);
    rig.run(&back(&["--into-database", "beside"]));
    assert_eq!(sql(&server, "beside", CHECKSUM), stored);
    rig.run(&back(&["--clean", "--jobs", "1"]));
    assert_eq!(sql(&server, "shop", CHECKSUM), stored);
}

#[test]
fn a_dump_that_is_killed_leaves_no_snapshot() {
    let Some(server) = shop() else { return };
    let rig = Rig::over(&server, "postgres-logical", "");
    let killed = "case $* in --version) real \"$@\";; *) real \"$@\" | head -c 500000; kill -9 $$;; esac";
    let folder = rig.tools_with(&tools(), "pg_dump", killed);
    let rig = Rig::over(&server, "postgres-logical", &format!("{SHOP}\n    programs: {folder}"));
    rig.check_fails(&["backup", "billing"], "killed by a signal");
    assert_eq!((rig.snapshots(), rig.private_files()), (0, Vec::new()));
}

#[test]
fn what_a_killed_onggi_leaves_is_found_and_removed() {
    let Some(server) = shop() else { return };
    let tools_of = Rig::new();
    let marker = tools_of.path("marker");
    let script = format!(
        "case $* in --version) real \"$@\";; *) real \"$@\" | head -c 500000; touch {}; exec sleep 60;; esac",
        marker.display()
    );
    let folder = tools_of.tools_with(&tools(), "pg_dump", &script);
    let rig = Rig::over(&server, "postgres-logical", &format!("{SHOP}\n    programs: {folder}"));
    let mut onggi = rig.command(&["backup", "billing"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    while !marker.exists() {
        assert!(onggi.try_wait().unwrap().is_none(), "it ends before the dump begins");
        std::thread::yield_now();
    }
    onggi.kill().unwrap();
    onggi.wait().unwrap();
    assert_eq!(rig.snapshots(), 0);
    let left = rig.private_files();
    assert_eq!(left.len(), 1, "the file with the password");
    // younger ones may be of a run that is alive
    let mark = fs::read_to_string(&left[0]).unwrap();
    let (start, end) = mark.split_once("\"made_at\":\"").unwrap();
    fs::write(&left[0], format!("{start}\"made_at\":\"1999{}", &end[4..])).unwrap();
    let text = fs::read_to_string(rig.path("onggi.yaml")).unwrap();
    fs::write(rig.path("onggi.yaml"), text.replace(&folder, &tools())).unwrap();
    rig.run(&["backup", "billing"]);
    assert_eq!((rig.snapshots(), rig.private_files()), (1, Vec::new()));
}

#[test]
fn a_limited_rate_does_not_hold_the_dump_open() {
    let Some(server) = shop() else { return };
    let tools_of = Rig::new();
    let marker = tools_of.path("dumped");
    // How long the dump took, in milliseconds, once it has ended.
    let script = format!(
        "case $* in --version) real \"$@\";; *) began=$(date +%s%3N); real \"$@\"
        echo $(($(date +%s%3N) - began)) >{0}.new; mv {0}.new {0};; esac",
        marker.display()
    );
    let folder = tools_of.tools_with(&tools(), "pg_dump", &script);
    let dumped = |limit: &[&str]| {
        let rig = Rig::over(&server, "postgres-logical", &format!("{SHOP}\n    programs: {folder}"));
        let mut onggi = rig.command(&[limit, &["backup", "billing"]].concat()).stderr(Stdio::null()).spawn().unwrap();
        while !marker.exists() {
            assert!(onggi.try_wait().unwrap().is_none(), "it ends before the dump does");
            std::thread::yield_now();
        }
        let stored_then = rig.stored_bytes();
        assert!(onggi.wait().unwrap().success());
        let took: u64 = fs::read_to_string(&marker).unwrap().trim().parse().unwrap();
        fs::remove_file(&marker).unwrap();
        (took, stored_then, rig.stored_bytes())
    };
    let (free, ..) = dumped(&[]);
    let (limited, stored_then, stored) = dumped(&["--limit-rate", "1MB"]);
    eprintln!(
        "MEASURED: the dump took {free} ms, and {limited} ms under a limit; then {stored_then} of {stored} bytes"
    );
    assert!(stored_then * 2 < stored, "the dump waited: {stored_then} of {stored} bytes were stored when it ended");
}

#[test]
fn no_password_is_in_the_process_list_or_in_what_onggi_says() {
    let Some(server) = shop() else { return };
    let tools_of = Rig::new();
    let (seen, folder) = (tools_of.path("seen"), tools_of.path("tools"));
    let script =
        format!("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' >>{} || true; real \"$@\"", seen.display());
    for tool in ["psql", "pg_dump", "pg_dumpall"] {
        tools_of.tools_with(&tools(), tool, &script);
    }
    let rig = Rig::over(&server, "postgres-logical", &format!("{SHOP}\n    programs: {}", folder.display()));
    let said = rig.run(&["-vv", "backup", "billing"]);
    let processes = fs::read_to_string(seen).unwrap();
    assert!(processes.contains("pg_dump") && processes.contains("--snapshot="), "{processes}");
    assert!(!processes.contains(&server.password()) && !said.contains(&server.password()));
}

#[test]
fn a_wrong_password_and_older_tools_are_named() {
    let Some(server) = Database::start("postgres") else { return };
    let rig = Rig::over(&server, "postgres-logical", "");
    let older = "case $* in --version) echo 'pg_dump (PostgreSQL) 9.6.24';; *) real \"$@\";; esac";
    let folder = rig.tools_with(&tools(), "pg_dump", older);
    let other = Rig::over(&server, "postgres-logical", &format!("programs: {folder}"));
    other.check_fails(&["source", "preflight", "billing"], "the tools are of version 9");
    rig.forget_password();
    rig.check_fails(&["source", "preflight", "billing"], "password authentication failed");
    rig.check_fails(&["backup", "billing"], "access is denied");
}
