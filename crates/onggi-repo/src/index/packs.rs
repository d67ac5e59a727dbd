//! The packs that the table's records point into.

use super::{Location, shard::Record};
use crate::{
    format::{
        BlobKind, IndexId, PackId,
        pack::{self, PackEntry},
    },
    sabotage,
};
use jiff::Timestamp;
use std::collections::HashMap;

/// Whether a pack will stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackState {
    /// Announced by an index file, or written by this run.
    Live,
    /// Marked for deletion since then: good for reading, absent for deduplication.
    Tombstoned(Option<Timestamp>),
    /// Found in the storage, but no readable index file announces it: good for reading only.
    Unlisted,
}

/// What is known of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackInfo {
    /// Its name.
    pub id: PackId,
    /// Bytes that the file must have.
    pub size: u64,
    /// How many blobs it holds.
    pub blobs: u32,
    /// What it holds; `None` if both kinds, as old repositories have it.
    pub kind: Option<BlobKind>,
    /// Whether it will stay.
    pub state: PackState,
    /// An index file that announces it; `None` while none is written.
    pub index: Option<IndexId>,
    /// Written by this process and not read back yet.
    pub is_unproved: bool,
}

/// Packs by number and by name.
#[derive(Debug, Default)]
pub(super) struct Packs {
    infos: Vec<PackInfo>,
    numbers: HashMap<PackId, u32>,
}

impl Packs {
    /// Notes a pack. `Some` with its number if its blobs are not in the table yet.
    ///
    /// A pack that one file announces and another has marked for deletion is marked: restic may have announced it
    /// anew from an old listing, and what may vanish must not be built upon.
    pub fn insert(
        &mut self,
        id: PackId,
        state: PackState,
        index: Option<IndexId>,
        entries: &[PackEntry],
    ) -> Option<u32> {
        if let Some(&number) = self.numbers.get(&id) {
            let known = &mut self.infos[number as usize];
            match (known.state, state) {
                (PackState::Live, PackState::Tombstoned(_)) | (PackState::Unlisted, _) => known.state = state,
                _ => {}
            }
            known.index = index.or(known.index);
            return None;
        }
        let number = u32::try_from(self.infos.len()).ok().filter(|number| *number <= Record::PACK_MAX)?;
        self.infos.push(info(id, state, index, entries));
        self.numbers.insert(id, number);
        Some(number)
    }

    pub fn announced(&mut self, index: IndexId, packs: impl IntoIterator<Item = PackId>) {
        for pack in packs {
            if let Some(&number) = self.numbers.get(&pack) {
                self.infos[number as usize].index = Some(index);
            }
        }
    }

    /// The pack was just written.
    pub fn written(&mut self, number: u32) {
        self.infos[number as usize].is_unproved = true;
    }

    pub fn proved(&mut self, packs: impl IntoIterator<Item = PackId>) {
        for pack in packs {
            if let Some(&number) = self.numbers.get(&pack) {
                self.infos[number as usize].is_unproved = false;
            }
        }
    }

    pub fn locate(&self, record: &Record) -> Location {
        let pack = &self.infos[record.number() as usize];
        let is_marked = matches!(pack.state, PackState::Tombstoned(_));
        record.locate(pack.id, pack.state == PackState::Live || is_marked && sabotage::MARKED_PACK_USED.is_on())
    }

    pub fn get(&self, id: &PackId) -> Option<&PackInfo> {
        self.numbers.get(id).map(|number| &self.infos[*number as usize])
    }

    pub fn all(&self) -> &[PackInfo] {
        &self.infos
    }
}

fn info(id: PackId, state: PackState, index: Option<IndexId>, entries: &[PackEntry]) -> PackInfo {
    let first = entries.first().map(|entry| entry.kind);
    let is_pure = entries.iter().all(|entry| Some(entry.kind) == first);
    PackInfo {
        id,
        size: pack::pack_length(entries),
        blobs: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        kind: first.filter(|_| is_pure),
        state,
        index,
        is_unproved: false,
    }
}
