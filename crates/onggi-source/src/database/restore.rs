//! Loads a stored dump: back into its server, beside it under another name, or into a throw-away server that proves it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;

use super::client::Client;
use super::config::Preset;
use super::failure::understood;
use super::format::FormatCheck;
use super::model::{Notes, differences};
use super::request::write_file;
use super::scratch::Server;
use super::{Database, mysql, postgres, sqlite};
use crate::carrier::{Launch, check_exits, feed, run_for_text, run_to_end};
use crate::context::{Context, Destination, Problem};
use crate::path::TreePath;
use crate::source::{Proof, ReadAt, Restore, RestorePlan, RestoreRequest, Result, SourceError, Step, Stored};

/// The longest table of contents of a dump, in bytes.
const LISTING_BYTES_MAX: usize = 64 << 20;
/// How many tables are loaded at once unless the options say otherwise.
const JOBS_DEFAULT: u32 = 2;
/// Name of the dump in the folder that it is loaded from.
const DUMP: &str = "dump";
/// Name of the database in a scratch server.
const SCRATCH_DATABASE: &str = "restored";
/// How many differences are named in a message.
const NAMED_MAX: usize = 5;

/// What the operator may say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Options {
    /// A database that is not empty is replaced.
    clean: bool,
    /// Another name for what is restored.
    database: Option<String>,
    /// How many tables are loaded at once.
    jobs: Option<u32>,
}

/// A planned restore.
pub(super) struct IntoServer<'a> {
    source: &'a Database,
    request: &'a RestoreRequest,
    from: &'a dyn Stored,
    options: Options,
    notes: Notes,
    file: TreePath,
    globals: Option<TreePath>,
    /// The database that it goes into, or the file.
    target: String,
    /// What is there already has to go.
    replaces: bool,
    plan: RestorePlan,
    /// Where it was loaded, once it was.
    loaded: Option<Loaded<'a>>,
}

enum Loaded<'a> {
    Server(Client<'a>),
    Scratch(Server<'a>),
}

impl Loaded<'_> {
    fn client(&self) -> &Client<'_> {
        match self {
            Self::Server(client) => client,
            Self::Scratch(server) => &server.client,
        }
    }
}

