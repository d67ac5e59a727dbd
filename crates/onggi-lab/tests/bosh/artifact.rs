//! The artifact directory: what is in it, and what a restore thinks of one that somebody has touched.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use onggi_lab::bosh::Instance;
use onggi_lab::bosh::jumpbox::{Jumpbox, install, listed};
use onggi_lab::program::{self, Ended};

#[test]
fn a_directory_holds_an_archive_for_each_job_and_what_they_hold() {
    let Some(instance) = Instance::start() else { return };
    for job in ["blobstore", "director"] {
        install(&instance, job);
    }
    instance.script("empty", "backup", "");
    let jumpbox = Jumpbox::new();
    jumpbox.director(&instance, "backup").expect(0);
    let artifact = jumpbox.artifact();
    let name = artifact.file_name().unwrap().to_str().unwrap();
    let stamp = name.strip_prefix("127.0.0.1_").unwrap();
    assert!(stamp.len() == 16 && stamp.ends_with('Z') && stamp.as_bytes()[8] == b'T', "{name}");
    assert_eq!(fs::metadata(&artifact).unwrap().permissions().mode() & 0o777, 0o700);
    let mut files: Vec<_> = fs::read_dir(&artifact).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["bosh-0-blobstore.tar", "bosh-0-director.tar", "bosh-0-empty.tar", "metadata"]);
    assert_eq!(listed(&artifact.join("bosh-0-blobstore.tar")), ["./", "./data"]);
    let metadata = jumpbox.metadata();
    let sum = Command::new("sh").args(["-c", "printf 'the data of director' | sha256sum"]).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let sum = sum.split_whitespace().next().unwrap();
    for text in ["- name: bosh\n  index: \"0\"\n", &format!("./data: {sum}"), "checksums: {}", " UTC\n"] {
        assert!(metadata.contains(text), "{text}:\n{metadata}");
    }
    assert!(!instance.has("/var/vcap/store/bbr-backup"));
}

#[test]
fn what_was_backed_up_is_restored_with_owner_mode_and_time() {
    let Some(instance) = Instance::start() else { return };
    let content = "mkdir -p /var/vcap/store/tree/deep && cd /var/vcap/store/tree && seq 1 100000 > big && \
         echo x > 'with blank and \"quote\"' && printf x > \"$(printf 'new\\nline')\" && touch deep/empty && \
         for i in $(seq 500); do echo $i > deep/$i; done && chown 1234:2345 big && chmod 640 big && \
         touch -d @1000000000 big && mkdir none";
    assert!(instance.run(content).status.success());
    instance.script("tree", "backup", "cp -a /var/vcap/store/tree/. $BBR_ARTIFACT_DIRECTORY");
    instance.script(
        "tree",
        "restore",
        "rm -rf /var/vcap/store/tree; cp -a $BBR_ARTIFACT_DIRECTORY /var/vcap/store/tree",
    );
    let jumpbox = Jumpbox::new();
    jumpbox.director(&instance, "backup").expect(0);
    let sums =
        "cd /var/vcap/store/tree && find . -type f -print0 | sort -z | xargs -0 sha256sum; find . -type d | sort";
    let before = instance.run(sums).stdout;
    assert!(instance.run("rm -rf /var/vcap/store/tree").status.success());
    jumpbox.director(&instance, &format!("restore --artifact-path {}", jumpbox.artifact().display())).expect(0);
    assert_eq!(before, instance.run(sums).stdout);
    let big = fs::metadata(instance.path("/var/vcap/store/tree/big")).unwrap();
    assert_eq!((big.uid(), big.gid(), big.mode() & 0o777, big.mtime()), (1234, 2345, 0o640, 1_000_000_000));
}

#[test]
fn a_symbolic_link_in_an_artifact_is_a_failure_as_it_is_elsewhere() {
    let Some(instance) = Instance::start() else { return };
    install(&instance, "good");
    instance.script("links", "backup", "ln -s /etc/passwd $BBR_ARTIFACT_DIRECTORY/link");
    let jumpbox = Jumpbox::new();
    let ended = jumpbox.director(&instance, "backup").expect(1);
    assert!(ended.err.contains("./link"), "{}", ended.err);
    let metadata = jumpbox.metadata();
    assert!(metadata.contains("name: good") && !metadata.contains("name: links"), "{metadata}");
}

