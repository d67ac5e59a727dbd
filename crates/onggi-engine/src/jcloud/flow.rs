//! Bytes on their way to a backup server: hashed as they pass, and no faster than they may be.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use onggi_source::hex::hexadecimal;
use onggi_source::{ByteStream, Context, SourceError};
use sha2::{Digest as _, Sha512};

/// So much of a file is read at once, in bytes.
pub(super) const STEP_BYTES: u64 = 4 << 20;

/// Where bytes come from.
pub(super) enum From {
    Cloud(Box<dyn ByteStream>),
    File(File),
}

/// Bytes on their way, hashed and paced.
pub(super) struct Flow {
    from: From,
    pub(super) hash: Sha512,
    /// What it must hash to.
    wanted: Option<String>,
    rate: Option<u64>,
    began_at: Duration,
    bytes: u64,
    /// Why the cloud's bytes ended.
    pub(super) fault: Option<SourceError>,
}

impl Flow {
    pub(super) fn new(cx: &Context, rate: Option<u64>, from: From, wanted: Option<String>) -> Self {
        Self { from, hash: Sha512::new(), wanted, rate, began_at: cx.world.elapsed(), bytes: 0, fault: None }
    }

    pub(super) fn of_file(cx: &Context, rate: Option<u64>, path: &Path, wanted: Option<String>) -> io::Result<Self> {
        Ok(Self::new(cx, rate, From::File(File::open(path)?), wanted))
    }

    pub(super) async fn next(&mut self, cx: &Context) -> io::Result<Option<Bytes>> {
        let piece = match &mut self.from {
            From::Cloud(stream) => match stream.next(cx).await {
                Ok(piece) => piece,
                Err(error) => {
                    let text = error.to_string();
                    self.fault = Some(match error {
                        onggi_source::ReadError::Unit(error) => error,
                        onggi_source::ReadError::Item(problem) => SourceError::Incomplete(problem.to_string()),
                    });
                    return Err(io::Error::other(text));
                }
            },
            From::File(file) => {
                let mut file = file.try_clone()?;
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = Vec::new();
                    file.by_ref().take(STEP_BYTES).read_to_end(&mut piece).map(|_| piece)
                });
                Some(Bytes::from(read.await.map_err(io::Error::other)??)).filter(|piece| !piece.is_empty())
            }
        };
        let Some(piece) = piece else {
            let is_whole =
                self.wanted.as_ref().is_none_or(|wanted| *wanted == hexadecimal(&self.hash.clone().finalize()));
            return if is_whole { Ok(None) } else { Err(io::Error::other("it is not what Glance has")) };
        };
        self.hash.update(&piece);
        self.bytes += piece.len() as u64;
        if let Some(rate) = self.rate {
            let due = self.began_at + Duration::from_secs_f64(self.bytes as f64 / rate as f64);
            let left = due.saturating_sub(cx.world.elapsed());
            if !left.is_zero()
                && let Err(stop) = cx.sleep(left).await
            {
                self.fault = Some(stop.into());
                return Err(io::Error::other("it was stopped"));
            }
        }
        Ok(Some(piece))
    }
}
