//! The script's own file of variables: read by its names, never run.
//!
//! All faults are told at once, and what only a shell could work out is one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The servers that are still to be done, an id a line.
    pub joblist: PathBuf,
    /// Where Glance keeps its files, if that is on this machine.
    pub images: Option<PathBuf>,
    /// Where the script keeps what it has not sent yet; its last part begins the paths on the backup server.
    pub staging: PathBuf,
    /// Where the backup server's folder is mounted.
    pub backups: PathBuf,
    /// The folder on the backup server.
    pub remote: String,
    /// The key of SSH.
    pub key: PathBuf,
    /// The login, which a shell runs with the account's and the project's name.
    pub openrc: PathBuf,
    /// Captures of a server that stay on the backup server.
    pub keep: usize,
    /// The backup server.
    pub host: String,
    /// Who enters there.
    pub user: String,
    /// Where SSH listens.
    pub port: u16,
    /// Bytes per second; `None` without a limit.
    pub rate: Option<u64>,
    /// After this time no further server is begun.
    pub time_limit: Duration,
    /// The project's name.
    pub project: String,
    /// The account's name.
    pub account: String,
    /// A server's own word of how many of its captures stay is heard.
    pub keep_own: bool,
    /// One image of a server is moved in a run, and not all but the newest.
    pub only_oldest: bool,
    /// Files are sent by the installed rsync.
    pub rsync: bool,
}

impl Settings {
    /// Reads the file's text; relative paths start at `base`.
    pub fn read(text: &str, base: &Path) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut pairs = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once('=').map(|(name, value)| (name.trim_end(), unquoted(value))) {
                Some((name, Some(value))) => drop(pairs.insert(name.to_owned(), value)),
                Some((name, None)) => {
                    faults.push(format!("line {}: {name} has a value that only a shell knows", number + 1));
                }
                None => faults.push(format!("line {} is no NAME=value", number + 1)),
            }
        }
        let found = Reader { pairs, faults, base };
        found.settings()
    }
}

struct Reader<'a> {
    pairs: BTreeMap<String, String>,
    faults: Vec<String>,
    base: &'a Path,
}

impl Reader<'_> {
    fn optional(&self, name: &str) -> Option<String> {
        self.pairs.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn text(&mut self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.faults.push(format!("{name} is missing"));
            String::new()
        })
    }

    fn path(&mut self, name: &str) -> PathBuf {
        let text = self.text(name);
        self.base.join(text)
    }

    fn number<T: std::str::FromStr + Default>(&mut self, name: &str) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            if !text.is_empty() {
                self.faults.push(format!("{name} is no number: {text}"));
            }
            T::default()
        })
    }

    fn settings(mut self) -> Result<Settings, Vec<String>> {
        let limit: u64 = self.number("BANDWIDTH_LIMIT");
        let unit = match self.optional("BANDWIDTH_UNIT").as_deref() {
            None | Some("KiB") => 1 << 10,
            Some("MB") => 1_000_000,
            Some(other) => {
                self.faults.push(format!("BANDWIDTH_UNIT is neither KiB nor MB: {other}"));
                1
            }
        };
        let rsync = match self.optional("RSYNC").as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => {
                self.faults.push(format!("RSYNC is neither 0 nor 1: {other}"));
                false
            }
        };
        let settings = Settings {
            joblist: self.path("PATH_TO_JOBLIST"),
            images: self.optional("PATH_TO_SNAPSHOT_DIR").map(|path| self.base.join(path)),
            staging: self.path("PATH_TO_SNAPSHOT_WITH_METADATA_DIR"),
            backups: self.path("PATH_TO_SNAPSHOT_BACKUP_DIR"),
            remote: self.text("PATH_TO_SNAPSHOT_BACKUP_DIR_REMOTE"),
            key: self.path("PATH_TO_PRIVATE_KEY"),
            openrc: self.path("PATH_TO_OPENRC_FILE"),
            keep: self.number("MAX_COUNT_OF_SNAPSHOT"),
            host: self.text("IPADDRESS_REMOTE"),
            user: self.text("USERNAME_REMOTE"),
            port: self.number("PORT_REMOTE"),
            rate: limit.checked_mul(unit).filter(|rate| *rate > 0),
            time_limit: Duration::from_secs(self.number("TIMELIMIT")),
            project: self.text("PROJECT_NAME"),
            account: self.text("ACCOUNT_NAME"),
            keep_own: self.optional("KEEP_OWN").as_deref() == Some("1"),
            only_oldest: self.optional("ONLY_OLDEST").as_deref() == Some("1"),
            rsync,
        };
        if self.faults.is_empty() && settings.staging.file_name().is_none() {
            self.faults.push("PATH_TO_SNAPSHOT_WITH_METADATA_DIR names no folder".to_owned());
        }
        if self.faults.is_empty() { Ok(settings) } else { Err(self.faults) }
    }
}

