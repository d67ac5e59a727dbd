//! `onggi source missed`: the units whose runs are missing, as the repository shows it.

use onggi_engine::config::Config;
use onggi_engine::exit::Exit;
use onggi_engine::missed::{Missed, missed};
use onggi_repo::lock::LockKind;
use onggi_source::{Purpose, Unit};
use serde_json::{Value, json};

use super::{Names, failed};
use crate::counted::Counted;
use crate::escape::escape_text;
use crate::failure::Failure;
use crate::figure::Table;
use crate::member;
use crate::session::Session;
use crate::value::Span;

/// Kinds that make no snapshot of what has not changed, so that none is missing.
const SILENT_KINDS: &[&str] = &["device"];

/// How often, and which sources.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often a unit ought to be stored: 1d, 12h.
    #[arg(long, value_name = "DURATION")]
    pub every: Span,
    #[command(flatten)]
    pub names: Names,
}

/// Asks the sources for their units, and the repository for what it has of them.
pub async fn run(config: &Config, args: &Args, session: &Session) -> Result<Exit, Failure> {
    if args.every.0.is_zero() {
        return Err(Failure::usage("judge the runs").because("the interval is nothing").hint("--every 1d"));
    }
    let mut exit = Exit::Done;
    let (units, now) = units(config, args, session, &mut exit).await?;
    let judged = session.with(LockKind::Reading, async |opened| {
        let (snapshots, read) = opened.snapshots(session).await?;
        let missed = missed(&units, &snapshots, args.every.0, now);
        show(&missed, session);
        Ok(read.and(if missed.is_empty() { Exit::Done } else { Exit::Partial }))
    });
    Ok(judged.await?.and(exit))
}

/// All units that there are now; a source that cannot be asked is told of.
async fn units(
    config: &Config,
    args: &Args,
    session: &Session,
    exit: &mut Exit,
) -> Result<(Vec<(String, Unit)>, jiff::Timestamp), Failure> {
    let run = session.run(Purpose::Backup);
    let wanted = |name: &String| args.names.names.is_empty() || args.names.names.contains(name);
    if let Some(name) = args.names.names.iter().find(|name| !config.sources.contains_key(*name)) {
        return Err(Failure::usage(format!("use source {}", escape_text(name))).because("there is no such source"));
    }
    let mut units = Vec::new();
    for (name, source) in config.sources.iter().filter(|(name, _)| wanted(name)) {
        if SILENT_KINDS.contains(&source.source.kind()) {
            session.output.talk(format_args!("note: {} makes no snapshot of what has not changed", escape_text(name)));
            continue;
        }
        let surroundings = member::surroundings(session, name).await?;
        let act = || format!("ask source {}", escape_text(name));
        let configured = match config.source(name, surroundings) {
            Ok(configured) => configured,
            Err(error) => {
                failed(session, exit, &Failure::usage(act()).because(error));
                continue;
            }
        };
        let (_counted, cx) = Counted::over(&run.context);
        match configured.source.discover(&cx).await {
            Ok(found) => units.extend(found.into_iter().map(|unit| (name.clone(), unit))),
            Err(error) => failed(session, exit, &Failure::new(Exit::from(&error), act()).chain(&error)),
        }
    }
    Ok((units, run.context.world.now()))
}

fn show(missed: &[Missed], session: &Session) {
    let output = &session.output;
    if output.is_json() {
        return output.json(Value::Array(missed.iter().map(document).collect()));
    }
    if missed.is_empty() {
        return output.talk("no run is missing");
    }
    let mut table = Table::new(&["Source", "Unit", "Last good", "Missed"]);
    for one in missed {
        let last = one.last_good.map_or_else(|| "never".to_owned(), |last| format!("{last:.0}"));
        let (source, unit) = (escape_text(&one.source).into_owned(), escape_text(&one.unit.name).into_owned());
        table.row(vec![source, unit, last, one.runs.to_string()]);
    }
    table.lines().iter().for_each(|line| output.data(line));
    output.suggest(format_args!("onggi backup {}/{}", missed[0].source, missed[0].unit.id));
}

fn document(one: &Missed) -> Value {
    json!({
        "source": one.source,
        "unit": one.unit.id.as_str(),
        "name": one.unit.name,
        "last_good": one.last_good.map(|last| last.to_string()),
        "missed": one.runs,
    })
}
