//! MariaDB.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use onggi_lab::service::Database;

use crate::rig::Rig;

pub const ROWS: &str = "CREATE DATABASE shop CHARACTER SET utf8mb4;
USE shop;
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, filler varchar(80) NOT NULL) ENGINE=InnoDB;
INSERT INTO account SELECT seq, 0, concat(md5(seq), md5(seq * 7)) FROM seq_1_to_200000;
CREATE TABLE `odd ``name` (t text, b blob);
INSERT INTO `odd ``name` VALUES ('it''s (1),(2);\\n\\\\', x'deadbeef'), (NULL, '');
DELIMITER ;;
CREATE PROCEDURE add_one() BEGIN
INSERT INTO `account` VALUES (0, 0, '');
END ;;
DELIMITER ;
";
pub const CHECKSUMS: &str = "CHECKSUM TABLE account, `odd ``name`";

/// Gives statements to the server; what it answers.
pub fn sql(server: &Database, database: Option<&str>, statements: &str) -> String {
    let mut mariadb = Command::new("mariadb");
    mariadb.env("MYSQL_PWD", server.password()).args(["--no-defaults", "--batch", "--skip-column-names"]);
    mariadb.args(["--host=127.0.0.1", &format!("--port={}", server.port()), &format!("--user={}", server.user())]);
    mariadb.args(database).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = mariadb.spawn().unwrap();
    running.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
    let ended = running.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

#[test]
fn a_database_comes_back_with_equal_checksums_and_little_is_stored_twice() {
    let Some(server) = Database::start("mariadb") else { return };
    sql(&server, None, ROWS);
    let rig = Rig::over(&server, "mysql-logical", "include: { databases: [sh*] }");
    assert!(rig.run(&["source", "discover", "billing"]).contains("db1/shop"));
    let first = rig.back_up();
    let unchanged = rig.back_up();
    assert!(unchanged * 50 < first, "an unchanged dump adds {unchanged} bytes of {first}");
    sql(&server, Some("shop"), "UPDATE account SET balance = 1 WHERE id BETWEEN 100000 AND 102000");
    let changed = rig.back_up();
    assert!(changed * 10 < first, "one percent adds {changed} bytes of {first}");
    eprintln!("first {first}, unchanged {unchanged}, one percent {changed}");
    rig.run(&["restore", "latest", "--target", "out"]);
    assert!(fs::read_to_string(rig.path("out/database/db1/globals.sql")).unwrap().contains("admin"));
    let manifest = fs::read_to_string(rig.path("out/database/db1/.onggi/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let rows = &manifest["facts"]["notes"]["rows"];
    assert_eq!(*rows, serde_json::json!({ "account": 200_000, "odd `name": 2 }));
    sql(&server, None, "CREATE DATABASE back");
    sql(&server, Some("back"), &fs::read_to_string(rig.path("out/database/db1/shop.sql")).unwrap());
    let back = sql(&server, Some("back"), CHECKSUMS).replace("back.", "shop.");
    assert_eq!(back, sql(&server, Some("shop"), CHECKSUMS));
    sql(&server, Some("shop"), "DELETE FROM account");
    rig.check_fails(&["--yes", "restore", "latest", "--to", "source"], "not empty");
    // The rows are back, and what this account may not grant is said.
    let restored = rig.try_run(&["--yes", "restore", "latest", "--to", "source", "--clean"]);
    assert_eq!(restored.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&restored.stderr).contains("GRANT PROXY"), "{restored:?}");
    assert_eq!(back, sql(&server, Some("shop"), CHECKSUMS));
    rig.forget_password();
    rig.check_fails(&["source", "preflight", "billing"], "Access denied");
}

#[test]
fn no_password_is_in_the_process_list_and_a_killed_dump_leaves_no_snapshot() {
    let Some(server) = Database::start("mariadb") else { return };
    sql(&server, None, ROWS);
    let tools_of = Rig::new();
    let seen = tools_of.path("seen");
    let look = format!("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' >>{} || true", seen.display());
    tools_of.tools_with("/usr/bin", "mariadb", &format!("{look}; real \"$@\""));
    let killed = "case $* in --version) real \"$@\";; *) real \"$@\" | head -c 500000; kill -9 $$;; esac";
    let folder = tools_of.tools_with("/usr/bin", "mariadb-dump", &format!("{look}; {killed}"));
    let rig = Rig::over(&server, "mysql-logical", &format!("programs: {folder}"));
    let output = rig.try_run(&["-vv", "backup", "billing"]);
    let (said, processes) = (String::from_utf8_lossy(&output.stderr), fs::read_to_string(seen).unwrap());
    assert!(!output.status.success() && said.contains("killed by a signal"), "{said}");
    assert!(processes.contains("--single-transaction"), "{processes}");
    assert!(!processes.contains(&server.password()) && !said.contains(&server.password()));
    assert_eq!((rig.snapshots(), rig.private_files()), (0, Vec::new()));
}
