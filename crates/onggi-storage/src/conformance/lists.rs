//! Obligations on lists: each file once with its size, nothing else.

use super::{content, handles, own, remove, sample};
use crate::{FileId, FileInfo, FileType, Handle, Storage};
use futures::TryStreamExt;
use std::slice;

pub(super) async fn an_empty_storage_lists_nothing(storage: &dyn Storage) {
    for file_type in FileType::ALL {
        assert_eq!(handles(storage, file_type).await, [], "{file_type:?} of an empty storage");
    }
}

pub(super) async fn each_file_is_listed_once_with_its_size(storage: &dyn Storage, file_type: FileType) {
    let mut expected = Vec::new();
    for number in 0..if file_type == FileType::Config { 1 } else { 40 } {
        let handle = match file_type {
            // Packs of one folder, of others, and of a folder that is empty again.
            FileType::Pack if number % 2 == 0 => Handle::new(file_type, id(7, number)),
            FileType::Own(folder) => own(folder, &format!("{number}")),
            _ => sample(file_type, number),
        };
        storage.create(handle.clone(), content(number, usize::from(number))).await.expect("create");
        expected.push((handle, u64::from(number)));
    }
    if file_type != FileType::Config {
        let (gone, _) = expected.remove(5);
        remove(storage, gone).await;
    }
    expected.sort();
    let listed: Vec<FileInfo> = storage.list(file_type).try_collect().await.expect("list");
    let mut found: Vec<_> = listed.into_iter().map(|info| (info.handle, info.size)).collect();
    found.sort();
    assert_eq!(found, expected, "list of {file_type:?}");
    for (handle, size) in expected {
        assert_eq!(storage.stat(handle.clone()).await.expect("stat what is listed").size, size, "{handle}");
        remove(storage, handle).await;
    }
}

pub(super) async fn foreign_names_are_left_out(storage: &dyn Storage, mut plant: impl AsyncFnMut(String)) {
    let hex = "ab".repeat(32);
    let bad = ["README", ".hidden", "config.bak", &hex[1..], &hex.to_uppercase(), &format!("{hex}0"), "x y"];
    let temporary = format!(".{hex}.tmp-0123456789abcdef");
    for file_type in FileType::ALL {
        if let FileType::Own(_) = file_type {
            plant(format!("{}/.file-1.tmp-0123", file_type.folder())).await;
            plant(format!("{}/UPPER", file_type.folder())).await;
            continue;
        }
        let folder = match file_type {
            FileType::Config => String::new(),
            FileType::Pack => "data/ab/".into(),
            _ => format!("{}/", file_type.folder()),
        };
        for name in bad.iter().copied().chain([temporary.as_str()]) {
            plant(format!("{folder}{name}")).await;
        }
        plant(format!("{folder}folder-{hex}/{hex}")).await;
    }
    plant("data/README".into()).await;
    plant(format!("data/{hex}")).await;
    plant(format!("data/zz/{hex}")).await;
    plant(format!("data/cd/{hex}")).await;
    plant(format!("data/ABCD/{hex}")).await;
    for file_type in FileType::ALL {
        assert_eq!(handles(storage, file_type).await, [], "foreign names in the list of {file_type:?}");
    }
    let pack = sample(FileType::Pack, 0xab);
    storage.create(pack.clone(), content(1, 9)).await.expect("create among foreign names");
    assert_eq!(handles(storage, FileType::Pack).await, slice::from_ref(&pack), "only ours");
    remove(storage, pack).await;
}

/// An id whose pack lies in the folder `first`.
fn id(first: u8, last: u8) -> FileId {
    let mut id = [0; 32];
    (id[0], id[31]) = (first, last);
    FileId(id)
}
