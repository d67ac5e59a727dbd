//! Which captures stay on the backup server. What is not named as one is somebody's own.

use std::collections::BTreeSet;

use onggi_source::openstack::jcloud::FileName;

/// Which of these files go so that the newest captures stay; all files of one moment are one capture.
pub fn surplus<'a>(names: impl Iterator<Item = &'a str> + Clone, keep: usize) -> Vec<&'a str> {
    let epochs: BTreeSet<_> = names.clone().filter_map(|name| FileName::parse(name).map(|found| found.epoch)).collect();
    let kept: BTreeSet<_> = epochs.into_iter().rev().take(keep).collect();
    names.filter(|name| FileName::parse(name).is_some_and(|found| !kept.contains(&found.epoch))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a1b2c3d-0000-4000-8000-00000000000a";

    #[track_caller]
    fn check(names: &[&str], keep: usize, expected: &[&str]) {
        let names: Vec<_> = names.iter().map(|name| name.replace("ID", ID)).collect();
        let expected: Vec<_> = expected.iter().map(|name| name.replace("ID", ID)).collect();
        assert_eq!(surplus(names.iter().map(String::as_str), keep), expected);
    }

    #[test]
    fn captures_are_counted_by_their_moment_not_by_files_or_letters() {
        check(&["9_ID", "10_ID", "11_ID"], 2, &["9_ID"]);
        check(&["9_ID", "9_ID.json", "9_ID.ID", "10_ID"], 1, &["9_ID", "9_ID.json", "9_ID.ID"]);
        check(&["9_ID"], 0, &["9_ID"]);
    }

    #[test]
    fn what_is_named_otherwise_stays() {
        check(&["notes", "9_mine", "9_ID.bak", ".9_ID.tmp-0011", "x_ID", "10_ID"], 0, &["10_ID"]);
    }
}
