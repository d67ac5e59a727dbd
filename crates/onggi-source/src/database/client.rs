//! A logged-in client: which tools are used, and what it asks the server.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use super::Database;
use super::config::{Globals, Preset};
use super::failure::understood;
use super::mysql::{self, Maker};
use super::postgres;
use super::private::{Guarded, SECRET};
use super::request::Reach;
use super::sqlite;
use crate::carrier::{Launch, Running, check_exits, run_for_text};
use crate::context::{Context, Problem};
use crate::source::{Result, SourceError, Unit};

/// The longest answer to a query, in bytes: names and numbers of rows.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How many tables are counted by one query.
const TABLES_AT_ONCE: usize = 100;
/// Where programs are looked for besides `$PATH`.
const FOLDERS: &[&str] = &["/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/local/sbin"];

/// Of one server.
pub(super) struct Client<'a> {
    pub(super) source: &'a Database,
    pub(super) reach: Reach,
    pub(super) maker: Maker,
    /// The server's version; empty until it was asked.
    pub(super) server_version: String,
    /// That of the program that dumps.
    pub(super) tool_version: String,
    /// Its file goes when this is dropped.
    secret: Option<Guarded>,
}

impl<'a> Client<'a> {
    /// Logs in. What it needs for that goes with it.
    pub(super) async fn open(source: &'a Database, cx: &Context, unit: &Unit) -> Result<Self> {
        let config = &source.config;
        let guarded = match config.connect.password.as_ref().and_then(|key| key.reference()) {
            None => None,
            Some(reference) => {
                let password = source.surroundings.secrets.fetch(reference).await?;
                let text = if config.preset.is_postgres() { postgres::secret_text } else { mysql::secret_text };
                Some(source.private.guarded(cx, unit, SECRET, &text(password.expose_secret()))?)
            }
        };
        let reach = Reach {
            host: config.connect.host.clone(),
            port: config.connect.port,
            user: config.connect.user.clone(),
            secret: guarded.as_ref().map(|guarded| guarded.path().to_owned()),
            programs: config.programs.clone(),
            run_as: config.run_as.clone(),
            environment: config.environment.clone(),
        };
        let mut client = Self::at(source, reach);
        client.secret = guarded;
        client.meet(cx).await?;
        Ok(client)
    }

    /// One that reaches another server, such as a scratch one; it was not asked for its version yet.
    pub(super) fn at(source: &'a Database, mut reach: Reach) -> Self {
        let is_postgres = source.config.preset.is_postgres();
        if is_postgres && reach.programs.is_none() {
            reach.programs = postgres::installed().pop().map(|(_, folder)| folder);
        }
        let has = |name: &str| match &reach.programs {
            Some(folder) => folder.join(name).exists(),
            None => find(name).is_some(),
        };
        let maker = if !has("mariadb-dump") && has("mysqldump") { Maker::Oracle } else { Maker::MariaDb };
        if is_postgres {
            let own = std::mem::take(&mut reach.environment);
            reach.environment = postgres::environment(&reach);
            reach.environment.extend(own);
        }
        let (server_version, tool_version) = (String::new(), String::new());
        Self { source, reach, maker, server_version, tool_version, secret: None }
    }

    /// Asks both sides for their versions and takes the tools that fit.
    pub(super) async fn meet(&mut self, cx: &Context) -> Result<()> {
        let preset = self.source.config.preset;
        let version = match preset {
            Preset::Sqlite => return Ok(()),
            _ if preset.is_postgres() => postgres::VERSION,
            _ => mysql::VERSION,
        };
        self.server_version = self.ask(cx, None, version).await?.into_iter().next().unwrap_or_default();
        if preset.is_postgres() && self.source.config.programs.is_none() {
            let server = postgres::major(&self.server_version).unwrap_or(0);
            self.reach.programs = postgres::fitting(server, &postgres::installed()).cloned();
        }
        let dumper = match preset {
            Preset::PostgresLogical => "pg_dump",
            Preset::PostgresPhysical => "pg_basebackup",
            Preset::MysqlPhysical => "mariadb-backup",
            _ => self.maker.dumper(),
        };
        let launch = self.reach.launch(vec![self.reach.program(dumper), "--version".into()]);
        let said = run_for_text(cx, &*self.source.surroundings.launcher, &launch, ANSWER_BYTES_MAX).await?;
        said.trim().clone_into(&mut self.tool_version);
        Ok(())
    }