#[test]
fn what_is_backed_up_goes_into_a_repository_as_well() {
    let Some(instance) = Instance::start() else { return };
    install(&instance, "blobstore");
    let jumpbox = Jumpbox::new();
    let repository = jumpbox.path("repository");
    let onggi = |words: &[&str]| {
        let mut command = jumpbox.program(program::onggi());
        command.env("ONGGI_REPOSITORY", &repository).env("ONGGI_PASSWORD", "of this place").args(words);
        Ended::of(command.output().unwrap())
    };
    onggi(&["init"]).expect(0);
    let verb = format!("backup --repo {}", repository.display());
    // without the password the directory stays, and the way on is said
    let ended = Ended::of(jumpbox.director_command(&instance, &verb).output().unwrap()).expect(1);
    let by_hand = format!("onggi import bbr-artifact {} --repo", jumpbox.artifact().display());
    assert!(ended.err.contains(&by_hand), "{}", ended.err);
    jumpbox.clear();
    let mut command = jumpbox.director_command(&instance, &verb);
    Ended::of(command.env("ONGGI_PASSWORD", "of this place").output().unwrap()).expect(0);
    let artifact = jumpbox.artifact();
    let files = onggi(&["ls", "latest"]).expect(0).out;
    assert!(files.contains("/bosh/127.0.0.1/bosh/0/blobstore/data"), "{files}");
    // and comes out as it was
    let out = jumpbox.path("out");
    fs::create_dir(&out).unwrap();
    onggi(&["export", "bbr-artifact", "latest", out.to_str().unwrap()]).expect(0);
    let exported = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let archive = "bosh-0-blobstore.tar";
    assert_eq!(listed(&exported.join(archive)), listed(&artifact.join(archive)));
    jumpbox.director(&instance, &format!("restore --artifact-path {}", exported.display())).expect(0);
}

/// Backs up one job, changes the directory, and restores.
#[track_caller]
fn check(change: impl Fn(&Path), code: i32, said: &str) {
    let Some(instance) = Instance::start() else { return };
    install(&instance, "db");
    let jumpbox = Jumpbox::new();
    jumpbox.director(&instance, "backup").expect(0);
    instance.calls();
    change(&jumpbox.artifact());
    let connections = instance.connections();
    let ended = jumpbox.director(&instance, &format!("restore -a {}", jumpbox.artifact().display())).expect(code);
    let all = format!("{}{}", ended.out, ended.err);
    assert!(all.contains(said), "{said}:\n{all}");
    let calls = instance.calls();
    assert_eq!(calls.is_empty(), code != 0, "{calls:?}");
    assert!(!instance.has("/var/vcap/store/bbr-backup"));
    if said.contains("corrupted") || said.contains("validate") {
        assert_eq!(instance.connections(), connections, "nothing is contacted");
    }
}

fn change_metadata(directory: &Path, change: impl Fn(String) -> String) {
    let path = directory.join("metadata");
    fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
}

#[test]
fn an_archive_with_another_byte_is_corrupted() {
    let flip = |directory: &Path| {
        let path = directory.join("bosh-0-db.tar");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|window| window == b"the ").unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    check(flip, 1, "Backup is corrupted");
}

#[test]
fn an_archive_that_is_cut_or_missing_cannot_be_validated() {
    let cut = |directory: &Path| {
        fs::File::options().write(true).open(directory.join("bosh-0-db.tar")).unwrap().set_len(700).unwrap();
    };
    check(cut, 1, "Could not validate backup");
    check(|directory| fs::remove_file(directory.join("bosh-0-db.tar")).unwrap(), 1, "Could not validate backup");
    check(|directory| fs::remove_file(directory.join("metadata")).unwrap(), 1, "Could not validate backup");
}

#[test]
fn an_archive_without_checksums_is_not_restored() {
    let forget = |directory: &Path| change_metadata(directory, |_| "instances: []\n".to_owned());
    check(forget, 1, "has no checksums");
    let forget_all = |directory: &Path| {
        forget(directory);
        fs::remove_file(directory.join("bosh-0-db.tar")).unwrap();
    };
    check(forget_all, 1, "is missing in the backup");
}

#[test]
fn unknown_keys_numbers_and_further_archives_do_no_harm() {
    let change = |directory: &Path| {
        change_metadata(directory, |text| text.replace("\"0\"", "0") + "onggi: {status: complete}\n");
        fs::write(directory.join("bosh-0-other.tar"), "no archive").unwrap();
    };
    check(change, 0, "Completed restore of 127.0.0.1");
}

#[test]
fn an_instance_that_is_not_there_is_a_difference() {
    let add = |directory: &Path| {
        let more = "instances:\n- name: other\n  index: \"3\"\n  artifacts: []\n";
        change_metadata(directory, |text| text.replace("instances:\n", more));
    };
    check(add, 1, "does not match the structure of the provided backup");
}
