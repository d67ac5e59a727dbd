//! Pure: how much a copy is, and when to say how far it is.

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

/// A size as `du -h` shows it: never too small, with one decimal where there is one digit.
pub(crate) fn on_disk(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    let (mut size, mut name) = (1, 0);
    while bytes.div_ceil(size) >= 1024 && name + 1 < UNITS.len() {
        size <<= 10;
        name += 1;
    }
    let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(size));
    if name == 0 || tenths >= 100 {
        return format!("{}{}", bytes.div_ceil(size), UNITS[name]);
    }
    format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_du_shows_them() {
        let check = |bytes: u64, expected: &str| assert_eq!(on_disk(bytes), expected, "{bytes}");
        check(0, "0");
        check(4096, "4.0K");
        check(12 << 10, "12K");
        check(10_000, "9.8K");
        check(10_200, "10K");
        check((1 << 20) - 1, "1.0M");
        check(2_700_000, "2.6M");
        check(5 << 40, "5.0T");
    }

    #[test]
    fn every_step_is_said_once_and_none_beyond_the_end() {
        let mut percent = Percent::of(200);
        let said: Vec<_> = [1, 9, 10, 1, 100, 500, 500].into_iter().filter_map(|bytes| percent.add(bytes)).collect();
        assert_eq!(said, [5, 10, 60, 100]);
        assert_eq!(Percent::of(0).add(10), Some(100));
    }
}
