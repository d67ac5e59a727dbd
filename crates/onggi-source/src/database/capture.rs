//! A running dump, taken while it is written and believed only after its end was checked.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use async_trait::async_trait;

use super::client::{Client, Session};
use super::config::Preset;
use super::failure::understood;
use super::format::FormatCheck;
use super::insert::RowCounter;
use super::model::Notes;
use super::request::words;
use super::shelf::{Reader, Shelf};
use super::{Database, mysql, postgres, sqlite};
use crate::carrier::{Exit, Running, check_exits, run_for_text, run_to_end};
use crate::context::{Context, Stop};
use crate::item::{Chunking, Content, Item, Metadata};
use crate::path::TreePath;
use crate::source::{Capture, Facts, Items, Result, SourceError, Unit};

/// Mean length of a chunk: changes of rows are small and spread.
const CHUNKING: Chunking = Chunking::Content(128 << 10);
/// The longest list of roles and grants, in bytes.
const GLOBALS_BYTES_MAX: usize = 16 << 20;
/// Name of the copy of a database file in its folder.
const COPY: &str = "copy";
/// What MariaDB's physical tool says last when all went well: its exit status alone does not.
const COMPLETED: &str = "completed OK!";

/// A dump that has begun.
pub(super) struct Dumping<'a> {
    client: Client<'a>,
    unit: Unit,
    flow: Option<Flow>,
    notes: Notes,
    taken_at: Timestamp,
}

/// Its processes, and what they wrote until the moment was fixed.
struct Flow {
    first: Bytes,
    running: Box<dyn Running>,
    session: Option<Session>,
}

/// What was learnt while the dump flowed.
struct Flown {
    exits: Vec<Exit>,
    sha256: String,
    length: u64,
    counter: RowCounter,
}

/// Starts the tool and awaits its first bytes: from then on it sees the database as it was.
pub(super) async fn start<'a>(source: &'a Database, cx: &Context, unit: &Unit) -> Result<Dumping<'a>> {
    let client = Client::open(source, cx, unit).await?;
    client.refuse_older_tools()?;
    let mut notes = Notes::new(source.config.preset);
    notes.server_version.clone_from(&client.server_version);
    notes.client_version.clone_from(&client.tool_version);
    let (line, session) = begin(&client, cx, unit, &mut notes).await?;
    let taken_at = cx.world.now();
    let launch = client.reach.launch(line);
    let mut running = source.surroundings.launcher.start(&launch).await?;
    let Some(first) = read(cx, source.config.idle_limit(), &mut *running).await? else {
        finished(cx, source, &mut *running).await?;
        return Err(SourceError::Incomplete("there was no output at all".to_owned()));
    };
    let flow = Some(Flow { first, running, session });
    Ok(Dumping { client, unit: unit.clone(), flow, notes, taken_at })
}

/// The arguments of the tool, once the moment that it shows is named or copied.
async fn begin(
    client: &Client<'_>,
    cx: &Context,
    unit: &Unit,
    notes: &mut Notes,
) -> Result<(Vec<std::ffi::OsString>, Option<Session>)> {
    let (source, reach) = (client.source, &client.reach);
    let config = &source.config;
    let name = source.database(unit)?.unwrap_or_default();
    Ok(match config.preset {
        Preset::PostgresLogical => {
            let session = if config.count_rows { Some(Session::begin(client, cx, name).await?) } else { None };
            let moment = session.as_ref().map(|(_, moment)| moment.as_str());
            let line = postgres::dump(reach, name, moment, config.lock_wait(), &config.arguments);
            (line, session.map(|(session, _)| session))
        }
        Preset::PostgresPhysical => (postgres::copy(reach, &config.arguments), None),
        Preset::MysqlLogical => {
            notes.character_set = client.ask(cx, None, &mysql::character_set(name)).await?;
            if notes.character_set.is_empty() {
                return Err(SourceError::Gone);
            }
            (mysql::dump(reach, client.maker, name, &config.arguments), None)
        }
        Preset::MysqlPhysical => {
            let place = source.make_place(cx, unit, config.run_as.as_deref()).await?;
            (mysql::copy(reach, &place, &config.arguments), None)
        }
        Preset::Sqlite => {
            if !std::path::Path::new(name).exists() {
                return Err(SourceError::Gone);
            }
            let copy = source.make_place(cx, unit, config.run_as.as_deref()).await?.join(COPY);
            let wait = config.lock_wait().as_millis();
            let launch = reach.launch(sqlite::copy(reach, std::path::Path::new(name), &copy, wait));
            run_to_end(cx, &*source.surroundings.launcher, &launch).await.map_err(understood)?;
            if config.count_rows {
                notes.rows = Some(client.count(cx, &copy.display().to_string()).await?);
            }
            let mut line = words(["cat"]);
            line.push(copy.into());
            (line, None)
        }
    })
}

