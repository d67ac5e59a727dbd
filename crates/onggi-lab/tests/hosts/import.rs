//! A tree of dated folders with hard links, as rsync's `--link-dest` makes it, becomes snapshots.

use crate::place::Place;
use onggi_lab::compare::{Aspects, compare};
use serde_json::Value;
use std::fs;
use std::path::Path;

const FILES: usize = 10_000;
const DAYS: [&str; 8] =
    ["2016-03-01", "2016-03-02", "2016-03-03", "2016-03-04", "2016-03-05", "2016-03-06", "2016-03-07", "2016-03-08"];

/// Each day has the files of the day before as hard links, but for one that changed.
fn make_days(folder: &Path) {
    for (number, day) in DAYS.iter().enumerate() {
        for file in 0..FILES {
            let name = format!("etc/{:03}/{file}", file / 100);
            let path = folder.join(day).join(&name);
            if file % 100 == 0 {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
            }
            match number.checked_sub(1).filter(|_| file != number) {
                Some(before) => fs::hard_link(folder.join(DAYS[before]).join(&name), &path).unwrap(),
                None => fs::write(&path, format!("file {file} of {day}")).unwrap(),
            }
        }
    }
    fs::create_dir(folder.join("scripts")).unwrap();
}

#[test]
fn days_become_snapshots_of_their_dates_and_each_inode_is_read_once() {
    let place = Place::new();
    make_days(&place.path("backups"));
    let import = ["import", "rsync-tree", "backups", "--host", "ctl1"];
    let import = |place: &Place| -> Vec<Value> {
        let documents = place.documents(&import);
        documents.into_iter().filter(|one| one["message_type"] == "summary").collect()
    };
    let days = import(&place);
    let bytes = |day: &str, file: usize| format!("file {file} of {day}").len() as u64;
    let expected = |(number, day): (usize, &&str)| match number {
        0 => (0..FILES).map(|file| bytes(day, file)).sum::<u64>(),
        number => bytes(day, number),
    };
    let read: Vec<u64> = days.iter().map(|day| day["bytes_read"].as_u64().unwrap()).collect();
    assert_eq!(read, DAYS.iter().enumerate().map(expected).collect::<Vec<_>>());
    let snapshots = place.documents(&["snapshots"]);
    let snapshots = snapshots[0].as_array().unwrap();
    let shown: Vec<_> = snapshots.iter().map(|one| one["time"].as_str().unwrap()[..10].to_owned()).collect();
    assert_eq!(shown, DAYS);
    assert!(snapshots.iter().all(|one| one["hostname"] == "ctl1" && one["paths"][0] == "/"));
    assert_eq!(import(&place).len(), 0, "a second time there is nothing to take");
    let target = place.path("restored");
    place.run(&["restore", snapshots[4]["id"].as_str().unwrap(), "--target", target.to_str().unwrap()]);
    let differences = compare(&place.path("backups").join(DAYS[4]), &target, Aspects::CONTENT).unwrap();
    assert!(differences.is_empty(), "{}", differences.iter().map(ToString::to_string).collect::<String>());
}

#[test]
fn a_dry_run_of_an_import_stores_nothing() {
    let place = Place::new();
    fs::create_dir_all(place.path("backups/2016-03-04/etc")).unwrap();
    let said = place.run(&["import", "rsync-tree", "backups", "--host", "ctl1", "--dry-run"]);
    assert_eq!(said, "would take 2016-03-04\n");
    assert_eq!(place.documents(&["snapshots"])[0].as_array().unwrap().len(), 0);
}

#[test]
fn a_folder_without_days_is_an_error() {
    let place = Place::new();
    fs::create_dir(place.path("backups")).unwrap();
    let output = place.ask(&["import", "rsync-tree", "backups", "--host", "ctl1"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no directory with a name like"));
}
