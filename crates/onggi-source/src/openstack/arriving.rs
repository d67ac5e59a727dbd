//! A qcow2 image that is stored while it arrives: who reads what is not there yet waits for it.
//!
//! Its tables may lie anywhere in the file. They are asked for first, by ranges, so that the disk's layout is known and
//! checked before its first byte comes, and are compared with what comes in their place. What was read counts only once
//! the file is whole and hashes as Glance says: until then [`ReadAt::confirm`] does not answer, and [`Arriving::receive`]
//! fails where that never is. An image whose tables cannot be had first is left to [`fetch`](super::disk::fetch).

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::cloud::{Cloud, text};
use super::disk::{blocking, layout_of, read_of};
use super::download::Download;
use super::image::{ImageBytes, ImageError, Inspection, Place, Qcow2, inspect};
use crate::carrier::lost;
use crate::context::{Context, Spool};
use crate::item::Layout;
use crate::source::{ByteStream as _, Known, ReadAt, ReadError, Result, SourceError};

/// The least that one question brings, in bytes: what lies close together comes together.
const PART_BYTES: u64 = 512 << 10;
/// One question for so many bytes of the file, beside whose time its own is lost; and for short files a few.
const BYTES_PER_QUESTION: u64 = 16 << 20;
const QUESTIONS_MIN: u64 = 4;
/// The most questions: with clusters of the usual size, 2 TiB of disk that is full of data.
const QUESTIONS_MAX: u64 = 4096;

/// The disk in an image that is on its way.
pub(super) struct Arriving {
    disk: Arc<Qcow2<Arc<Incoming>>>,
    file: Arc<Incoming>,
}

/// The image's file, as far as it is there.
struct Incoming {
    image: String,
    /// Of the file, in bytes, as Glance tells it.
    length: u64,
    spool: Arc<dyn Spool>,
    /// What was asked for, one part behind the other.
    parts: Box<dyn Spool>,
    places: Mutex<Places>,
    came: watch::Sender<Came>,
    cx: Context,
    runtime: Handle,
}

/// How much of the file can be read.
#[derive(Clone, Copy, Default)]
struct Came {
    there: u64,
    is_whole: bool,
}

/// Where the parts are that were asked for.
struct Places {
    /// Bytes of the file, and where they begin in the spool of parts; in the order of the file.
    of: Vec<(Range<u64>, u64)>,
    /// Who is asked for what is missing, and how many more times; nobody, once the tables are known.
    asked: Option<(Arc<dyn Cloud>, u64)>,
}

impl Arriving {
    /// Asks for the tables of an image and checks them. `None`: it must be there whole before it can be read.
    pub(super) async fn begin(cx: &Context, cloud: &Arc<dyn Cloud>, image: &Value) -> Result<Option<Self>> {
        let length = image["size"].as_u64().unwrap_or(0);
        if length == 0 || !matches!(text(image, "disk_format"), "" | "qcow2") {
            return Ok(None);
        }
        let id = text(image, "id");
        let spool: Arc<dyn Spool> = Arc::from(cx.world.spool(&cx.run, &format!("image-{id}")).await?);
        spool.reserve(length).await?;
        let questions = (QUESTIONS_MIN + length / BYTES_PER_QUESTION).min(QUESTIONS_MAX);
        let file = Arc::new(Incoming {
            image: id.to_owned(),
            length,
            spool,
            parts: cx.world.spool(&cx.run, &format!("tables-{id}")).await?,
            places: Mutex::new(Places { of: Vec::new(), asked: Some((Arc::clone(cloud), questions)) }),
            came: watch::Sender::default(),
            cx: cx.clone(),
            runtime: Handle::current(),
        });
        let bytes = Arc::clone(&file);
        let opened = blocking(move || Qcow2::open(bytes, length)).await?;
        file.places().asked = None;
        cx.check()?;
        match opened {
            Ok(disk) => Ok(Some(Self { disk: Arc::new(disk), file })),
            Err(error) => {
                tracing::debug!(image = id, %error, "image is read once it is there");
                Ok(None)
            }
        }
    }

