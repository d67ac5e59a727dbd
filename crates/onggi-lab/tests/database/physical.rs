//! Whole servers: what was copied is put into a fresh data folder, and the server that starts there has the same rows.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use onggi_lab::service::Database;

use crate::rig::{Rig, output};
use crate::{mariadb, postgres};

/// A server on a socket of its own; it ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A program as the user that servers run as; they refuse to be root.
fn as_user(user: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups", "--"]).arg(program);
    command
}

/// An empty folder of this user.
fn fresh(rig: &Rig, user: &str, name: &str) -> PathBuf {
    let folder = rig.path(name);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        output(Command::new("chown").arg(format!("{user}:")).arg(&folder));
    }
    folder
}

/// Starts a server, and asks it until it answers.
#[track_caller]
fn started(server: &mut Command, asked: impl Fn() -> Command) -> (Server, String) {
    let mut server = Server(server.stdout(Stdio::null()).spawn().unwrap());
    loop {
        let answer = asked().output().unwrap();
        if answer.status.success() {
            return (server, String::from_utf8(answer.stdout).unwrap());
        }
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert!(server.0.try_wait().unwrap().is_none(), "the server ended: {said}");
    }
}

#[test]
fn a_cluster_of_postgres_starts_from_its_copy() {
    let Some(server) = postgres::shop() else { return };
    let rig = Rig::over(&server, "postgres-physical", "");
    assert!(rig.run(&["source", "discover", "billing"]).contains("db1"));
    rig.back_up();
    rig.run(&["restore", "latest", "--target", "out"]);
    let data = fresh(&rig, "postgres", "data");
    output(Command::new("tar").arg("-xf").arg(rig.path("out/database/db1/cluster.tar")).arg("-C").arg(&data));
    if rustix::process::geteuid().is_root() {
        output(Command::new("chown").args(["-R", "postgres:"]).arg(&data));
    }
    let socket = fresh(&rig, "postgres", "socket");
    let mut line = as_user("postgres", Path::new(&postgres::tools()).join("postgres"));
    line.arg("-D").arg(&data).arg("-k").arg(&socket).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
    let ask = || {
        let mut psql = as_user("postgres", "psql");
        psql.env("PGPASSWORD", server.password()).args(["-X", "-A", "-t", "-h"]).arg(&socket);
        psql.args(["-p", "5432", "-U", &server.user(), "-d", "shop", "-c", postgres::CHECKSUM]);
        psql
    };
    let (_copy, rows) = started(&mut line, ask);
    assert_eq!(rows, postgres::sql(&server, "shop", postgres::CHECKSUM));
}

#[test]
fn a_server_of_mariadb_starts_from_its_copy() {
    let Some(server) = Database::start("mariadb") else { return };
    mariadb::sql(&server, None, mariadb::ROWS);
    let rig = Rig::over(&server, "mysql-physical", "");
    rig.back_up();
    rig.run(&["restore", "latest", "--target", "out"]);
    let (copy, data) = (rig.path("copy"), rig.path("data"));
    fs::create_dir(&copy).unwrap();
    let stream = fs::File::open(rig.path("out/database/db1/cluster.mbstream")).unwrap();
    output(Command::new("mbstream").arg("-x").arg("-C").arg(&copy).stdin(stream));
    let target = format!("--target-dir={}", copy.display());
    output(Command::new("mariadb-backup").args(["--no-defaults", "--prepare", &target]));
    fs::create_dir(&data).unwrap();
    let back = ["--no-defaults", "--copy-back", &target, &format!("--datadir={}", data.display())];
    output(Command::new("mariadb-backup").args(back));
    let socket = fresh(&rig, "mysql", "socket").join("sock");
    if rustix::process::geteuid().is_root() {
        output(Command::new("chown").args(["-R", "mysql:"]).arg(&data));
    }
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin";
    let mut line = as_user("mysql", "mariadbd");
    line.env("PATH", path).arg("--no-defaults").arg(format!("--datadir={}", data.display()));
    let own = socket.parent().expect("it is in a folder");
    line.arg(format!("--socket={}", socket.display()))
        .arg(format!("--tmpdir={}", own.display()))
        .arg("--skip-networking")
        .stderr(Stdio::null());
    let ask = || {
        let mut client = as_user("mysql", "mariadb");
        client.env("MYSQL_PWD", server.password()).args(["--no-defaults", "--batch", "--skip-column-names"]);
        client.arg(format!("--socket={}", socket.display())).arg(format!("--user={}", server.user()));
        client.args(["--database=shop", "--execute", mariadb::CHECKSUMS]);
        client
    };
    let (_copy, rows) = started(&mut line, ask);
    assert_eq!(rows, mariadb::sql(&server, Some("shop"), mariadb::CHECKSUMS));
}
