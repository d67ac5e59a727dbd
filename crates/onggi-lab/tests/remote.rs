//! onggi's program over real services, and restic on the same repository there.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

use onggi_lab::compare::{Aspects, compare};
use onggi_lab::service::{ObjectStore, Sshd};
use onggi_lab::{peer, program};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

#[test]
fn onggi_and_restic_share_a_repository_over_s3() {
    let (Some(service), Some(restic)) = (ObjectStore::start(), peer::newest("restic")) else { return };
    Place::new().check_sharing(&restic, &service.url("some/prefix"), &[], |command| {
        command.envs(service.variables());
    });
}

#[test]
fn onggi_and_restic_share_a_repository_over_sftp() {
    let (Some(server), Some(restic)) = (Sshd::start(), peer::newest("restic")) else { return };
    let place = Place::new();
    server.introduce(&place.path("home"));
    // ssh, which restic runs, looks for its files where the user's entry says, and not in HOME.
    let (key, known) = (server.key(), server.known_hosts());
    let ssh = format!("sftp.args=-i {} -o UserKnownHostsFile={}", key.display(), known.display());
    place.check_sharing(&restic, &server.url("repository"), &["-o", &ssh], |_| {});
}

#[test]
fn a_host_that_is_not_known_is_refused_with_the_line_to_add() {
    let Some(server) = Sshd::start() else { return };
    let place = Place::new();
    server.introduce(&place.path("home"));
    fs::write(place.path("home/.ssh/known_hosts"), "").unwrap();
    let mut onggi = place.command(program::onggi(), &server.url("repository"));
    let output = onggi.arg("init").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(13), "{said}");
    assert!(said.contains("SHA256:") && said.contains(&format!("[127.0.0.1]:{} ssh-ed25519", server.port())), "{said}");
}

/// A home, a password, a source.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("home")).unwrap();
        fs::write(place.path("password"), "of this place").unwrap();
        fs::set_permissions(place.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir_all(place.path("source/folder")).unwrap();
        fs::write(place.path("source/small"), "small").unwrap();
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(20 << 20)
        .collect();
        fs::write(place.path("source/folder/noise"), noise).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, program: &Path, repository: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("TZ", "UTC").arg("--repo").arg(repository);
        command.arg("--password-file").arg(self.path("password"));
        command
    }

    /// Each program reads what both wrote.
    fn check_sharing(&self, restic: &Path, repository: &str, of_restic: &[&str], enter: impl Fn(&mut Command)) {
        let run = |program: &Path, line: &str| {
            let mut command = self.command(program, repository);
            enter(&mut command);
            if program == restic {
                command.args(of_restic);
            }
            command.args(line.split(' ').map(|word| match word.strip_prefix('@') {
                Some(name) => self.path(name).into_os_string(),
                None => word.into(),
            }));
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}\n{}{said}", String::from_utf8_lossy(&output.stdout));
        };
        let onggi = program::onggi();
        run(onggi, "init");
        run(onggi, "backup @source");
        run(restic, "check --read-data");
        run(restic, "restore latest --target @by-restic");
        fs::write(self.path("source/later"), "later").unwrap();
        run(restic, "backup @source");
        run(onggi, "repository verify --read-data");
        run(onggi, "restore latest --target @by-onggi");
        let source = self.path("source");
        let restored = |target: &str| self.path(target).join(source.strip_prefix("/").unwrap());
        let differences = compare(&source, &restored("by-onggi"), Aspects::CONTENT).unwrap();
        assert!(differences.is_empty(), "{}", differences.iter().map(ToString::to_string).collect::<String>());
        let noise = |folder: &Path| fs::read(folder.join("folder/noise")).unwrap();
        assert!(noise(&source) == noise(&restored("by-restic")));
    }
}