    /// Of the disk, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.disk.virtual_size()
    }

    /// Fetches the file to its proved end, and looks what the disk holds. Nothing that was read of it counts without.
    pub(super) async fn receive(&self, cx: &Context, cloud: Arc<dyn Cloud>, image: &Value) -> Result<Inspection> {
        let mut download = Download::new(cx, cloud, image);
        let mut came = download.next(cx).await.map_err(lost)?;
        while let Some(bytes) = came {
            let (taken, next) = futures::join!(self.file.take(cx, bytes), download.next(cx));
            taken?;
            came = next.map_err(lost)?;
        }
        self.file.came.send_modify(|came| came.is_whole = true);
        let disk = Arc::clone(&self.disk);
        let inspected =
            blocking(move || inspect(disk.virtual_size(), |at, buffer: &mut [u8]| disk.read_exact_at(at, buffer)));
        inspected.await?.map_err(|error: ImageError| SourceError::Incomplete(format!("its spool: {error}")))
    }
}

impl Incoming {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next bytes of the file in. What was asked for must come as it came then.
    async fn take(&self, cx: &Context, bytes: Bytes) -> Result<()> {
        let came = self.spool.length()..self.spool.length() + bytes.len() as u64;
        let common = |part: &Range<u64>| part.start.max(came.start)..part.end.min(came.end);
        let parts: Vec<_> = self.places().of.iter().filter(|(part, _)| !common(part).is_empty()).cloned().collect();
        for (part, place) in parts {
            let common = common(&part);
            let mut asked = vec![0; (common.end - common.start) as usize];
            self.parts.read(cx, place + common.start - part.start, &mut asked).await.map_err(lost)?;
            let at = (common.start - came.start) as usize;
            if asked != bytes[at..at + asked.len()] {
                let text = format!("image {} is not the same when it is read twice", self.image);
                return Err(SourceError::Incomplete(text));
            }
        }
        self.spool.append(bytes).await?;
        self.came.send_modify(|known| known.there = came.end);
        Ok(())
    }

    /// Waits until so much of the file is there.
    async fn wait(&self, cx: &Context, is_wanted: impl Fn(&Came) -> bool) -> Result<(), ReadError> {
        let mut told = self.came.subscribe();
        // Of a file that cannot be had nobody is told: who reads it ends with who receives it. The sender is here.
        let told = cx.unless_stopped(told.wait_for(is_wanted)).await?.map(drop);
        told.map_err(|_| SourceError::Incomplete(format!("image {} comes no more", self.image)).into())
    }

    /// Where bytes of the file are in the spool of parts, if they were asked for or are now.
    async fn part(&self, wanted: Range<u64>) -> Result<Option<u64>> {
        let cloud = {
            let mut places = self.places();
            if let Some(place) = places.find(&wanted) {
                return Ok(Some(place));
            }
            match &mut places.asked {
                None => return Ok(None),
                Some((_, 0)) => return Err(SourceError::Incomplete("it has tables in too many places".to_owned())),
                Some((cloud, left)) => {
                    *left -= 1;
                    Arc::clone(cloud)
                }
            }
        };
        let part = wanted.start..wanted.end.max(wanted.start + PART_BYTES).min(self.length);
        let bytes = cloud.part(&self.cx, &self.image, part.clone()).await?;
        let bytes = bytes.ok_or_else(|| SourceError::Incomplete("its store has no ranges".to_owned()))?;
        if let Some(rate) = self.cx.rate.filter(|rate| *rate > 0) {
            self.cx.sleep(Duration::from_secs_f64(bytes.len() as f64 / rate as f64)).await?;
        }
        let place = self.parts.length();
        self.parts.append(bytes).await?;
        self.places().put(part, place);
        Ok(Some(place))
    }
}

impl Places {
    fn find(&self, wanted: &Range<u64>) -> Option<u64> {
        let before = self.of.partition_point(|(part, _)| part.start <= wanted.start);
        let found = self.of[..before].iter().rev().find(|(part, _)| wanted.end <= part.end);
        found.map(|(part, place)| place + wanted.start - part.start)
    }

    fn put(&mut self, part: Range<u64>, place: u64) {
        let at = self.of.partition_point(|(other, _)| other.start <= part.start);
        self.of.insert(at, (part, place));
    }
}

