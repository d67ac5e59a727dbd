//! Keeps reading below a rate: each piece takes the time that the rate gives it.

use onggi_source::{Context, Stop};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What may be read at once after a pause, in seconds of the rate.
const BURST: Duration = Duration::from_millis(250);

pub(super) struct Rate {
    /// Bytes per second.
    rate: u64,
    /// When all that was let through so far has had its time.
    paid_until: Mutex<Duration>,
}

impl Rate {
    pub fn new(bytes_per_second: u64) -> Self {
        Self { rate: bytes_per_second.max(1), paid_until: Mutex::default() }
    }

    /// Waits until that many bytes may be read.
    pub async fn take(&self, cx: &Context, bytes: u64) -> Result<(), Stop> {
        let now = cx.world.elapsed();
        let wait = {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            let start = (*paid_until).max(now.saturating_sub(BURST));
            *paid_until = start + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
            start.saturating_sub(now)
        };
        if wait.is_zero() { cx.check() } else { cx.sleep(wait).await }
    }
}
