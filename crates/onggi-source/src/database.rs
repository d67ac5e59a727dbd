//! Kind `database`: what a database's own tools dump, as one file per database, good only after exit status 0, the end
//! that the format promises and, where rows are counted, the count of the same moment.
//!
//! All presets are the same mechanism: a program's standard output, taken while it is written. It waits for nobody: what
//! the repository cannot take yet lies in a spool, because an open dump holds back the database's own clean-up.

mod capture;
mod client;
mod config;
mod failure;
mod format;
mod insert;
mod model;
mod mysql;
mod postgres;
mod private;
mod request;
mod restore;
mod scratch;
mod shelf;
mod sqlite;

use async_trait::async_trait;

use self::client::Client;
use self::private::Private;
use crate::config::Surroundings;
use crate::context::{Context, Destination, UnitId};
use crate::hook::Hooks;
use crate::path::TreePath;
use crate::source::{
    Base, Capabilities, Capture, Image, Outcome, Remnant, Restore, RestoreRequest, Result, Source, SourceError, Stored,
    Unit,
};

pub use self::config::{Connect, DatabaseConfig, Drill, Globals, Names, Preset};

/// A configured server, or some database files. Its units are databases, or the server as a whole.
pub struct Database {
    config: DatabaseConfig,
    surroundings: Surroundings,
    hooks: Hooks,
    private: Private,
}

impl Database {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(config: DatabaseConfig, surroundings: Surroundings) -> Self {
        let hooks = Hooks::new(config.before.clone(), config.after.clone(), &surroundings);
        let private = Private::new(surroundings.state.clone(), surroundings.source.clone());
        Self { config, surroundings, hooks, private }
    }

    /// The server's name in paths and ids.
    fn server(&self) -> String {
        self.config.server_name(&self.surroundings.source)
    }

    fn unit(&self, database: &str) -> Unit {
        let name = format!("{}/{database}", self.server());
        Unit { id: UnitId::new(name.as_str()), name }
    }

    /// The server as a whole: the unit of physical presets, and whose mark what is asked of the server bears.
    fn whole(&self) -> Unit {
        let name = self.server();
        Unit { id: UnitId::new(name.as_str()), name }
    }

    /// The database that a unit is; `None`: the server as a whole.
    fn database<'a>(&self, unit: &'a Unit) -> Result<Option<&'a str>> {
        let id = unit.id.as_str();
        match id.strip_prefix(self.server().as_str()) {
            Some("") if self.config.preset.is_physical() => Ok(None),
            Some(rest) if rest.len() > 1 && rest.starts_with('/') => Ok(Some(&rest[1..])),
            _ => Err(SourceError::Gone),
        }
    }

    /// Where the server's dumps lie in the tree.
    fn root(&self) -> Result<TreePath> {
        let root = TreePath::new("database").and_then(|root| root.join(request::file_name(&self.server())));
        root.map_err(|error| SourceError::Denied(format!("name the server: {error}")))
    }

    fn file(&self, name: &str) -> Result<TreePath> {
        self.root()?.join(name).map_err(|error| SourceError::Denied(format!("name the file: {error}")))
    }

    /// The file of a unit's dump.
    fn dump_file(&self, unit: &Unit) -> Result<TreePath> {
        let extension = self.config.preset.extension();
        match self.database(unit)? {
            Some(database) => self.file(&format!("{}.{extension}", request::file_name(database))),
            None => self.file(&format!("cluster.{extension}")),
        }
    }

    /// The file of what databases share: roles and their passwords.
    fn globals_file(&self) -> Result<TreePath> {
        self.file("globals.sql")
    }
}

#[async_trait]
impl Source for Database {
    fn capabilities(&self) -> Capabilities {
        let destinations: &[_] = match self.config.preset {
            Preset::PostgresPhysical | Preset::MysqlPhysical => &[],
            Preset::PostgresLogical | Preset::MysqlLogical | Preset::Sqlite => {
                &[Destination::Origin, Destination::Beside, Destination::Scratch]
            }
        };
        Capabilities { freezes: self.hooks.freezes(), image: Image::Fixed, chains: false, destinations }
    }

    /// Logs in and compares the versions of client and server.
    async fn preflight(&self, cx: &Context) -> Result<()> {
        let client = Client::open(self, cx, &self.whole()).await?;
        client.check(cx).await
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        if self.config.preset.is_physical() {
            return Ok(vec![self.whole()]);
        }
        let client = Client::open(self, cx, &self.whole()).await?;
        let found = client.databases(cx).await?;
        let wanted: Vec<_> = found.iter().filter(|name| self.config.wants(name)).map(|name| self.unit(name)).collect();
        if wanted.is_empty() {
            let text = format!("no database is included; there are: {}", found.join(", "));
            return Err(SourceError::Denied(text));
        }
        Ok(wanted)
    }

    async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.hooks.freeze(cx, unit).await
    }

    /// Starts the dump and waits for its first bytes: from then on it sees the database as it was.
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        cx.check()?;
        Ok(Box::new(capture::start(self, cx, unit).await?))
    }

    async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.hooks.thaw(cx, unit).await
    }

    /// The processes die with the capture; what is left is a file with the password, a folder, a scratch server.
    async fn release(&self, cx: &Context, unit: &Unit, _outcome: Outcome) -> Result<()> {
        cx.check()?;
        self.remove_place(cx, unit).await?;
        self.private.forget(cx, unit)
    }

    async fn remnants(&self, _cx: &Context) -> Result<Vec<Remnant>> {
        let mut found = self.hooks.remnants(&self.whole())?;
        found.extend(self.private.remnants()?);
        Ok(found)
    }

    async fn restore<'a>(
        &'a self,
        cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Box<dyn Restore + 'a>> {
        Ok(Box::new(restore::IntoServer::plan(self, cx, request, from).await?))
    }
}
