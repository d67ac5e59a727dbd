//! Creating, opening and keys: what is refused, what is found again when files are lost or damaged.

mod common;

use common::*;
use onggi_repo::{LockKind, OpenOptions, RemoveKey, RepoError, Repository, Result, format::KdfCost};
use onggi_storage::{
    FileId, FileType, Handle, OwnFolder, Storage,
    faulty::{Failure, Fault, Faulty, Rule},
    memory::Memory,
    recording::CallKind,
};
use secrecy::SecretString;
use std::{sync::Arc, time::Duration};

async fn open(world: &World, password: &str) -> Result<Repository> {
    let storage = Arc::new(world.memory.clone());
    Repository::open(storage, &password.into(), OpenOptions::default(), env(&world.clock, "two")).await
}

fn of(memory: &Memory, file_type: FileType) -> Vec<Handle> {
    memory.files().into_iter().map(|(handle, _)| handle).filter(|handle| handle.file_type() == file_type).collect()
}

fn guard(answer: Result<impl std::fmt::Debug>) -> String {
    match answer {
        Err(RepoError::Refused { guard, .. }) => guard.into(),
        other => format!("{other:?}"),
    }
}

fn other_password() -> SecretString {
    "battery staple".into()
}

async fn create_over(world: &World) -> String {
    let storage = Arc::new(world.memory.clone());
    match Repository::create(storage, &password(), new(), env(&world.clock, "two")).await {
        Err(RepoError::AlreadyExists(what)) => what,
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_created_over_remains() {
    let world = World::new().await;
    back_up(&world.repo, &Files::new()).await.unwrap();
    assert_eq!(create_over(&world).await, "config");
    world.memory.remove(Handle::Config).await.unwrap();
    for what in [FileType::Snapshot, FileType::Index, FileType::Pack] {
        let remains = of(&world.memory, what);
        assert_eq!(create_over(&world).await, format!("no config, but {}", remains[0]));
        for file in remains {
            world.memory.remove(file).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_new_place_need_not_allow_removal() {
    let world = World::new().await;
    let denied = Rule::new(Fault::Error(Failure::Denied)).on(CallKind::Remove).always();
    let storage = Arc::new(Faulty::new(Arc::new(Memory::new())).with(denied));
    Repository::create(storage, &password(), new(), env(&world.clock, "two")).await.unwrap();
}

#[tokio::test]
async fn what_was_begun_is_ended_with_the_same_password_alone() {
    let world = World::new().await;
    world.memory.remove(Handle::Config).await.unwrap();
    let create = async |password: SecretString| {
        Repository::create(Arc::new(world.memory.clone()), &password, new(), env(&world.clock, "two")).await
    };
    match create(other_password()).await {
        Err(RepoError::AlreadyExists(what)) => assert!(what.starts_with("no config, but key "), "{what}"),
        other => panic!("{other:?}"),
    }
    let keys = of(&world.memory, FileType::Key);
    let repo = create(password()).await.unwrap();
    assert_eq!(of(&world.memory, FileType::Key), keys);
    back_up(&repo, &Files::new()).await.unwrap();
}

#[tokio::test]
async fn an_empty_place_is_no_repository() {
    let world = World::new().await;
    for memory in [Memory::new(), Memory::absent()] {
        let answer = world.open_at(Arc::new(memory), "two").await;
        assert!(matches!(answer, Err(RepoError::NoRepository(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let world = World::new().await;
    assert!(matches!(open(&world, "wrong").await, Err(RepoError::WrongPassword)));
}

#[tokio::test]
async fn several_passwords_open_and_a_changed_one_does_not() {
    let world = World::new().await;
    world.repo.add_key(&other_password(), KdfCost::testing()).await.unwrap();
    let repo = open(&world, "battery staple").await.unwrap();
    assert_eq!(repo.keys().await.unwrap().found.len(), 2);
    let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await.unwrap();
    repo.change_password(&"new one".into(), KdfCost::testing(), &lock).await.unwrap();
    lock.release().await.unwrap();
    assert!(matches!(open(&world, "battery staple").await, Err(RepoError::WrongPassword)));
    open(&world, "new one").await.unwrap();
    open(&world, "correct horse").await.unwrap();
    assert_eq!(of(&world.memory, FileType::Own(OwnFolder::Control)).len(), 3, "config and two keys");
}

#[tokio::test]
async fn neither_the_last_key_nor_the_one_in_use_is_removed_unasked() {
    let world = World::new().await;
    let own = world.repo.key_id();
    let shared = world.repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    assert_eq!(guard(world.repo.remove_key(own, RemoveKey::EvenInUse, &shared).await), "exclusive-lock");
    shared.release().await.unwrap();
    let lock = world.repo.lock(LockKind::Exclusive, Duration::ZERO).await.unwrap();
    assert_eq!(guard(world.repo.remove_key(own, RemoveKey::EvenInUse, &lock).await), "last-key");
    let new = world.repo.add_key(&other_password(), KdfCost::testing()).await.unwrap();
    assert_eq!(guard(world.repo.remove_key(own, RemoveKey::Other, &lock).await), "key-in-use");
    world.repo.remove_key(own, RemoveKey::EvenInUse, &lock).await.unwrap();
    assert!(matches!(world.repo.remove_key(own, RemoveKey::Other, &lock).await, Err(RepoError::Missing(_))));
    assert_eq!(guard(world.repo.remove_key(new, RemoveKey::Other, &lock).await), "last-key");
    lock.release().await.unwrap();
}

#[tokio::test]
async fn an_empty_password_is_refused() {
    let world = World::new().await;
    assert_eq!(guard(world.repo.add_key(&"".into(), KdfCost::testing()).await), "empty-password");
}

#[tokio::test]
async fn lost_or_damaged_control_files_are_found_again() {
    let world = World::new().await;
    for file_type in [FileType::Config, FileType::Key] {
        for content in [None, Some(b"".as_slice()), Some(b"damaged".as_slice())] {
            let memory = world.memory.copy();
            for handle in of(&memory, file_type) {
                match content {
                    None => memory.remove(handle).await.unwrap(),
                    Some(content) => memory.put(handle, content),
                }
            }
            let repo = world.open_at(Arc::new(memory), "two").await.unwrap();
            assert!(!repo.problems().is_empty(), "{file_type:?} {content:?}");
            assert_eq!(repo.id(), world.repo.id());
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_config_or_key_ends_no_opening() {
    let world = World::new().await;
    for file_type in [FileType::Config, FileType::Key] {
        let handle = of(&world.memory, file_type).remove(0);
        let content = world.memory.read(handle.clone(), None).await.unwrap().to_vec();
        for bit in (0..content.len() * 8).step_by(7) {
            let memory = world.memory.copy();
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            memory.put(handle.clone(), damaged);
            // A changed digit may turn the cost of a key into one that takes long; that is the attacker's time limit.
            if let Err(error) = world.open_at(Arc::new(memory), "two").await {
                panic!("{file_type:?} bit {bit}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn at_most_twenty_keys_are_tried() {
    let world = World::new().await;
    let key = of(&world.memory, FileType::Key).remove(0);
    let content = world.memory.read(key.clone(), None).await.unwrap();
    world.memory.remove(key).await.unwrap();
    for number in 0..30 {
        let text = String::from_utf8(content.to_vec()).unwrap().replace("operator", &format!("operator{number}"));
        world.memory.put(Handle::new(FileType::Key, FileId([number; 32])), text);
    }
    assert_eq!(guard(open(&world, "wrong").await), "key-limit");
}