impl<'a> IntoServer<'a> {
    /// Looks at the destination; changes nothing.
    pub(super) async fn plan(
        source: &'a Database,
        cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Self> {
        if source.config.preset.is_physical() {
            return Err(SourceError::Unsupported("restore of a physical copy other than into a directory"));
        }
        let options: Options = request.options()?;
        let stored = from.facts().last().map(|facts| facts.notes.clone()).unwrap_or_default();
        let notes: Notes = serde_json::from_value(stored).unwrap_or_default(); // then nothing can be compared
        let own = source.database(&request.unit)?.unwrap_or_default().to_owned();
        let target = match request.to {
            Destination::Scratch => SCRATCH_DATABASE.to_owned(),
            Destination::Origin | Destination::Beside => options.database.clone().unwrap_or(own),
        };
        let (file, globals) = (source.dump_file(&request.unit)?, source.globals_file()?);
        let plan = RestorePlan { steps: Vec::new() };
        let globals = Some(globals);
        let (replaces, loaded) = (false, None);
        let mut planned = Self { source, request, from, options, notes, file, globals, target, replaces, plan, loaded };
        planned.look(cx).await?;
        Ok(planned)
    }

    async fn look(&mut self, cx: &Context) -> Result<()> {
        let entries = self.from.list(&self.source.root()?).await?;
        let found = |path: &TreePath| entries.iter().find(|entry| entry.path == *path && entry.kind.is_file());
        let Some(dump) = found(&self.file) else {
            self.plan.steps.push(Step::Cannot(format!("{} is not in the snapshot", self.file)));
            return Ok(());
        };
        self.globals = self.globals.take().filter(|globals| found(globals).is_some());
        let length = dump.length;
        if self.request.to == Destination::Scratch {
            let word = self.source.config.preset.word();
            self.plan.steps.push(Step::Create(format!("a scratch place for {word}, with {length} bytes of dump")));
            return Ok(());
        }
        let there = self.objects_there(cx).await?;
        let target = &self.target;
        self.plan.steps.push(match (there, self.options.clean) {
            (None, _) => Step::Create(format!("{target} from {length} bytes of dump")),
            (Some(0), _) => Step::Create(format!("the tables of the empty {target} from {length} bytes of dump")),
            (Some(count), true) => Step::Replace(format!("{target}, which is not empty ({count} tables)")),
            (Some(count), false) => {
                Step::Cannot(format!("{target} is not empty ({count} tables): it is replaced with --clean only"))
            }
        });
        self.replaces = there.is_some_and(|count| count > 0);
        if self.globals.is_some() {
            self.plan.steps.insert(0, Step::Create("roles that are missing; those that are there stay".to_owned()));
        }
        Ok(())
    }

    /// How many tables the target has; `None`: it does not exist.
    async fn objects_there(&self, cx: &Context) -> Result<Option<u64>> {
        if self.source.config.preset == Preset::Sqlite {
            return Ok(Path::new(&self.target).exists().then_some(1));
        }
        let client = Client::open(self.source, cx, &self.request.unit).await?;
        let answer = if self.source.config.preset.is_postgres() {
            if !client.databases(cx).await?.contains(&self.target) {
                return Ok(None);
            }
            client.ask(cx, Some(&self.target), postgres::TABLES).await?
        } else {
            if !client.databases(cx).await?.contains(&self.target) {
                return Ok(None);
            }
            let tables = client.ask(cx, None, &mysql::tables(&self.target)).await?;
            vec![(tables.len() / 2).to_string()]
        };
        Ok(Some(answer.first().and_then(|count| count.parse().ok()).unwrap_or(0)))
    }

    async fn load(&mut self, cx: &Context) -> Result<Loaded<'a>> {
        if self.source.config.preset == Preset::Sqlite {
            return self.load_file(cx).await;
        }
        let is_scratch = self.request.to == Destination::Scratch;
        let (source, unit) = (self.source, &self.request.unit);
        let is_postgres = source.config.preset.is_postgres();
        let user = if is_scratch { source.scratch_user() } else { source.config.run_as.as_deref() };
        let place = if is_scratch || is_postgres { Some(source.make_place(cx, unit, user).await?) } else { None };
        let loaded = if let Some(place) = place.as_ref().filter(|_| is_scratch) {
            let mut reach = Client::at(
                source,
                super::request::Reach { programs: source.config.programs.clone(), ..super::request::Reach::default() },
            )
            .reach;
            if is_postgres && source.config.programs.is_none() {
                let server = postgres::major(&self.notes.server_version).unwrap_or(0);
                reach.programs = postgres::fitting(server, &postgres::installed()).cloned();
            }
            let from = Client::at(source, reach);
            Loaded::Scratch(source.start_scratch(cx, place, &from).await?)
        } else {
            Loaded::Server(Client::open(source, cx, unit).await?)
        };
        match place {
            Some(place) if is_postgres => self.load_postgres(cx, loaded.client(), &place, user, !is_scratch).await?,
            _ => self.load_mysql(cx, loaded.client(), !is_scratch).await?,
        }
        Ok(loaded)
    }

    async fn load_postgres(
        &self,
        cx: &Context,
        client: &Client<'_>,
        place: &Path,
        user: Option<&str>,
        with_roles: bool,
    ) -> Result<()> {
        let dump = place.join(DUMP);
        self.write(cx, &write_file(user, &dump)).await?;
        self.check_listing(cx, client, &dump, user).await?;
        if with_roles {
            self.load_roles(cx, client).await?;
        }
        if !client.databases(cx).await?.contains(&self.target) {
            let make = format!("CREATE DATABASE {} TEMPLATE template0", postgres::identifier(&self.target));
            client.ask(cx, None, &make).await?;
        }
        let jobs = self.options.jobs.unwrap_or(JOBS_DEFAULT).max(1);
        let line = postgres::load(&client.reach, &self.target, &dump, jobs, self.replaces, with_roles);
        let launch = Launch { drops_output: true, ..client.reach.launch(line) };
        let launch = if with_roles { launch } else { as_scratch_user(launch, user) };
        run_to_end(cx, &*self.source.surroundings.launcher, &launch).await.map_err(understood)?;
        client.ask(cx, Some(&self.target), "ANALYZE").await?;
        Ok(())
    }

