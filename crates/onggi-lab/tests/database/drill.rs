//! Drills: a scratch server holds what is stored, has the same rows, and leaves nothing, also nothing of others.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use onggi_lab::service::Database;
use serde_json::Value;

use crate::rig::{Rig, output};
use crate::{mariadb, postgres};

/// Drills the newest snapshot and answers what was checked.
#[track_caller]
fn check_drill(rig: &Rig) -> String {
    rig.back_up();
    let mut command = rig.command(&["--json", "drill", "run", "billing"]);
    command.env("TMPDIR", rig.path("tables"));
    let said = output(&mut command);
    let drill: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(drill["result"], "proved", "{drill}");
    assert_eq!((fs::read_dir(rig.path("drills")).unwrap().count(), rig.private_files()), (0, Vec::new()));
    drill["checks"].to_string()
}

/// With a folder that any user can drill in, and one for temporary tables with a table that another server uses.
fn rig(server: &Database, preset: &str) -> Rig {
    let rig = Rig::new();
    for name in ["drills", "tables"] {
        fs::create_dir(rig.path(name)).unwrap();
        fs::set_permissions(rig.path(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::write(rig.path("tables/#sql-temptable-1-1-1.MAI"), "of another").unwrap();
    let directory = rig.path("drills");
    let databases = "include: { databases: [shop] }";
    rig.log_in(server, preset, &format!("drill: {{ directory: {} }}\n    {databases}", directory.display()));
    rig
}

#[test]
fn a_scratch_server_has_the_same_rows_as_mariadb() {
    let Some(server) = Database::start("mariadb") else { return };
    mariadb::sql(&server, None, mariadb::ROWS);
    let rig = rig(&server, "mysql-logical");
    let checks = check_drill(&rig);
    assert!(checks.contains("200002 rows in 2 tables"), "{checks}");
    assert!(rig.path("tables/#sql-temptable-1-1-1.MAI").exists());
}

#[test]
fn a_scratch_server_has_the_same_rows_as_postgres() {
    let Some(server) = postgres::shop() else { return };
    let checks = check_drill(&rig(&server, "postgres-logical"));
    assert!(checks.contains("200001 rows in 2 tables"), "{checks}");
}
