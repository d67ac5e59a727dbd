//! An image on its way here: hashed as it comes, paced, and gone on with where it broke off.
//!
//! Where the store gives ranges it goes on at the byte that is missing. Where it does not, all comes again, and what was
//! taken already is passed over if it hashes to the same. The end is only told when the hash is the one that Glance has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use md5::Md5;
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::cloud::{Cloud, Pieces, text};
use super::error::CloudError;
use crate::context::{Context, Problem};
use crate::hex::hexadecimal;
use crate::source::{ByteStream, ReadError, SourceError};

/// Breaks without a byte in between before it is given up.
const BREAKS_MAX: u32 = 5;
/// The pause after the first; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// So much is handed on at once, in bytes.
const STEP_BYTES: usize = 512 << 10;

/// A running hash of one of the kinds that Glance knows.
#[derive(Clone)]
enum Running {
    Sha512(Sha512),
    Sha384(Sha384),
    Sha256(Sha256),
    Md5(Md5),
}

impl Running {
    /// The hash that Glance has of an image, and one to compare with it.
    fn of(image: &Value) -> Option<(Self, String)> {
        let strong = match text(image, "os_hash_algo") {
            "sha512" => Some(Self::Sha512(Sha512::new())),
            "sha384" => Some(Self::Sha384(Sha384::new())),
            "sha256" => Some(Self::Sha256(Sha256::new())),
            _ => None,
        };
        match (strong, text(image, "os_hash_value"), text(image, "checksum")) {
            (Some(running), value, _) if !value.is_empty() => Some((running, value.to_owned())),
            (_, _, sum) if !sum.is_empty() => Some((Self::Md5(Md5::new()), sum.to_owned())),
            _ => None,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha512(hash) => hash.update(bytes),
            Self::Sha384(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
            Self::Md5(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha512(hash) => hexadecimal(&hash.finalize()),
            Self::Sha384(hash) => hexadecimal(&hash.finalize()),
            Self::Sha256(hash) => hexadecimal(&hash.finalize()),
            Self::Md5(hash) => hexadecimal(&hash.finalize()),
        }
    }
}

/// The bytes of an image in one go.
pub(super) struct Download {
    cloud: Arc<dyn Cloud>,
    image: String,
    length: u64,
    wanted: Option<String>,
    blank: Running,
    /// Of what was handed on before the last piece.
    running: Running,
    /// The last piece, which is hashed while the next one comes.
    unhashed: Bytes,
    /// Memory of a piece that nobody needs any more: new one would be cleared by the system first.
    spare: BytesMut,
    /// Bytes handed on or waiting to be.
    have: u64,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    line: Option<Line>,
    breaks: u32,
    began_at: Option<Duration>,
    is_done: bool,
}

/// One answer of the store.
struct Line {
    pieces: Box<dyn Pieces>,
    /// Bytes at its beginning that are here already, and the hash of those that came.
    again: Option<(u64, Running)>,
}

impl Download {
    /// Opens nothing. An image without a hash is reported, and only its length is compared.
    pub(super) fn new(cx: &Context, cloud: Arc<dyn Cloud>, image: &Value) -> Self {
        let (running, wanted) = Running::of(image).unzip();
        if wanted.is_none() {
            let text = format!("image {} has no hash: only its length is compared", text(image, "id"));
            cx.problem(Problem { class: "unverified", path: None, text });
        }
        let running = running.unwrap_or_else(|| Running::Sha256(Sha256::new()));
        Self {
            cloud,
            image: text(image, "id").to_owned(),
            length: image["size"].as_u64().unwrap_or(0),
            wanted,
            blank: running.clone(),
            running,
            unhashed: Bytes::new(),
            spare: BytesMut::new(),
            have: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            line: None,
            breaks: 0,
            began_at: None,
            is_done: false,
        }
    }

    /// The length that Glance tells.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    async fn open(&mut self, cx: &Context) -> Result<(), CloudError> {
        let fetched = self.cloud.fetch(cx, &self.image, self.have).await?;
        if self.length == 0 {
            self.length = fetched.length.unwrap_or(0);
        }
        let again = (fetched.from < self.have).then(|| (self.have, self.blank.clone()));
        self.line = Some(Line { pieces: fetched.pieces, again });
        Ok(())
    }

    /// Takes bytes in; what was here already is only compared.
    fn take(&mut self, mut bytes: Bytes) -> Result<(), SourceError> {
        if let Some(line) = &mut self.line
            && let Some((left, mut hash)) = line.again.take()
        {
            let old = bytes.split_to(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            hash.update(&old);
            let left = left - old.len() as u64;
            if left > 0 {
                line.again = Some((left, hash));
            } else if hash.finish() != self.hash_so_far() {
                let text = format!("image {} is not the same when it is fetched again", self.image);
                return Err(SourceError::Incomplete(text));
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.breaks = 0;
        self.have += bytes.len() as u64;
        if self.have > self.length {
            return Err(SourceError::Incomplete(format!("image {} is longer than it says", self.image)));
        }
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
        Ok(())
    }

    /// Waits until as much may have come as came.
    async fn pace(&mut self, cx: &Context) -> Result<(), SourceError> {
        let now = cx.world.elapsed();
        let began_at = *self.began_at.get_or_insert(now);
        let Some(rate) = cx.rate.filter(|rate| *rate > 0) else { return Ok(()) };
        let due = began_at + Duration::from_secs_f64(self.have as f64 / rate as f64);
        match due.checked_sub(now) {
            Some(left) if !left.is_zero() => Ok(cx.sleep(left).await?),
            _ => Ok(()),
        }
    }

    /// The hash of all that came.
    fn hash_so_far(&self) -> String {
        let mut running = self.running.clone();
        running.update(&self.unhashed);
        self.waiting.iter().for_each(|piece| running.update(piece));
        running.finish()
    }

    /// The hash of what was handed on, with one more piece. Away from the threads that carry bytes.
    fn hashed(&self, piece: Bytes) -> impl Future<Output = Result<Running, SourceError>> + use<> {
        let (mut running, image) = (self.running.clone(), self.image.clone());
        async move {
            if piece.is_empty() {
                return Ok(running);
            }
            let hashing = tokio::task::spawn_blocking(move || {
                running.update(&piece);
                running
            });
            hashing.await.map_err(|error| SourceError::Incomplete(format!("hash image {image}: {error}")))
        }
    }

    /// What waits, in one piece.
    fn hand_on(&mut self) -> Bytes {
        let mut whole = std::mem::take(&mut self.spare);
        whole.clear();
        whole.reserve(self.waiting_bytes);
        for piece in self.waiting.drain(..) {
            whole.extend_from_slice(&piece);
        }
        self.waiting_bytes = 0;
        whole.freeze()
    }

    /// Compares the hash of the whole with the one that Glance has.
    fn prove(&self) -> Result<(), SourceError> {
        let Some(wanted) = &self.wanted else { return Ok(()) };
        let hash = self.running.clone().finish();
        if *wanted == hash {
            return Ok(());
        }
        let text = format!("image {} hashes to {hash}, and Glance has {wanted}", self.image);
        Err(SourceError::Incomplete(text))
    }

    /// A break: `Ok` if it is worth going on.
    async fn broke(&mut self, cx: &Context, error: CloudError) -> Result<(), SourceError> {
        self.line = None;
        if !matches!(error, CloudError::Unreachable(..)) || self.breaks == BREAKS_MAX {
            return Err(error.into());
        }
        tracing::info!(image = self.image, have = self.have, %error, "download goes on after a pause");
        let pause = PAUSE.saturating_mul(1 << self.breaks).min(PAUSE_MAX);
        self.breaks += 1;
        Ok(cx.sleep(pause).await?)
    }

    /// Takes in what is handed on next.
    async fn collect(&mut self, cx: &Context) -> Result<(), SourceError> {
        while !self.is_done && self.waiting_bytes < STEP_BYTES {
            cx.check()?;
            if self.line.is_none()
                && let Err(error) = self.open(cx).await
            {
                self.broke(cx, error).await?;
                continue;
            }
            let Some(line) = &mut self.line else { continue };
            match line.pieces.next(cx).await {
                Ok(Some(bytes)) => {
                    self.take(bytes)?;
                    self.pace(cx).await?;
                }
                Ok(None) if self.have == self.length => self.is_done = true,
                Ok(None) => {
                    let error = CloudError::Unreachable(format!("image {}", self.image), "it broke off".to_owned());
                    self.broke(cx, error).await?;
                }
                Err(error) => self.broke(cx, error).await?,
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ByteStream for Download {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        let hashed = self.hashed(self.unhashed.clone());
        let (hashed, collected) = futures::join!(hashed, self.collect(cx));
        self.running = hashed?;
        self.spare = std::mem::take(&mut self.unhashed).try_into_mut().unwrap_or_default();
        collected?;
        let bytes = self.hand_on();
        if self.is_done {
            self.running = self.hashed(bytes.clone()).await?;
            self.prove()?;
        } else {
            self.unhashed = bytes.clone();
        }
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::bench::Bench;
    use crate::openstack::cloud::{Answer, Ask, Fetched, Project, Service};

    /// A store whose answers end early, each at the next of these lengths.
    struct Store {
        content: Vec<u8>,
        has_ranges: bool,
        ends: Mutex<Vec<usize>>,
        asked: Mutex<Vec<u64>>,
    }

    struct Part(Vec<Bytes>);

    #[async_trait]
    impl Pieces for Part {
        async fn next(&mut self, _cx: &Context) -> Result<Option<Bytes>, CloudError> {
            Ok(self.0.pop())
        }
    }

    #[async_trait]
    impl Cloud for Store {
        async fn project(&self, _cx: &Context) -> Result<Project, CloudError> {
            unreachable!("a download asks for no project")
        }

        async fn has(&self, _cx: &Context, _service: Service) -> Result<bool, CloudError> {
            Ok(true)
        }

        async fn ask(&self, _cx: &Context, _ask: Ask) -> Result<Answer, CloudError> {
            unreachable!("a download asks nothing")
        }

        async fn fetch(&self, _cx: &Context, _image: &str, from: u64) -> Result<Fetched, CloudError> {
            self.asked.lock().unwrap().push(from);
            let from = if self.has_ranges { from as usize } else { 0 };
            let end = self.ends.lock().unwrap().pop().unwrap_or(self.content.len());
            let part = Bytes::copy_from_slice(&self.content[from..end]);
            let length = Some(self.content.len() as u64);
            Ok(Fetched { from: from as u64, length, pieces: Box::new(Part(vec![part])) })
        }

        async fn part(&self, _: &Context, _: &str, _: std::ops::Range<u64>) -> Result<Option<Bytes>, CloudError> {
            unreachable!("a download comes in one go")
        }

        async fn fill(&self, _: &Context, _: &str, _: u64, _: &mut dyn ByteStream) -> Result<(), CloudError> {
            unreachable!("a download fills nothing")
        }
    }

    /// What came, or why not, and from where it was asked for.
    async fn check(has_ranges: bool, ends: &[usize], hash: Option<String>) -> (Result<Vec<u8>, String>, Vec<u64>) {
        let content: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
        let hash = hash.unwrap_or_else(|| hexadecimal(&Sha512::digest(&content)));
        let image = json!({"id": "i", "size": content.len(), "os_hash_algo": "sha512", "os_hash_value": hash});
        let ends = ends.iter().rev().copied().collect();
        let store = Store { content, has_ranges, ends: Mutex::new(ends), asked: Mutex::default() };
        let (bench, store) = (Bench::new("r1"), Arc::new(store));
        let mut download = Download::new(&bench.cx, store.clone(), &image);
        let mut came = Vec::new();
        let ended = loop {
            match download.next(&bench.cx).await {
                Ok(Some(bytes)) => came.extend_from_slice(&bytes),
                Ok(None) => break Ok(came),
                Err(error) => break Err(error.to_string()),
            }
        };
        let asked = store.asked.lock().unwrap().clone();
        if let Ok(came) = &ended {
            assert!(*came == store.content);
        }
        (ended, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_at_the_byte_that_is_missing() {
        let (came, asked) = check(true, &[400_000, 700_000], None).await;
        assert_eq!((came.map(|came| came.len()), asked), (Ok(1_000_000), vec![0, 400_000, 700_000]));
    }

    #[tokio::test(start_paused = true)]
    async fn without_ranges_what_is_here_is_compared_and_passed_over() {
        let (came, asked) = check(false, &[400_000, 300_000], None).await;
        assert_eq!((came.map(|came| came.len()), asked), (Ok(1_000_000), vec![0, 400_000, 400_000]));
    }

    #[tokio::test(start_paused = true)]
    async fn another_hash_than_that_of_the_store_is_no_end() {
        let (came, _) = check(true, &[], Some("00".to_owned())).await;
        assert!(came.unwrap_err().contains("and Glance has 00"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_gives_nothing_is_given_up() {
        let (came, asked) = check(true, &[10; 7], None).await;
        assert!(came.unwrap_err().contains("broke off"));
        assert_eq!(asked.len(), 6);
    }
}
