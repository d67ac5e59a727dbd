//! A token bucket: tokens are bytes, they come in at the rate, and one second of them can be saved up.
//!
//! Who takes more than there is goes into debt, and the next one waits until that is paid. So no request is too large,
//! and at any instant at most rate × time + burst + one request were let through.

use super::{Rate, RatePlan};
use crate::Clock;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The least that can be saved up, so that a low rate does not make a wait of each small call.
pub(super) const BURST_BYTES_MIN: u64 = 64 * 1024;

/// Waits are cut to this, since the rate may change meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Bucket {
    plan: RatePlan,
    clock: Arc<dyn Clock>,
    /// Whoever holds it is the next to be let through; the others queue in order.
    turn: tokio::sync::Mutex<()>,
    tokens: Mutex<Tokens>,
}

#[derive(Debug, Clone, Copy)]
struct Tokens {
    /// In billionths of a byte, so that no rate is too low to count; negative is debt.
    nano: i128,
    filled_at: Duration,
}

const NANO: i128 = 1_000_000_000;

impl Bucket {
    pub(super) fn new(plan: RatePlan, clock: Arc<dyn Clock>) -> Self {
        let nano = match plan.at(clock.now()) {
            Rate::BytesPerSecond(rate) => i128::from(burst(rate)) * NANO,
            Rate::Unlimited => 0,
        };
        let tokens = Tokens { nano, filled_at: clock.elapsed() };
        Self { plan, clock, turn: tokio::sync::Mutex::new(()), tokens: Mutex::new(tokens) }
    }

    /// Waits for one's turn and for enough tokens, then takes them. A dropped call takes none.
    pub(super) async fn take(&self, bytes: u64) {
        if self.plan.is_unlimited() {
            return;
        }
        let _turn = self.turn.lock().await;
        while let Some(wait) = self.try_take(bytes) {
            self.clock.sleep(wait.min(LONGEST_WAIT)).await;
        }
    }

    /// Takes tokens that were used already; the next to come waits for them.
    pub(super) fn charge(&self, bytes: u64) {
        self.change(|tokens| tokens.nano -= i128::from(bytes) * NANO);
    }

    /// Brings tokens back that were not used.
    pub(super) fn give_back(&self, bytes: u64) {
        self.change(|tokens| tokens.nano += i128::from(bytes) * NANO);
    }

    /// Takes the tokens, or tells how long it is until there are enough at the present rate.
    fn try_take(&self, bytes: u64) -> Option<Duration> {
        let rate = match self.plan.at(self.clock.now()) {
            Rate::BytesPerSecond(rate) => rate,
            Rate::Unlimited => {
                // Debts of a limited time are forgiven, and nothing is saved up for the next.
                self.change(|tokens| tokens.nano = 0);
                return None;
            }
        };
        self.change(|tokens| {
            let needed = i128::from(bytes.min(burst(rate))) * NANO - tokens.nano;
            if needed > 0 {
                return Some(time_for(needed, rate));
            }
            tokens.nano -= i128::from(bytes) * NANO;
            None
        })
    }

    /// Lets in what has come since the last time, then changes the tokens.
    fn change<T>(&self, change: impl FnOnce(&mut Tokens) -> T) -> T {
        let (now, rate) = (self.clock.elapsed(), self.plan.at(self.clock.now()));
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Rate::BytesPerSecond(rate) = rate {
            let passed = i128::try_from(now.saturating_sub(tokens.filled_at).as_nanos()).unwrap_or(i128::MAX);
            let come = passed.saturating_mul(i128::from(rate));
            tokens.nano = tokens.nano.saturating_add(come).min(i128::from(burst(rate)) * NANO);
        }
        tokens.filled_at = now;
        change(&mut tokens)
    }
}

/// What can be saved up: one second.
fn burst(rate: u64) -> u64 {
    rate.max(BURST_BYTES_MIN)
}

/// Rounded up, so that enough is there when it has passed.
fn time_for(nano_bytes: i128, rate: u64) -> Duration {
    if rate == 0 {
        return LONGEST_WAIT;
    }
    let nanos = (nano_bytes + i128::from(rate) - 1) / i128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
