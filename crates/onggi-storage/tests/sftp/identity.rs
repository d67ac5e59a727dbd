//! Who the host is: known, unknown, changed, revoked, pinned, vouched for by an authority.

use super::{Server, open};
use onggi_storage::{
    StorageError,
    sftp::{Sftp, SftpOptions},
};
use std::{error::Error, fs};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_refused_with_the_line_that_makes_it_known() {
    let Some(server) = Server::start(&[]) else { return };
    let (known, empty) = (fs::read_to_string(server.file("known_hosts")).unwrap(), server.file("empty"));
    let options = SftpOptions { known_hosts: vec![empty.clone()], ..server.options() };
    let refusal = refusal(options.clone()).await;
    assert!(refusal.contains("SHA256:") && refusal.contains(empty.to_str().unwrap()), "{refusal}");
    let line = known.lines().find(|line| line.contains("ssh-ed25519")).unwrap();
    assert!(refusal.contains(line), "{refusal}\n{line}");
    // What the message says is what helps.
    fs::write(&empty, line).unwrap();
    open(options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_refused_and_the_old_line_is_named() {
    let Some(server) = Server::start(&[]) else { return };
    let other = fs::read_to_string(server.file("stranger.pub")).unwrap();
    let file = server.file("other_hosts");
    fs::write(&file, format!("# moved\n[127.0.0.1]:{} {other}", server.port)).unwrap();
    let refusal = refusal(SftpOptions { known_hosts: vec![file.clone()], ..server.options() }).await;
    assert!(refusal.contains("has changed") && refusal.contains(&format!("{}:2", file.display())), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused() {
    let Some(server) = Server::start(&[]) else { return };
    let file = server.file("revoked_hosts");
    let known = fs::read_to_string(server.file("known_hosts")).unwrap();
    let (_, key) = known.lines().next().unwrap().split_once(' ').unwrap();
    fs::write(&file, format!("{known}@revoked * {key}\n")).unwrap();
    let refusal = refusal(SftpOptions { known_hosts: vec![file], ..server.options() }).await;
    assert!(refusal.contains("is revoked"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_alone_is_refused_clearly() {
    let Some(server) = Server::start(&[]) else { return };
    let file = server.file("authorities");
    let key = fs::read_to_string(server.file("stranger.pub")).unwrap();
    fs::write(&file, format!("@cert-authority * {key}")).unwrap();
    let refusal = refusal(SftpOptions { known_hosts: vec![file], ..server.options() }).await;
    assert!(refusal.contains("showed no certificate"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_key_that_is_known_is_asked_for() {
    let Some(server) = Server::start(&[]) else { return };
    let known = fs::read_to_string(server.file("known_hosts")).unwrap();
    for kind in ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"] {
        let file = server.file(kind);
        fs::write(&file, known.lines().find(|line| line.contains(kind)).unwrap()).unwrap();
        open(SftpOptions { known_hosts: vec![file], ..server.options() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hashed_name_is_known() {
    let Some(server) = Server::start(&[]) else { return };
    let file = server.file("known_hosts");
    let hashing = std::process::Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).output().unwrap();
    assert!(hashing.status.success());
    assert!(fs::read_to_string(&file).unwrap().starts_with("|1|"));
    open(server.options()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_key_is_the_only_one() {
    let Some(server) = Server::start(&[]) else { return };
    let public = |name: &str| fs::read_to_string(server.file(name)).unwrap();
    let pin = |pin: String| SftpOptions { known_hosts: Vec::new(), host_key: Some(pin), ..server.options() };
    open(pin(public("host_rsa.pub"))).await;
    open(pin(public("host_ed25519.pub"))).await;
    let shown =
        std::process::Command::new("ssh-keygen").arg("-lf").arg(server.file("host_ed25519.pub")).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    open(pin(shown.split(' ').nth(1).unwrap().into())).await;
    let refusal = refusal(pin(public("stranger.pub"))).await;
    assert!(refusal.contains("the configuration pins"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_no_ssh_proves_nothing() {
    let Some(server) = Server::start(&[]) else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let clock = onggi_storage::clock::TestClock::new(1);
    let options = SftpOptions { port, clock: std::sync::Arc::new(clock.clone()), ..server.options() };
    let opening = tokio::spawn(Sftp::open(options));
    while !opening.is_finished() {
        tokio::task::yield_now().await;
        clock.advance(std::time::Duration::from_millis(1));
    }
    let error = opening.await.unwrap().unwrap_err();
    assert!(matches!(error, StorageError::Identity(_) | StorageError::Unreachable(_)), "{error:?}");
}

/// The reason why the host is not believed.
async fn refusal(options: SftpOptions) -> String {
    match Sftp::open(options).await {
        Err(error @ StorageError::Identity(_)) => {
            assert!(!error.is_transient(), "never tried again");
            error.source().unwrap().to_string()
        }
        other => panic!("{other:?}"),
    }
}
