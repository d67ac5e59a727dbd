//! Pure: what a machine must have to be backed up, as it says itself, and what of that is to be mended.

use jiff::{SignedDuration, Timestamp};

/// Asks for all of it.
pub(super) const QUESTION: &str = "for tool in find tar xargs; do command -v $tool >/dev/null || echo \"without $tool\"; done; \
    command -v sha256sum >/dev/null || command -v shasum >/dev/null || echo 'without sha256sum'; \
    echo used $(df --output=pcent,ipcent /var/vcap/store | tail -n 1); echo now $(date +%s)";
/// From here on a store counts as full, in percent.
const FULL: u32 = 95;
/// From here on clocks count as different: tokens and certificates are good for minutes.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What is to be mended, by the answer.
pub(super) fn faults(answer: &str, now: Timestamp) -> Vec<String> {
    answer.lines().filter_map(|line| fault(line, now)).collect()
}

fn fault(line: &str, now: Timestamp) -> Option<String> {
    let (word, rest) = line.split_once(' ')?;
    match word {
        "without" => Some(format!("it has no {rest}")),
        "used" => {
            let used = |text: &str| text.trim_end_matches('%').parse::<u32>().ok();
            let (bytes, inodes) = rest.split_once(' ')?;
            let full = [("space", bytes), ("inodes", inodes)];
            let (what, used) = full.into_iter().find(|(_, text)| used(text).is_some_and(|used| used >= FULL))?;
            Some(format!("{used} of the {what} of /var/vcap/store is in use"))
        }
        "now" => {
            let there = Timestamp::from_second(rest.parse().ok()?).ok()?;
            let off = there.duration_since(now).abs();
            (off > SKEW).then(|| format!("its clock is off by {} s", off.as_secs()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_full_or_late_is_said_and_nothing_else() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(faults("used 40% 1%\nnow 1700000100\n", now), Vec::<String>::new());
        assert_eq!(faults("used 40% -\nnow x\n", now), Vec::<String>::new());
        let answer = "without tar\nused 3% 97%\nnow 1699990000\n";
        let expected =
            ["it has no tar", "97% of the inodes of /var/vcap/store is in use", "its clock is off by 10000 s"];
        assert_eq!(faults(answer, now), expected);
        assert_eq!(faults("used 95% 2%", now), ["95% of the space of /var/vcap/store is in use"]);
    }
}
