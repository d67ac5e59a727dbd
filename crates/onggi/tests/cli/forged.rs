//! Well-sealed files of a repository that no onggi of this version writes (reliability 16.2).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use onggi_repo::format::{KeyFile, MasterKey, SnapshotId, seal, unpacked};
use serde_json::{Value, json};

use crate::environment::Environment;

/// The only file in a folder of the repository.
fn file_in(env: &Environment, folder: &str) -> PathBuf {
    fs::read_dir(env.path("repo").join(folder)).unwrap().next().unwrap().unwrap().path()
}

fn master_key(env: &Environment) -> MasterKey {
    let key = KeyFile::parse(&fs::read(file_in(env, "keys")).unwrap()).unwrap();
    key.open(&"correct horse battery staple".to_owned().into()).unwrap()
}

fn sealed(env: &Environment, plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    seal::seal(&master_key(env), [7; 16], plaintext, &mut sealed);
    sealed
}

/// Adds a snapshot that differs from the only one as told.
fn add_snapshot(env: &Environment, change: impl FnOnce(&mut Value)) {
    let mut plaintext = Vec::new();
    seal::open_into(&master_key(env), &fs::read(file_in(env, "snapshots")).unwrap(), &mut plaintext).unwrap();
    let mut snapshot = serde_json::from_slice(&unpacked::decode(&plaintext).unwrap()).unwrap();
    change(&mut snapshot);
    let sealed = sealed(env, &unpacked::encode(&serde_json::to_vec(&snapshot).unwrap()));
    env.write(format!("repo/snapshots/{}", SnapshotId::of(&sealed)), &sealed);
}

/// The copy of the config stays: what was there before must not hide what is there now.
#[test]
fn x15_made_by_a_newer_onggi() {
    let env = Environment::with_repository();
    let config = json!({"version": 3, "id": "07".repeat(32), "more": true});
    let sealed = sealed(&env, &serde_json::to_vec(&config).unwrap());
    fs::set_permissions(env.path("repo/config"), fs::Permissions::from_mode(0o600)).unwrap();
    env.write("repo/config", sealed);
    let run = env.run(["snapshots"]).expect(15);
    assert!(run.talk.contains("repository version 3") && run.talk.contains("newer one"), "{}", run.talk);
    env.run(["backup", "data"]).expect(15);
}

#[test]
fn a_snapshot_without_a_tree_is_damage_and_hides_no_other() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    add_snapshot(&env, |snapshot| snapshot["tree"] = Value::Null);
    assert_eq!(env.run(["snapshots", "--json"]).json().as_array().unwrap().len(), 1);
    env.run(["repository", "verify"]).expect(4);
    env.run(["repository", "prune", "--yes"]).expect(5);
}

#[test]
fn a_snapshot_of_a_hundred_thousand_paths_and_of_the_year_9999_is_as_any_other() {
    let env = Environment::with_repository();
    env.run(["backup", "data"]).expect(0);
    add_snapshot(&env, |snapshot| {
        snapshot["time"] = "9999-12-30T00:00:00Z".into();
        snapshot["paths"] = (0..100_000).map(|number| format!("/some/path/{number}")).collect();
    });
    assert_eq!(env.run(["snapshots", "--json"]).expect(0).json().as_array().unwrap().len(), 2);
    env.run(["snapshots"]).expect(0);
    env.run(["repository", "verify"]).expect(0);
    env.run(["restore", "latest", "--target", "out"]).expect(0);
}
