//! Which host is believed: our matcher beside the OpenSSH client, before the same server.

use onggi_lab::service::Sshd;
use onggi_ssh::store::Store;
use onggi_ssh::{HostError, Login, PublicKey, Session, SshError, Trust, login, shown_key};
use std::fs;
use std::path::Path;
use std::process::Command;

const CERTIFICATE: &[&str] = &["--certificate", "-n 127.0.0.1"];

/// The lines of a known_hosts file, in words of the server, and whether the host is believed by them.
const ROWS: &[(&str, bool)] = &[
    ("HOST KEY", true),
    ("HOST OTHER\nHOST KEY", true),
    ("@revoked HOST KEY\nHOST KEY", false),
    ("[127.0.*]:* KEY", true),
    ("!HOST,HOST KEY", false),
    ("HOST\tKEY", true),
    ("@cert-authority * AUTHORITY", true),
    ("HOST ECDSA", true),
    // beyond the eight rows
    ("", false),
    ("HOST OTHER", false),
    ("[127.0.0.1]:1 KEY", false),
    ("@cert-authority * OTHER", false),
    ("@cert-authority other.example AUTHORITY", false),
    ("@revoked * AUTHORITY\n@cert-authority * AUTHORITY", false),
    ("# HOST KEY\nHOST garbage\n\nHOST KEY comment", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn our_matcher_and_openssh_judge_alike() {
    let Some(server) = Sshd::start_with(CERTIFICATE) else { return };
    for (text, expected) in ROWS {
        check(&server, text, *expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_over_or_for_another_host_is_refused() {
    for arguments in ["-n other.example", "-n 127.0.0.1 -V 20200101:20200102"] {
        let Some(server) = Sshd::start_with(&["--certificate", arguments]) else { return };
        check(&server, "@cert-authority * AUTHORITY", false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_nobody_is_not_for_everybody() {
    let Some(server) = Sshd::start_with(&["--certificate", "-V +1d"]) else { return };
    let file = written(&server, "@cert-authority * AUTHORITY");
    let Err(SshError::Identity(error)) = login(&options(&server, Trust::Files(vec![file.path().into()]))).await else {
        panic!("believed")
    };
    assert!(matches!(*error, HostError::Certificate { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_gets_nothing_but_the_handshake_and_passes_once_it_is_trusted() {
    let Some(server) = Sshd::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let options = options(&server, Trust::Files(vec![store.known()]));
    let Err(SshError::Identity(error)) = login(&options).await else { panic!("believed") };
    let HostError::Unknown { host, key, .. } = *error else { panic!("{error}") };
    let log = fs::read_to_string(server.file("log")).unwrap();
    assert!(!log.contains("userauth") && !log.contains("Accepted"), "{log}");
    store.ask(&host, &key, jiff::Timestamp::now(), "127.0.0.1").unwrap();
    assert_eq!(store.waiting().unwrap()[0].key.key_data(), key.key_data());
    store.trust(&host, &key).unwrap();
    assert!(login(&options).await.is_ok());
    let probed = shown_key("127.0.0.1", server.port().parse().unwrap(), false).await.unwrap();
    assert_eq!(probed.key_data(), key.key_data());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_goes_over_to_the_keys_that_it_proved_and_to_no_other() {
    let Some(server) = Sshd::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let host = format!("[127.0.0.1]:{}", server.port());
    store.trust(&host, &public(&server, "host_ecdsa.pub")).unwrap();
    let options = options(&server, Trust::Files(vec![store.known()]));
    let session = login(&options).await.unwrap();
    assert_eq!(ran(&session, "true").await, Some(0));
    let proven = session.proven_keys().await;
    assert_eq!(proven.len(), 3, "all that the server has");
    store.replace(&host, &proven).unwrap();
    drop(session);
    server.restart(&["--host-key", "ed25519"]);
    assert!(login(&options).await.is_ok(), "the old key is gone, the new one was proven");
    fs::copy(server.file("stranger"), server.file("host_ed25519")).unwrap();
    fs::copy(server.file("stranger.pub"), server.file("host_ed25519.pub")).unwrap();
    server.restart(&["--host-key", "ed25519"]);
    let Err(SshError::Identity(error)) = login(&options).await else { panic!("believed") };
    assert_eq!(error.class(), "host-key-changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_users_authority_lets_a_new_hub_in() {
    let entry = "TrustedUserCAKeys STATE/authority.pub";
    let Some(server) = Sshd::start_with(&["--option", entry]) else { return };
    let trust = || Trust::Files(vec![server.known_hosts()]);
    let with = |validity: &str| {
        let user = server.user();
        let stranger = server.file("stranger.pub");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-I", "hub2", "-n", &user, "-V", validity, "-s"]).arg(server.file("authority"));
        assert!(keygen.arg(stranger).status().unwrap().success());
        let certificate = Some(server.file("stranger-cert.pub"));
        Login { identity_files: vec![server.file("stranger")], certificate, ..options(&server, trust()) }
    };
    assert!(login(&with("+5m")).await.is_ok());
    let Err(SshError::Denied(_)) = login(&with("20200101:20200102")).await else { panic!("an old one lets in") };
}

/// OpenSSH's judgment and ours.
async fn check(server: &Sshd, text: &str, expected: bool) {
    let file = written(server, text);
    let ours = login(&options(server, Trust::Files(vec![file.path().into()]))).await;
    assert_eq!(by_openssh(server, file.path()), expected, "OpenSSH on:\n{text}");
    assert_eq!(ours.is_ok(), expected, "onggi on:\n{text}\n{:?}", ours.err());
}

/// Whether OpenSSH believes the server. What has nothing to do with host keys is no judgment and is tried again.
fn by_openssh(server: &Sshd, known: &Path) -> bool {
    let mut said = String::new();
    for _ in 0..3 {
        let output = openssh(server, known).output().unwrap();
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() || said.contains("Host key verification failed") {
            return output.status.success();
        }
    }
    panic!("OpenSSH came to no judgment: {said}");
}

fn openssh(server: &Sshd, known: &Path) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]);
    ssh.args(["-o", "GlobalKnownHostsFile=/dev/null", "-o"]).arg(format!("UserKnownHostsFile={}", known.display()));
    ssh.arg("-i").arg(server.key()).args(["-p", &server.port()]);
    ssh.arg(format!("{}@127.0.0.1", server.user())).arg("true");
    ssh
}

/// The file with the words replaced.
fn written(server: &Sshd, text: &str) -> tempfile::NamedTempFile {
    let key = |name: &str| onggi_ssh::error::text(&public(server, name));
    let text = text.replace("HOST", &format!("[127.0.0.1]:{}", server.port()));
    let text = text.replace("AUTHORITY", &key("authority.pub")).replace("ECDSA", &key("host_ecdsa.pub"));
    let text = text.replace("OTHER", &key("stranger.pub")).replace("KEY", &key("host_ed25519.pub"));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

fn public(server: &Sshd, name: &str) -> PublicKey {
    PublicKey::from_openssh(&fs::read_to_string(server.file(name)).unwrap()).unwrap()
}

fn options(server: &Sshd, trust: Trust) -> Login {
    Login {
        identity_files: vec![server.key()],
        ..Login::new("127.0.0.1", server.port().parse().unwrap(), server.user(), trust, jiff::Timestamp::now())
    }
}

async fn ran(session: &Session, command: &str) -> Option<u32> {
    session.run(command, b"", 1 << 20).await.unwrap().status
}