    /// Refuses tools that are older than the server, and tells of tables that no moment holds together.
    pub(super) async fn check(&self, cx: &Context) -> Result<()> {
        match self.source.config.preset {
            Preset::Sqlite => {
                for file in &self.source.config.files {
                    if !file.exists() {
                        return Err(SourceError::Denied(format!("{} does not exist", file.display())));
                    }
                }
                Ok(())
            }
            preset if preset.is_postgres() => self.refuse_older_tools(),
            Preset::MysqlLogical => self.tell_of_tables_without_moment(cx).await,
            _ => Ok(()),
        }
    }

    /// Tools do not understand servers that are newer.
    pub(super) fn refuse_older_tools(&self) -> Result<()> {
        if !self.source.config.preset.is_postgres() {
            return Ok(());
        }
        let client = self.tool_version.rsplit(") ").next().and_then(postgres::major);
        match (postgres::major(&self.server_version), client) {
            (Some(server), Some(client)) if client < server => {
                let text = format!("the tools are of version {client} and the server of {server}: install newer tools");
                Err(SourceError::Refused(text))
            }
            _ => Ok(()),
        }
    }

    async fn tell_of_tables_without_moment(&self, cx: &Context) -> Result<()> {
        for database in self.databases(cx).await?.iter().filter(|name| self.source.config.wants(name)) {
            let fields = self.ask(cx, None, &mysql::tables(database)).await?;
            let moved = fields.chunks(2).filter(|pair| pair.get(1).is_some_and(|engine| engine != "InnoDB"));
            let names: Vec<_> = moved.map(|pair| format!("{database}.{}", pair[0])).collect();
            if !names.is_empty() {
                let text = format!("not as of one moment, because they are no InnoDB tables: {}", names.join(", "));
                cx.problem(Problem { class: "no-moment", path: None, text });
            }
        }
        Ok(())
    }

    /// All databases that can be dumped one by one.
    pub(super) async fn databases(&self, cx: &Context) -> Result<Vec<String>> {
        match self.source.config.preset {
            Preset::Sqlite => Ok(self.source.config.files.iter().map(|file| file.display().to_string()).collect()),
            preset if preset.is_postgres() => self.ask(cx, None, postgres::DATABASES).await,
            _ => self.ask(cx, None, mysql::DATABASES).await,
        }
    }

    /// The fields of an answer, row by row. `database`: `None` where any will do.
    pub(super) async fn ask(&self, cx: &Context, database: Option<&str>, query: &str) -> Result<Vec<String>> {
        let preset = self.source.config.preset;
        let launch = self.reach.launch(match preset {
            Preset::Sqlite => sqlite::queries(&self.reach, &PathBuf::from(database.unwrap_or_default()), query),
            _ if preset.is_postgres() => postgres::queries(&self.reach, self.first(database), Some(query)),
            _ => mysql::queries(&self.reach, self.maker, database, Some(query)),
        });
        let said = run_for_text(cx, &*self.source.surroundings.launcher, &launch, ANSWER_BYTES_MAX).await;
        let said = said.map_err(understood)?;
        Ok(match preset {
            Preset::Sqlite => sqlite::fields(&said),
            _ if preset.is_postgres() => zero_ended(&said),
            _ => mysql::fields(&said),
        })
    }

    fn first<'d>(&'d self, database: Option<&'d str>) -> &'d str {
        let configured = self.source.config.connect.database.as_deref();
        database.or(configured).unwrap_or(postgres::FIRST_DATABASE)
    }

    /// The arguments of what dumps the roles; `None` where there are none, or no tool for them.
    pub(super) fn globals(&self) -> Option<Vec<OsString>> {
        let passwords = self.source.config.globals == Globals::WithPasswords;
        match self.source.config.preset {
            _ if self.source.config.globals == Globals::None => None,
            Preset::PostgresLogical => Some(postgres::globals(&self.reach, self.first(None), passwords)),
            Preset::MysqlLogical if passwords && self.maker == Maker::MariaDb => Some(mysql::globals(&self.reach)),
            _ => None,
        }
    }

