//! A server of other make, which knows few extensions and asks for a password: rclone's, brought by `lab/peers/up`.

use super::{
    open,
    server::{Server, skip},
};
use onggi_storage::{
    Storage, StorageError, conformance,
    sftp::{Sftp, SftpOptions},
};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const PASSWORD: &str = "a password with spaces";

#[tokio::test(flavor = "multi_thread")]
async fn sftp_is_a_storage_on_another_server_too() {
    let Some((server, rclone)) = start() else { return };
    let storage = open(rclone.options(&server)).await;
    conformance::check(&storage).await;
    let properties = storage.properties();
    // This one replaces an existing file when it renames, unlike OpenSSH's.
    assert!(
        !properties.durable && !properties.exclusive_create,
        "{properties:?}: promises that the server does not keep"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_denied() {
    let Some((server, rclone)) = start() else { return };
    let options = SftpOptions { password: Some("wrong".into()), ..rclone.options(&server) };
    let error = Sftp::open(options).await.unwrap_err();
    assert!(matches!(error, StorageError::Denied(_)), "{error:?}");
}

/// The server of another make, with the keys that were made for the first.
struct Rclone {
    child: Child,
    port: u16,
}

fn start() -> Option<(Server, Rclone)> {
    let server = Server::start(&[])?;
    let Some(program) = program() else {
        skip("SFTP against a second server", "no rclone; lab/peers/up brings it");
        return None;
    };
    let mut child = Command::new(program)
        .args(["serve", "sftp", "--addr", "127.0.0.1:0", "--user", "me", "--pass", PASSWORD, "-v", "--config", ""])
        // Without its cache it takes the bytes of a file only in order.
        .args(["--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--poll-interval", "0s"])
        .arg("--cache-dir")
        .arg(server.file("rclone-cache"))
        .arg("--key")
        .arg(server.file("host_ed25519"))
        .arg(server.place.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| line.rsplit_once("listening on 127.0.0.1:")?.1.parse().ok());
    // Read on, so that it never waits for its log.
    std::thread::spawn(move || lines.for_each(drop));
    let port = told.expect("rclone tells its port");
    Some((server, Rclone { child, port }))
}

impl Rclone {
    fn options(&self, server: &Server) -> SftpOptions {
        SftpOptions {
            port: self.port,
            user: "me".into(),
            path: "/repository".into(),
            identity_files: Vec::new(),
            password: Some(PASSWORD.into()),
            host_key: Some(std::fs::read_to_string(server.file("host_ed25519.pub")).unwrap()),
            ..server.options()
        }
    }
}

impl Drop for Rclone {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's environment, not the product's")]
fn program() -> Option<PathBuf> {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.lab/bin");
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::iter::once(lab).chain(std::env::split_paths(&search));
    folders.find_map(|folder| Some(folder.join("rclone")).filter(|program| program.exists()))
}
