//! Announcing packs: an index file for all that are stored and that none names yet.

use crate::{
    Repository, Result,
    format::{IndexFile, IndexId, IndexPack, PackId},
    index::Index,
};
use onggi_storage::FileType;
use std::sync::Arc;

/// Packs that are being announced. Dropped before that is done, it gives them back to those that wait.
struct Turn<'a> {
    index: &'a Index,
    file: Arc<IndexFile>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.index.pending().add(self.file.packs.iter().cloned());
    }
}

impl Turn<'_> {
    fn done(mut self, id: IndexId) {
        let packs: Vec<PackId> = self.file.packs.iter().map(|pack| pack.id).collect();
        self.file = Arc::default();
        self.index.announced(id, packs);
    }
}

impl Repository {
    /// Announces every pack of a table that is stored and not announced, whoever stored it. When it returns, those that
    /// others announce meanwhile are announced too.
    pub(crate) async fn announce(&self, index: &Index) -> Result<()> {
        let _alone = index.announcing().lock().await;
        let packs: Vec<IndexPack> = index.pending().take();
        if packs.is_empty() {
            return Ok(());
        }
        let turn = Turn { index, file: Arc::new(IndexFile { packs, ..IndexFile::default() }) };
        let file = Arc::clone(&turn.file);
        let json = self.env().compute.run(move || file.print()).await;
        turn.done(IndexId::from(self.save_json(FileType::Index, json).await?));
        Ok(())
    }
}
