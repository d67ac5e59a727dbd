//! SQLite: a file that is copied by its own program.

use std::process::Command;

use onggi_lab::peer;

use crate::rig::{Rig, output};

#[test]
fn a_file_comes_back_whole() {
    if Command::new("sqlite3").arg("--version").output().is_err() {
        return peer::skip("no sqlite3");
    }
    let rig = Rig::new();
    let file = rig.path("app.db").display().to_string();
    let sqlite = |file: &str, query: &str| output(Command::new("sqlite3").args([file, query]));
    sqlite(
        &file,
        "PRAGMA journal_mode=WAL; CREATE TABLE a(i); INSERT INTO a SELECT value FROM generate_series(1, 5000)",
    );
    rig.configure(&format!("preset: sqlite\n    files: [\"{file}\"]"));
    rig.run(&["init"]);
    rig.run(&["backup", "billing"]);
    assert!(rig.private_files().is_empty());
    rig.run(&["restore", "latest", "--target", "out"]);
    let name = format!("{}.sqlite", file.replace('/', "%2F"));
    let back = rig.path("out/database").join(rig.source()).join(name).display().to_string();
    assert_eq!(sqlite(&back, "SELECT count(*), sum(i) FROM a; PRAGMA integrity_check"), "5000|12502500\nok\n");
}