/// Reads what is there: what was asked for, or the spool.
impl ImageBytes for Incoming {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let read = async {
            match self.part(offset..offset + buffer.len() as u64).await? {
                Some(place) => self.parts.read(&self.cx, place, buffer).await.map_err(lost),
                None => self.spool.read(&self.cx, offset, buffer).await.map_err(lost),
            }
        };
        self.runtime.block_on(read).map_err(|error| io::Error::other(error.to_string()))
    }
}

#[async_trait]
impl ReadAt for Arriving {
    async fn open(&self, _cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        layout_of(&self.disk).await
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let (disk, wanted) = (Arc::clone(&self.disk), offset..offset + buffer.len() as u64);
        let found = blocking(move || Ok::<_, ImageError>((disk.reach(wanted.clone())?, disk.places(wanted)?))).await?;
        let (reach, places) = found.map_err(|error| SourceError::Incomplete(format!("its tables: {error}")))?;
        self.file.wait(cx, |came| came.is_whole || reach <= came.there).await?;
        let Some(places) = places else { return read_of(&self.disk, cx, offset, buffer).await };
        for Place { disk, host } in places {
            let part = &mut buffer[(disk.start - offset) as usize..(disk.end - offset) as usize];
            match host {
                Some(host) => self.file.spool.read(cx, host, part).await?,
                None => part.fill(0),
            }
        }
        Ok(())
    }

    async fn confirm(&self, cx: &Context) -> Result<(), ReadError> {
        self.file.wait(cx, |came| came.is_whole).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sha2::{Digest as _, Sha512};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::super::cloud::{Answer, Ask, Fetched, Pieces, Project, Service};
    use super::super::error::CloudError;
    use super::*;
    use crate::bench::Bench;
    use crate::hex::hexadecimal;

    const CLUSTER: usize = 64 << 10;
    /// Clusters of the disk.
    const CLUSTERS: usize = 40;
    /// One that was never written.
    const HOLE: usize = 5;
    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_mins(10);

    type Line = mpsc::UnboundedReceiver<Bytes>;

    /// A store that gives ranges of one file, and another file, piece by piece, as a test sends it; once.
    struct Store {
        ranged: Option<Vec<u8>>,
        line: Mutex<Option<Line>>,
        asked: Mutex<Vec<Range<u64>>>,
    }

    struct Part(Line);

    #[async_trait]
    impl Pieces for Part {
        async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, CloudError> {
            Ok(cx.unless_stopped(self.0.recv()).await?)
        }
    }

    #[async_trait]
    impl Cloud for Store {
        async fn project(&self, _cx: &Context) -> Result<Project, CloudError> {
            unreachable!("an image comes without a project")
        }

        async fn has(&self, _cx: &Context, _service: Service) -> Result<bool, CloudError> {
            Ok(true)
        }

        async fn ask(&self, _cx: &Context, _ask: Ask) -> Result<Answer, CloudError> {
            unreachable!("an image comes without a question")
        }

        async fn fetch(&self, _cx: &Context, image: &str, from: u64) -> Result<Fetched, CloudError> {
            let gone = || CloudError::Status { status: 404, act: format!("download {image}"), text: "gone".to_owned() };
            let line = self.line.lock().unwrap().take().ok_or_else(gone)?;
            Ok(Fetched { from, length: None, pieces: Box::new(Part(line)) })
        }

        async fn part(&self, _cx: &Context, _image: &str, range: Range<u64>) -> Result<Option<Bytes>, CloudError> {
            self.asked.lock().unwrap().push(range.clone());
            let part = |file: &Vec<u8>| Bytes::copy_from_slice(&file[range.start as usize..range.end as usize]);
            Ok(self.ranged.as_ref().map(part))
        }

        async fn fill(
            &self,
            _: &Context,
            _: &str,
            _: u64,
            _: &mut dyn crate::source::ByteStream,
        ) -> Result<(), CloudError> {
            unreachable!("nothing is uploaded")
        }
    }

    /// A file whose second table lies behind all that it tells of. Each cluster of the disk is filled with its number, and
    /// one is a hole.
    fn file() -> Vec<u8> {
        let mut file = vec![0; CLUSTER * (CLUSTERS + 3)];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"QFI\xfb\0\0\0\x02");
        put(20, &16_u32.to_be_bytes());
        put(24, &((CLUSTER * CLUSTERS) as u64).to_be_bytes());
        put(36, &1_u32.to_be_bytes());
        put(40, &(CLUSTER as u64).to_be_bytes());
        let table = CLUSTER * (CLUSTERS + 2);
        put(CLUSTER, &(table as u64).to_be_bytes());
        for cluster in (0..CLUSTERS).filter(|cluster| *cluster != HOLE) {
            let at = CLUSTER * (cluster + 2);
            put(table + cluster * 8, &(at as u64).to_be_bytes());
            put(at, &[cluster as u8; CLUSTER]);
        }
        file
    }