    /// A dump whose table of contents has fewer tables than were counted is not the one that was made.
    async fn check_listing(&self, cx: &Context, client: &Client<'_>, dump: &Path, user: Option<&str>) -> Result<()> {
        let launch = client.reach.launch(postgres::list(&client.reach, dump));
        let launch = as_scratch_user(launch, user.filter(|_| self.request.to == Destination::Scratch));
        let launcher = &*self.source.surroundings.launcher;
        let listing = run_for_text(cx, launcher, &launch, LISTING_BYTES_MAX).await.map_err(understood)?;
        let (listed, counted) = (postgres::listed_tables(&listing), self.notes.rows.as_ref().map_or(0, BTreeMap::len));
        if listed < counted {
            return Err(SourceError::Damaged(format!("the dump lists {listed} tables of {counted}")));
        }
        Ok(())
    }

    /// Roles that are there already are no fault; what else goes wrong is told.
    async fn load_roles(&self, cx: &Context, client: &Client<'_>) -> Result<()> {
        let Some(globals) = &self.globals else { return Ok(()) };
        let mut line = postgres::queries(&client.reach, postgres::FIRST_DATABASE, None);
        line.extend(super::request::words(["-v", "ON_ERROR_STOP=0"]));
        let launch = Launch { takes_input: true, drops_output: true, ..client.reach.launch(line) };
        let content = self.from.open(globals).await?;
        let mut running = self.source.surroundings.launcher.start(&launch).await?;
        feed(cx, &*content, &mut *running).await?;
        let exits = cx.unless_stopped(running.wait()).await??;
        check_exits(&exits, &running.tail()).map_err(understood)?;
        let tail = running.tail();
        let faults: Vec<_> = tail.split(" | ").filter(|line| line.contains("ERROR:")).collect();
        if let Some(other) = faults.iter().find(|line| !line.contains("already exists")) {
            cx.problem(Problem { class: "roles", path: Some(globals.clone()), text: (*other).to_owned() });
        }
        Ok(())
    }

    async fn load_mysql(&self, cx: &Context, client: &Client<'_>, is_origin: bool) -> Result<()> {
        let name = mysql::identifier(&self.target);
        if self.replaces {
            client.ask(cx, None, &format!("DROP DATABASE {name}")).await?;
        }
        let words = match &self.notes.character_set[..] {
            [set, collation] => format!(" CHARACTER SET {set} COLLATE {collation}"),
            _ => String::new(),
        };
        client.ask(cx, None, &format!("CREATE DATABASE IF NOT EXISTS {name}{words}")).await?;
        if let Some(globals) = self.globals.as_ref().filter(|_| is_origin) {
            let line = mysql::queries(&client.reach, client.maker, None, None);
            let launch = Launch { takes_input: true, drops_output: true, ..client.reach.launch(line) };
            let content = self.from.open(globals).await?;
            // users that are there stay: their statements say `IF NOT EXISTS`
            if let Err(error) = self.pour(cx, &*content, &launch).await {
                cx.problem(Problem { class: "roles", path: Some(globals.clone()), text: error.to_string() });
            }
        }
        let line = mysql::queries(&client.reach, client.maker, Some(&self.target), None);
        self.write(cx, &Launch { takes_input: true, drops_output: true, ..client.reach.launch(line) }).await
    }

