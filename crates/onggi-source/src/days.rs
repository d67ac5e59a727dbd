//! A tree of dated directories that another tool made, to be imported: `2016-03-04/etc/…`, usually with hard links
//! between the days. Each day is a remnant of that tool; nothing of it is ever changed.
//!
//! Below a day lies what lay below `/` of the machine. A day is compared with the one before: equal inodes are equal
//! files, so that what the days share is read once.

use std::path::PathBuf;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::config::Surroundings;
use crate::context::{Context, UnitId};
use crate::path::TreePath;
use crate::paths::{Paths, PathsConfig};
use crate::source::{Base, Capabilities, Capture, Facts, Image, Items, Remnant, Result, Source, SourceError, Unit};

/// Days in one tree; more are no backups of days.
const DAYS_MAX: usize = 20_000;

/// A directory of days.
pub struct Days {
    folder: PathBuf,
    unit: Unit,
    zone: TimeZone,
    surroundings: Surroundings,
}

impl Days {
    /// The days in this folder, which are a machine's of this name; a day begins at midnight of the zone. Touches
    /// nothing.
    pub fn new(folder: PathBuf, host: &str, zone: TimeZone, surroundings: Surroundings) -> Self {
        let unit = Unit { id: UnitId::new(host), name: host.to_owned() };
        Self { folder, unit, zone, surroundings }
    }

    /// When a name is a day's: its first moment.
    fn begins(&self, name: &str) -> Option<Timestamp> {
        let date: Date = name.parse().ok()?;
        // other spellings of a date are not what the tool wrote
        (date.to_string() == name).then(|| date.to_zoned(self.zone.clone()).ok()).flatten().map(|day| day.timestamp())
    }
}

#[async_trait]
impl Source for Days {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: false, destinations: &[] }
    }

    /// There must be a day.
    async fn preflight(&self, cx: &Context) -> Result<()> {
        if self.remnants(cx).await?.is_empty() {
            let text = format!("{} has no directory with a name like 2016-03-04", self.folder.display());
            return Err(SourceError::Denied(text));
        }
        Ok(())
    }

    async fn discover(&self, _cx: &Context) -> Result<Vec<Unit>> {
        Ok(vec![self.unit.clone()])
    }

    /// What lies there was captured by others.
    async fn capture<'a>(&'a self, _cx: &Context, _unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        Err(SourceError::Unsupported("capture of days that another tool makes"))
    }

    /// The days, oldest first. Their names decide what they are; links are none.
    async fn remnants(&self, cx: &Context) -> Result<Vec<Remnant>> {
        let failed = |error| SourceError::Denied(format!("list {}: {error}", self.folder.display()));
        let mut days = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            cx.check()?;
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let Some(at) = self.begins(&name).filter(|_| is_directory) else { continue };
            if days.len() == DAYS_MAX {
                return Err(SourceError::Denied(format!("more than {DAYS_MAX} days lie there")));
            }
            days.push(Remnant { unit: self.unit.clone(), mark: None, seen_at: at, complete: true, what: name });
        }
        days.sort_by(|left, right| left.what.cmp(&right.what));
        Ok(days)
    }

    async fn reopen<'a>(&'a self, _cx: &Context, remnant: &Remnant) -> Result<Box<dyn Capture + 'a>> {
        if self.begins(&remnant.what) != Some(remnant.seen_at) {
            return Err(SourceError::Gone);
        }
        let surroundings =
            Surroundings { working_directory: self.folder.join(&remnant.what), ..self.surroundings.clone() };
        let wrong = |faults: Vec<_>| SourceError::Denied(format!("{faults:?}"));
        let paths = Paths::new(PathsConfig::new([PathBuf::from(".")]), surroundings).map_err(wrong)?;
        Ok(Box::new(Day { paths, unit: self.unit.clone(), taken_at: remnant.seen_at }))
    }
}

/// One day.
struct Day {
    paths: Paths,
    unit: Unit,
    taken_at: Timestamp,
}

#[async_trait]
impl Capture for Day {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let mut capture = self.paths.capture(cx, &self.unit, None).await?;
        capture.items(cx, out).await?;
        // the root of the machine, whatever the day: so the days are one history
        Ok(Facts { roots: vec![TreePath::root()], ..Facts::new(self.taken_at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Bench, NoSecrets};
    use crate::carrier::SystemLauncher;
    use crate::recorder::Recorder;
    use std::collections::BTreeMap;
    use std::fs;
    use std::sync::Arc;

    fn days(folder: &std::path::Path) -> Days {
        let surroundings = Surroundings {
            source: "import".into(),
            host: "hub".into(),
            working_directory: "/".into(),
            state: folder.join("state"),
            never: Vec::new(),
            environment: BTreeMap::new(),
            programs: Vec::new(),
            launcher: Arc::new(SystemLauncher),
            secrets: Arc::new(NoSecrets),
            attended: false,
        };
        Days::new(folder.to_owned(), "ctl1", TimeZone::UTC, surroundings)
    }

    #[tokio::test]
    async fn only_directories_named_as_dates_are_days() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["2016-03-05", "2016-03-04", "2016-02-30", "2016-3-6", "scripts", "20160307"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("2016-03-08"), "").unwrap();
        std::os::unix::fs::symlink("2016-03-04", folder.path().join("2016-03-09")).unwrap();
        let bench = Bench::new("r1");
        let found = days(folder.path()).remnants(&bench.cx).await.unwrap();
        let shown: Vec<_> = found.iter().map(|day| format!("{} {}", day.what, day.seen_at)).collect();
        assert_eq!(shown, ["2016-03-04 2016-03-04T00:00:00Z", "2016-03-05 2016-03-05T00:00:00Z"]);
        assert!(found.iter().all(|day| day.mark.is_none() && day.complete && day.unit.name == "ctl1"));
    }

    #[tokio::test]
    async fn a_day_shows_the_machine_as_of_that_day() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("2016-03-04/etc/nova")).unwrap();
        fs::write(folder.path().join("2016-03-04/etc/nova/nova.conf"), "debug=true").unwrap();
        let (bench, days) = (Bench::new("r1"), days(folder.path()));
        let found = days.remnants(&bench.cx).await.unwrap();
        let recorder = Recorder::new(&bench.cx);
        let mut capture = days.reopen(&bench.cx, &found[0]).await.unwrap();
        let facts = capture.items(&bench.cx, &recorder).await.unwrap();
        assert_eq!(facts.taken_at, found[0].seen_at);
        assert_eq!(facts.roots, [TreePath::root()]);
        let tree = recorder.commit(facts).unwrap();
        assert!(tree.lines().iter().any(|line| line.contains("etc/nova/nova.conf")), "{:?}", tree.lines());
    }

    #[tokio::test]
    async fn a_folder_without_days_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = days(folder.path()).preflight(&Bench::new("r1").cx).await.unwrap_err();
        assert!(error.to_string().contains("no directory with a name like"), "{error}");
    }
}
