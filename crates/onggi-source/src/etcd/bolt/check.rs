//! The structure of a whole file: every page is reached once or is free, and the free list says so too.

use super::cursor::Entry;
use super::page::{HEADER_BYTES, u64_at, wrong};
use super::read::{Bolt, BoltError, FileBytes};

/// What a header's count says of a free list that is longer than it can count.
const COUNT_OVERFLOW: u16 = u16::MAX;
/// How much of a free list is read at once, in bytes.
const STEP_BYTES: usize = 64 << 10;
/// The longest file that is checked: the set of its pages takes a bit for each.
const PAGES_MAX: u64 = 1 << 26;

/// Pages that were reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    words: Vec<u64>,
    pages: u64,
    count: u64,
}

/// What a check found in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Pages that hold something.
    pub used: u64,
    /// Pages that are free.
    pub free: u64,
}

impl Reached {
    /// None of so many, but for the metas, which are always there.
    pub(super) fn new(pages: u64) -> Self {
        let pages = pages.min(PAGES_MAX);
        let mut reached = Self { words: vec![0; pages.div_ceil(64) as usize], pages, count: 0 };
        for meta in 0..pages.min(2) {
            reached.put(meta);
        }
        reached
    }

    /// Marks a page and those that follow and belong to it.
    pub(super) fn mark(&mut self, first: u64, pages: u64) -> Result<(), BoltError> {
        if first.checked_add(pages).is_none_or(|end| end > self.pages) {
            return Err(wrong(first, "its overflow lies outside of the file"));
        }
        for page in first..first + pages {
            if self.has(page) {
                return Err(wrong(page, "it is reached twice"));
            }
            self.put(page);
        }
        Ok(())
    }

    /// Whether a page was reached.
    pub fn has(&self, page: u64) -> bool {
        page < self.pages && self.words[(page / 64) as usize] >> (page % 64) & 1 == 1
    }

    fn put(&mut self, page: u64) {
        self.words[(page / 64) as usize] |= 1 << (page % 64);
        self.count += 1;
    }
}

impl<F: FileBytes + ?Sized> Bolt<'_, F> {
    /// Walks all buckets in order and proves the structure of the file on the way. `visit` sees every entry with the
    /// name of its bucket, and each bucket's name with no entry first. The pages that are not reached are free.
    pub async fn check(
        &self,
        mut visit: impl FnMut(&[u8], Option<Entry<'_>>) -> Result<(), BoltError>,
    ) -> Result<(Census, Reached), BoltError> {
        let (buckets, mut reached) = self.buckets().await?;
        for bucket in &buckets {
            visit(&bucket.name, None)?;
            let mut cursor = self.cursor_after(bucket, reached);
            while let Some(entry) = cursor.next().await? {
                visit(&bucket.name, Some(entry))?;
            }
            reached = cursor.into_reached();
        }
        let free = match self.meta().free_list {
            Some(page) => self.compare_free_list(page, &mut reached).await?,
            None => self.meta().pages - reached.count,
        };
        Ok((Census { used: reached.count, free }, reached))
    }

    /// A stored free list names exactly the pages that nothing reached, in order.
    async fn compare_free_list(&self, page: u64, reached: &mut Reached) -> Result<u64, BoltError> {
        let page_bytes = u64::from(self.meta().page_bytes);
        let (header, start) = self.list_page(page, reached).await?;
        let start_count = u64::from(header);
        let (count, skipped) =
            if header == COUNT_OVERFLOW { (u64_at(&start, HEADER_BYTES), 8) } else { (start_count, 0) };
        let at = page * page_bytes + HEADER_BYTES as u64 + skipped;
        let unreached = self.meta().pages - reached.count;
        if count != unreached {
            return Err(wrong(page, format!("the free list has {count} pages, and {unreached} are not used")));
        }
        let mut ids = vec![0; STEP_BYTES.min(count as usize * 8)];
        let mut last = 0;
        for done in (0..count).step_by(STEP_BYTES / 8) {
            let step = ((count - done) as usize * 8).min(STEP_BYTES);
            self.read(at + done * 8, &mut ids[..step]).await?;
            for id in ids[..step].chunks_exact(8).map(|id| u64_at(id, 0)) {
                if id <= last || id >= self.meta().pages || reached.has(id) {
                    return Err(wrong(id, "it is on the free list and used"));
                }
                last = id;
            }
        }
        Ok(count)
    }

    /// The start of the free list, whose length is checked against its pages without reading them all.
    async fn list_page(&self, id: u64, reached: &mut Reached) -> Result<(u16, Vec<u8>), BoltError> {
        let page_bytes = u64::from(self.meta().page_bytes);
        if id < 2 || id >= self.meta().pages {
            return Err(wrong(id, "it lies outside of the file"));
        }
        let mut start = vec![0; page_bytes as usize];
        self.read(id * page_bytes, &mut start).await?;
        let header = super::page::Header::parse(&start).filter(|header| header.id == id && header.is_free_list());
        let header = header.ok_or_else(|| wrong(id, "it is no free list"))?;
        let pages = u64::from(header.overflow) + 1;
        reached.mark(id, pages)?;
        let count = match header.count {
            COUNT_OVERFLOW => u64_at(&start, HEADER_BYTES).saturating_add(1),
            count => count.into(),
        };
        if count.saturating_mul(8) > pages * page_bytes - HEADER_BYTES as u64 {
            return Err(wrong(id, "the free list is longer than its pages"));
        }
        Ok((header.count, start))
    }
}