    struct Bed {
        bench: Bench,
        store: Arc<Store>,
        image: Value,
        line: Option<mpsc::UnboundedSender<Bytes>>,
    }

    impl Bed {
        /// `ranged` is what ranges are of.
        fn new(ranged: Option<Vec<u8>>) -> Self {
            let (sender, line) = mpsc::unbounded_channel();
            let store = Store { ranged, line: Mutex::new(Some(line)), asked: Mutex::default() };
            let hash = hexadecimal(&Sha512::digest(file()));
            let image = json!({
                "id": "i", "size": file().len(), "disk_format": "qcow2", "os_hash_algo": "sha512", "os_hash_value": hash,
            });
            Self { bench: Bench::new("r1"), store: Arc::new(store), image, line: Some(sender) }
        }

        async fn begin(&self) -> Option<Arriving> {
            let cloud: Arc<dyn Cloud> = self.store.clone();
            Arriving::begin(&self.bench.cx, &cloud, &self.image).await.unwrap()
        }

        /// A range of the file comes in.
        fn send(&self, range: Range<usize>) {
            self.line.as_ref().unwrap().send(Bytes::copy_from_slice(&file()[range])).unwrap();
        }

        async fn receive(&self, disk: &Arriving) -> Result<Inspection> {
            timeout(PATIENCE, disk.receive(&self.bench.cx, self.store.clone(), &self.image)).await.expect("it ends")
        }

