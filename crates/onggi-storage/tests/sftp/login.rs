//! Who we are: keys of each kind, an agent, a stranger, nobody.

use super::{Server, open, pack};
use onggi_storage::{
    Storage, StorageError,
    sftp::{Sftp, SftpOptions},
};
use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_each_kind_let_us_in() {
    let Some(server) = Server::start(&[]) else { return };
    for kind in ["client_ed25519", "client_ecdsa", "client_rsa"] {
        open(SftpOptions { identity_files: vec![server.file(kind)], ..server.options() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_key_is_tried_after_the_first() {
    let Some(server) = Server::start(&[]) else { return };
    let identity_files = vec![server.file("stranger"), server.file("client_ed25519")];
    open(SftpOptions { identity_files, ..server.options() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_key_is_opened_with_its_passphrase() {
    let Some(server) = Server::start(&[]) else { return };
    let key = server.file("client_ed25519");
    run(Command::new("ssh-keygen").args(["-q", "-p", "-N", "a passphrase", "-f"]).arg(&key));
    open(SftpOptions { identity_passphrase: Some("a passphrase".into()), ..server.options() }).await;
    let wrong = SftpOptions { identity_passphrase: Some("wrong".into()), ..server.options() };
    check_denied(Sftp::open(wrong).await, "client_ed25519");
    check_denied(Sftp::open(server.options()).await, "client_ed25519");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_denied_and_told_what_was_offered() {
    let Some(server) = Server::start(&[]) else { return };
    let stranger = vec![server.file("stranger")];
    check_denied(Sftp::open(SftpOptions { identity_files: stranger, ..server.options() }).await, "stranger");
    let nobody = SftpOptions { identity_files: Vec::new(), ..server.options() };
    check_denied(Sftp::open(nobody).await, "no key, agent or password is given");
    let password =
        SftpOptions { identity_files: Vec::new(), password: Some("the-marked-secret".into()), ..server.options() };
    let error = Sftp::open(password.clone()).await.unwrap_err();
    let shown = format!("{error:?} {password:?}");
    assert!(shown.contains("offered: \"password\"") && !shown.contains("the-marked-secret"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_is_refused() {
    let Some(server) = Server::start(&[]) else { return };
    fs::set_permissions(server.file("client_ed25519"), fs::Permissions::from_mode(0o644)).unwrap();
    check_denied(Sftp::open(server.options()).await, "others can read it (mode 0644");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_holds_the_key() {
    let Some(server) = Server::start(&[]) else { return };
    let socket = server.file("agent");
    let _agent = Agent::start(&socket);
    for kind in ["client_rsa", "client_ed25519"] {
        run(Command::new("ssh-add").args(["-q", "-D"]).env("SSH_AUTH_SOCK", &socket));
        run(Command::new("ssh-add").arg("-q").arg(server.file(kind)).env("SSH_AUTH_SOCK", &socket));
        let options = SftpOptions { identity_files: Vec::new(), agent: Some(socket.clone()), ..server.options() };
        open(options).await;
    }
    let gone = SftpOptions { identity_files: Vec::new(), agent: Some(server.file("nowhere")), ..server.options() };
    check_denied(Sftp::open(gone).await, "nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_sftp_is_denied() {
    let Some(server) = Server::start(&["--no-sftp"]) else { return };
    check_denied(Sftp::open(server.options()).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_denies_writes() {
    let Some(server) = Server::start(&["--sftp-arguments", "-R"]) else { return };
    let storage = open(server.options()).await;
    let above = server.repository();
    fs::create_dir_all(&above).unwrap();
    check_denied(storage.prepare().await, "");
    check_denied(storage.create(pack(1), "x".into()).await, "");
}

#[track_caller]
fn check_denied<T: std::fmt::Debug>(result: Result<T, StorageError>, because: &str) {
    match result {
        Err(error @ StorageError::Denied(_)) => {
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains(because), "{cause}");
            assert!(!error.is_transient());
        }
        other => panic!("{other:?}"),
    }
}

/// An agent that ends with the test.
struct Agent(Child);

impl Agent {
    fn start(socket: &Path) -> Self {
        let agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(socket).stdout(Stdio::null()).spawn().unwrap();
        while !socket.exists() {
            std::thread::yield_now();
        }
        Self(agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