#[async_trait]
impl Capture for Dumping<'_> {
    /// Once: what a process wrote is gone when it was read. Another attempt needs another capture.
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        cx.check()?;
        let again = || SourceError::Incomplete("the dump was already read once".to_owned());
        let flow = self.flow.take().ok_or_else(again)?;
        let (source, root) = (self.client.source, self.client.source.root()?);
        let folders: Vec<_> = std::iter::successors(Some(root.clone()), TreePath::parent).collect();
        for folder in folders.iter().rev().filter(|folder| !folder.is_root()) {
            let metadata = Metadata { mode: 0o755, mtime: self.taken_at, ..Metadata::default() };
            out.push(Item::directory(folder.clone()).with_metadata(metadata), Content::None).await?;
        }
        let shelf = Shelf::new(cx).await?;
        let mut reader = Reader(&shelf);
        let dump = self.file(source.dump_file(&self.unit)?).with_chunking(CHUNKING);
        let pushed = async {
            out.push(dump, Content::Stream(&mut reader)).await?;
            shelf.done();
            Ok(())
        };
        let session = flow.session;
        let counted = async {
            match session {
                Some(session) => session.count(cx).await.map(Some),
                None => Ok(None),
            }
        };
        let drained = drain(cx, source, flow.first, flow.running, &shelf);
        let ((), flown, rows) = futures::future::try_join3(pushed, drained, counted).await?;
        self.push_globals(cx, out).await?;
        for folder in &folders {
            out.leave(folder).await?;
        }
        self.note(flown, rows);
        let notes = serde_json::to_value(&self.notes).map_err(|error| SourceError::Incomplete(error.to_string()))?;
        Ok(Facts { roots: vec![root], notes, ..Facts::new(self.taken_at) })
    }
}

impl Dumping<'_> {
    fn file(&self, path: TreePath) -> Item {
        let metadata = Metadata { mode: 0o600, mtime: self.taken_at, links: 1, ..Metadata::default() };
        Item::file(path).with_metadata(metadata)
    }

    /// Roles and their passwords, as small as they are secret.
    async fn push_globals(&mut self, cx: &Context, out: &dyn Items) -> Result<()> {
        let Some(line) = self.client.globals() else { return Ok(()) };
        let launch = self.client.reach.launch(line);
        let launcher = &*self.client.source.surroundings.launcher;
        let text = run_for_text(cx, launcher, &launch, GLOBALS_BYTES_MAX).await.map_err(understood)?;
        let item = self.file(self.client.source.globals_file()?).secret();
        out.push(item, Content::Inline(text.into())).await?;
        Ok(())
    }

    fn note(&mut self, flown: Flown, rows: Option<std::collections::BTreeMap<String, u64>>) {
        let config = &self.client.source.config;
        let counts_inserts = config.preset == Preset::MysqlLogical && config.count_rows;
        let found = counts_inserts.then(|| flown.counter.finish());
        self.notes.rows = rows.or(found).or(self.notes.rows.take());
        self.notes.length = flown.length;
        self.notes.sha256 = flown.sha256;
        self.notes.exits = flown.exits.into_iter().map(|exit| (exit.program, exit.status)).collect();
    }
}

/// Puts all of the dump on the shelf and then says whether it was good; only the reader learns of a failure.
async fn drain(
    cx: &Context,
    source: &Database,
    first: Bytes,
    mut running: Box<dyn Running>,
    shelf: &Shelf<'_>,
) -> Result<Flown> {
    let config = &source.config;
    let (mut format, mut counter, mut hash) = (FormatCheck::new(config.preset), RowCounter::new(), Sha256::new());
    let counts = config.preset == Preset::MysqlLogical && config.count_rows;
    let flowing = async {
        let mut next = Some(first);
        while let Some(piece) = next {
            format.take(&piece);
            hash.update(&piece);
            if counts {
                counter.take(&piece);
            }
            shelf.put(cx, piece).await?;
            next = read(cx, config.idle_limit(), &mut *running).await?;
        }
        let exits = finished(cx, source, &mut *running).await?;
        format.finish().map_err(|text| SourceError::Incomplete(text.to_owned()))?;
        Ok(exits)
    };
    match flowing.await {
        Ok(exits) => {
            shelf.end(Ok(())).await;
            let sha256 = crate::hex::hexadecimal(&hash.finalize());
            Ok(Flown { exits, sha256, length: format.length(), counter })
        }
        Err(error) => {
            shelf.end(Err(error)).await;
            Err(shelf.untold().await) // mostly the reader has passed it on
        }
    }
}

/// The next piece, unless the tool says nothing for too long.
async fn read(cx: &Context, idle: Duration, running: &mut dyn Running) -> Result<Option<Bytes>> {
    let limited = cx.within(idle, Stop::TimeLimit);
    match limited.unless_stopped(running.read()).await {
        Err(Stop::TimeLimit) if cx.check().is_ok() => {
            let text = format!("the tool wrote nothing for {}", crate::quantity::Period(idle));
            Err(SourceError::Incomplete(text))
        }
        read => read?,
    }
}

/// Awaits all processes; anything but exit status 0 is an error in the engine's words.
async fn finished(cx: &Context, source: &Database, running: &mut dyn Running) -> Result<Vec<Exit>> {
    let exits = cx.unless_stopped(running.wait()).await??;
    check_exits(&exits, &running.tail()).map_err(understood)?;
    if source.config.preset == Preset::MysqlPhysical && !running.tail().contains(COMPLETED) {
        return Err(SourceError::Incomplete(format!("the tool did not say `{COMPLETED}`")));
    }
    Ok(exits)
}
