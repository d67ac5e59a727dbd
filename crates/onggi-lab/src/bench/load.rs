//! What else the machine did while programs were measured: on a shared machine figures are to be read with that.

use std::fs;
use std::time::Duration;

use crate::measure::Cost;

/// The kernel counts in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of others beside what was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    others: Duration,
    all: Duration,
}

/// What all processors did since the machine started.
#[derive(Clone, Copy, Debug)]
pub struct Busy(Duration);

impl Load {
    /// The state before a measurement; `None` where the kernel does not say.
    pub fn now() -> Option<Busy> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        busy(text.lines().next()?).map(Busy)
    }

    /// Adds what others did since then.
    pub fn add(&mut self, before: Option<Busy>, measured: Cost, wall: Duration) {
        let (Some(Busy(before)), Some(Busy(now))) = (before, Self::now()) else { return };
        self.others += now.saturating_sub(before).saturating_sub(measured.processor);
        self.all += wall * std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    }

    /// Others' share of the processors in percent; `None` if nothing was measured.
    pub fn percent(&self) -> Option<f64> {
        (!self.all.is_zero()).then(|| 100.0 * self.others.as_secs_f64() / self.all.as_secs_f64())
    }
}

/// All but idling and waiting for disks: what the kernel counts as user, nice, system, interrupts, and stolen.
fn busy(line: &str) -> Option<Duration> {
    let ticks: Vec<u32> = line.strip_prefix("cpu ")?.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let at = |number: usize| ticks.get(number).copied().unwrap_or(0);
    Some(TICK * [0, 1, 2, 5, 6, 7].map(at).iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idling_and_waiting_for_disks_is_not_busy() {
        assert_eq!(busy("cpu  100 20 30 99999 8888 5 6 7 0 0"), Some(Duration::from_millis(1680)));
        assert_eq!(busy("cpu0 1 2 3"), None);
    }
}
