//! Names of owners and groups as this node knows them, from its own files; those of a directory service stay numbers.

use std::collections::{HashMap, HashSet};

use onggi_node::{Answer, Entry, NAME_BYTES_MAX};
use rustix::fs::{Gid, Uid};

/// Names by number.
#[derive(Default)]
pub(super) struct Owners {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl Owners {
    /// Reads them before the thread gives up its rights.
    pub(super) fn load() -> Self {
        let read = |path| std::fs::read(path).map(|bytes| parse(&bytes)).unwrap_or_default();
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }
}

/// Numbers by name.
pub(super) struct Numbers {
    users: HashMap<Vec<u8>, u32>,
    groups: HashMap<Vec<u8>, u32>,
}

impl Numbers {
    pub(super) fn load() -> Self {
        let Owners { users, groups } = Owners::load();
        let turned = |names: HashMap<u32, Vec<u8>>| names.into_iter().map(|(id, name)| (name, id)).collect();
        Self { users: turned(users), groups: turned(groups) }
    }

    /// Those of the names here, else those that were stored.
    pub(super) fn of(&self, (user, group): (&[u8], &[u8]), (uid, gid): (u32, u32)) -> (Uid, Gid) {
        let user = self.users.get(user).copied().unwrap_or(uid);
        (Uid::from_raw(user), Gid::from_raw(self.groups.get(group).copied().unwrap_or(gid)))
    }
}

/// Which of them a walk has told.
#[derive(Default)]
pub(super) struct Told {
    users: HashSet<u32>,
    groups: HashSet<u32>,
}

impl Told {
    /// The names that these entries need and that were not told yet.
    pub(super) fn untold(&mut self, owners: &Owners, entries: &[Entry], stream: u64) -> Option<Answer> {
        let mut pick =
            |told: fn(&mut Self) -> &mut HashSet<u32>, id: fn(&Entry) -> u32, known: &HashMap<u32, Vec<u8>>| {
                let new: Vec<u32> = entries.iter().map(id).filter(|id| told(self).insert(*id)).collect();
                new.into_iter().filter_map(|id| Some((id, known.get(&id)?.clone()))).collect::<Vec<_>>()
            };
        let users = pick(|told| &mut told.users, |entry| entry.uid, &owners.users);
        let groups = pick(|told| &mut told.groups, |entry| entry.gid, &owners.groups);
        let is_empty = users.is_empty() && groups.is_empty();
        (!is_empty).then_some(Answer::Names { stream, users, groups })
    }
}

/// `name:password:number:…` per line; the first name of a number counts.
fn parse(file: &[u8]) -> HashMap<u32, Vec<u8>> {
    let mut names = HashMap::new();
    for line in file.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, id) = (fields.next(), fields.nth(1));
        let id = id.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        if let (Some(name), Some(id)) = (name.filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len())), id) {
            names.entry(id).or_insert_with(|| name.to_vec());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let names = parse(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:\n# comment\n\nbad:x:y\ndaemon:x:1:\n");
        assert_eq!((names.len(), &names[&0][..], &names[&1][..]), (2, &b"root"[..], &b"daemon"[..]));
    }
}
