//! The keys of kind `database`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use onggi_node::pattern::{glob_matches, is_glob};
use schemars::JsonSchema;
use serde::Deserialize;

use super::request::file_name;
use crate::config::{ConfigFault, Outline};
use crate::hook::{self, Hook};
use crate::path::TreePath;
use crate::quantity::Period;
use crate::secret::{SecretKey, SecretReference};

/// How long a dump waits for a lock on a table unless the configuration says otherwise.
const LOCK_WAIT_DEFAULT: Duration = Duration::from_mins(5);
/// How long a tool may say nothing unless the configuration says otherwise.
const IDLE_LIMIT_DEFAULT: Duration = Duration::from_mins(30);

/// Databases of a server, each dumped by the server's own tools, stored only after they ended well.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Which tools, and how.
    #[serde(default)]
    pub preset: Preset,
    /// How the server is reached.
    #[serde(default)]
    pub connect: Connect,
    /// The server's name in paths and ids; by default the host that is connected to, or the source's name.
    #[serde(default)]
    pub server: Option<String>,
    /// Which databases: all unless said otherwise, but for those that belong to the server itself.
    #[serde(default)]
    pub include: Names,
    /// Which of them not.
    #[serde(default)]
    pub exclude: Names,
    /// The database files of preset `sqlite`.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Whether what databases share is stored beside each dump: roles, users, grants.
    #[serde(default)]
    pub globals: Globals,
    /// Whether the rows of every table are counted, in the same moment as the dump: what a drill compares.
    #[serde(default = "counted")]
    pub count_rows: bool,
    /// Further arguments for the program that dumps.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Variables for the tools beside the inherited ones: `PGSSLMODE`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Folder of the tools; by default they are looked for, and the newest that fit the server are taken.
    #[serde(default)]
    pub programs: Option<PathBuf>,
    /// User of this machine that the tools run as, for servers that know their users by it. Needs root.
    #[serde(default)]
    pub run_as: Option<String>,
    /// How long to wait for a lock on a table; default 5m. The tools of MySQL have no such limit: `idle-limit` ends them.
    #[serde(default)]
    pub lock_wait: Option<Period>,
    /// How long a tool may say nothing before it is ended; default 30m.
    #[serde(default)]
    pub idle_limit: Option<Period>,
    /// Where drills and what is restored first to disk take place.
    #[serde(default)]
    pub drill: Drill,
    /// Commands before the capture.
    #[serde(default)]
    pub before: Vec<Hook>,
    /// Commands after the capture; they run in every case in which those before it were started.
    #[serde(default)]
    pub after: Vec<Hook>,
}

fn counted() -> bool {
    true
}

/// Which tools dump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "DatabasePreset")]
pub enum Preset {
    /// `pg_dump`, one file per database.
    #[default]
    PostgresLogical,
    /// `pg_basebackup`, the whole cluster as one file.
    PostgresPhysical,
    /// `mariadb-dump` or `mysqldump`, one file per database.
    MysqlLogical,
    /// `mariadb-backup` or `xtrabackup`, the whole server as one file.
    MysqlPhysical,
    /// `VACUUM INTO` of `sqlite3`, one file per file.
    Sqlite,
}

/// How a server is reached.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "DatabaseConnect")]
pub struct Connect {
    /// Name or address, or the folder (PostgreSQL) or file (MySQL) of a socket; by default the tools' own.
    #[serde(default)]
    pub host: Option<String>,
    /// By default the tools' own.
    #[serde(default)]
    pub port: Option<u16>,
    /// Who logs in; by default the tools' own.
    #[serde(default)]
    pub user: Option<String>,
    /// Password: a secret reference. The tools get it in a private file, never as an argument.
    #[serde(default)]
    pub password: Option<SecretKey>,
    /// Database to log in to before others are known; default `postgres`. Only PostgreSQL needs one.
    #[serde(default)]
    pub database: Option<String>,
}

/// Names of databases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "DatabaseNames")]
pub struct Names {
    /// Names, with `*` for anything, `?` for one letter, `[a-z]` for one of these, and `\` before what means itself.
    #[serde(default)]
    pub databases: Vec<String>,
}

/// What databases share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "DatabaseGlobals")]
pub enum Globals {
    /// With the hashes of passwords; needs the rights of an administrator.
    #[default]
    WithPasswords,
    /// Without: for managed servers that show them to nobody.
    WithoutPasswords,
    /// Not stored.
    None,
}

/// Where drills take place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "DatabaseDrill")]
pub struct Drill {
    /// Folder in which a private one is made and removed again.
    pub directory: PathBuf,
    /// User of this machine that scratch servers run as; by default `run-as`, else `postgres` or `mysql` where onggi runs
    /// as root.
    pub user: Option<String>,
}

impl Default for Drill {
    fn default() -> Self {
        Self { directory: "/var/tmp".into(), user: None }
    }
}

impl Preset {
    /// Whether the unit is the whole server.
    pub(super) fn is_physical(self) -> bool {
        matches!(self, Self::PostgresPhysical | Self::MysqlPhysical)
    }

    /// Whether it is of PostgreSQL.
    pub(super) fn is_postgres(self) -> bool {
        matches!(self, Self::PostgresLogical | Self::PostgresPhysical)
    }

