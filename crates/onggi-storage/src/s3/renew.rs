//! A bucket whose keys expire: they are fetched anew in time, and once more when the service refuses them.

use super::{S3, S3Credentials, S3Options, answer::Answer};
use crate::{FileInfo, FileType, Handle, Properties, Result, Storage, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use http::StatusCode;
use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// So long before they expire, keys are fetched anew; of keys that hold less than twice as long, half of that.
const EARLY: Duration = Duration::from_mins(5);
/// Keys that were just fetched are not fetched again for a refusal: it is another one's.
const PAUSE: Duration = Duration::from_mins(1);

/// Where keys come from.
#[async_trait]
pub trait S3Keys: fmt::Debug + Send + Sync {
    /// The keys that hold now.
    async fn fetch(&self) -> Result<S3Credentials, Box<dyn std::error::Error + Send + Sync>>;
    /// For how long fetched keys hold, if that is known.
    fn lifetime(&self) -> Option<Duration>;
}

/// A bucket that is entered with keys that may expire.
#[derive(Debug)]
pub struct RenewedS3 {
    options: S3Options,
    keys: Arc<dyn S3Keys>,
    current: Mutex<Current>,
    /// Held while keys are fetched, so that many refused calls fetch them once.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Current {
    s3: Arc<S3>,
    credentials: Option<S3Credentials>,
    /// When keys were asked for last.
    fetched_at: Duration,
    expires_at: Option<Duration>,
}

impl RenewedS3 {
    /// Opens with the keys of the options, which were just fetched.
    ///
    /// # Errors
    /// `Address` names the option that is wrong.
    pub fn open(options: S3Options, keys: Arc<dyn S3Keys>) -> Result<Self> {
        let s3 = Arc::new(S3::open(options.clone())?);
        let fetched_at = options.clock.elapsed();
        let expires_at = keys.lifetime().map(|lifetime| fetched_at + lifetime);
        let current = Current { s3, credentials: options.credentials.clone(), fetched_at, expires_at };
        Ok(Self { options, keys, current: Mutex::new(current), fetching: tokio::sync::Mutex::default() })
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bucket with keys that hold for a while, and once more with new ones if they are refused.
    async fn with<T, F: Future<Output = Result<T>>>(&self, act: impl Fn(Arc<S3>) -> F) -> Result<T> {
        let s3 = self.in_time().await;
        match act(s3.clone()).await {
            Err(error) if is_refusal(&error) => match self.after_refusal(&s3).await {
                Some(renewed) => act(renewed).await,
                None => Err(error),
            },
            answer => answer,
        }
    }

    async fn in_time(&self) -> Arc<S3> {
        let is_due = |current: &Current, now: Duration| {
            let early = self.keys.lifetime().map_or(EARLY, |lifetime| EARLY.min(lifetime / 2));
            current.expires_at.is_some_and(|at| now + early >= at) && now >= current.fetched_at + PAUSE.min(early)
        };
        let now = self.options.clock.elapsed();
        if is_due(&self.current(), now) {
            let _fetching = self.fetching.lock().await;
            if is_due(&self.current(), now) {
                self.renew().await;
            }
        }
        self.current().s3.clone()
    }

    /// The bucket with other keys than those that were refused, if there are any.
    async fn after_refusal(&self, refused: &Arc<S3>) -> Option<Arc<S3>> {
        let _fetching = self.fetching.lock().await;
        let is_old = |current: &Current| Arc::ptr_eq(&current.s3, refused);
        let pause_ends_at = self.current().fetched_at + PAUSE;
        if is_old(&self.current()) && self.options.clock.elapsed() >= pause_ends_at {
            self.renew().await;
        }
        let current = self.current();
        (!is_old(&current)).then(|| current.s3.clone())
    }

    /// Fetches the keys; if they are others, opens the bucket with them. What fails leaves the old ones, which the
    /// service will judge.
    async fn renew(&self) {
        let fetched = self.keys.fetch().await;
        let now = self.options.clock.elapsed();
        let mut current = self.current();
        current.fetched_at = now;
        let credentials = match fetched {
            Ok(credentials) => credentials,
            Err(error) => {
                tracing::warn!(%error, "keys of the storage cannot be fetched anew");
                return;
            }
        };
        current.expires_at = self.keys.lifetime().map(|lifetime| now + lifetime);
        if current.credentials.as_ref().is_some_and(|old| old.is_same(&credentials)) {
            return;
        }
        match S3::open(S3Options { credentials: Some(credentials.clone()), ..self.options.clone() }) {
            Ok(s3) => {
                tracing::debug!("keys of the storage are renewed");
                (current.s3, current.credentials) = (Arc::new(s3), Some(credentials));
            }
            Err(error) => tracing::warn!(%error, "keys of the storage cannot be used"),
        }
    }
}

/// Whether other keys may help.
fn is_refusal(error: &StorageError) -> bool {
    const CODES: [&str; 3] = ["ExpiredToken", "TokenRefreshRequired", "InvalidToken"];
    let StorageError::Denied(inner) = error else { return false };
    inner.downcast_ref::<Answer>().is_some_and(|answer| {
        matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) || CODES.contains(&&answer.code[..])
    })
}

#[async_trait]
impl Storage for RenewedS3 {
    fn properties(&self) -> Properties {
        self.current().s3.properties()
    }

    async fn prepare(&self) -> Result<()> {
        self.with(|s3| async move { s3.prepare().await }).await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        self.with(|s3| {
            let (handle, content) = (handle.clone(), content.clone());
            async move { s3.create(handle, content).await }
        })
        .await
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        self.with(|s3| {
            let (handle, range) = (handle.clone(), range.clone());
            async move { s3.read(handle, range).await }
        })
        .await
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        self.with(|s3| {
            let handle = handle.clone();
            async move { s3.stat(handle).await }
        })
        .await
    }

    /// As a whole: pages that were asked for with old keys and with new ones are not mixed.
    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        let whole = self.with(move |s3| async move { s3.list(file_type).try_collect::<Vec<_>>().await });
        stream::once(whole).map_ok(|files| stream::iter(files).map(Ok)).try_flatten().boxed()
    }

    async fn remove(&self, handle: Handle) -> Result<()> {
        self.with(|s3| {
            let handle = handle.clone();
            async move { s3.remove(handle).await }
        })
        .await
    }
}
