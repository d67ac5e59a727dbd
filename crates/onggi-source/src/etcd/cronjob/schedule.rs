//! When jobs run, and which version of Kubernetes knows which words.

use std::fmt;
use std::str::FromStr;

/// Minutes in an hour.
const HOUR: usize = 60;

/// When a job runs: five fields, or a word such as `@hourly`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(String);

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// It is something else.
    #[error("{0:?} is no schedule such as \"*/5 * * * *\"")]
    Form(String),
    /// Kubernetes has a field for it.
    #[error("a schedule names no time zone; say --time-zone")]
    Zone,
}

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        if fields.first().is_some_and(|first| first.contains("TZ=")) {
            return Err(BadSchedule::Zone);
        }
        let is_word = fields.len() == 1 && WORDS.iter().any(|(word, _)| fields[0] == *word);
        let is_field =
            |field: &&str| field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*/,-?".contains(&byte));
        if is_word || fields.len() == 5 && fields.iter().all(is_field) && is_minutes(fields[0]) {
            Ok(Self(fields.join(" ")))
        } else {
            Err(BadSchedule::Form(text.to_owned()))
        }
    }
}

/// What Kubernetes has words for.
const WORDS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// The numbers of the first field are minutes, and steps are steps.
fn is_minutes(field: &str) -> bool {
    let mut numbers = field.split(['*', '/', ',', '-', '?']).filter(|number| !number.is_empty());
    numbers.all(|number| number.parse::<usize>().is_ok_and(|minute| minute < HOUR))
        && step(field).is_none_or(|step| step > 0)
}

fn step(field: &str) -> Option<usize> {
    field.strip_prefix("*/")?.parse().ok()
}

impl Schedule {
    /// The one of the job with this index among so many, spread over the interval; `None` where the minutes are such
    /// that it is not sure what that means.
    pub fn shifted(&self, index: usize, of: usize) -> Option<String> {
        if of <= 1 {
            return Some(self.0.clone());
        }
        let plain = WORDS.iter().find(|(word, _)| *word == self.0).map_or(self.0.as_str(), |(_, fields)| fields);
        let (minutes, rest) = plain.split_once(' ')?;
        let minutes = if let Some(step) = step(minutes) {
            match index * step / of {
                0 => minutes.to_owned(),
                offset => format!("{offset}-59/{step}"),
            }
        } else {
            let minute: usize = minutes.parse().ok()?;
            ((minute + index * HOUR / of) % HOUR).to_string()
        };
        Some(format!("{minutes} {rest}"))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version of Kubernetes: `1.31`, `v1.20.4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KubeVersion {
    minor: u32,
}

/// A text that is no version of Kubernetes that has jobs by the clock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version of Kubernetes from 1.8 on, such as 1.31")]
pub struct BadVersion(String);

impl FromStr for KubeVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let minor = || {
            let rest = text.strip_prefix('v').unwrap_or(text).strip_prefix("1.")?;
            let (minor, _) = rest.split_once(['.', '+', '-']).unwrap_or((rest, ""));
            minor.parse().ok().filter(|minor| *minor >= 8)
        };
        minor().map(|minor| Self { minor }).ok_or_else(|| BadVersion(text.to_owned()))
    }
}

impl KubeVersion {
    /// The API that has CronJobs: `batch/v1` since 1.21, and it alone since 1.25.
    pub fn api(self) -> &'static str {
        if self.minor < 21 { "batch/v1beta1" } else { "batch/v1" }
    }

    /// Whether a CronJob may name its time zone without a feature gate.
    pub fn has_time_zones(self) -> bool {
        self.minor >= 25
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: &str, of: usize, expected: &[Option<&str>]) {
        let schedule: Schedule = schedule.parse().unwrap();
        let shifted: Vec<_> = (0..of).map(|index| schedule.shifted(index, of)).collect();
        assert_eq!(shifted.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn jobs_of_several_nodes_share_the_interval() {
        check("*/5 * * * *", 1, &[Some("*/5 * * * *")]);
        check("*/5  * * * *", 3, &[Some("*/5 * * * *"), Some("1-59/5 * * * *"), Some("3-59/5 * * * *")]);
        check("50 */6 * * *", 3, &[Some("50 */6 * * *"), Some("10 */6 * * *"), Some("30 */6 * * *")]);
        check("@daily", 2, &[Some("0 0 * * *"), Some("30 0 * * *")]);
        check("@daily", 1, &[Some("@daily")]);
        check("0,30 * * * *", 2, &[None, None]);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "* * * *", "* * * * * *", "@often", "60 * * * *", "*/0 * * * *", "$(x) * * * *", "m * * * *"] {
            assert_eq!(text.parse::<Schedule>(), Err(BadSchedule::Form(text.into())));
        }
        assert_eq!("CRON_TZ=UTC 0 0 * * *".parse::<Schedule>(), Err(BadSchedule::Zone));
    }

    #[test]
    fn the_old_api_is_for_old_clusters_only() {
        let api = |text: &str| text.parse::<KubeVersion>().map(KubeVersion::api);
        assert_eq!((api("1.20"), api("v1.20.4+k3s1")), (Ok("batch/v1beta1"), Ok("batch/v1beta1")));
        assert_eq!((api("1.21"), api("v1.31.0")), (Ok("batch/v1"), Ok("batch/v1")));
        for text in ["", "1", "2.0", "1.x", "1.7", "latest"] {
            assert_eq!(api(text), Err(BadVersion(text.into())));
        }
    }
}
