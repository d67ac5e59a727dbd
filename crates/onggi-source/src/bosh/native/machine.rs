//! Pure: what a machine must have to be backed up, as it says itself; what of that is to be mended, and what a backup by
//! scripts will not hold.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

/// Asks for all of it.
pub(super) const QUESTION: &str = "for tool in find tar xargs; do command -v $tool >/dev/null || echo \"without $tool\"; done; \
    command -v sha256sum >/dev/null || command -v shasum >/dev/null || echo 'without sha256sum'; \
    echo used $(df --output=pcent,ipcent /var/vcap/store | tail -n 1); echo now $(date +%s); \
    echo free $(df --output=avail -B1 /var/vcap/store | tail -n 1); \
    for job in /var/vcap/jobs/*; do [ -e \"$job\" ] && echo \"job ${job##*/}\"; done; \
    for data in /var/vcap/store/*/; do [ -d \"$data\" ] && data=${data%/} && echo \"data ${data##*/}\"; done; true";
/// From here on a store counts as full, in percent.
const FULL: u32 = 95;
/// From here on clocks count as different: tokens and certificates are good for minutes.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Jobs whose scripts store only where their data lie in a bucket; those that nobody configured disable themselves.
const POINTING: [&str; 4] = [
    "s3-versioned-blobstore-backup-restorer",
    "s3-unversioned-blobstore-backup-restorer",
    "gcs-blobstore-backup-restorer",
    "azure-blobstore-backup-restorer",
];
/// Folders of a store that are no job's.
const NO_DATA: [&str; 2] = ["bbr-backup", "lost+found"];

/// What is to be mended, by the answer. `took` is what the last backup's artifacts took there, in bytes.
pub(super) fn faults(answer: &str, now: Timestamp, took: u64) -> Vec<String> {
    answer.lines().filter_map(|line| fault(line, now, took)).collect()
}

fn fault(line: &str, now: Timestamp, took: u64) -> Option<String> {
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
        "free" => {
            let free: u64 = rest.trim().parse().ok()?;
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let text = format!("{} MiB are free on /var/vcap/store, the last backup took {}", free >> 20, mib(took));
            (free < took).then_some(text)
        }
        "now" => {
            let there = Timestamp::from_second(rest.parse().ok()?).ok()?;
            let off = there.duration_since(now).abs();
            (off > SKEW).then(|| format!("its clock is off by {} s", off.as_secs()))
        }
        _ => None,
    }
}

/// Jobs whose artifact does not hold what it is for.
pub(super) fn pointing<'a>(backed_up: &BTreeSet<&'a str>) -> Vec<&'a str> {
    backed_up.iter().copied().filter(|job| POINTING.contains(job)).collect()
}

/// Which jobs are in a backup, which are not, and which folders bear the name of no job that is.
pub(super) fn scope(answer: &str, backed_up: &BTreeSet<&str>) -> Vec<String> {
    let all =
        |word: &str| answer.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).collect::<Vec<_>>();
    let jobs: Vec<&str> = all("job").into_iter().filter(|job| !backed_up.contains(job)).collect();
    let is_others = |name: &&str| !NO_DATA.contains(name) && !backed_up.contains(name);
    let folders: Vec<String> =
        all("data").into_iter().filter(is_others).map(|name| format!("/var/vcap/store/{name}")).collect();
    let backed_up: Vec<&str> = backed_up.iter().copied().collect();
    [
        ("jobs with a backup script", backed_up.join(", ")),
        ("jobs without one", jobs.join(", ")),
        ("data of none of these", folders.join(", ")),
    ]
    .into_iter()
    .filter(|(_, list)| !list.is_empty())
    .map(|(what, list)| format!("{what}: {list}"))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_full_or_late_is_said_and_nothing_else() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(faults("used 40% 1%\nnow 1700000100\n", now, 0), Vec::<String>::new());
        assert_eq!(faults("used 40% -\nnow x\n", now, 0), Vec::<String>::new());
        let answer = "without tar\nused 3% 97%\nnow 1699990000\n";
        let expected =
            ["it has no tar", "97% of the inodes of /var/vcap/store is in use", "its clock is off by 10000 s"];
        assert_eq!(faults(answer, now, 0), expected);
        assert_eq!(faults("used 95% 2%", now, 0), ["95% of the space of /var/vcap/store is in use"]);
    }

    #[test]
    fn a_store_without_the_space_that_the_last_backup_took_is_said() {
        let now = Timestamp::UNIX_EPOCH;
        let expected = ["2 MiB are free on /var/vcap/store, the last backup took 4"];
        assert_eq!(faults("free 2097152", now, 3 << 20 | 1), expected);
        assert_eq!(faults("free 2097152", now, 2 << 20), Vec::<String>::new());
        assert_eq!(faults("free -", now, 1), Vec::<String>::new());
    }

    #[test]
    fn what_a_backup_will_not_hold_is_told() {
        let answer =
            "job db\njob uaa\ndata db\ndata uaa\ndata bbr-backup\njob s3-unversioned-blobstore-backup-restorer\n";
        let backed_up = BTreeSet::from(["db", "s3-unversioned-blobstore-backup-restorer"]);
        let expected = [
            "jobs with a backup script: db, s3-unversioned-blobstore-backup-restorer",
            "jobs without one: uaa",
            "data of none of these: /var/vcap/store/uaa",
        ];
        assert_eq!(scope(answer, &backed_up), expected);
        assert_eq!(pointing(&backed_up), ["s3-unversioned-blobstore-backup-restorer"]);
    }
}