    /// Counts the rows of every table that is there now.
    pub(super) async fn count(&self, cx: &Context, database: &str) -> Result<BTreeMap<String, u64>> {
        if self.source.config.preset.is_postgres() {
            let line = postgres::queries(&self.reach, database, None);
            let launch = Launch { takes_input: true, ..self.reach.launch(line) };
            let running = self.source.surroundings.launcher.start(&launch).await?;
            return Session { running }.count(cx).await;
        }
        let is_sqlite = self.source.config.preset == Preset::Sqlite;
        let tables = if is_sqlite {
            self.ask(cx, Some(database), sqlite::TABLES).await?
        } else {
            self.ask(cx, None, &mysql::tables(database)).await?.into_iter().step_by(2).collect()
        };
        let identifier = if is_sqlite { postgres::identifier } else { mysql::identifier };
        let mut rows = BTreeMap::new();
        for some in tables.chunks(TABLES_AT_ONCE) {
            let one = |table: &String| format!("SELECT count(*) FROM {}", identifier(table));
            let query = some.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ");
            let counts = self.ask(cx, Some(database), &query).await?;
            if counts.len() != some.len() {
                return Err(SourceError::Incomplete("the rows of some tables were not counted".to_owned()));
            }
            for (table, count) in some.iter().zip(counts) {
                rows.insert(table.clone(), number(&count)?);
            }
        }
        Ok(rows)
    }
}

/// A session of PostgreSQL whose moment others can share.
pub(super) struct Session {
    running: Box<dyn Running>,
}

impl Session {
    /// Begins a moment; answers the name under which others share it.
    pub(super) async fn begin(client: &Client<'_>, cx: &Context, database: &str) -> Result<(Self, String)> {
        let line = postgres::queries(&client.reach, database, None);
        let launch = Launch { takes_input: true, ..client.reach.launch(line) };
        let mut running = client.source.surroundings.launcher.start(&launch).await?;
        let said = cx.unless_stopped(running.write(postgres::BEGIN.into())).await?;
        let mut name = Vec::new();
        while said.is_ok() && !name.ends_with(b"\0") {
            match cx.unless_stopped(running.read()).await?? {
                Some(piece) if name.len() < ANSWER_BYTES_MAX => name.extend_from_slice(&piece),
                _ => break,
            }
        }
        if !name.ends_with(b"\0") {
            let exits = cx.unless_stopped(running.wait()).await??;
            check_exits(&exits, &running.tail()).map_err(understood)?;
            said?;
            return Err(SourceError::Incomplete("the server names no moment".to_owned()));
        }
        let name = String::from_utf8_lossy(&name[..name.len() - 1]).into_owned();
        Ok((Self { running }, name))
    }

    /// Counts the rows of all tables in this moment, and ends the session.
    pub(super) async fn count(mut self, cx: &Context) -> Result<BTreeMap<String, u64>> {
        let written = cx.unless_stopped(self.running.write(postgres::COUNT.into())).await?;
        self.running.end_input().await?;
        let mut said = Vec::new();
        while let Some(piece) = cx.unless_stopped(self.running.read()).await?? {
            said.extend_from_slice(&piece);
            if said.len() > ANSWER_BYTES_MAX {
                return Err(SourceError::Incomplete("there are too many tables to count".to_owned()));
            }
        }
        let exits = cx.unless_stopped(self.running.wait()).await??;
        check_exits(&exits, &self.running.tail()).map_err(understood)?;
        written?;
        let fields = zero_ended(&String::from_utf8_lossy(&said));
        let pairs = fields.chunks_exact(2).map(|pair| Ok((pair[0].clone(), number(&pair[1])?)));
        pairs.collect()
    }
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| SourceError::Incomplete(format!("{text:?} is no number of rows")))
}

fn zero_ended(text: &str) -> Vec<String> {
    text.split_terminator('\0').map(ToOwned::to_owned).collect()
}

/// Where a program lies on this machine.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| PathBuf::from(folder).join(name)).find(|path| path.exists())
}