    /// A database file, under its own name or in a scratch folder.
    async fn load_file(&mut self, cx: &Context) -> Result<Loaded<'a>> {
        let user = self.source.config.run_as.as_deref();
        let client = Client::at(
            self.source,
            super::request::Reach {
                programs: self.source.config.programs.clone(),
                run_as: self.source.config.run_as.clone(),
                ..super::request::Reach::default()
            },
        );
        if self.request.to == Destination::Scratch {
            let place = self.source.make_place(cx, &self.request.unit, user).await?;
            self.target = place.join(DUMP).display().to_string();
        }
        let target = PathBuf::from(&self.target);
        let draft = target.with_extension("onggi-draft");
        self.write(cx, &write_file(user, &draft)).await?;
        let checked = client.ask(cx, draft.to_str(), sqlite::CHECK).await?;
        if checked != ["ok"] {
            return Err(SourceError::Damaged(checked.join("; ")));
        }
        let mut rename = super::request::words(["mv", "-f", "--"]);
        rename.extend([draft.into(), target.into()]);
        run_to_end(cx, &*self.source.surroundings.launcher, &client.reach.launch(rename)).await.map_err(understood)?;
        Ok(Loaded::Server(client))
    }

    /// Gives the dump to a program, after its format was checked: what is not whole is not loaded.
    async fn write(&self, cx: &Context, launch: &Launch) -> Result<()> {
        let content = self.from.open(&self.file).await?;
        self.check_format(cx, &*content).await?;
        self.pour(cx, &*content, launch).await
    }

    async fn pour(&self, cx: &Context, content: &dyn ReadAt, launch: &Launch) -> Result<()> {
        let mut running = self.source.surroundings.launcher.start(launch).await?;
        let fed = feed(cx, content, &mut *running).await;
        if let Err(stopped @ SourceError::Stopped(_)) = fed {
            return Err(stopped);
        }
        let exits = cx.unless_stopped(running.wait()).await??;
        check_exits(&exits, &running.tail()).map_err(understood)?; // says more than a broken pipe
        fed
    }

    async fn check_format(&self, cx: &Context, content: &dyn ReadAt) -> Result<()> {
        let format = FormatCheck::of(self.source.config.preset, cx, content).await.map_err(crate::carrier::lost)?;
        format.finish().map_err(|text| SourceError::Damaged(format!("{}: {text}", self.file)))
    }
}

#[async_trait]
impl Restore for IntoServer<'_> {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    async fn apply(&mut self, cx: &Context) -> Result<()> {
        if let Some(Step::Cannot(text)) = self.plan.steps.iter().find(|step| matches!(step, Step::Cannot(_))) {
            return Err(SourceError::Refused(text.clone()));
        }
        self.loaded = Some(self.load(cx).await?);
        Ok(())
    }

    /// The rows of every table are counted again.
    async fn prove(&mut self, cx: &Context) -> Result<Proof> {
        let Some(loaded) = &self.loaded else {
            return Err(SourceError::Incomplete("nothing was restored".to_owned()));
        };
        let client = loaded.client();
        let there = client.count(cx, &self.target).await?;
        let mut checks = vec![format!("{} loaded, {} tables", self.file, there.len())];
        match &self.notes.rows {
            None => checks.push("no rows were counted when it was dumped: none are compared".to_owned()),
            Some(dumped) => {
                let different = differences(dumped, &there);
                if !different.is_empty() {
                    let named = different.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
                    return Err(SourceError::Damaged(format!("{} differences: {named}", different.len())));
                }
                let rows: u64 = dumped.values().sum();
                checks.push(format!("{rows} rows in {} tables, each as many as were dumped", dumped.len()));
            }
        }
        Ok(Proof { checks })
    }
}

/// Files in a scratch folder belong to the scratch server's user.
fn as_scratch_user(launch: Launch, user: Option<&str>) -> Launch {
    let stages = launch.stages.into_iter().map(|line| super::request::as_user(user, line)).collect();
    Launch { stages, ..launch }
}