    /// What a dump's name ends with.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::PostgresLogical => "dump",
            Self::PostgresPhysical => "tar",
            Self::MysqlLogical => "sql",
            Self::MysqlPhysical => "mbstream",
            Self::Sqlite => "sqlite",
        }
    }

    /// Its name in the configuration.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::PostgresLogical => "postgres-logical",
            Self::PostgresPhysical => "postgres-physical",
            Self::MysqlLogical => "mysql-logical",
            Self::MysqlPhysical => "mysql-physical",
            Self::Sqlite => "sqlite",
        }
    }
}

impl DatabaseConfig {
    /// The server's name in paths and ids.
    pub(crate) fn server_name(&self, source: &str) -> String {
        let host = self.connect.host.as_deref().filter(|host| !host.starts_with('/') && !host.is_empty());
        self.server.as_deref().or(host).unwrap_or(source).to_owned()
    }

    /// Whether a database of this name is included and not excluded.
    pub(super) fn wants(&self, name: &str) -> bool {
        let matches = |pattern: &String| glob_matches(pattern.as_bytes(), name.as_bytes());
        let any = |names: &Names| names.databases.iter().any(matches);
        (self.include.databases.is_empty() || any(&self.include)) && !any(&self.exclude)
    }

    pub(super) fn lock_wait(&self) -> Duration {
        self.lock_wait.map_or(LOCK_WAIT_DEFAULT, |period| period.0)
    }

    pub(super) fn idle_limit(&self) -> Duration {
        self.idle_limit.map_or(IDLE_LIMIT_DEFAULT, |period| period.0)
    }

    pub(crate) fn outline(&self, source: &str) -> Outline {
        let server = self.server_name(source);
        let root = TreePath::new("database").and_then(|root| root.join(file_name(&server))).ok();
        Outline { hostname: Some(server), ..Outline::below(root) }
    }

    pub(crate) fn secrets(&self) -> Vec<(&'static str, &SecretReference)> {
        let password = self.connect.password.as_ref().and_then(SecretKey::reference);
        password.into_iter().map(|reference| ("connect.password", reference)).collect()
    }

    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults: Vec<_> =
            self.connect.password.iter().filter_map(|password| password.fault("connect.password")).collect();
        if self.run_as.is_some() && self.connect.password.is_some() {
            let text = "another user cannot read the private file with the password";
            faults.push(ConfigFault::new("run-as", text, "keep one of `run-as` and `connect.password`"));
        }
        if self.preset == Preset::Sqlite && self.files.is_empty() {
            faults.push(ConfigFault::new("files", "there is no file", "add `files: [/var/lib/app/app.db]`"));
        }
        if self.preset != Preset::Sqlite && !self.files.is_empty() {
            let text = format!("preset {} reads no files", self.preset.word());
            faults.push(ConfigFault::new("files", text, "remove it, or write `preset: sqlite`"));
        }
        if self.files.iter().any(|file| !file.is_absolute()) {
            faults.push(ConfigFault::new("files", "a path is not absolute", "write it from / on"));
        }
        let names = [("include.databases", &self.include), ("exclude.databases", &self.exclude)];
        for (key, names) in names {
            if names.databases.iter().any(String::is_empty) {
                faults.push(ConfigFault::new(key, "a name is empty", "write a name, or `*` for all"));
            }
            if let Some(open) = names.databases.iter().find(|name| !is_glob(name.as_bytes())) {
                let text = format!("{open:?} is no pattern");
                faults.push(ConfigFault::new(key, text, "close each `[`, and write `\\[` for one that means itself"));
            }
        }
        if self.server.as_ref().is_some_and(|name| name.is_empty() || name.contains('/')) {
            faults.push(ConfigFault::new("server", "it cannot be a part of a path", "write a name without `/`"));
        }
        faults.extend(hook::faults("before", &self.before).chain(hook::faults("after", &self.after)));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(include: &[&str], exclude: &[&str], name: &str, expected: bool) {
        let names = |texts: &[&str]| Names { databases: texts.iter().map(ToString::to_string).collect() };
        let config = DatabaseConfig { include: names(include), exclude: names(exclude), ..DatabaseConfig::default() };
        assert_eq!(config.wants(name), expected, "{name}");
    }

    #[test]
    fn names_are_included_then_excluded() {
        check(&[], &[], "shop", true);
        check(&["*"], &["test_*"], "test_shop", false);
        check(&["shop?", "bill*"], &[], "shop1", true);
        check(&["shop?", "bill*"], &[], "shop", false);
        check(&["a*c*e"], &[], "abcde", true);
        check(&["a.c"], &[], "abc", false);
        check(&["shop[0-9]"], &[], "shop7", true);
        check(&["shop[^0-9]"], &[], "shop7", false);
        check(&["shop\\[7]"], &[], "shop[7]", true);
    }

    #[test]
    fn a_class_that_is_not_closed_is_a_fault() {
        let include = Names { databases: vec!["shop[0".to_owned()] };
        let faults = DatabaseConfig { include, ..DatabaseConfig::default() }.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
    }

    #[test]
    fn the_server_is_named_after_what_is_connected_to() {
        let with_host = |host: &str| DatabaseConfig {
            connect: Connect { host: Some(host.to_owned()), ..Connect::default() },
            ..DatabaseConfig::default()
        };
        assert_eq!(with_host("db1.example").server_name("billing"), "db1.example");
        assert_eq!(with_host("/run/postgresql").server_name("billing"), "billing");
        let named = DatabaseConfig { server: Some("db".to_owned()), ..with_host("db1.example") };
        assert_eq!(named.server_name("billing"), "db");
    }
}
