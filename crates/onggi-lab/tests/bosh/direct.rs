//! Backups that make no artifact directory: everything goes straight into the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use onggi_lab::bosh::Instance;
use onggi_lab::bosh::bed::Bed;
use onggi_lab::bosh::jumpbox::{Jumpbox, install};
use onggi_lab::program::{self, Ended};

const PASSWORD: (&str, &str) = ("ONGGI_PASSWORD", "of this place");

/// A repository beside what a jumpbox has.
struct Repository<'a> {
    jumpbox: &'a Jumpbox,
    place: PathBuf,
}

impl<'a> Repository<'a> {
    fn new(jumpbox: &'a Jumpbox) -> Self {
        let repository = Self { jumpbox, place: jumpbox.path("repository") };
        repository.onggi(&["init"]).expect(0);
        repository
    }

    fn onggi(&self, words: &[&str]) -> Ended {
        let mut command = self.jumpbox.program(program::onggi());
        Ended::of(command.arg("--repo").arg(&self.place).env(PASSWORD.0, PASSWORD.1).args(words).output().unwrap())
    }

    /// What follows the words of the platform.
    fn verb(&self) -> String {
        format!("backup --no-artifact-dir --repo {}", self.place.display())
    }

    #[track_caller]
    fn nothing_is_here(&self) {
        assert_eq!(self.jumpbox.artifacts(), Vec::<PathBuf>::new());
    }
}

fn run(mut command: Command) -> Ended {
    Ended::of(command.env(PASSWORD.0, PASSWORD.1).output().unwrap())
}

#[test]
fn a_director_goes_straight_into_the_repository_once_it_is_known() {
    let Some(instance) = Instance::start() else { return };
    install(&instance, "blobstore");
    let jumpbox = Jumpbox::new();
    let repository = Repository::new(&jumpbox);
    let back_up = || run(jumpbox.director_command(&instance, &repository.verb()));
    let ended = back_up().expect(1);
    assert!(ended.err.contains("host key"), "{}", ended.err);
    // from now on its key is known
    jumpbox.director(&instance, "pre-backup-check").expect(0);
    back_up().expect(0);
    repository.nothing_is_here();
    let files = repository.onggi(&["ls", "latest"]).expect(0).out;
    assert!(files.contains("/bosh/127.0.0.1/bosh/0/blobstore/data"), "{files}");
    // the second is compared with the first
    back_up().expect(0);
    let listed = repository.onggi(&["snapshots", "--json"]).expect(0).out;
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!((listed.len(), &listed[1]["parent"]), (2, &listed[0]["id"]), "{listed:?}");
    // and it is restored as one that came through a directory
    let out = jumpbox.path("out");
    fs::create_dir(&out).unwrap();
    repository.onggi(&["export", "bbr-artifact", "latest", out.to_str().unwrap()]).expect(0);
    let exported = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    instance.write("/var/vcap/store/blobstore", "lost");
    jumpbox.director(&instance, &format!("restore --artifact-path {}", exported.display())).expect(0);
    assert_eq!(instance.read("/var/vcap/store/blobstore").unwrap(), "the data of blobstore");
}

#[test]
fn a_check_warns_of_a_repository_that_a_backup_could_not_write() {
    let Some(instance) = Instance::start() else { return };
    install(&instance, "blobstore");
    let jumpbox = Jumpbox::new();
    let check = |repository: &Path| {
        let mut command = jumpbox.director_command(&instance, "pre-backup-check");
        command.env("ONGGI_REPOSITORY", repository);
        run(command).expect(0)
    };
    let ended = check(&jumpbox.path("missing"));
    assert!(ended.out.contains("Director can be backed up.") && ended.err.is_empty(), "{ended:?}");
    assert!(ended.out.contains("WARN - open repository"), "{}", ended.out);
    let repository = Repository::new(&jumpbox);
    let ended = check(&repository.place);
    assert!(!ended.out.contains("WARN"), "{}", ended.out);
}

#[test]
fn a_deployment_goes_straight_into_the_repository_with_an_authority_that_is_in_no_file() {
    let Some(bed) = Bed::start(&[("cf", 1)]) else { return };
    install(&bed.instances[0], "a");
    let repository = Repository::new(&bed.jumpbox);
    let authority = fs::read_to_string(bed.jumpbox.path("ca.pem")).unwrap();
    let mut command = bed.command(&format!("-d cf {} --with-manifest", repository.verb()));
    command.env("BOSH_CA_CERT", authority);
    run(command).expect(0);
    bed.nobody_is_left();
    repository.nothing_is_here();
    let files = repository.onggi(&["ls", "latest"]).expect(0).out;
    assert!(files.contains("/bosh/cf/db/0/a/data") && files.contains("/bosh/cf/_meta/manifest.yml"), "{files}");
    // where a detour is asked for that this way does not know, nothing begins
    let mut command = bed.command(&format!("-d cf {}", repository.verb()));
    command.env("BOSH_ALL_PROXY", "socks5://127.0.0.1:1");
    let ended = run(command).expect(1);
    assert!(ended.err.contains("BOSH_ALL_PROXY"), "{}", ended.err);
}
