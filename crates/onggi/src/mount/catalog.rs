//! The way to the snapshots: which folders there are above them, and what is in each.

use std::collections::BTreeMap;
use std::sync::Arc;

use onggi_repo::format::{Snapshot, SnapshotId};

use super::entry::{Entry, Folder};

/// Says whether a snapshot is shown.
pub type Select = Arc<dyn Fn(&SnapshotId, &Snapshot) -> bool + Send + Sync>;

/// The snapshots that are shown, oldest first.
#[derive(Debug, Default)]
pub struct Catalog {
    shown: Vec<Shown>,
}

#[derive(Debug)]
struct Shown {
    id: SnapshotId,
    name: String,
    hosts: Vec<String>,
    tags: Vec<String>,
    entry: Entry,
}

impl Catalog {
    /// The snapshots that `select` takes; `all` is oldest first.
    pub fn new(all: &[(SnapshotId, Snapshot)], select: &Select) -> Self {
        let shown =
            all.iter().filter(|(id, snapshot)| select(id, snapshot)).map(|(id, snapshot)| Shown::new(*id, snapshot));
        Self { shown: shown.collect() }
    }

    /// How many snapshots are shown.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether it shows exactly these, so that nothing needs to be read again.
    pub fn has_all(&self, all: &[(SnapshotId, Snapshot)], select: &Select) -> bool {
        let wanted = all.iter().filter(|(id, snapshot)| select(id, snapshot)).map(|(id, _)| id);
        wanted.eq(self.shown.iter().map(|shown| &shown.id))
    }

    /// What is in a folder, each name once.
    pub fn list(&self, folder: &Folder) -> Vec<(Vec<u8>, Entry)> {
        let folders = |names: BTreeMap<String, Folder>| {
            names.into_iter().map(|(name, folder)| (name.into_bytes(), Entry::Folder(folder))).collect()
        };
        match folder {
            Folder::Root => [
                ("ids", Folder::Ids),
                ("snapshots", Folder::Snapshots),
                ("hosts", Folder::Hosts),
                ("tags", Folder::Tags),
            ]
            .map(|(name, folder)| (name.as_bytes().to_vec(), Entry::Folder(folder)))
            .to_vec(),
            Folder::Ids => self.shown.iter().map(|one| (one.id.short().into_bytes(), one.entry.clone())).collect(),
            Folder::Snapshots => self.by_time(|_| true),
            Folder::Hosts => folders(self.names(|one| &one.hosts, Folder::Host)),
            Folder::Tags => folders(self.names(|one| &one.tags, Folder::Tag)),
            Folder::Host(host) => self.by_time(|one| one.hosts.contains(host)),
            Folder::Tag(tag) => self.by_time(|one| one.tags.contains(tag)),
        }
    }

    /// What has this name in a folder.
    pub fn find(&self, folder: &Folder, name: &[u8]) -> Option<Entry> {
        self.list(folder).into_iter().find_map(|(own, entry)| (own == name).then_some(entry))
    }

    /// The snapshots that `wanted` takes by time, and a link to the newest.
    fn by_time(&self, wanted: impl Fn(&Shown) -> bool) -> Vec<(Vec<u8>, Entry)> {
        let mut all: Vec<_> = self
            .shown
            .iter()
            .filter(|one| wanted(one))
            .map(|one| (one.name.clone().into_bytes(), one.entry.clone()))
            .collect();
        if let Some((newest, _)) = all.last().cloned() {
            all.push((b"latest".to_vec(), Entry::Latest(newest)));
        }
        all
    }

    fn names(&self, of: impl Fn(&Shown) -> &[String], folder: fn(String) -> Folder) -> BTreeMap<String, Folder> {
        self.shown.iter().flat_map(|one| of(one).iter()).map(|name| (name.clone(), folder(name.clone()))).collect()
    }
}

impl Shown {
    fn new(id: SnapshotId, snapshot: &Snapshot) -> Self {
        let time = snapshot.time.civil().strftime("%Y-%m-%dT%H-%M-%S").to_string();
        Self {
            id,
            name: format!("{time}-{}", id.short()),
            hosts: [&snapshot.hostname].into_iter().filter(|host| !host.is_empty()).map(|host| name_of(host)).collect(),
            tags: snapshot.tags.iter().filter(|tag| !tag.is_empty()).map(|tag| name_of(tag)).collect(),
            entry: Entry::Snapshot { tree: snapshot.tree, time: snapshot.time },
        }
    }
}

/// A host or tag as the name of a folder.
fn name_of(text: &str) -> String {
    match text {
        "." | ".." => "_".repeat(text.len()),
        text => text.chars().map(|char| if matches!(char, '/' | '\0') { '_' } else { char }).take(255 / 4).collect(),
    }
}

#[cfg(test)]
mod tests {
    use onggi_repo::format::BlobId;

    use super::*;

    fn snapshot(day: u8, host: &str, tags: &[&str]) -> (SnapshotId, Snapshot) {
        let time = format!("2026-11-{day:02}T22:08:41+09:00").parse().unwrap();
        let mut snapshot = Snapshot::new(time, BlobId([day; 32]));
        snapshot.hostname = host.into();
        snapshot.tags = tags.iter().map(|&tag| tag.into()).collect();
        (SnapshotId([day; 32]), snapshot)
    }

    #[track_caller]
    fn check(folder: &Folder, expected: &str) {
        let all = [snapshot(3, "web", &["a/b"]), snapshot(4, "..", &[]), snapshot(5, "web", &["x"])];
        let catalog = Catalog::new(&all, &(Arc::new(|_: &SnapshotId, _: &Snapshot| true) as Select));
        let names: Vec<_> =
            catalog.list(folder).into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect();
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn the_top_has_four_ways() {
        check(&Folder::Root, "ids snapshots hosts tags");
    }

    #[test]
    fn snapshots_are_named_by_the_time_where_they_were_taken() {
        let [a, b, c] = ["03T22-08-41-03030303", "04T22-08-41-04040404", "05T22-08-41-05050505"]
            .map(|end| format!("2026-11-{end}"));
        check(&Folder::Snapshots, &format!("{a} {b} {c} latest"));
        check(&Folder::Host("web".into()), &format!("{a} {c} latest"));
        check(&Folder::Tag("x".into()), &format!("{c} latest"));
        check(&Folder::Ids, "03030303 04040404 05050505");
    }

    #[test]
    fn hosts_and_tags_cannot_lead_elsewhere() {
        check(&Folder::Hosts, "__ web");
        check(&Folder::Tags, "a_b x");
    }

    #[test]
    fn nothing_has_no_newest() {
        check(&Folder::Host("unknown".into()), "");
    }
}