        /// Why it fails while somebody waits for its end, who must not be told that it is good.
        async fn refused(&mut self, sent: usize) -> String {
            let disk = self.begin().await.expect("its tables are had first");
            self.send(0..sent);
            self.line = None;
            let cx = &self.bench.cx;
            let read = async {
                let mut all = vec![0; CLUSTER * CLUSTERS];
                disk.read(cx, 0, &mut all).await.map_err(lost)?;
                disk.confirm(cx).await.map_err(lost)
            };
            futures::try_join!(self.receive(&disk), read).unwrap_err().to_string()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_read_while_the_rest_is_on_its_way() {
        let mut bed = Bed::new(Some(file()));
        let disk = bed.begin().await.unwrap();
        assert_eq!(disk.length(), (CLUSTER * CLUSTERS) as u64);
        let asked = bed.store.asked.lock().unwrap().len();
        assert_eq!(asked, 2, "the start, and the table at the end");
        let line = bed.line.take().unwrap();
        let half = CLUSTER * CLUSTERS / 2;
        line.send(file()[..half].to_vec().into()).unwrap();
        line.send(file()[half..half + CLUSTER * 10].to_vec().into()).unwrap();
        let cx = &bed.bench.cx;
        let reading = async {
            let hole = HOLE as u64 * CLUSTER as u64;
            let data = disk.open(cx, &Known::default()).await.unwrap().data;
            assert_eq!(data, [0..hole, hole + CLUSTER as u64..disk.length()]);
            let mut cluster = vec![0; CLUSTER];
            disk.read(cx, 3 * CLUSTER as u64, &mut cluster).await.unwrap();
            assert_eq!(cluster, [3; CLUSTER]);
            let (mut across, middle) = (vec![0xff; 3 * CLUSTER], 4 * CLUSTER + CLUSTER / 2);
            disk.read(cx, middle as u64, &mut across).await.unwrap();
            let expected = (middle..middle + across.len()).map(|at| at / CLUSTER);
            assert!(across.into_iter().eq(expected.map(|cluster| if cluster == HOLE { 0 } else { cluster as u8 })));
            let end = disk.length() - CLUSTER as u64;
            let early = timeout(PATIENCE, disk.read(cx, end, &mut cluster)).await;
            assert!(early.is_err(), "it is not there");
            assert!(timeout(PATIENCE, disk.confirm(cx)).await.is_err(), "it is not whole");
            line.send(file()[half + CLUSTER * 10..].to_vec().into()).unwrap();
            drop(line);
            disk.read(cx, end, &mut cluster).await.unwrap();
            assert_eq!(cluster, [CLUSTERS as u8 - 1; CLUSTER]);
            disk.confirm(cx).await.unwrap();
        };
        let receiving = disk.receive(cx, bed.store.clone(), &bed.image);
        let both = timeout(PATIENCE * 10, async { futures::join!(receiving, reading) }).await;
        assert_eq!(both.unwrap().0.unwrap(), Inspection::default());
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_goes_in_the_middle_ends_who_waits_for_it() {
        let mut bed = Bed::new(Some(file()));
        assert!(bed.refused(CLUSTER * 20).await.contains("gone"));
    }

    #[tokio::test(start_paused = true)]
    async fn tables_that_come_otherwise_than_they_were_read_are_refused() {
        let mut other = file();
        // Two clusters of the disk change places: each of both files is sound.
        let table = CLUSTER * (CLUSTERS + 2);
        let (first, second) = other[table..table + 16].split_at_mut(8);
        first.swap_with_slice(second);
        let mut bed = Bed::new(Some(other));
        let length = file().len();
        assert!(bed.refused(length).await.contains("not the same when it is read twice"));
    }

    #[tokio::test(start_paused = true)]
    async fn another_hash_than_glance_has_is_no_end() {
        let mut bed = Bed::new(Some(file()));
        bed.image["os_hash_value"] = json!("00");
        let length = file().len();
        assert!(bed.refused(length).await.contains("and Glance has 00"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_cannot_be_looked_at_first_is_left_to_be_fetched_whole() {
        assert!(Bed::new(None).begin().await.is_none(), "its store has no ranges");
        let mut backed = file();
        backed[8..20].copy_from_slice(b"\0\0\0\0\0\0\x10\0\0\0\0\x0b");
        assert!(Bed::new(Some(backed)).begin().await.is_none(), "it asks for another file");
        let mut raw = Bed::new(Some(file()));
        raw.image["disk_format"] = json!("raw");
        assert!(raw.begin().await.is_none());
        assert!(raw.store.asked.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn questions_are_counted() {
        // Small clusters: each second table tells of 32 KiB of disk and needs a question of its own.
        let (cluster, tables) = (512_usize, 12);
        let mut file = vec![0; 12 << 20];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"QFI\xfb\0\0\0\x02");
        put(20, &9_u32.to_be_bytes());
        put(24, &((cluster * 64 * tables) as u64).to_be_bytes());
        put(36, &(tables as u32).to_be_bytes());
        put(40, &(cluster as u64).to_be_bytes());
        for table in 0..tables {
            put(cluster + table * 8, &(((table + 1) << 19) as u64).to_be_bytes());
        }
        let mut bed = Bed::new(Some(file.clone()));
        bed.image["size"] = json!(file.len());
        assert!(bed.begin().await.is_none());
        assert_eq!(bed.store.asked.lock().unwrap().len() as u64, QUESTIONS_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_who_waits() {
        let bed = Bed::new(Some(file()));
        let disk = bed.begin().await.unwrap();
        bed.send(0..CLUSTER * 8);
        let stop = async {
            tokio::time::sleep(PATIENCE / 2).await;
            bed.bench.stop.send_replace(Some(crate::context::Stop::Cancelled));
            Ok(())
        };
        let confirmed = async { disk.confirm(&bed.bench.cx).await.map_err(lost) };
        let ended = futures::join!(bed.receive(&disk), confirmed, stop);
        let _: Result<()> = ended.2;
        for error in [ended.0.unwrap_err(), ended.1.unwrap_err()] {
            assert!(matches!(error, SourceError::Stopped(_)), "{error}");
        }
    }
}