/// A value as a shell reads it, without what a shell would have to work out.
fn unquoted(text: &str) -> Option<String> {
    let (mut value, mut signs) = (String::new(), text.trim().chars().peekable());
    let mut quote = None;
    while let Some(sign) = signs.next() {
        match (quote, sign) {
            (Some(open), sign) if sign == open => quote = None,
            (Some('\''), sign) => value.push(sign),
            (None, '\'' | '"') => quote = Some(sign),
            (_, '$' | '`') => return None,
            (Some(_), '\\') if matches!(signs.peek(), Some('"' | '\\' | '$' | '`')) => value.extend(signs.next()),
            (None, '\\') => value.extend(signs.next()),
            (None, sign) if sign.is_whitespace() => {
                // A comment may follow, and nothing else.
                let rest: String = signs.collect();
                let rest = rest.trim_start();
                return (rest.is_empty() || rest.starts_with('#')).then_some(value);
            }
            (_, sign) => value.push(sign),
        }
    }
    quote.is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "# JCloud\nPATH_TO_JOBLIST=./joblist\nPATH_TO_SNAPSHOT_DIR=/var/lib/glance/images\n\
        PATH_TO_SNAPSHOT_WITH_METADATA_DIR=\"/backup/snapshots\"\nPATH_TO_SNAPSHOT_BACKUP_DIR='/mnt/backup'\n\
        PATH_TO_SNAPSHOT_BACKUP_DIR_REMOTE=/srv/backup\nPATH_TO_PRIVATE_KEY=/root/.ssh/id_rsa\n\
        PATH_TO_OPENRC_FILE=/root/openrc\nMAX_COUNT_OF_SNAPSHOT=2\nIPADDRESS_REMOTE=127.0.0.1\n\
        USERNAME_REMOTE=me\nPORT_REMOTE=22\nBANDWIDTH_LIMIT=50000 # KiB/s\nTIMELIMIT=3600\n\
        PROJECT_NAME=other__project\nACCOUNT_NAME=demo\n";

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let faults = Settings::read(text, Path::new("/here")).err().unwrap_or_default();
        assert_eq!(faults, expected, "{text}");
    }

    #[test]
    fn the_fifteen_variables_are_read() {
        let settings = Settings::read(WHOLE, Path::new("/here")).unwrap();
        assert_eq!(settings.joblist, Path::new("/here/./joblist"));
        assert_eq!((settings.keep, settings.port, settings.rate), (2, 22, Some(50_000 << 10)));
        assert_eq!(
            (settings.project.as_str(), settings.backups.as_path()),
            ("other__project", Path::new("/mnt/backup"))
        );
    }

    #[test]
    fn a_rate_is_in_kibibytes_unless_it_says_megabytes() {
        let rate = |more: &str| Settings::read(&format!("{WHOLE}{more}"), Path::new("/")).unwrap().rate;
        assert_eq!(rate("BANDWIDTH_LIMIT=500\n"), Some(500 << 10));
        assert_eq!(rate("BANDWIDTH_LIMIT=500\nBANDWIDTH_UNIT=MB\n"), Some(500_000_000));
        assert_eq!(rate("BANDWIDTH_LIMIT=0\n"), None);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = WHOLE.replace("PORT_REMOTE=22", "PORT_REMOTE=ssh").replace("TIMELIMIT=3600\n", "");
        check(&text, &["PORT_REMOTE is no number: ssh", "TIMELIMIT is missing"]);
        check(&format!("{WHOLE}nonsense\n"), &["line 17 is no NAME=value"]);
    }

    #[test]
    fn rsync_is_asked_for_or_not() {
        check(&format!("{WHOLE}RSYNC=yes\n"), &["RSYNC is neither 0 nor 1: yes"]);
        assert!(Settings::read(&format!("{WHOLE}RSYNC=1\n"), Path::new("/work")).unwrap().rsync);
        check(&format!("{WHOLE}RSYNC=0\nKEEP_OWN=1\n"), &[]);
    }

    #[test]
    fn nothing_is_run() {
        let text = WHOLE.replace("/root/openrc", "$(id)");
        check(
            &text,
            &["line 8: PATH_TO_OPENRC_FILE has a value that only a shell knows", "PATH_TO_OPENRC_FILE is missing"],
        );
        assert_eq!(unquoted("'a$b'").as_deref(), Some("a$b"));
        assert_eq!(unquoted(r#""a \"b\"""#).as_deref(), Some("a \"b\""));
        assert_eq!(unquoted("a b"), None);
    }
}
