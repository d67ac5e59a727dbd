//! Pure: when to say how far a copy is.

/// Steps in which it is said, in percent.
const STEP_PERCENT: u64 = 5;

/// Counts bytes on their way.
#[derive(Debug)]
pub(crate) struct Percent {
    total: u64,
    done: u64,
    said: u64,
}

impl Percent {
    /// Of so many bytes in all. What comes beyond them is not counted: an archive is longer than its content.
    pub(crate) fn of(total: u64) -> Self {
        Self { total: total.max(1), done: 0, said: 0 }
    }

    /// Some more; the percentage if it is time to say one.
    pub(crate) fn add(&mut self, bytes: u64) -> Option<u64> {
        self.done = (self.done + bytes).min(self.total);
        let percent = self.done * 100 / self.total / STEP_PERCENT * STEP_PERCENT;
        (percent > self.said).then(|| {
            self.said = percent;
            percent
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_said_once_and_none_beyond_the_end() {
        let mut percent = Percent::of(200);
        let said: Vec<_> = [1, 9, 10, 1, 100, 500, 500].into_iter().filter_map(|bytes| percent.add(bytes)).collect();
        assert_eq!(said, [5, 10, 60, 100]);
        assert_eq!(Percent::of(0).add(10), Some(100));
    }
}
